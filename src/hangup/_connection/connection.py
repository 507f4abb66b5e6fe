"""One connection: what is read from it, what is sent, who owns it, and how it ends.

Ownership
    A connection has one owner at a time, which alone reads, sends and changes it.  While it is
    ``IDLE`` or ``LINGERING`` that is the thread that keeps the watch; while it is ``HANDLED``, the
    thread that handles its request.  It changes hands at two points: the watch finds a request and
    marks it ``HANDLED``, and the handling thread parks it (:meth:`Connection.rest`).

What others may touch
    While it is ``HANDLED`` the watching thread goes on seeing its events.  It marks them
    (``pending``), under ``watch.lock``, and tells the client's state; the owner looks at the mark,
    under the same lock, when it parks.  So no event is lost in between.
"""

import select
import socket
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._disconnect.peer import ClientState, Departure
from .._http1.error_response import plain_answer
from .._http1.parser import Wire
from .._system.poller import EOF, GONE, READABLE, bytes_queued
from ..exceptions import ClientDisconnected
from ..records import Outcome
from .closing import MUCH, State, has_begun
from .exchange import Exchange
from .input import HEAD_SIZE
from .loop import Loop
from .output import DONTWAIT
from .remainder import Remainder
from .streams import ClientSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._http1.request import Request

__all__ = ["Connection"]

_recv = socket.socket.recv

# Enum members by global names, for their cost: see exchange.py.
_IDLE, _HANDLED = State.IDLE, State.HANDLED
_OPEN = ClientState.OPEN


class Connection(Remainder):
    """One client's connection.  See this module's text for who may call what, and when."""

    __slots__ = (
        "_direct",
        "_last_head",
        "address",
        "answer",
        "handler",
        "idle_timeout",
        "repeated",
        "repeated_environ",
    )

    def __init__(self, sock: ClientSocket, address: Any, watch: Loop, *, raw: bool = False) -> None:
        super().__init__(sock, address, watch, raw=raw)
        sock.connection = self
        self.address = address
        # May the watch read requests from the socket by the shortest way?
        self._direct = not raw
        # The last head that was a plain one.
        self._last_head = b""
        #: The request in it, if it was the last but one, too, and what a front door has made of that.
        self.repeated: Request | None = None
        self.repeated_environ: dict[str, Any] | None = None
        #: Whatever the front door keeps for this connection between requests.
        self.handler: Any = None
        #: Answers the request at hand and ends its exchange, without a detour through the door.
        self.answer: Callable[[], None] | None = None
        #: How long it may be idle, in seconds.
        self.idle_timeout = self.config.keep_alive_timeout

    def read_through(self, wire: Wire) -> None:
        """Read what the client sends by this wire, which knows more than HTTP; before any has come."""
        self.wire = wire
        self._direct = False

    # -- the watching thread

    def on_ready(self, flags: int) -> bool:
        """The poller saw something; True if a request is now at hand and awaits its thread."""
        if self.state is not _IDLE:
            if self.state is State.ENDING:
                self.state = State.HANDLED
                return True
            if self.state is State.SENDING:
                return self._send_on(flags) and self._go_on()
            if not self._on_ready_while_owned(flags):
                return False
        wire = self.wire
        received = wire.buffer
        self._drained = False
        if flags != READABLE:
            if self._leaves_while_idle(flags):
                return False
        elif not received and wire.body_ended and self._direct and self._read_head():
            return True
        if self.advance():
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
            self._left(Departure.RESET)
            return False
        if data == self._last_head:
            # Programs that poll say the same again and again. What was parsed stays from the second time
            # on: requests that differ leave nothing behind but their bytes.
            request = self.repeated
            if request is None:
                request = self.repeated = self.watch.heads.parse_plainly(data)
        else:
            request = self.watch.heads.parse_plainly(data)
            self._last_head = b"" if request is None else data
            self.repeated = self.repeated_environ = None
        if request is None:
            if data:
                self._take_in(data, HEAD_SIZE)
            return False
        self._drained = True
        if self.watch.rearm is not None:
            self.watch.rearm(self.sock)
        return self.begin_with_body(request) if request.length else self._begin(request)

    def _go_on(self) -> bool:
        """The watch has sent the end of an answer; True if a request is at hand behind it."""
        self.state = _HANDLED  # by the watch itself
        self._drained = False  # Events for bytes that came meanwhile were taken for those of room.
        return self.rest()

    def _wait_for_more(self, *, begun: bool) -> None:
        """No request is at hand. ``begun`` says whether one had begun to come before."""
        if self.peer.state is not _OPEN:
            self._end_unanswered()
        elif not self.keep_open:
            self.state = _HANDLED  # by the watch itself
            self.finish()
        elif self._coming is not None or (not begun and has_begun(self.wire.buffer)):
            self.deadline = self._patience()
            if self.deadline < self.watch.next_sweep:
                self.watch.expect(self.deadline)

    def _patience(self) -> float:
        """Until when a request that has begun to come must have come further."""
        if self._coming is not None:
            return self.body_deadline()
        return monotonic() + self.config.head_timeout

    def _leaves_while_idle(self, flags: int) -> bool:
        """FIN or worse came; True if that is the end.

        Requests that came before a FIN are answered, with the signal set: the client may have closed
        its sending side alone.  One that came before a reset is not started, but told of.
        """
        if flags & GONE:
            self._left(self._error() or Departure.RESET)
            if self.advance():
                self.tell_unstarted()
                self.retire()
            else:
                self._end_unanswered()
            return True
        if flags & EOF:
            # A short read says that the buffer is drained, not that no FIN lies behind it.
            self._left(Departure.FIN)
        return False

    def _on_ready_while_owned(self, flags: int) -> bool:
        """An event for a connection that is not idle; True if it has just become so."""
        if self.blocking:
            flags &= self._flags_now()
        exchange = None
        with self.watch.lock:
            state = self.state
            if state is State.HANDLED:
                self.pending |= flags | READABLE
                exchange = self._note_events(flags)
        if exchange is not None:
            exchange.tell_client(self.peer)
        if state is State.LINGERING:
            if not self._linger(flags):
                self.retire()
            elif not self._drained:
                self.watch.look_at(self)  # when others have had their turn
        elif state is State.HANDLED and self.peer.state is not ClientState.OPEN:
            self.watch.on_left(self)
        return state is State.IDLE

    def _note_events(self, flags: int) -> "Exchange | None":
        """What events say of the client; returns the request whose client is to be told."""
        how = self._error() if flags & GONE else None
        if how is None and flags & GONE and self.exchange is not None and self._is_reset_for_sure():
            how = Departure.RESET
        if how is not None:
            return self._note_left(how)
        if flags & (EOF | GONE):
            # No error is there when both sides have closed in peace, or a handler has taken it.
            return self._note_left(Departure.FIN)
        return None

    def _is_reset_for_sure(self) -> bool:
        """Of a connection that is hung up, and has no error: whether it was reset.

        close() on a unix socket hangs up both ways at once, and there is no RST to tell of it.  Over TCP
        both sides may have closed in peace; but if this one has not, another thread has met the error,
        and is about to say so.
        """
        return self._is_unix() or not self.fin_sent

    def _flags_now(self) -> int:
        """What the socket says this moment.

        A blocking connection is registered by its own thread, so that an event which was told before
        may have been another connection's, under the same number.
        """
        poll = select.poll()
        try:
            poll.register(self.sock, EOF)
        except ValueError:
            return 0  # It has been closed.
        return READABLE | sum(flags for _, flags in poll.poll(0))

    def make_way(self) -> None:
        """There is no room for connections, and nobody works for this one: close it."""
        if self.state is State.LINGERING:
            self._settle(Outcome.ANSWERED)
            self.retire()
        elif self._unfinished() is None:
            self.retire()
        else:
            self._end_idle()

    def on_deadline(self) -> bool:
        """Called when :attr:`deadline` has passed; True if a request is at hand all the same."""
        if self.state is State.SENDING:
            if self._is_deaf():
                self._left(Departure.WRITE_TIMEOUT)
                self._give_up()
        elif self.state is State.LINGERING:
            self.on_linger_deadline()
        elif self.state is State.IDLE:
            return self._on_idle_deadline()
        return False

    def _on_idle_deadline(self) -> bool:
        if self.has_news():
            # It came in time, and nobody has looked: the process was stopped, or the machine asleep.
            due = self.deadline
            if self.on_ready(READABLE):
                return True
            if self.state is not _IDLE or self.deadline > due:
                return False
        self._end_idle()
        return False

    def _end_idle(self) -> None:
        exchange = self._unfinished()
        if exchange is None:
            self.close_gently()
        else:
            # RFC 9110 §15.5.9, as far as the socket takes it; the watch does not wait.
            self._answer_at_once(exchange, Outcome.TIMED_OUT, 408, "Request Timeout")

    def close_gently(self) -> None:
        """Close an idle connection; what its client has yet to read of the last response goes out."""
        if bytes_queued(self.sock):
            self.state = _HANDLED  # by the watch itself
            self.finish()
        else:
            self.retire()

    def turn_away(self) -> None:
        """503 (RFC 9110 §15.6.4) for the request at hand, by the watch: too many wait already."""
        exchange, self.exchange = self.exchange, None
        assert exchange is not None  # What has none waits, however many do.
        self._answer_at_once(exchange, Outcome.REFUSED, 503, "Service Unavailable", "Retry-After: 1")

    def _answer_at_once(
        self, exchange: Exchange, outcome: Outcome, status: int, reason: str, *fields: str
    ) -> None:
        self._send_at_once(exchange, outcome, status, reason, *fields)
        self.state = State.HANDLED
        self.finish()

    def _send_at_once(
        self, exchange: Exchange, outcome: Outcome, status: int, reason: str, *fields: str
    ) -> None:
        head, body = plain_answer(status, reason, *fields)
        exchange.status, exchange.reason = status, reason
        exchange.head_out = len(head)
        try:
            exchange.out = self._send_now(head if exchange.is_for_head else head + body)
        except OSError:
            pass  # It does not listen.
        self._tell(exchange, outcome)

    def prepare(self) -> bool:
        """What a worker has to do for a connection without a request: here, to close it.

        Returns whether a request is at hand now.
        """
        self.close()
        return False

    def _end_unanswered(self) -> None:
        """Close an idle connection, whose client has left."""
        self._tell_of_unfinished()
        self.retire()

    # -- requests

    def wait_for_next_request(self) -> bool:
        """Block until a request is at hand; False if the client left, or was idle for too long.

        For a connection that one thread keeps (:attr:`blocking`, :attr:`one_thread`), and for a handler
        with a loop of its own.
        """
        self.give_back_stream()
        deadline = monotonic() + self.idle_timeout
        begun = False
        watch = self.watch
        if watch.forked:
            return False  # The next request is the parent's.
        watch.waiting[self] = None  # Before the look at `draining`, see Watch.drain.
        try:
            while True:
                # Before the look, not after it: a request may have come, and a FIN behind it.
                had_left = self.peer.state is not ClientState.OPEN
                self._drained = False
                if self.advance():
                    return True
                if had_left or not self.keep_open or watch.draining:
                    break
                if not begun and has_begun(self.wire.buffer):
                    begun, deadline = True, monotonic() + self.config.head_timeout
                left = max(0.0, deadline - monotonic())
                open_still = self.peer.state is ClientState.OPEN
                if open_still and not self._wait_readable(left):
                    self._time_out()
                    break
        finally:
            with watch.lock:
                del watch.waiting[self]
        if self.peer.state is not ClientState.OPEN:
            self._tell_of_unfinished()
        return False

    def _time_out(self) -> None:
        """408 for a request that has begun to come, and did not come whole in time."""
        exchange = self._unfinished()
        if exchange is not None:
            self.keep_open = False
            self._send_at_once(exchange, Outcome.TIMED_OUT, 408, "Request Timeout")

    def cut_off(self) -> None:
        """The server waits for this request no longer.  Any thread.

        Its handler is told as of a disconnect.
        """
        self._left(Departure.SHUTDOWN)
        try:
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # for a thread that waits on it
        except OSError:
            pass  # It is closed already.

    def stop_waiting(self) -> None:
        """Have a thread that is in :meth:`wait_for_next_request` return, unless a request comes.

        Any thread.  With ``watch.lock``, as the thread may be done with waiting just now, and this would
        end what it reads next.
        """
        with self.watch.lock:
            if self not in self.watch.waiting or self.has_news():
                return
            try:
                # Only its waiting side: what it has sent is not touched.
                socket.socket.shutdown(self.sock, socket.SHUT_RD)
            except OSError:
                pass  # It is closed already.

    def end_exchange(self, *, keep_open: bool, whole: bool = False) -> None:
        """The handler has answered: tell of it, once.

        ``whole`` says that the front end has handed all of the response over, as far as it can tell.

        What that means for a client that has disconnected is :meth:`Ending.is_delivered`'s to say.  One
        that has sent FIN may be reading still, or may be long gone.  That is known when it has
        acknowledged the response or refused it, so its record waits until then (:meth:`finish`).
        """
        self.keep_open = keep_open
        if self._holding:
            try:
                self.flush()
            except ClientDisconnected:
                pass
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        exchange.ended_at = self.idle_since = monotonic()
        exchange.blank_client = None
        if exchange.out > MUCH:
            self.sent_much = True
        if exchange.known_client is not None:
            exchange.known_client.end()
        request = self.request
        if request is not None and request.length:
            self._budget = self._discard_budget(exchange)
        self.request = None
        if self.left_over:
            exchange.thread = threading.current_thread().name
            self._unsettled = [*(self._unsettled or ()), exchange]
        elif self.peer.state is not _OPEN:
            self._end_of_one_that_left(exchange, whole=whole)
        elif self.watch.is_told:
            self._tell(exchange, exchange.outcome)

    def _end_of_one_that_left(self, exchange: Exchange, *, whole: bool) -> None:
        exchange.thread = threading.current_thread().name
        if not whole and exchange.outcome is Outcome.ANSWERED:
            # Its handler gave up the rest. That its client has acknowledged what there is says nothing.
            exchange.outcome = Outcome.LEFT
        if not exchange.answer_began:
            self._tell(exchange, Outcome.LEFT)
        elif self.peer.state is ClientState.EOF:
            self._unsettled = [*(self._unsettled or ()), exchange]
        elif self.is_delivered(exchange):
            self._tell(exchange, exchange.outcome)
        else:
            self._tell(exchange, Outcome.LEFT)

    def rest(self) -> bool:
        """After a request: True if another one is at hand, else the connection is given back.

        The owner's last call, unless it returns True.
        """
        if self.blocking:
            return self.keep_open and self.wait_for_next_request()
        if self.one_thread:
            if self.keep_open and self.wait_for_next_request():
                return True
            self.keep_open = False
            self.watch.end_handler(self)
        if self._stream is not None:
            self.give_back_stream()
        if self.left_over:
            if self._hand_remainder_over():
                return False
            self._send_remainder()
        wire = self.wire
        while self.keep_open:
            if (wire.buffer or not self._drained) and self.advance():
                return True
            if self.peer.state is not _OPEN:
                if self._take_news():
                    continue  # A request may have come with the FIN that the watch has seen.
                self._tell_of_unfinished()
                break
            if self._coming is not None:
                deadline = self.body_deadline()
            elif not wire.body_ended or (wire.buffer and has_begun(wire.buffer)):
                deadline = self.idle_since + self.config.head_timeout
            else:
                deadline = self.idle_since + self.idle_timeout
            if (parked := self._park(deadline)) is not None:
                if parked < self.watch.next_sweep:
                    self.watch.expect(parked)
                return False
            self._drained = False
        self.finish()
        return False

    def _send_remainder(self) -> None:
        """Where the watch can't: this thread waits for the client after all."""
        assert self._unsettled
        self.exchange = self._unsettled[-1]  # for its count of bytes
        try:
            self.send_remainder()
        except ClientDisconnected:
            pass
        finally:
            self.exchange.ended_at = self.idle_since = monotonic()
            self.exchange = None
        if self.peer.state is _OPEN:
            self._settle(Outcome.ANSWERED)

    def _take_news(self) -> bool:
        """Whether something has come since the owner last looked; it must look again then."""
        with self.watch.lock:
            news, self.pending = self.pending, 0
        if news:
            self._drained = False
        return bool(news)

    def _park(self, deadline: float) -> float | None:
        """Give the connection to the watch; None if there is more to do for its owner.

        Returns its deadline, which is sooner than asked for while the server drains.
        """
        watch = self.watch
        # Not a `with`, which costs twice as much.
        watch.lock.acquire()
        try:
            if watch.draining and self._coming is None:
                self.keep_open = self.keep_open and bool(watch.drained_at)
                deadline = min(deadline, watch.drained_at)
            if not self.keep_open:
                return None  # or what is left of the body is not worth reading
            if self.pending:
                self.pending = 0
                return None
            if not self.watched and not watch.register_locked(self):
                self.keep_open = False
                return None
            self.deadline = deadline
            self.state = _IDLE
            return deadline
        finally:
            watch.lock.release()
