"""What a handler responds with: ``http.server``'s methods for it, and how a response is delimited.

``send_header`` notes what the response says of its length and of the connection; ``end_headers`` settles
how much body there may be, and whether a request follows.
"""

import http.server
import time
from typing import TYPE_CHECKING, Any

from .._connection.streams import ANY_LENGTH, ResponseStream
from .._http1.error_response import http_date
from .._http1.field_names import field_names
from .._http1.framing import CHUNKED, NO_BODY, TUNNEL, UNTIL_CLOSE, Framing, frame_response
from .handler_heads import (
    announced_length,
    as_latin1,
    check_field,
    server_and_date,
    status_line,
)
from .handling import Handling, reported_status

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .._connection.exchange import Exchange

__all__ = ["Responding"]

# The error page in the colours that its reader's browser prefers, as from Python 3.14 on.
_HEAD = "    </head>"
_STYLE = """\
        <style type="text/css">
            :root {
                color-scheme: light dark;
            }
        </style>
"""
_PAGE: str = http.server.DEFAULT_ERROR_MESSAGE  # type: ignore[attr-defined]


class Responding(Handling, http.server.BaseHTTPRequestHandler):
    """The part of a handler that makes its response."""

    error_message_format = _PAGE if "color-scheme" in _PAGE else _PAGE.replace(_HEAD, _STYLE + _HEAD)
    # The length that the response says it has, or CHUNKED; and the line that says so.
    _length: int | None = None
    _length_line: bytes | None = None
    # What it says of the connection, in so far as that counts.
    _said = ""
    # Whether the connection closes behind it, when its head or its method has ended; what a loop of the
    # program's own sets before it asks for the next request is no news of this one.
    _closes: bool | None = None
    close_connection: bool
    # What a subclass replaced; asked for once a connection.
    _own_flush = False
    _own_log = _own_fields = True

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin an answer: status line, ``Server`` and ``Date``; calls ``log_request``."""
        if self._own_log:
            connection = self._hangup
            if connection is not None and connection.exchange is not None:
                connection.exchange.reported = True  # Its log_request may not come to ours.
                self.log_request(reported_status(connection, code))
            else:
                self.log_request(code)
        self.send_response_only(code, message)
        server, date = str(self.version_string()), str(self.date_time_string())
        if not self._own_fields:
            if self.request_version != "HTTP/0.9":
                self._headers_buffer.append(server_and_date(server, date))
        else:
            self.send_header("Server", as_latin1(server))
            self.send_header("Date", as_latin1(date))

    def send_response_only(self, code: int, message: str | None = None) -> None:
        """The status line alone.  Raises :exc:`ValueError` for a status without three digits."""
        if message is None:
            message = self.responses[code][0] if code in self.responses else ""
        line = status_line(self.protocol_version, code, message)
        connection = self._hangup
        if connection is not None and connection.exchange is not None:
            connection.exchange.status = code if type(code) is int else int(code)
        if self.request_version == "HTTP/0.9":
            return
        buffer = self.__dict__.get("_headers_buffer")
        if buffer is None:
            self._headers_buffer: list[bytes] = [line]
        else:
            buffer.append(line)

    def send_header(self, keyword: str, value: Any, *, _is_extra: bool = False) -> None:
        """Add a header field to the answer.

        ``_is_extra`` is what Python 3.15's own methods pass, copies of which programs may have.
        Raises :exc:`ValueError` for a name that is no token, and for control characters in the value:
        CR and LF would split the answer (CWE-113).
        """
        if self.request_version == "HTTP/0.9":
            return
        name = field_names[keyword]
        text = f"{keyword}: {value}"
        if not text.isprintable():
            check_field(text)
        line = text.encode("latin-1", "strict") + b"\r\n"
        buffer = self.__dict__.get("_headers_buffer")
        if buffer is None:
            buffer = self._headers_buffer = []
        if name == "content-length":
            length = announced_length(value)
            if length is None:
                return  # Clients differ in what they make of it.
            if self._length is None:
                self._length = length
                self._length_line = line
            elif self._length != CHUNKED:
                if self._length != length:
                    raise ValueError(f"two Content-Lengths: {self._length} and {length} bytes")
                return
        elif name == "connection":
            if self._hear(str(value)):
                return
        elif name == "transfer-encoding" and text.lower().endswith("chunked"):
            self._length = CHUNKED
        buffer.append(line)

    def _hear(self, value: str) -> bool:
        """What the handler says of the connection; True if :meth:`end_headers` is to say it.

        ``close`` is granted wherever it stands.  ``keep-alive`` is, if the client permits it, and if
        what follows of the head does.
        """
        connection = self._hangup
        request = None if connection is None else connection.request
        options = [option.strip(" \t") for option in value.lower().split(",")]
        if "close" in options:
            self.close_connection = True
            self._said = "close"
        elif "keep-alive" in options and self._said != "close":
            if request is None or request.keep_alive:
                self.close_connection = False
            if connection is not None and len(options) == 1:
                self._said = "keep-alive"
                return True
        return False

    def end_headers(self) -> None:
        """End the answer's head.

        It says whether the connection stays (RFC 9112 §9.3, §9.6), unless the handler said so itself.
        An answer whose end the client could not tell is ended by closing it (§6.3).
        """
        connection = self._hangup
        if connection is not None:
            exchange = connection.exchange
            if exchange is not None and exchange.status >= 200:
                self._settle(connection, exchange)
        else:
            self._length = None  # Nobody else does; the next answer has its own.
        if self.request_version != "HTTP/0.9":
            self._headers_buffer.append(b"\r\n")
            self.flush_headers()

    def _settle(self, connection: "Connection", exchange: "Exchange") -> None:
        """Settle how much body there may be, and whether a request follows; say so."""
        if self._length_line is not None and self._length_line not in self._headers_buffer:
            self._recount()
        persists = not (
            self.close_connection
            or not connection.keep_open
            or (connection.loop.draining and connection.arrival.is_last())
            or (not connection.input.parser.body_ended and connection.arrival.leaves_body(exchange))
        )
        framing = frame_response(
            self.command, self.request_version, exchange.status, self._length, persists=persists
        )
        self.close_connection = not framing.persists
        if framing.body == TUNNEL:
            return  # Its handler speaks for itself.
        self._limit_body(framing)
        self._closes = self.close_connection
        if self.close_connection:
            if self._said != "close":
                self._headers_buffer.append(framing.connection_line)
        elif self._said or framing.connection_line:
            self._headers_buffer.append(framing.connection_line or b"Connection: keep-alive\r\n")

    def _limit_body(self, framing: Framing) -> None:
        """Whatever the handler writes: its client would take more for the next response."""
        stream = self.wfile if type(self.wfile) is ResponseStream else None
        if self._length == CHUNKED and framing.body == UNTIL_CLOSE:
            if stream is not None:  # else the handler's chunks go out as they are
                self._leave_out(framing.dropped)
                stream.undo_chunks()
        elif framing.body == NO_BODY:
            self._leave_out(framing.dropped)
            self._length = 0
            if stream is not None:
                stream.room = NO_BODY
        elif framing.body >= 0 and stream is not None:
            stream.room = framing.body

    def _recount(self) -> None:
        """A program has changed the head's lines: find the length that they say now."""
        self._length = None
        for line in self._headers_buffer:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and self._length is None:
                self._length = announced_length(value.decode("latin-1").strip())
                self._length_line = line

    def flush_headers(self) -> None:
        own = self._own_flush or "flush_headers" in self.__dict__
        line = self._length_line if own else None
        if line is not None and line not in self._headers_buffer:
            self._recount()
            if type(self.wfile) is ResponseStream and self.wfile.room >= 0:
                self.wfile.room = ANY_LENGTH if self._length is None else self._length
        super().flush_headers()

    def _leave_out(self, names: tuple[str, ...]) -> None:
        if names:
            starts = tuple([f"{name}:".encode() for name in names])
            buffer = self._headers_buffer
            buffer[:] = [line for line in buffer if not line.lower().startswith(starts)]

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The time, or now, as HTTP writes it (RFC 9110 §5.6.7)."""
        if timestamp is None:
            return http_date(int(time.time()))
        return super().date_time_string(timestamp)
