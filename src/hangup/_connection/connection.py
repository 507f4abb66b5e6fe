"""One connection: who owns it, and its life from request to request.

Ownership
    A connection has one owner at a time, which alone reads, sends and changes it: ``state`` has who, in
    which state, and every change of hands.  It changes hands at two points: the event loop finds a
    request and marks it ``HANDLED``, and the handling thread parks it (:meth:`Connection.rest`).

What others may touch
    While it is ``HANDLED`` the event loop goes on seeing its events.  It marks them (``pending``), under
    ``loop.lock``, and tells the client's state; the owner looks at the mark, under the same lock, when
    it parks.  So no event is lost in between.

Parts
    ``transport`` passes bytes, as they are or over TLS; ``input`` and ``output`` are the two halves;
    ``arrival`` finds requests; ``delivery`` has the records that wait; ``closing`` has the ways in which
    it ends.  What few connections need is made when they need it: a ``handshake``, a ``sending`` (of a
    response that is read slowly), and a lingering close.
"""

import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._disconnect.peer import ClientState, DisconnectReason
from .._system.poller import EOF, GONE, READABLE
from ..exceptions import ClientDisconnected
from .arrival import Arrival, has_begun
from .closing import Closing
from .delivery import Delivery
from .events import flags_now, has_parked_meanwhile, note_events
from .handshake import Handshake
from .input import HEAD_SIZE, Input
from .link import DONTWAIT, Link
from .loop import Loop
from .output import Output
from .sending import Sending, send_remainder
from .state import State
from .streams import ClientSocket
from .tls_transport import TLSTransport
from .transport import Transport
from .waiting import wait_for_request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from .._http1.parser import RequestParser
    from .._http1.request import Request

__all__ = ["Connection"]

_recv = socket.socket.recv

# Bytes of a response that a client has soon, whatever comes: its connection is closed without a look at
# what the kernel has of it.
MUCH = 16384

# Enum members by global names, for their cost: see exchange.py.
_IDLE, _HANDLED = State.IDLE, State.HANDLED
_OPEN = ClientState.OPEN


class Connection(Link):
    """One client's connection.  See this module's text for who may call what, and when.

    ``context`` is for one over TLS.
    """

    __slots__ = (
        "_direct",
        "_last_head",
        "address",
        "answer",
        "arrival",
        "closing",
        "delivery",
        "handler",
        "handshake",
        "idle_timeout",
        "input",
        "one_thread",
        "output",
        "repeated",
        "repeated_environ",
        "sending",
        "transport",
    )

    def __init__(
        self,
        sock: ClientSocket,
        address: Any,
        loop: Loop,
        context: "ssl.SSLContext | None" = None,
        *,
        raw: bool = False,
    ) -> None:
        super().__init__(sock, address, loop)
        sock.connection = self
        self.address = address
        self.delivery = Delivery(self)
        over_tls = None if context is None else TLSTransport(self, context)
        self.transport = over_tls or Transport(self)
        self.output = Output(self, self.transport)
        self.input = Input(self, self.transport, self.output, raw=raw)
        self.arrival = Arrival(self, self.input)
        self.closing = Closing(self, self.input, self.output, self.arrival, self.delivery)
        self.handshake: Handshake | None = None
        if over_tls is not None:
            self.handshake = Handshake(self, over_tls, self.delivery, self.closing, self.park)
        self.sending: Sending | None = None
        # May the event loop read requests from the socket by the shortest way?
        self._direct = not raw and context is None
        # The last head that was a plain one.
        self._last_head = b""
        #: The request in it, if it was the last but one, too, and what a front end has made of that.
        self.repeated: Request | None = None
        self.repeated_environ: dict[str, Any] | None = None
        #: Whatever the front end keeps for this connection between requests.
        self.handler: Any = None
        #: Answers the request at hand and ends its exchange, without a detour through the front end.
        self.answer: Callable[[], None] | None = None
        #: How long it may be idle, in seconds.
        self.idle_timeout = self.config.keep_alive_timeout
        #: Does one thread of the engine's run all of its requests, and wait for each? Whoever accepts it
        #: says so.
        self.one_thread = False
        loop.note_opened()

    def read_through(self, parser: "RequestParser") -> None:
        """Read what the client sends by this parser, which knows more than HTTP; before any has come."""
        self.input.parser = parser
        self._direct = False

    def after_fork(self) -> None:
        """In a forked child whose handler's connection this is: other threads' locks are nobody's."""
        self.output.after_fork()
        self.transport.after_fork()

    def detach(self) -> None:
        """The connection has closed.

        What its parts have in its place from now on says so.  Else they and it would refer to each other
        until the garbage collector comes: for each connection some ten objects.
        """
        closed = Link(self.sock, self.address, self.loop)
        closed.peer = self.peer
        closed.state = State.CLOSED
        closed.keep_open = False
        self.transport.link = self.output.link = self.input.link = closed
        self.arrival.link = self.delivery.link = self.closing.link = closed
        self.handshake = self.sending = self.closing.lingering = None

    # -- events, in the event loop's thread

    def on_ready(self, flags: int) -> bool:
        """The poller saw something; True if a request is now at hand and awaits its thread."""
        if self.state is not _IDLE:
            if self.state is State.ENDING:
                self.state = _HANDLED
                return True
            if self.state is State.SENDING:
                return self._on_room(flags)
            if not self._on_ready_while_owned(flags):
                return False
        if self.handshake is not None:
            return self.handshake.on_ready(flags)
        parser = self.input.parser
        received = parser.buffer
        self.drained = False
        if flags != READABLE:
            if self._leaves_while_idle(flags):
                return False
        elif not received and parser.body_ended and self._direct and self._read_head():
            return True
        if self.arrival.advance():
            return True
        self._wait_for_more(begun=has_begun(received))
        return False

    def _read_head(self) -> bool:
        """One read, of an idle connection.

        By far the most frequent case is written out: it gives one whole head, and a plain one.
        """
        try:
            data = _recv(self.sock, HEAD_SIZE, DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            self.left(DisconnectReason.RESET)
            return False
        if data == self._last_head:
            # Programs that poll say the same again and again. What was parsed stays from the second time
            # on: requests that differ leave nothing behind but their bytes.
            request = self.repeated
            if request is None:
                request = self.repeated = self.loop.heads.parse_plainly(data)
        else:
            request = self.loop.heads.parse_plainly(data)
            self._last_head = b"" if request is None else data
            self.repeated = self.repeated_environ = None
        if request is None:
            if data:
                self.input.take_in(data, HEAD_SIZE)
            return False
        self.drained = True
        if self.loop.rearm is not None:
            self.loop.rearm(self.sock)
        return self.arrival.begin_with_body(request) if request.length else self.arrival.begin(request)

    def _on_room(self, flags: int) -> bool:
        """There may be room for the end of a response; True if a request is at hand behind it."""
        sending = self.sending
        assert sending is not None
        goes_on = sending.on_ready(flags)
        if goes_on is None:
            return False
        self.sending = None
        if not goes_on:
            self.closing.retire()
            return False
        self.state = _HANDLED  # by the event loop itself
        self.drained = False  # Events for bytes that came meanwhile were taken for those of room.
        return self.rest()

    def _wait_for_more(self, *, begun: bool) -> None:
        """No request is at hand. ``begun`` says whether one had begun to come before."""
        if self.peer.state is not _OPEN:
            self.closing.end_unanswered()
        elif not self.keep_open:
            self.state = _HANDLED  # by the event loop itself
            self.closing.finish()
        elif self.arrival.coming is not None or (not begun and has_begun(self.input.parser.buffer)):
            self.deadline = self.arrival.patience()
            if self.deadline < self.loop.next_sweep:
                self.loop.expect(self.deadline)

    def _leaves_while_idle(self, flags: int) -> bool:
        """FIN or worse came; True if that is the end.

        Requests that came before a FIN are answered, with the signal set: the client may have closed
        its sending side alone.  One that came before a reset is not started, but told of.
        """
        if flags & GONE:
            self.left(self.error() or DisconnectReason.RESET)
            if self.arrival.advance():
                self.delivery.tell_unstarted()
                self.closing.retire()
            else:
                self.closing.end_unanswered()
            return True
        if flags & EOF:
            # A short read says that the buffer is drained, not that no FIN lies behind it.
            self.left(DisconnectReason.FIN)
        return False

    def _on_ready_while_owned(self, flags: int) -> bool:
        """An event for a connection that is not idle; True if it has just become so."""
        if self.blocking:
            flags &= flags_now(self)
        exchange = None
        with self.loop.lock:
            state = self.state
            if state is State.HANDLED:
                self.pending |= flags | READABLE
                exchange = note_events(self, flags)
        if exchange is not None:
            exchange.notify_client(self.peer)
        if state is State.LINGERING:
            lingering = self.closing.lingering
            assert lingering is not None
            if not lingering.on_ready(flags):
                self.closing.retire()
            elif not self.drained:
                self.loop.look_at(self)  # when others have had their turn
        elif state is State.HANDLED:
            if self.peer.state is not _OPEN:
                self.loop.on_left(self)
            if flags & READABLE and self.transport.look_ahead():
                return has_parked_meanwhile(self)
        return state is _IDLE

    def on_deadline(self) -> bool:
        """Called when :attr:`deadline` has passed; True if a request is at hand all the same."""
        if self.state is State.SENDING:
            sending = self.sending
            if sending is not None and sending.is_deaf():
                self.left(DisconnectReason.WRITE_TIMEOUT)
                self._give_up(sending)
        elif self.state is State.LINGERING:
            lingering = self.closing.lingering
            if lingering is not None and not lingering.on_deadline():
                self.closing.retire()
        elif self.state is _IDLE:
            return self._on_idle_deadline()
        return False

    def _on_idle_deadline(self) -> bool:
        if self.transport.has_news():
            # It came in time, and nobody has looked: the process was stopped, or the machine asleep.
            due = self.deadline
            if self.on_ready(READABLE):
                return True
            if self.state is not _IDLE or self.deadline > due:
                return False
        self.closing.end_idle()
        return False

    # -- an end that the event loop makes

    def _give_up(self, sending: Sending) -> None:
        self.sending = None
        sending.give_up()
        self.closing.retire()

    def evict(self) -> None:
        """Its client is too slow, and others wait.  The event loop's."""
        sending = self.sending
        if sending is None or self.state is not State.SENDING:
            self.input.evict()
        else:
            self.left(DisconnectReason.WRITE_TIMEOUT)
            self._give_up(sending)

    # -- requests, in the handling thread

    def prepare(self) -> bool:
        """What a worker has to do for a connection without a request: a step, or to close it.

        Returns whether a request is at hand now.
        """
        if self.handshake is None:
            self.closing.close()
        else:
            self.handshake.take_steps()
        return False

    def wait_for_next_request(self) -> bool:
        """Block until a request is at hand; False if the client left, or was idle for too long."""
        self.input.give_back_stream()
        return wait_for_request(self.arrival, self.delivery, self.transport, self.idle_timeout)

    def end_exchange(self, *, keep_open: bool, whole: bool = False) -> None:
        """The handler has answered: tell of it, once.

        ``whole`` says that the front end has handed all of the response over, as far as it can tell.

        What that means for a client that has disconnected is :class:`Delivery`'s to say.
        """
        self.keep_open = keep_open
        output = self.output
        if output.holds_back:
            try:
                output.flush()
            except ClientDisconnected:
                pass
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        self.idle_since = monotonic()
        exchange.end(self.idle_since)
        if exchange.out > MUCH:
            self.closing.sent_much = True
        request = self.request
        if request is not None and request.length:
            self.arrival.allow_discarding(exchange)
        self.request = None
        if output.left_over:
            self.delivery.wait(exchange)
        elif self.peer.state is not _OPEN:
            self.delivery.end(exchange, whole=whole)
        elif self.loop.sinks.are_there:
            self.delivery.tell(exchange, exchange.outcome)

    def rest(self) -> bool:
        """After a request: True if another one is at hand, else the connection is given back.

        The owner's last call, unless it returns True.
        """
        arrival = self.arrival
        if self.blocking:
            return self.keep_open and self.wait_for_next_request()
        if self.one_thread:
            if self.keep_open and self.wait_for_next_request():
                return True
            self.keep_open = False
            self.loop.end_handler(self)
        if self.input.opened is not None:
            self.input.give_back_stream()
        if self.output.left_over:
            if self._hand_remainder_over():
                return False
            send_remainder(self, self.output, self.delivery)
        parser = self.input.parser
        while self.keep_open:
            if (parser.buffer or not self.drained) and arrival.advance():
                return True
            if self.peer.state is not _OPEN:
                if self._take_news():
                    continue  # A request may have come with the FIN that the event loop has seen.
                self.delivery.tell_unfinished(arrival.unfinished())
                break
            if arrival.coming is not None:
                deadline = arrival.body_deadline()
            elif not parser.body_ended or (parser.buffer and has_begun(parser.buffer)):
                deadline = self.idle_since + self.config.request_header_timeout
            else:
                deadline = self.idle_since + self.idle_timeout
            if (parked := self.park(deadline)) is not None:
                if parked < self.loop.next_sweep:
                    self.loop.expect(parked)
                return False
            self.drained = False
        self.closing.finish()
        return False

    def _hand_remainder_over(self) -> bool:
        """Have the event loop send what is left over; False if it can't."""
        self.sending = sending = Sending(self, self.output, self.delivery)  # before the state says so
        if sending.begin():
            return True
        self.sending = None
        return False

    def _take_news(self) -> bool:
        """Whether something has come since the owner last looked; it must look again then."""
        with self.loop.lock:
            news, self.pending = self.pending, 0
        if news or self.transport.read_ahead:  # The event loop has read it, and is about to say so.
            self.drained = False
            return True
        return False

    def park(self, deadline: float) -> float | None:
        """Give the connection to the event loop; None if there is more to do for its owner.

        Returns its deadline, which is sooner than asked for while the server drains.
        """
        loop = self.loop
        # Not a `with`, which costs twice as much.
        loop.lock.acquire()
        try:
            if loop.draining and self.arrival.coming is None:
                self.keep_open = self.keep_open and bool(loop.drained_at)
                deadline = min(deadline, loop.drained_at)
            if not self.keep_open:
                return None  # or what is left of the body is not worth reading
            if self.pending:
                self.pending = 0
                return None
            if not self.watched and not loop.register_locked(self):
                self.keep_open = False
                return None
            if self.handshake is not None and self.handshake.is_done:
                self.handshake = None
            self.deadline = deadline
            self.state = _IDLE
            return deadline
        finally:
            loop.lock.release()
