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

    The pacer may send a head that waits for its body.  The head lies in the list ``_held``; whoever
    pops it sends it, and the pop is atomic.  The pacer pops and sends with ``_pacing`` held, and puts
    what the socket did not take into ``_rest``.  So an owner that finds its head gone takes that lock,
    and then knows how far the head has come.
"""

import enum
import errno
import math
import os
import select
import socket
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from ._exchange import Exchange
from ._sendfile import send_file
from ._poller import EOF, GONE, READABLE, wait_for
from ._streams import ClientSocket, RequestStream
from ._wire import CHUNKED, Request, Wire, plain_answer
from .client import Client, ClientState, Departure
from .exceptions import BadRequest, BodyTimeout, ClientDisconnected
from .records import Outcome, Phase, RequestRecord

if TYPE_CHECKING:
    from ._watch import Watch

__all__ = ["Connection", "State"]

# One read's size. A whole head and most bodies fit; the allocator serves it without mapping pages.
RECEIVE_SIZE = 65536
# Bytes that a lingering close reads and drops before it gives up on the client.
LINGER_BYTES = 1024 * 1024
# A held head is joined to the body's first bytes by copying, up to this size; beyond, by writev.
JOIN_SIZE = 65536

_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)
# The methods under ClientSocket's own, looked up once: they are on every request's way.
_recv = socket.socket.recv
_send = socket.socket.send

_RESETS = frozenset((errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN))


class State(enum.Enum):
    """Who owns a connection, and what for."""

    IDLE = "between requests, or receiving a head: the watch's"
    HANDLED = "a request is at hand: the handling thread's"
    LINGERING = "answered and closing: the watch's"
    CLOSED = "closed: nobody's"


class Connection:
    """One client's connection.  See this module's text for who may call what, and when."""

    __slots__ = (
        "_budget",
        "_drained",
        "_held",
        "_holding",
        "_pacing",
        "_raw",
        "_rest",
        "_stream",
        "_unsettled",
        "address",
        "blocking",
        "client",
        "config",
        "deadline",
        "exchange",
        "handler",
        "idle_timeout",
        "io_timeout",
        "keep_open",
        "pending",
        "refusal",
        "request",
        "sock",
        "state",
        "watch",
        "wire",
    )

    def __init__(
        self, sock: ClientSocket, address: Any, watch: "Watch", *, raw: bool = False
    ) -> None:
        config = watch.config
        self.sock = sock
        sock.connection = self
        self.address = address
        self.client = Client(address)
        self.config = config
        self.watch = watch
        self.wire = Wire(config)
        self.state = State.IDLE
        #: What the poller has told since the owner last looked.
        self.pending = 0
        self.deadline = monotonic() + config.head_timeout
        self.request: Request | None = None
        self.refusal: BadRequest | None = None
        self.exchange: Exchange | None = None
        #: Does one thread keep it as long as it lasts, and wait for each request?
        self.blocking = False
        #: Whatever the front door keeps for this connection between requests.
        self.handler: Any = None
        #: May another request follow? Anybody who handles this one may say no.
        self.keep_open = True
        #: What the handler set with ``settimeout``, in seconds, or None.
        self.io_timeout: float | None = None
        #: How long it may be idle, in seconds.
        self.idle_timeout = config.keep_alive_timeout
        self._raw = raw
        self._stream: RequestStream | None = None
        self._drained = False
        self._budget = 0
        self._pacing: Lock | None = None
        self._held: list[bytes] = []
        #: Whether the owner has held a head back and not sent it since.
        self._holding = False
        self._rest = b""
        self._unsettled: list[Exchange] | None = None

    # -- the watching thread

    def on_ready(self, flags: int) -> bool:
        """The poller saw something; True if a request is now at hand and awaits its thread."""
        if self.state is not State.IDLE and not self._on_ready_while_owned(flags):
            return False
        self._drained = False
        if flags != READABLE and self._leaves_while_idle(flags):
            return False
        if self.advance():
            return True
        if self.client.state is not ClientState.OPEN:
            self.end_unanswered(Outcome.LEFT)
        elif self.wire.buffer:
            self.deadline = min(self.deadline, monotonic() + self.config.head_timeout)
            if self.deadline < self.watch.next_sweep:
                self.watch.expect(self.deadline)
        return False

    def _leaves_while_idle(self, flags: int) -> bool:
        """FIN or worse came; True if that is the end.

        Requests that came before a FIN are answered, with the signal set: the client may have closed
        its sending side alone.
        """
        if flags & GONE:
            self._left(Departure.RESET)
            self.end_unanswered(Outcome.LEFT)
            return True
        if flags & EOF:
            # A short read says that the buffer is drained, not that no FIN lies behind it.
            self._left(Departure.FIN)
        return False

    def _on_ready_while_owned(self, flags: int) -> bool:
        """An event for a connection that is not idle; True if it has just become so."""
        with self.watch.lock:
            state = self.state
            if state is State.HANDLED:
                self.pending |= flags | READABLE
                if flags & GONE:
                    # No error is there when both sides have closed in peace.
                    if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        self._left(Departure.RESET)
                elif flags & EOF:
                    self._left(Departure.FIN)
        if state is State.LINGERING:
            self._linger(flags)
        return state is State.IDLE

    def on_deadline(self) -> None:
        """Nothing came in time; called when :attr:`deadline` has passed."""
        if self.state is State.LINGERING:
            self._settle(Outcome.ANSWERED)
            self.close()
        elif self.state is State.IDLE:
            if self.wire.buffer and self.wire.body_ended:
                self._answer_late_head()
            else:
                self.close()

    def _answer_late_head(self) -> None:
        """408 (RFC 9110 §15.5.9), as far as the socket takes it; the watch does not wait."""
        exchange = self._unfinished_head()
        head, body = plain_answer(408, "Request Timeout")
        exchange.status = 408
        exchange.head_out = len(head)
        try:
            exchange.out = _send(self.sock, head + body, _DONTWAIT)
        except OSError:
            pass  # It is late, and does not listen.
        self._tell(exchange, Outcome.TIMED_OUT)
        self.state = State.HANDLED
        self.finish()

    def _unfinished_head(self) -> Exchange:
        """A head that has begun to come is a request, which ends here."""
        exchange = Exchange(None)
        exchange.phase = exchange.left_phase = Phase.HEAD
        exchange.head_in = len(self.wire.buffer)
        return exchange

    def end_unanswered(self, outcome: Outcome) -> None:
        """Close an idle connection."""
        self._tell_of_unfinished_head(outcome)
        self.close()

    def _tell_of_unfinished_head(self, outcome: Outcome) -> None:
        if self.wire.buffer and self.wire.body_ended:
            self._tell(self._unfinished_head(), outcome)

    # -- requests in

    def advance(self) -> bool:
        """Whether a request is at hand.  Reads what has come, and never waits.

        Owner only.  What the previous handler left of its request's body is discarded on the way.
        A request that must be refused is at hand too: :attr:`refusal` holds the answer.
        """
        wire = self.wire
        try:
            while True:
                if wire.buffer and (wire.body_ended or self._discard_body()):
                    if self._raw:
                        if wire.has_raw_head():
                            return self._begin(None)
                    else:
                        request = wire.next_request()
                        if request is not None:
                            return self._begin(request)
                if self._drained or not self._receive_available():
                    return False
        except BadRequest as refusal:
            self.refusal = refusal
            return self._begin(None)

    def _begin(self, request: Request | None) -> bool:
        self.request = request
        self.exchange = Exchange(request)
        self.keep_open = True
        self.deadline = math.inf
        self.state = State.HANDLED
        return True

    def _receive_available(self) -> bool:
        """One read; False when nothing has come, or the client has left."""
        try:
            data = _recv(self.sock, RECEIVE_SIZE, _DONTWAIT)
        except BlockingIOError:
            self._mark_drained()
            return False
        except OSError:
            self._left(Departure.RESET)
            return False
        if len(data) < RECEIVE_SIZE:
            if not data:
                self._drained = True
                self._left(Departure.FIN)
                return False
            self._drained = True
            if self.watch.rearm is not None:
                self.watch.rearm(self.sock)
        self.wire.receive(data)
        return True

    def _mark_drained(self) -> None:
        self._drained = True
        if self.watch.rearm is not None:
            self.watch.rearm(self.sock)

    def _discard_body(self) -> bool:
        """Drop what has come of an unread body; True at its end."""
        wire = self.wire
        while data := wire.read_body():
            self._budget -= len(data)
        if not wire.body_ended and self._budget < wire.body_remaining:
            raise BadRequest(413, "The rest of the request's body is not worth reading")
        return wire.body_ended

    def wait_for_next_request(self) -> bool:
        """Block until a request is at hand; False if the client left, or was idle for too long.

        For a connection that one thread keeps (:attr:`blocking`).
        """
        self._drained = False
        self._give_back_stream()
        deadline = monotonic() + self.idle_timeout
        while not self.advance():
            left = max(0.0, deadline - monotonic())
            if self.client.disconnected or not wait_for(self.sock, select.POLLIN, left):
                return False
            self._drained = False
        return True

    def _give_back_stream(self) -> None:
        """The request's stream ends with it; on a raw connection, what it read ahead comes next."""
        if not self._raw:
            self._stream = None
        elif self._stream is not None:
            self.wire.put_back(self._stream.take_buffer())

    # -- the handling thread: bytes in

    @property
    def stream(self) -> RequestStream:
        """What a handler reads: the request's body, or everything (a raw connection, an upgrade)."""
        return self._stream or self.open_stream()

    def open_stream(self, *, head_first: bool = False) -> RequestStream:
        """Begin to read the current request; with its head, for a handler that parses it itself."""
        fd = self.sock.fileno()
        if self._raw:
            stream = RequestStream(self._more_raw, fd=fd)
        elif head_first and self.request is not None:
            stream = RequestStream(self._more_body, self.request.head, fd)
        else:
            stream = RequestStream(self._more_body, fd=fd)
        self._stream = stream
        return stream

    def _more_body(self) -> bytes:
        wire = self.wire
        while True:
            data = wire.read_body()
            if data or wire.body_ended:
                if self.exchange is not None:
                    self.exchange.body_in += len(data)
                return data
            wire.receive(self._receive(self.config.body_timeout))

    def _more_raw(self) -> bytes:
        data = self.wire.take_raw()
        if not data:
            try:
                data = self._receive(self.config.body_timeout)
            except ClientDisconnected:
                if self.client.state is ClientState.GONE:
                    raise
                return b""  # FIN: a file's ordinary end
        if self.exchange is not None:
            self.exchange.body_in += len(data)
        return data

    def upgrade(self) -> None:
        """From here on the bytes are another protocol's: the request's stream has no end."""
        self.wire.forget_body()
        self.keep_open = False
        self.stream.continue_with(self._more_raw)

    def _receive(self, timeout: float) -> bytes:
        """The next bytes, waiting for them.

        Raises :exc:`~hangup.ClientDisconnected` at FIN and RST, :exc:`BodyTimeout` after
        ``timeout`` seconds, or the handler's own, without a byte.
        """
        if self._holding:
            self.flush()
        if self.io_timeout is not None:
            timeout = self.io_timeout
        exchange = self.exchange
        while True:
            try:
                data = _recv(self.sock, RECEIVE_SIZE, _DONTWAIT)
            except BlockingIOError:
                self._mark_drained()
                if exchange is not None and exchange.phase is Phase.WORKING:
                    exchange.phase = Phase.BODY
                if not wait_for(self.sock, select.POLLIN, timeout):
                    raise BodyTimeout("timed out") from None
            except OSError as error:
                raise self._lost(error) from error
            else:
                break
        if exchange is not None and exchange.phase is Phase.BODY:
            exchange.phase = Phase.WORKING
        if data:
            self._drained = False
            return data
        if exchange is not None and not exchange.answer_began:
            exchange.phase = Phase.BODY
        self._left(Departure.FIN)
        raise ClientDisconnected("the client left before its request was complete")

    # -- the handling thread: bytes out

    def hold(self, head: bytes) -> None:
        """Keep a head back for a moment, so that it leaves together with the body's beginning.

        If the body takes longer, the pacer sends the head by itself.
        """
        if self._holding:
            self.flush()
        if self._pacing is None:
            self._pacing = Lock()
        self._holding = True
        self._held.append(head)
        pacer = self.watch.pacer
        if pacer.asleep:
            pacer.nudge()

    @property
    def is_raw(self) -> bool:
        """Whether a handler gets every byte, and parses for itself."""
        return self._raw

    @property
    def holds_head(self) -> bool:
        """Whether a head waits for its body."""
        return self._holding

    def _take_held(self) -> bytes:
        """The head that was held back, or what the pacer could not send of it."""
        self._holding = False
        try:
            return self._held.pop()
        except IndexError:
            assert self._pacing is not None
            with self._pacing:
                rest, self._rest = self._rest, b""
                return rest

    def take_back(self) -> None:
        """Forget the head that is held back: it will not be sent."""
        if self._holding:
            self._take_held()

    def flush(self) -> None:
        """Send what is held back."""
        if self._holding:
            self.send(b"")

    def send_held(self) -> None:
        """Send a head whose body takes its time.  The pacer calls this; it does not wait."""
        pacing = self._pacing
        if pacing is None:
            return
        with pacing:
            try:
                head = self._held.pop()
            except IndexError:
                return  # Its owner has sent it just now.
            try:
                sent = _send(self.sock, head, _DONTWAIT)
            except OSError:
                sent = 0  # A full buffer, or a departed client: its owner will meet it.
            self._rest = head[sent:]
            exchange = self.exchange
            if exchange is not None:
                exchange.note_sent(head, sent)

    def send(self, data: bytes | memoryview) -> None:
        """Send everything.

        Raises :exc:`~hangup.ClientDisconnected` if the client is gone, or takes nothing for
        ``write_timeout`` seconds.
        """
        if self._holding:
            head = self._take_held()
            if len(data) > JOIN_SIZE:
                self.send(head)
            else:
                data = head + data
        if not data:
            return
        if self.client.state is ClientState.GONE:
            raise ClientDisconnected
        try:
            sent = _send(self.sock, data, _DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self._lost(error) from error
        exchange = self.exchange
        if exchange is not None:
            exchange.note_sent(data, sent)
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, rest: memoryview) -> None:
        while rest:
            self._wait_writable()
            try:
                sent = _send(self.sock, rest, _DONTWAIT)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._lost(error) from error
            if self.exchange is not None:
                self.exchange.note_sent(rest, sent)
            rest = rest[sent:]

    def _wait_writable(self) -> None:
        timeout = self.config.write_timeout if self.io_timeout is None else self.io_timeout
        if not wait_for(self.sock, select.POLLOUT, timeout):
            self._left(Departure.WRITE_TIMEOUT)
            raise ClientDisconnected(f"the client read nothing for {timeout:g} s", errno.ETIMEDOUT)

    def send_file_piece(self, descriptor: int, offset: int, count: int) -> int:
        """One ``os.sendfile``, waiting for room; returns how many bytes were sent."""
        if self.client.state is ClientState.GONE:
            raise ClientDisconnected
        while True:
            try:
                sent = os.sendfile(self.sock.fileno(), descriptor, offset, count)
            except BlockingIOError:
                self._wait_writable()
            except OSError as error:
                raise self._lost(error) from error
            else:
                if self.exchange is not None:
                    self.exchange.out += sent
                return sent

    def send_file(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send ``count`` bytes of an open binary file, or all, from ``offset``; return how many.

        Through ``os.sendfile`` where the platform has it and the file is a real one.
        """
        return send_file(self, file, offset, count)

    # -- departures, and the end

    def _left(self, how: Departure) -> None:
        """The client left.  Any thread that notices."""
        exchange = self.exchange
        if exchange is not None:
            exchange.note_left()
        if how is Departure.FIN:
            self.client.note_eof()
        else:
            self.client.note_gone(how)

    def _lost(self, error: OSError) -> ClientDisconnected:
        """The one place where an error of the operating system becomes a departure."""
        code = error.errno or errno.EPIPE
        if code in _RESETS:
            how = Departure.RESET
        elif code == errno.ETIMEDOUT:
            how = Departure.UNREACHABLE
        else:
            how = Departure.WRITE_FAILED
        self._left(how)
        return ClientDisconnected(f"the client left: {error.strerror or error}", code)

    def set_io_timeout(self, value: float | None) -> None:
        """A handler's ``settimeout``: the deadline of each read and write, None for the config's."""
        self.io_timeout = value

    def hang_up_after_answer(self) -> None:
        """No request follows this one."""
        self.keep_open = False

    def hang_up(self) -> None:
        """The handler closed the socket: the client sees the end now, the descriptor follows."""
        self.shut(socket.SHUT_RDWR)

    def shut(self, how: int) -> None:
        """Close one direction, or both."""
        self.keep_open = False
        try:
            self.flush()
            socket.socket.shutdown(self.sock, how)
        except OSError:
            pass  # It is closed already: that is all that was asked for.

    def abandon(self) -> None:
        """The handler takes the descriptor for itself."""
        self.flush()
        self.keep_open = False
        self.watch.forget(self)

    def end_exchange(self, *, keep_open: bool) -> None:
        """The handler has answered: tell of it, once.

        A client that has sent FIN may be reading still, or may be long gone.  That is known when it
        has taken the answer or refused it, so its record waits until then (:meth:`finish`).
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
        request = self.request
        if request is not None and request.fields.length:
            self._budget = self._discard_budget(request, exchange)
        self.request = None
        if exchange.refused:
            self._tell(exchange, Outcome.REFUSED)
        elif self.client.state is ClientState.EOF and exchange.left_phase is not None:
            self._unsettled = [*(self._unsettled or ()), exchange]
        elif self.client.state is ClientState.GONE:
            self._tell(exchange, Outcome.LEFT)
        else:
            self._tell(exchange, Outcome.FAILED if exchange.failed else Outcome.ANSWERED)

    def _discard_budget(self, request: Request, exchange: Exchange) -> int:
        if self.wire.body_ended:
            return 0
        if request.fields.expects_continue and not exchange.body_in:
            # It may be waiting for a word that will not come (RFC 9110 §10.1.1).
            self.keep_open = False
        if (
            request.fields.length != CHUNKED
            and self.wire.body_remaining > self.config.max_discarded_body
        ):
            self.keep_open = False
        return self.config.max_discarded_body

    def rest(self) -> bool:
        """After a request: True if another one is at hand, else the connection is given back.

        The owner's last call, unless it returns True.
        """
        if self.blocking:
            return self.keep_open and self.wait_for_next_request()
        self._give_back_stream()
        wire = self.wire
        while self.keep_open:
            if (wire.buffer or not self._drained) and self.advance():
                return True
            if self.client.state is not ClientState.OPEN:
                self._tell_of_unfinished_head(Outcome.LEFT)
                break
            if self.watch.draining:
                break
            if self._park():
                return False
            self._drained = False
        self.finish()
        return False

    def _park(self) -> bool:
        now = monotonic()
        with self.watch.lock:
            if self.pending:
                self.pending = 0
                return False
            busy = self.wire.buffer or not self.wire.body_ended
            deadline = now + (self.config.head_timeout if busy else self.idle_timeout)
            self.deadline = deadline
            self.state = State.IDLE
        if deadline < self.watch.next_sweep:
            self.watch.expect(deadline)
        return True

    def finish(self) -> None:
        """No further request: close, and linger where that could cost the client its answer.

        Bytes that are unread when a socket is closed make the kernel send RST, which can overtake
        the answer and destroy it (RFC 9112 §9.6).  The watch drains them; no thread waits.
        """
        if self.state is not State.HANDLED:
            return  # It was finished before, and has another owner now.
        client = self.client
        if client.state is ClientState.GONE:
            self._settle(Outcome.LEFT)
            self.close()
            return
        if self.watch.ended:
            self._settle(Outcome.ANSWERED)
            self.close()
            return
        unread = self.pending or not self._drained or self.wire.buffer or not self.wire.body_ended
        if not unread and not self._unsettled:
            self.close()
            return
        self._budget = LINGER_BYTES
        try:
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
        except OSError:
            pass  # RST came first; the next look tells.
        flags = READABLE
        while self._linger(flags):
            with self.watch.lock:
                flags, self.pending = self.pending, 0
                if not flags:
                    self.deadline = deadline = monotonic() + self.config.linger_timeout
                    self.state = State.LINGERING
                    break
        else:
            return
        self.watch.expect(deadline)

    def _linger(self, flags: int) -> bool:
        """Drain a closing connection; False when it is closed, because its client is done or gone."""
        if flags & GONE:
            # The client's end is closed: in peace, when it took everything, or by RST.
            if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._left(Departure.RESET)
        elif not self._drain():
            return True
        gone = self.client.state is ClientState.GONE
        self._settle(Outcome.LEFT if gone else Outcome.ANSWERED)
        self.close()
        return False

    def _drain(self) -> bool:
        """Read and drop what has come; True when there is nothing more to wait for."""
        while self._budget > 0:
            try:
                data = _recv(self.sock, RECEIVE_SIZE, _DONTWAIT)
            except BlockingIOError:
                self._mark_drained()
                return False
            except OSError:
                self._left(Departure.RESET)
                return True
            if not data:
                # FIN. If answers are unsettled it is no news: the client's last word is to come.
                return not self._unsettled
            self._budget -= len(data)
        return True

    def _settle(self, outcome: Outcome) -> None:
        for exchange in self._unsettled or ():
            self._tell(exchange, Outcome.FAILED if exchange.failed else outcome)
        self._unsettled = None

    def _tell(self, exchange: Exchange, outcome: Outcome) -> None:
        self.watch.tell(exchange.record(self.client, outcome), exchange)

    def drop(self) -> None:
        """A request that is not started, because its client has left."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._tell(exchange, Outcome.LEFT)
        self.close()

    def close(self) -> None:
        """Close the socket.  Owner only; the second call does nothing."""
        if self.watch.forget(self):
            self.watch.closed(self)
            self._stream = None
            self.sock.close_descriptor()
