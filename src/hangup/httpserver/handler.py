"""Request handlers: ``http.server``'s class, on hangup's engine.

The wire layer has parsed a request already, and refused what is malformed, so ``parse_request`` only
hands the result out.  ``rfile`` ends where the body ends.

A handler lives as long as its connection.  The engine calls ``serve_one`` for each request that is at
hand, in whichever thread, one at a time; between requests no thread holds it.
"""

import io
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .._connection.streams import ANY_LENGTH, ClientSocket, RequestStream, ResponseStream
from .._disconnect.client import Client
from .._disconnect.peer import ClientState
from .._http1.escape import escaped
from .._http1.framing import CHUNKED
from ..exceptions import ClientDisconnected
from ..records import Outcome
from .handling import (
    BEING_MADE,
    ClientOfRequest,
    log_request,
    of_the_engine,
    shown_client,
    write_message,
)
from .lazy import LazyFields, LazyLine, LazyStream
from .responding import Responding

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .._connection.exchange import Exchange
    from .._http1.request import Request
    from ..exceptions import RequestRejected

__all__ = ["BaseHTTPRequestHandler"]

_OPEN = ClientState.OPEN

_log = logging.getLogger("hangup")


class BaseHTTPRequestHandler(Responding):
    """``http.server.BaseHTTPRequestHandler``, with hangup underneath.

    Everything that the standard library documents for it holds, and more:

    - ``rfile`` ends where the request's body ends; a chunked body is decoded.  What is left unread is
      discarded, so the next request on the connection begins where it should.
    - Head and body leave in one send when they are written one after the other.
    - An answer without a Content-Length is ended by closing the connection, and says so.
    - One that is shorter or longer than it says, or that never comes, closes the connection.
    - A client that left makes writing raise :exc:`hangup.ClientDisconnected`; that needs no
      ``except`` clause: nothing is logged but one line.

    On a socket that isn't hangup's it behaves as the standard library's class.
    """

    _hangup: "Connection | None" = None
    # Whether somebody has taken the request at hand, so that it is not handled again; and whether the
    # head has been taken from rfile, or need not be.
    _taken = False
    _head_taken = False
    # The request at hand, or the last one.
    _request: "Request | None" = None
    # Whether http.server's own handle() has run, which ends and is called again for the next request.
    _looped = False
    # What a subclass replaced; asked for once a connection.
    _own_parse = _own_handle = _own_loop = True
    client: Client
    rfile: Any
    headers: Any
    raw_requestline: Any

    # -- a connection's life

    def __init__(self, request: Any, client_address: Any, server: Any, /, **options: Any) -> None:
        if not isinstance(request, ClientSocket):
            super().__init__(request, client_address, server, **options)
            return
        self.request = request
        self.client_address = client_address
        self.server = server
        self._hangup = connection = request.connection
        self.setup()
        if connection.handler is BEING_MADE:
            return
        # Somebody made this handler by hand, say in a finish_request of his own.
        try:
            self.serve_all()
        finally:
            self.finish()

    @of_the_engine
    def setup(self) -> None:
        """Prepare for a connection's requests; called once for each connection."""
        connection = self._hangup
        if connection is None:
            super().setup()
            return
        cls = type(self)
        self._own_log = self._writes_own_log()
        self._own_parse = cls.parse_request is not BaseHTTPRequestHandler.parse_request
        self._own_handle = cls.handle is not BaseHTTPRequestHandler.handle
        self._own_flush = cls.flush_headers is not BaseHTTPRequestHandler.flush_headers
        self._own_loop = (
            self._own_handle or cls.handle_one_request is not BaseHTTPRequestHandler.handle_one_request
        )
        self._own_fields = cls.send_header is not BaseHTTPRequestHandler.send_header
        self.connection = self.request
        if self.timeout is not None:
            connection.set_io_timeout(self.timeout)
            connection.idle_timeout = self.timeout
        self.wfile: Any = ResponseStream(connection, self.request)
        if self.wbufsize:
            size = self.wbufsize if self.wbufsize > 1 else io.DEFAULT_BUFFER_SIZE
            self.wfile = io.BufferedWriter(self.wfile, size)

    def serve_one(self) -> None:
        """Answer the one request at hand.  The engine calls this."""
        connection = self._hangup
        assert connection is not None
        self.begin_request(connection)
        try:
            if connection.refusal is not None:
                self._refuse(connection.refusal)
            elif self._own_handle:
                self._looped = False
                self.handle()
                if not self._looped:
                    self.close_connection = True  # As there: the connection ends with handle().
            else:
                self.close_connection = True
                self.handle_one_request()
            self._complete(connection)
        except ClientDisconnected:
            exchange = connection.exchange
            if exchange is None or not self._is_delivered_by_length(connection, exchange):
                raise
            # It has its response: what it left is what the handler did behind that.
            self.close_connection = True
        finally:
            self._settle_request(connection)
        self._end_exchange(connection)

    def begin_request(self, connection: "Connection") -> None:
        self._request = connection.request
        self._taken = self._head_taken = False
        self._length = self._length_line = None
        self._said = ""
        self._closes = None
        state = self.__dict__
        if "headers" in state:
            del state["headers"]
        if "raw_requestline" in state:
            del state["raw_requestline"]

    def end_request(self, connection: "Connection") -> None:
        if self._closes is not None:
            self.close_connection = self._closes
        try:
            self._complete(connection)
        finally:
            self._settle_request(connection)
        self._end_exchange(connection)

    def _complete(self, connection: "Connection") -> None:
        """The handler has returned: see whether its response is one, and all of it."""
        exchange = connection.exchange
        if exchange is None:
            return  # A loop of the program's own has seen the connection's end.
        wfile = self.wfile
        if type(wfile) is ResponseStream:
            if connection.keep_open:
                wfile.room = ANY_LENGTH
        elif not wfile.closed:
            wfile.flush()
        if self._length != exchange.out - exchange.head_out or self._headers_buffer:
            self._check_answer(connection, exchange)

    def _settle_request(self, connection: "Connection") -> None:
        if self._own_log:
            self._report_departure(connection)
        # Its body ends with it. All else that says which request it was stays until the next one:
        # programs keep a handler, and look at it later.
        if "rfile" in self.__dict__:
            del self.__dict__["rfile"]

    def _end_exchange(self, connection: "Connection") -> None:
        connection.end_exchange(
            keep_open=connection.keep_open and not self.close_connection,
            whole=connection.peer.state is _OPEN or self._is_whole(connection),
        )

    def _has_sent_all(self, connection: "Connection", exchange: "Exchange") -> bool:
        if self._length is None or self._length == CHUNKED:
            return not exchange.may_have_stopped
        return self._is_delivered_by_length(connection, exchange)

    def _is_delivered_by_length(self, connection: "Connection", exchange: "Exchange") -> bool:
        sent = exchange.out - exchange.head_out
        return (
            self._length == sent
            and exchange.response_began
            and not exchange.cut_short
            and not connection.output.holds_back
        )

    def next_line(self, stream: RequestStream) -> bool:
        """A loop of the program's own reads its next request line from ``rfile``: have it there.

        Only behind a whole response: before that, the end of ``rfile`` is the end of the request's body.
        """
        connection = self._hangup
        assert connection is not None
        exchange = connection.exchange
        if not self._taken or exchange is None:
            return False
        connection.output.flush()
        if not exchange.response_began or not self._is_whole(connection) or not self.next_request():
            return False
        if connection.request is None:
            self._taken = True
            assert connection.refusal is not None
            self._refuse(connection.refusal)
            return False
        connection.input.adopt_stream(stream)
        stream.goes_on = self.next_line
        self.__dict__["rfile"] = stream
        return True

    def handle(self) -> None:
        """Handle one request.  Without the engine: all of a connection's."""
        if self._hangup is None:
            super().handle()
        elif not self._taken or self.next_request():
            self._looped = True
            self.close_connection = True
            self.handle_one_request()

    @of_the_engine
    def finish(self) -> None:
        """The connection ends; called once for each connection."""
        if self._hangup is None:
            super().finish()
        elif type(self.wfile) is not ResponseStream:
            self.wfile.close()

    # -- one request

    def handle_one_request(self) -> None:
        """Find the method ``do_…`` for the request, and call it."""
        connection = self._hangup
        if connection is None or connection.input.is_raw:
            super().handle_one_request()
            return
        if self._taken and not self.next_request():
            return
        if connection.refusal is not None:
            self._taken = True
            self._refuse(connection.refusal)
            return
        if self._own_parse:
            # It may read the header fields from rfile, as http.server's own does.
            self.raw_requestline = self.rfile.readline()
        wanted = self.parse_request()
        self._taken = True  # whether or not a parse_request of the program's own came to ours
        if not wanted:
            return
        method = getattr(self, "do_" + self.command, None)
        if method is None:
            self.send_error(HTTPStatus.NOT_IMPLEMENTED, f"Unsupported method ({self.command!r})")
            return
        method()
        self._closes = self.close_connection

    def parse_request(self) -> bool:
        """Set ``command``, ``path``, ``request_version`` and ``headers``; False if answered already.

        The wire layer has parsed them, strictly (RFC 9112); see the table of differences in the
        documentation.
        """
        connection = self._hangup
        if connection is None or connection.input.is_raw:
            return super().parse_request()
        if self._taken and not self.next_request():
            return False
        self._taken = True
        request = connection.request
        if request is None:  # Refused, in the middle of a loop of the program's own.
            assert connection.refusal is not None
            self._refuse(connection.refusal)
            return False
        stream = self.__dict__.get("rfile")
        if isinstance(stream, RequestStream) and not self._head_taken:
            stream.take_buffer()  # the head's rest
        self._head_taken = True
        self.command: str = request.method
        # A path that begins with two slashes would be taken for a host (CVE-2021-28861).
        path = request.target
        self.path: str = "/" + path.lstrip("/") if path.startswith("//") else path
        if path[:1] != "/":
            self.path = self._path_in(path)
        self.request_version: str = request.protocol
        self.requestline = f"{request.method} {path} {request.protocol}"
        modern = self.protocol_version >= "HTTP/1.1"
        self.close_connection = not (request.keep_alive and modern)
        if request.expects_continue and modern:
            return self.handle_expect_100()
        return True

    def _path_in(self, target: str) -> str:
        """The ``path`` for a target that is none: as http.server has it, the target."""
        return target

    def _check_answer(self, connection: "Connection", exchange: "Exchange") -> None:
        """Close the connection behind an answer that is none, or not as long as it said.

        Its client would wait for what does not come, or take the next answer for a part of this one.
        """
        unended = self.__dict__.get("_headers_buffer")
        if connection.peer.state is ClientState.GONE:
            return  # Nobody waits, and nobody takes anything for anything.
        begun = exchange.out or connection.output.holds_back
        sent = 0 if connection.output.holds_back else exchange.out - exchange.head_out
        if unended:
            unended.clear()
            fault = "has begun a head and not ended it"
        elif not begun:
            fault = "has sent no answer"
        elif exchange.head_out and self._length not in (None, CHUNKED, sent):
            fault = f"has sent a body of {sent} bytes, and said that it has {self._length}"
        else:
            return
        if connection.peer.disconnected_at is None:
            exchange.outcome = Outcome.FAILED
            if not begun:
                exchange.status = 0
            if connection.keep_open and not self.close_connection:
                request = exchange.request
                what = escaped(f"{request.method} {request.target}")
                _log.error("the handler of %s %s", what, fault)
        self.close_connection = True

    def _refuse(self, refusal: "RequestRejected") -> None:
        """Answer a request that the wire layer refused."""
        connection = self._hangup
        assert connection is not None
        assert connection.exchange is not None
        connection.exchange.outcome = Outcome.REJECTED
        connection.exchange.reason = refusal.reason
        connection.keep_open = False
        self.command = "HEAD" if connection.exchange.is_for_head else ""
        request = connection.exchange.request
        self.path = request.target
        self.requestline = f"{request.method} {request.target} {request.protocol}".strip()
        self.request_version = self.protocol_version
        self.close_connection = True
        self.send_error(refusal.status, refusal.reason)

    # -- its log

    def address_string(self) -> str:
        """The client's host; ``-`` on a unix socket, where it has none."""
        return shown_client(self.client_address)

    @of_the_engine
    def log_message(self, format: str, *args: Any) -> None:
        """Write a line to ``sys.stderr``, as ``http.server`` does; to be overridden.

        Nothing that a client has sent reaches it raw.
        """
        write_message(self, format % args)

    @of_the_engine
    def log_error(self, format: str, *args: Any) -> None:
        """Called by :meth:`send_error`, to be overridden; calls :meth:`log_message`."""
        self._log_is_error = True
        self.log_message(format, *args)

    @of_the_engine
    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Called by :meth:`send_response`, to be overridden; see the documentation on logging."""
        log_request(self, super().log_request, code, size)


BaseHTTPRequestHandler.client = ClientOfRequest()  # type: ignore[assignment]
BaseHTTPRequestHandler.rfile = LazyStream()
BaseHTTPRequestHandler.headers = LazyFields()
BaseHTTPRequestHandler.raw_requestline = LazyLine()
