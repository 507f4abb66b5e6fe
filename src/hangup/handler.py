"""Request handlers: ``http.server``'s class, on hangup's engine.

The wire layer has parsed a request already, and refused what is malformed, so ``parse_request`` only
hands the result out.  ``rfile`` ends where the body ends.

A handler lives as long as its connection.  The engine calls ``serve_one`` for each request that is at
hand, in whichever thread, one at a time; between requests no thread holds it.
"""

import functools
import http.server
import io
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ._handling import BEING_MADE, ClientOfRequest, Handling, log_request, of_the_engine
from ._plain_answer import http_date
from ._streams import AnswerStream, ClientSocket, RequestStream
from .client import Client
from .records import Outcome

if TYPE_CHECKING:
    from ._connection import Connection
    from .exceptions import BadRequest

__all__ = ["BaseHTTPRequestHandler"]

_Stock = http.server.BaseHTTPRequestHandler


class _LazyStream:
    """``rfile``, made when somebody looks: most requests have no body."""

    def __get__(self, handler: Any, owner: type | None = None) -> Any:
        connection = None if handler is None else handler.__dict__.get("_hangup")
        if connection is None:
            raise AttributeError("rfile")
        if handler._head_taken:  # noqa: SLF001
            stream = connection.stream
        else:
            stream = connection.open_stream(head_first=True)
        handler.__dict__["rfile"] = stream
        return stream


class _LazyFields:
    """``headers``, made when somebody looks."""

    def __get__(self, handler: Any, owner: type | None = None) -> Any:
        connection = None if handler is None else handler.__dict__.get("_hangup")
        if connection is None or connection.request is None:
            raise AttributeError("headers")
        message = handler.MessageClass()
        for name, value in connection.request.fields.items:
            message.set_raw(name, value)
        message.set_payload("")
        handler.__dict__["headers"] = message
        return message


class BaseHTTPRequestHandler(Handling, _Stock):
    """``http.server.BaseHTTPRequestHandler``, with hangup underneath.

    Everything that the standard library documents for it holds, and more:

    - ``rfile`` ends where the request's body ends; a chunked body is decoded.  What is left unread is
      discarded, so the next request on the connection begins where it should.
    - Head and body leave in one send when they are written one after the other.
    - An answer without a Content-Length is ended by closing the connection, and says so.
    - A client that left makes writing raise :exc:`hangup.ClientDisconnected`; that needs no
      ``except`` clause: nothing is logged but one line.

    On a socket that isn't hangup's it behaves as the standard library's class.
    """

    _hangup: "Connection | None" = None
    _head_taken = False
    _framed = False
    _says_connection = False
    # What a subclass replaced; asked for once a connection.
    _own_log = _own_parse = _own_fields = _own_handle = True
    client: Client
    rfile: Any
    headers: Any

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
        self._own_fields = cls.send_header is not BaseHTTPRequestHandler.send_header
        self.connection = self.request
        if self.timeout is not None:
            connection.set_io_timeout(self.timeout)
            connection.idle_timeout = self.timeout
        self.wfile: Any = AnswerStream(connection, self.request)
        if self.wbufsize:
            size = self.wbufsize if self.wbufsize > 1 else io.DEFAULT_BUFFER_SIZE
            self.wfile = io.BufferedWriter(self.wfile, size)

    def serve_one(self) -> None:
        """Answer the one request at hand.  The engine calls this."""
        connection = self._hangup
        assert connection is not None
        try:
            if connection.refusal is not None:
                self._refuse(connection.refusal)
            elif self._own_handle:
                self.handle()
            else:
                self.close_connection = True
                self.handle_one_request()
            if type(self.wfile) is not AnswerStream and not self.wfile.closed:
                self.wfile.flush()
        finally:
            if self._own_log:
                self._report_departure(connection)
            # An idle connection keeps nothing of the last request.
            state = self.__dict__
            if "rfile" in state:
                del state["rfile"]
            if "headers" in state:
                del state["headers"]
            self._head_taken = self._framed = self._says_connection = False
        connection.end_exchange(keep_open=connection.keep_open and not self.close_connection)

    def handle(self) -> None:
        """Handle one request.  Without the engine: all of a connection's."""
        if self._hangup is None:
            super().handle()
        else:
            self.close_connection = True
            self.handle_one_request()

    @of_the_engine
    def finish(self) -> None:
        """The connection ends; called once for each connection."""
        if self._hangup is None:
            super().finish()
        elif type(self.wfile) is not AnswerStream:
            self.wfile.close()

    # -- one request

    def handle_one_request(self) -> None:
        """Find the method ``do_…`` for the request, and call it."""
        connection = self._hangup
        if connection is None or connection.request is None:
            super().handle_one_request()
            return
        if self._own_parse:
            # It may read the header fields from rfile, as http.server's own does.
            self.raw_requestline = self.rfile.readline()
        else:
            head = connection.request.head
            self.raw_requestline = head[: head.index(b"\n") + 1]
        if not self.parse_request():
            return
        method = getattr(self, "do_" + self.command, None)
        if method is None:
            self.send_error(HTTPStatus.NOT_IMPLEMENTED, f"Unsupported method ({self.command!r})")
            return
        method()

    def parse_request(self) -> bool:
        """Set ``command``, ``path``, ``request_version`` and ``headers``; False if answered already.

        The wire layer has parsed them, strictly (RFC 9112); see the table of differences in the
        documentation.
        """
        connection = self._hangup
        request = connection.request if connection is not None else None
        if request is None:
            return super().parse_request()
        stream = self.__dict__.get("rfile")
        if isinstance(stream, RequestStream) and not self._head_taken:
            stream.take_buffer()  # the head's rest
        self._head_taken = True
        self.command: str = request.method
        # A path that begins with two slashes would be taken for a host (CVE-2021-28861).
        path = request.target
        self.path: str = "/" + path.lstrip("/") if path.startswith("//") else path
        self.request_version: str = request.protocol
        self.requestline = f"{request.method} {path} {request.protocol}"
        modern = self.protocol_version >= "HTTP/1.1"
        self.close_connection = not (request.fields.keep_alive and modern)
        if request.fields.expects_continue and modern:
            return self.handle_expect_100()
        return True

    def _refuse(self, refusal: "BadRequest") -> None:
        """Answer a request that the wire layer refused."""
        connection = self._hangup
        assert connection is not None
        assert connection.exchange is not None
        connection.exchange.outcome = Outcome.REFUSED
        connection.keep_open = False
        self.command = "HEAD" if connection.exchange.is_for_head else ""
        self.path = self.requestline = ""
        self.request_version = self.protocol_version
        self.close_connection = True
        self.send_error(refusal.status, refusal.reason)

    # -- its answer

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin an answer: status line, ``Server`` and ``Date``; calls ``log_request``."""
        if self._own_log:
            self.log_request(code)
        self.send_response_only(code, message)
        server, date = self.version_string(), self.date_time_string()
        if not self._own_fields:
            if self.request_version != "HTTP/0.9":
                self._headers_buffer.append(_server_and_date(server, date))
        else:
            self.send_header("Server", server)
            self.send_header("Date", date)

    def send_response_only(self, code: int, message: str | None = None) -> None:
        """The status line alone."""
        connection = self._hangup
        if connection is not None and connection.exchange is not None:
            connection.exchange.status = code if type(code) is int else int(code)
        if self.request_version == "HTTP/0.9":
            return
        if message is None:
            message = self.responses[code][0] if code in self.responses else ""
        line = _status_line(self.protocol_version, code, message)
        buffer = self.__dict__.get("_headers_buffer")
        if buffer is None:
            self._headers_buffer: list[bytes] = [line]
        else:
            buffer.append(line)

    def send_header(self, keyword: str, value: Any) -> None:
        """Add a header field to the answer.

        Raises :exc:`ValueError` for a CR, LF or NUL in it: it would split the answer (CWE-113).
        """
        if self.request_version == "HTTP/0.9":
            return
        text = f"{keyword}: {value}"
        if not text.isprintable() and not _SPLITTING.isdisjoint(text):
            raise ValueError(f"a header field can't contain CR, LF or NUL: {text!r}")
        buffer = self.__dict__.get("_headers_buffer")
        if buffer is None:
            buffer = self._headers_buffer = []
        buffer.append(text.encode("latin-1", "strict") + b"\r\n")
        name = keyword.lower()
        if name == "connection":
            self._says_connection = True
            wish = str(value).lower()
            if wish == "close":
                self.close_connection = True
            elif wish == "keep-alive":
                self.close_connection = False
        elif name == "content-length" or name == "transfer-encoding":
            self._framed = True

    def end_headers(self) -> None:
        """End the answer's head.

        It says whether the connection stays (RFC 9112 §9.3, §9.6), unless the handler said so itself.
        An answer whose end the client could not tell is ended by closing it (§6.3).
        """
        connection = self._hangup
        if connection is not None and connection.exchange is not None:
            status = connection.exchange.status
            unended = not (self._framed or self._has_no_body(status))
            draining = connection.watch.draining and connection.is_last()
            leaves = connection.leaves_body(connection.exchange)
            if status >= 200 and (unended or draining or leaves or not connection.keep_open):
                self.close_connection = True
            if not self._says_connection and status >= 200 and self.command != "CONNECT":
                if self.close_connection:
                    self._headers_buffer.append(b"Connection: close\r\n")
                elif self.request_version == "HTTP/1.0":
                    self._headers_buffer.append(b"Connection: keep-alive\r\n")
        if self.request_version != "HTTP/0.9":
            self._headers_buffer.append(b"\r\n")
            self.flush_headers()

    def _has_no_body(self, status: int) -> bool:
        return status < 200 or status in (204, 304) or self.command == "HEAD"

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The time, or now, as HTTP writes it (RFC 9110 §5.6.7)."""
        if timestamp is None:
            return http_date(int(time.time()))
        return super().date_time_string(timestamp)

    @of_the_engine
    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Called by :meth:`send_response`, to be overridden; see the documentation on logging."""
        log_request(self, super().log_request, code, size)


BaseHTTPRequestHandler.client = ClientOfRequest()  # type: ignore[assignment]
BaseHTTPRequestHandler.rfile = _LazyStream()
BaseHTTPRequestHandler.headers = _LazyFields()


_SPLITTING = frozenset("\r\n\0")


@functools.lru_cache(maxsize=64)
def _status_line(protocol: str, code: int, message: str) -> bytes:
    line = f"{protocol} {int(code)} {message}"
    if not _SPLITTING.isdisjoint(line):
        raise ValueError(f"a status line can't contain CR, LF or NUL: {line!r}")
    return line.encode("latin-1", "strict") + b"\r\n"


@functools.lru_cache(maxsize=8)
def _server_and_date(server: str, date: str) -> bytes:
    return f"Server: {server}\r\nDate: {date}\r\n".encode("latin-1", "strict")
