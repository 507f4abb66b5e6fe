"""Handlers of the standard library's, unmodified, on hangup's engine.

A subclass of ``http.server.BaseHTTPRequestHandler`` gets its bytes untouched, and parses them itself,
as ever.  :func:`adapt` puts a thin class before it that marks where its requests begin and end.
"""

import functools
import http.server
import math
import socketserver
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .._connection.connection import Connection
from .._connection.streams import ClientSocket, RequestStream, ResponseStream
from .._disconnect.peer import ClientState
from .._http1.request import unfinished, unparsed
from .handler import BaseHTTPRequestHandler
from .handler_heads import announced_length, as_latin1, check_field
from .handling import (
    BEING_MADE,
    ClientOfRequest,
    Handling,
    log_request,
    shown_client,
    write_message,
)

if TYPE_CHECKING:
    from .._connection.exchange import Exchange

__all__ = ["adapt", "is_wire_handler"]

_Stock = http.server.BaseHTTPRequestHandler


class _Adapter(Handling):
    """Stands before a stock handler class, and tells the engine what it does."""

    _hangup: "Connection | None" = None
    # Whether the request at hand was handled, and parsed; whether http.server's loop wants another one.
    _served = _parsed = _wants_another = False
    _serving = False
    # The length that the response says it has.
    _hangup_length: int | None = None
    # How many bytes the request at hand has.
    _body_end = math.inf
    _own_log = True

    def __init__(self, request: Any, client_address: Any, server: Any, **options: Any) -> None:
        if isinstance(request, ClientSocket):
            self._hangup = request.connection
        super().__init__(request, client_address, server, **options)  # type: ignore[call-arg]

    def _program(self) -> Any:
        return type(self).__bases__[1]

    def setup(self) -> None:
        super().setup()  # type: ignore[misc]
        self._own_log = self._writes_own_log()
        if self._hangup is not None and self.timeout is not None:  # type: ignore[attr-defined]
            self._hangup.idle_timeout = self.timeout  # type: ignore[attr-defined]
        if type(self.wfile) is socketserver._SocketWriter:  # type: ignore[attr-defined]  # noqa: SLF001
            self.wfile: Any = ResponseStream(self._hangup, self.request)  # type: ignore[attr-defined,arg-type]
        if self._hangup is not None and isinstance(self.rfile, RequestStream):
            self.rfile.before_line = self._before_line

    def handle(self) -> None:
        if self._being_made():
            return
        if self._hangup is None or self._serving:
            super().handle()  # type: ignore[misc]
        else:
            # Somebody made this handler by hand, in a finish_request of his own.
            self.serve_all()

    def finish(self) -> None:
        connection = self._hangup
        if self._being_made():
            return
        if connection is None:
            super().finish()  # type: ignore[misc]
            return
        # It closes both files. That ends this handler, and not the connection: one that a program made
        # by hand may be followed by another.
        keep_open = connection.keep_open
        super().finish()  # type: ignore[misc]
        connection.keep_open = keep_open
        connection.input.renew_stream()

    def _being_made(self) -> bool:
        return self._hangup is not None and self._hangup.handler is BEING_MADE

    def serve_one(self) -> None:
        """Answer the one request at hand.  The engine calls this."""
        connection = self._hangup
        assert connection is not None
        self.begin_request(connection)
        self._serving = True
        try:
            self.handle()
        finally:
            self._serving = False
            self._settle_request(connection)
        self._end_exchange(connection, keep_open=self._wants_another)

    def begin_request(self, connection: Connection) -> None:  # noqa: ARG002
        self._served = self._parsed = self._wants_another = False
        self._hangup_length = None

    def end_request(self, connection: Connection) -> None:
        wfile: Any = self.wfile
        if not wfile.closed:
            wfile.flush()
        self._settle_request(connection)
        self._end_exchange(connection, keep_open=True)

    def _settle_request(self, connection: Connection) -> None:
        self._describe(connection)
        if self._own_log:
            self._report_departure(connection)

    def _end_exchange(self, connection: Connection, *, keep_open: bool) -> None:
        # What was read ahead is the next request's, and counts there.
        connection.input.give_back_stream()
        connection.end_exchange(
            keep_open=connection.keep_open and keep_open,
            whole=connection.peer.state is ClientState.OPEN or self._is_whole(connection),
        )

    def _has_sent_all(self, connection: Connection, exchange: "Exchange") -> bool:  # noqa: ARG002
        sent = exchange.out - exchange.head_out
        if self._hangup_length is not None and not exchange.is_for_head and exchange.status != 304:
            return sent >= self._hangup_length
        return not exchange.may_have_stopped

    def handle_one_request(self) -> None:
        if self._hangup is None:
            super().handle_one_request()  # type: ignore[misc]
            return
        if self._served:
            if sys._getframe(1).f_code is _Stock.handle.__code__:  # noqa: SLF001
                # http.server's own handle() loops for as long as the connection lasts. The engine calls
                # again when there is a request; until then no thread waits.
                self._wants_another = True
                self.close_connection = True
                return
            if not self.next_request():
                return
        self._served = True
        super().handle_one_request()  # type: ignore[misc]

    def parse_request(self) -> bool:
        connection = self._hangup
        if connection is not None and self._parsed and connection.exchange is not None:
            # A loop of the program's own has read on, and come to another request.
            self.end_request(connection)
            connection.arrival.begin_unparsed()
            assert connection.exchange is not None
            connection.exchange.start(connection)
            self.begin_request(connection)
            self._served = True
        self._parsed = True
        parsed: bool = super().parse_request()  # type: ignore[misc]
        if connection is not None and connection.exchange is not None:
            self._body_end = self._end_of_body(connection, connection.exchange)
        return parsed

    def _end_of_body(self, connection: Connection, exchange: "Exchange") -> float:
        """How many bytes the request has, its head included, as far as that tells."""
        fields: Any = getattr(self, "headers", None) or {}
        length = str(fields.get("Content-Length", "0")).strip()
        if "Transfer-Encoding" in fields or not length.isascii() or not length.isdigit():
            return math.inf
        return exchange.body_in - connection.input.stream.buffered + int(length)

    def _before_line(self) -> None:
        """A line is read: a loop of the program's own may be about to read its next request's.

        It is, if the last one has been read whole and answered, and the connection stays.  Then that has
        ended, and what is waited for is the next.
        """
        connection = self._hangup
        assert connection is not None
        exchange = connection.exchange
        if not self._parsed or exchange is None or self.close_connection:
            return
        if exchange.body_in - connection.input.stream.buffered < self._body_end:
            return
        connection.output.flush()
        upgraded = exchange.status == HTTPStatus.SWITCHING_PROTOCOLS or self.command == "CONNECT"
        if not exchange.response_began or upgraded:
            return
        if self.next_request():
            self._served = True
        else:
            connection.input.stream.end()

    def _describe(self, connection: Connection) -> None:
        exchange = connection.exchange
        if exchange is None or not self._parsed:
            return
        if getattr(self, "command", None):
            found = self.command, self.path, self.request_version  # type: ignore[attr-defined]
        else:
            # It was refused: what else the handler has is the last request's.
            line = unfinished(getattr(self, "requestline", "").encode("latin-1", "replace"))
            found = line.method, line.target, line.protocol
        exchange.request = unparsed(b"", *found)

    def send_response_only(self, code: int, message: str | None = None) -> None:
        if self._hangup is not None and self._hangup.exchange is not None:
            self._hangup.exchange.status = int(code)
        super().send_response_only(code, None if message is None else as_latin1(str(message)))  # type: ignore[misc]

    def send_header(self, keyword: str, value: Any, **options: Any) -> None:
        # Options are between http.server's own methods, from Python 3.15 on.
        check_field(f"{keyword}: {value}")
        if keyword.lower() == "content-length":
            self._hangup_length = announced_length(value)
        super().send_header(keyword, value, **options)  # type: ignore[misc]

    def flush_headers(self) -> None:
        super().flush_headers()
        if "_default_response_headers" in self.__dict__:  # Python 3.15: the names of one head's fields
            self._default_response_headers: list[Any] = []

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        if self._program().log_message is _Stock.log_message:
            write_message(self, format % args)
        else:
            super().log_message(format, *args)  # type: ignore[misc]

    def log_error(self, format: str, *args: Any) -> None:  # noqa: A002
        self._log_is_error = True
        super().log_error(format, *args)  # type: ignore[misc]

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        log_request(self, super().log_request, code, size)  # type: ignore[misc]


@functools.cache
def _adapted(cls: type) -> type:
    names: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "adapted": cls,
    }
    if not hasattr(cls, "client"):
        names["client"] = ClientOfRequest()
    if cls.address_string is _Stock.address_string:  # type: ignore[attr-defined]
        names["address_string"] = lambda self: shown_client(self.client_address)
    return type(cls.__name__, (_Adapter, cls), names)


def adapt(factory: Any) -> Any:
    """What makes the handlers: ``factory`` itself, or with an adapter before a stock class.

    ``factory`` is a class, a :func:`functools.partial` of one (``directory=…``), or any callable;
    for the last, what it returns can't be foreseen, so None is returned: it is called as it is.
    """
    if isinstance(factory, functools.partial):
        inner = adapt(factory.func)
        return None if inner is None else functools.partial(inner, *factory.args, **factory.keywords)
    if not isinstance(factory, type) or not issubclass(factory, _Stock):
        return None
    if issubclass(factory, BaseHTTPRequestHandler):
        return factory
    return _adapted(factory)  # type: ignore[arg-type]


def is_wire_handler(factory: Any) -> bool:
    """Whether the handlers are hangup's own, whose requests the wire layer parses."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    return isinstance(factory, type) and issubclass(factory, BaseHTTPRequestHandler)
