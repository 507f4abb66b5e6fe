"""A connection's way in: what a handler reads of its request, and how long it waits for it.

Used by the connection's owner alone, but for :meth:`Input.evict` and :meth:`Input.bytes_moved`.
"""

import errno
import socket
from time import monotonic
from typing import TYPE_CHECKING

from .._disconnect.peer import ClientState, DisconnectReason
from .._http1.parser import RequestParser
from .._http1.request import CHUNKED
from .._system.poller import bytes_queued
from ..exceptions import BodyTimeout, ClientDisconnected
from ..records import Phase
from .chunked_stream import ChunkedStream
from .link import Link
from .output import Output
from .streams import RequestStream
from .transport import Transport

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["HEAD_SIZE", "RECEIVE_SIZE", "Input"]

# One read's size. A whole head and most bodies fit; the allocator serves it without mapping pages.
RECEIVE_SIZE = 65536
# The first read's, of a connection that was idle: a head is short, and memory that is not asked for
# need not be given back (4.5 µs against 4.3 for a bare receive and send).
HEAD_SIZE = 8192
# Seconds after which a thread that waits for a body looks whether it is to wait still.
_LOOK = 0.5


class Input:
    """The receiving half of a connection.

    A *raw* connection gives its handler every byte, and lets it parse for itself.
    """

    __slots__ = (
        "_output",
        "_transport",
        "_waited",
        "_waited_for",
        "evicted",
        "is_raw",
        "link",
        "opened",
        "parser",
    )

    def __init__(self, link: Link, transport: Transport, output: Output, *, raw: bool) -> None:
        self.link = link
        self._transport = transport
        self._output = output
        self.parser = RequestParser(link.config, link.loop.heads)
        #: Whether a handler gets every byte, and parses for itself.
        self.is_raw = raw
        #: The stream that a handler has been given, if it has asked for one.
        self.opened: RequestStream | None = None
        # Seconds that the client of a request was waited for, and of which one: it began then.
        self._waited = self._waited_for = 0.0
        #: The request whose client was too slow while others waited; see _engine.pressure.
        self.evicted: Exchange | None = None

    # -- the stream that a handler reads

    @property
    def stream(self) -> RequestStream:
        """What a handler reads: the request's body, or everything (a raw connection, an upgrade)."""
        return self.opened or self.open_stream()

    def give_back_stream(self) -> None:
        """The request's stream ends with it; on a raw connection, what it read ahead comes next.

        Whoever keeps the stream beyond that reads nothing of the next request.
        """
        stream = self.opened
        if stream is None:
            return
        if not self.is_raw:
            stream.end()
            self.opened = None
        else:
            ahead = stream.take_buffer()
            self.parser.put_back(ahead)
            if self.link.exchange is not None:
                self.link.exchange.body_in -= len(ahead)

    def renew_stream(self) -> None:
        """The stream itself is done with, too: its handler has closed it."""
        self.give_back_stream()
        if self.opened is not None:
            self.opened.before_line = None
        self.opened = None

    def drop_stream(self) -> None:
        """The connection has closed."""
        self.opened = None

    def adopt_stream(self, stream: RequestStream) -> None:
        """A stream of the last request's goes on with this one, its head first."""
        assert self.link.request is not None
        stream.end()
        stream.continue_with(self.more_body, self.link.request.head)
        self.opened = stream

    def open_stream(self, *, head_first: bool = False, goes_on: bool = False) -> RequestStream:
        """Begin to read the current request; with its head, for a handler that parses it itself.

        ``goes_on`` says that the stream may be followed by other requests.
        """
        fd = self.link.sock.fileno()
        request = self.link.request
        if self.is_raw:
            stream = RequestStream(self._more_raw, fd=fd)
        elif request is None:
            stream = RequestStream(self.more_body, fd=fd)
        else:
            kind = ChunkedStream if goes_on or request.length == CHUNKED else RequestStream
            stream = kind(self.more_body, request.head if head_first else b"", fd)
        self.opened = stream
        return stream

    def upgrade(self) -> None:
        """From here on the bytes are another protocol's: the request's stream has no end."""
        self.parser.forget_body()
        self.link.keep_open = False
        self.stream.continue_with(self._more_raw)

    # -- bytes that a handler waits for

    def more_body(self) -> bytes:
        """More of the request's body, b"" at its end.  Raises as reading does."""
        parser = self.parser
        while True:
            data = parser.read_body()
            if data or parser.body_ended:
                if self.link.exchange is not None:
                    self.link.exchange.body_in += len(data)
                return data
            self.receive_body()

    def receive_body(self) -> None:
        """Wait for the next bytes of the request's body.  Raises as reading does."""
        self.parser.receive(self._receive(self.link.config.body_timeout))

    def _more_raw(self) -> bytes:
        data = self.parser.take_raw()
        if not data:
            try:
                data = self._receive(self.link.config.body_timeout)
            except ClientDisconnected:
                if self.link.peer.state is ClientState.GONE:
                    raise
                return b""  # FIN: a file's ordinary end
        if self.link.exchange is not None:
            self.link.exchange.body_in += len(data)
        return data

    def _receive(self, timeout: float) -> bytes:
        """The next bytes, waiting for them.

        Raises :exc:`~hangup.ClientDisconnected` at FIN and RST, :exc:`BodyTimeout` after
        ``timeout`` seconds, or the handler's own, without a byte.
        """
        link = self.link
        if self._output.holds_back:
            self._output.flush()
        if link.io_timeout is not None:
            timeout = link.io_timeout
        exchange = link.exchange
        while True:
            try:
                data = self._transport.recv_now(RECEIVE_SIZE)
            except BlockingIOError:
                link.mark_drained()
                if timeout == 0.0:
                    raise BlockingIOError(errno.EAGAIN, "nothing has come") from None
                self._wait_for_more(exchange, timeout)
            except OSError as error:
                raise link.lost(error) from error
            else:
                break
        if exchange is not None and exchange.phase is Phase.BODY:
            exchange.phase = Phase.HANDLER
        if data:
            link.drained = False
            return data
        if exchange is not None and not exchange.response_began:
            exchange.phase = Phase.BODY
        # Whatever a FIN alone is taken for: a request that lacks a part can't be completed any more.
        # On a raw connection or an upgraded one, nobody here knows what lacks.
        incomplete = not self.is_raw and not self.parser.body_ended
        link.left(DisconnectReason.FIN, incomplete=incomplete)
        raise ClientDisconnected("the client disconnected before its request was complete")

    def _wait_for_more(self, exchange: "Exchange | None", timeout: float) -> None:
        link = self.link
        if exchange is not None and exchange.phase is Phase.HANDLER:
            exchange.phase = Phase.BODY
        began = monotonic()
        held_up = link.loop.held_up
        held_up[link] = None
        try:
            come = self._wait_for_body(exchange, self._allowed(exchange, timeout))
        finally:
            with link.loop.lock:  # see evict()
                # The next request's thread may wait, too, if this one outlives its own.
                held_up.pop(link, None)
        if link.exchange is not exchange:
            # Its request has ended meanwhile: a thread of the handler's, which outlives it.
            raise ValueError("read of a request's body that has ended") from None
        if not come:
            raise BodyTimeout("timed out") from None
        self._waited += monotonic() - began

    def _wait_for_body(self, exchange: "Exchange | None", timeout: float) -> bool:
        """Wait until something has come, or the client is evicted, or its request ends meanwhile.

        That is looked for now and then, since nothing else ends the wait: with its receiving side shut,
        a socket answers whatever comes then with RST, which could cost the client its 408.
        """
        deadline = monotonic() + timeout
        while exchange is None or (self.evicted is not exchange and self.link.exchange is exchange):
            left = max(0.0, deadline - monotonic())
            if self._transport.wait_readable(min(left, _LOOK)):
                return True
            if left <= _LOOK:
                break
        return False

    def _allowed(self, exchange: "Exchange | None", timeout: float) -> float:
        """Seconds that may pass before the next byte.

        A body's client is waited for ``timeout`` in all, and for the time that what has come of it takes
        at ``min_data_rate``: one byte a second would hold this thread for as long as it likes.
        """
        rate = self.link.config.min_data_rate
        if exchange is None or not rate:
            return timeout
        if exchange.response_began if self.is_raw else self.parser.body_ended:
            return timeout  # It reads another protocol.
        if self._waited_for != exchange.ready_at:
            self._waited_for, self._waited = exchange.ready_at, 0.0
        come = exchange.body_in or self.parser.body_come
        return max(0.0, min(timeout, timeout + come / rate - self._waited))

    # -- bytes that nobody waits for

    def receive_available(self) -> bool:
        """One read; False when nothing has come, or the client has left."""
        link = self.link
        try:
            data = self._transport.recv_now(RECEIVE_SIZE)
        except BlockingIOError:
            link.mark_drained()
            return False
        except OSError:
            link.left(DisconnectReason.RESET)
            return False
        if not data:
            link.drained = True
            link.left(DisconnectReason.FIN)
            return False
        self.take_in(data, RECEIVE_SIZE)
        return True

    def has_news(self) -> bool:
        """Whether something has come that nobody has read, FIN included."""
        return self._transport.has_news()

    def take_in(self, data: bytes, asked: int) -> None:
        """One read gave these bytes; fewer than were asked for have drained the buffer."""
        if len(data) < asked:
            self.link.mark_drained()
        self.parser.receive(data)

    # -- any thread

    def bytes_moved(self, exchange: "Exchange") -> int:
        """How many bytes its client has sent, and has acknowledged."""
        come = max(exchange.body_in, self.parser.body_come)  # Not all that has come has been read.
        return come + exchange.out - bytes_queued(self.link.sock)

    def evict(self) -> None:
        """Its client is too slow, and a thread waits for it that others need.

        With ``loop.lock``: the thread may be done with waiting just now, with the whole response sent
        or the next request at hand.
        """
        link = self.link
        with link.loop.lock:
            if link not in link.loop.held_up:
                return
            self.evicted = exchange = link.exchange
            if exchange is None or not exchange.response_began:
                return  # The thread looks, see _wait_for_body.
            told = link.note_left(DisconnectReason.WRITE_TIMEOUT)
            try:  # The thread waits in poll(2), on the socket.
                socket.socket.shutdown(link.sock, socket.SHUT_RDWR)
            except OSError:
                pass  # It is closed already.
        if told is not None:
            told.notify_client(link.peer)
