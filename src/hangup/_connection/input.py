"""A connection's way in: what a handler reads of its request, and how long it waits for it.

Used by the connection's owner alone.
"""

import errno
import select
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._disconnect.peer import ClientState, Departure
from .._http1.parser import Wire
from .._http1.request import CHUNKED
from .._system.poller import bytes_queued, wait_for
from ..exceptions import BodyTimeout, ClientDisconnected
from ..records import Phase
from .chunked_stream import ChunkedStream
from .loop import Loop
from .output import DONTWAIT, Sender
from .streams import ClientSocket, RequestStream

if TYPE_CHECKING:
    from .._http1.request import Request
    from .exchange import Exchange

__all__ = ["HEAD_SIZE", "RECEIVE_SIZE", "Receiver"]

# One read's size. A whole head and most bodies fit; the allocator serves it without mapping pages.
RECEIVE_SIZE = 65536
# The first read's, of a connection that was idle: a head is short, and memory that is not asked for
# need not be given back (4.5 µs against 4.3 for a bare receive and send).
HEAD_SIZE = 8192
# Seconds after which a thread that waits for a body looks whether it is to wait still.
_LOOK = 0.5

_recv = socket.socket.recv


class Receiver(Sender):
    """The receiving half of a connection.

    A *raw* connection gives its handler every byte, and lets it parse for itself.
    """

    __slots__ = (
        "_drained",
        "_raw",
        "_stream",
        "_waited",
        "_waited_for",
        "evicted",
        "keep_open",
        "request",
        "wire",
    )

    def __init__(self, sock: ClientSocket, address: Any, watch: Loop, *, raw: bool) -> None:
        super().__init__(sock, address, watch)
        self.wire = Wire(watch.config, watch.heads)
        self.request: Request | None = None
        #: May another request follow? Anybody who handles this one may say no.
        self.keep_open = True
        self._raw = raw
        self._stream: RequestStream | None = None
        #: Whether all has been read that had come when somebody last looked.
        self._drained = False
        # Seconds that the client of a request was waited for, and of which one: it began then.
        self._waited = self._waited_for = 0.0
        #: The request whose client was too slow while others waited; see _engine.pressure.
        self.evicted: Exchange | None = None

    @property
    def is_raw(self) -> bool:
        """Whether a handler gets every byte, and parses for itself."""
        return self._raw

    @property
    def stream(self) -> RequestStream:
        """What a handler reads: the request's body, or everything (a raw connection, an upgrade)."""
        return self._stream or self.open_stream()

    def give_back_stream(self) -> None:
        """The request's stream ends with it; on a raw connection, what it read ahead comes next.

        Whoever keeps the stream beyond that reads nothing of the next request.
        """
        if not self._raw:
            if self._stream is not None:
                self._stream.end()
                self._stream = None
        elif self._stream is not None:
            ahead = self._stream.take_buffer()
            self.wire.put_back(ahead)
            if self.exchange is not None:
                self.exchange.body_in -= len(ahead)

    def renew_stream(self) -> None:
        """The stream itself is done with, too: its handler has closed it."""
        self.give_back_stream()
        if self._stream is not None:
            self._stream.before_line = None
        self._stream = None

    def adopt_stream(self, stream: RequestStream) -> None:
        """A stream of the last request's goes on with this one, its head first."""
        assert self.request is not None
        stream.end()
        stream.continue_with(self.more_body, self.request.head)
        self._stream = stream

    def open_stream(self, *, head_first: bool = False, goes_on: bool = False) -> RequestStream:
        """Begin to read the current request; with its head, for a handler that parses it itself.

        ``goes_on`` says that the stream may be followed by other requests.
        """
        fd = self.sock.fileno()
        request = self.request
        if self._raw:
            stream = RequestStream(self._more_raw, fd=fd)
        elif request is None:
            stream = RequestStream(self.more_body, fd=fd)
        else:
            kind = ChunkedStream if goes_on or request.length == CHUNKED else RequestStream
            stream = kind(self.more_body, request.head if head_first else b"", fd)
        self._stream = stream
        return stream

    def more_body(self) -> bytes:
        wire = self.wire
        while True:
            data = wire.read_body()
            if data or wire.body_ended:
                if self.exchange is not None:
                    self.exchange.body_in += len(data)
                return data
            self.receive_body()

    def receive_body(self) -> None:
        """Wait for the next bytes of the request's body.  Raises as reading does."""
        self.wire.receive(self._receive(self.config.body_timeout))

    def _more_raw(self) -> bytes:
        data = self.wire.take_raw()
        if not data:
            try:
                data = self._receive(self.config.body_timeout)
            except ClientDisconnected:
                if self.peer.state is ClientState.GONE:
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
                data = self._recv_now(RECEIVE_SIZE)
            except BlockingIOError:
                self._mark_drained()
                if timeout == 0.0:
                    raise BlockingIOError(errno.EAGAIN, "nothing has come") from None
                if exchange is not None and exchange.phase is Phase.WORKING:
                    exchange.phase = Phase.BODY
                began = monotonic()
                held_up = self.watch.held_up
                held_up[self] = None
                try:
                    come = self._wait_for_body(exchange, self._allowed(exchange, timeout))
                finally:
                    with self.watch.lock:  # see evict()
                        # The next request's thread may wait, too, if this one outlives its own.
                        held_up.pop(self, None)
                if self.exchange is not exchange:
                    # Its request has ended meanwhile: a thread of the handler's, which outlives it.
                    raise ValueError("read of a request's body that has ended") from None
                if not come:
                    raise BodyTimeout("timed out") from None
                self._waited += monotonic() - began
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
        # Whatever a FIN alone is taken for: a request that lacks a part can't be completed any more.
        # On a raw connection or an upgraded one, nobody here knows what lacks.
        incomplete = not self._raw and not self.wire.body_ended
        self._left(Departure.FIN, incomplete=incomplete)
        raise ClientDisconnected("the client left before its request was complete")

    def bytes_moved(self, exchange: "Exchange") -> int:
        """How many bytes its client has sent, and has acknowledged.  Any thread."""
        come = max(exchange.body_in, self.wire.body_come)  # Not all that has come has been read.
        return come + exchange.out - bytes_queued(self.sock)

    def evict(self) -> None:
        """Its client is too slow, and a thread waits for it that others need.  Any thread.

        With ``watch.lock``: the thread may be done with waiting just now, with the whole response sent
        or the next request at hand.
        """
        with self.watch.lock:
            if self not in self.watch.held_up:
                return
            self.evicted = exchange = self.exchange
            if exchange is None or not exchange.answer_began:
                return  # The thread looks, see _wait_for_body.
            told = self._note_left(Departure.WRITE_TIMEOUT)
            try:  # The thread waits in poll(2), on the socket.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            except OSError:
                pass  # It is closed already.
        if told is not None:
            told.tell_client(self.peer)

    def _wait_for_body(self, exchange: "Exchange | None", timeout: float) -> bool:
        """:meth:`_wait_readable`, but for a client that is evicted meanwhile, or a request that ends.

        That is looked for now and then, since nothing else ends the wait: with its receiving side shut,
        a socket answers whatever comes then with RST, which could cost the client its 408.
        """
        deadline = monotonic() + timeout
        while exchange is None or (self.evicted is not exchange and self.exchange is exchange):
            left = max(0.0, deadline - monotonic())
            if self._wait_readable(min(left, _LOOK)):
                return True
            if left <= _LOOK:
                break
        return False

    def _allowed(self, exchange: "Exchange | None", timeout: float) -> float:
        """Seconds that may pass before the next byte.

        A body's client is waited for ``timeout`` in all, and for the time that what has come of it takes
        at ``min_rate``: one byte a second would hold this thread for as long as it likes.
        """
        rate = self.config.min_rate
        if exchange is None or not rate:
            return timeout
        if exchange.answer_began if self._raw else self.wire.body_ended:
            return timeout  # It reads another protocol.
        if self._waited_for != exchange.ready_at:
            self._waited_for, self._waited = exchange.ready_at, 0.0
        come = exchange.body_in or self.wire.body_come
        return max(0.0, min(timeout, timeout + come / rate - self._waited))

    def _recv_now(self, size: int) -> bytes:
        """Up to ``size`` bytes that have come; fewer have drained the socket.  Raises :exc:`OSError`."""
        return _recv(self.sock, size, DONTWAIT)

    def _wait_readable(self, timeout: float) -> bool:
        """Block until something has come; False if nothing did for ``timeout`` seconds."""
        return wait_for(self.sock, select.POLLIN, timeout)

    def _receive_available(self) -> bool:
        """One read; False when nothing has come, or the client has left."""
        try:
            data = self._recv_now(RECEIVE_SIZE)
        except BlockingIOError:
            self._mark_drained()
            return False
        except OSError:
            self._left(Departure.RESET)
            return False
        if not data:
            self._drained = True
            self._left(Departure.FIN)
            return False
        self._take_in(data, RECEIVE_SIZE)
        return True

    def _take_in(self, data: bytes, asked: int) -> None:
        """One read gave these bytes; fewer than were asked for have drained the buffer."""
        if len(data) < asked:
            self._mark_drained()
        self.wire.receive(data)

    def _mark_drained(self) -> None:
        self._drained = True
        if self.watch.rearm is not None:
            self.watch.rearm(self.sock)
