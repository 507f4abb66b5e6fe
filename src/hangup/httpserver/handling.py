"""What every handler does for the engine, hangup's own and the standard library's alike.

It is told of the answer's status, lets the head wait for the body, and sees to it that one line is
written about a request: by the access log, or by the program.
"""

import functools
import http.server
import sys
from collections.abc import Callable
from contextvars import copy_context
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .._connection.streams import ResponseStream
from .._disconnect.client import Client
from .._disconnect.peer import ClientState
from .._http1.escape import printable
from .._logging.colors import Theme, theme_for
from .._logging.line_writer import write_text
from ..exceptions import ClientDisconnected
from ..records import CLIENT_CLOSED_REQUEST

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .._connection.exchange import Exchange

__all__ = [
    "BEING_MADE",
    "ENDED",
    "ClientOfRequest",
    "Handling",
    "keeps_thread",
    "log_request",
    "of_the_engine",
    "program_logs",
    "reported_status",
    "shown_client",
    "write_message",
]

_Stock = http.server.BaseHTTPRequestHandler
# What http.server's log_request() makes of a request line, a status and a size.
_REQUEST = '"%s" %s %s'

#: In ``Connection.handler`` while a handler is being made: it must not begin to work yet.
BEING_MADE = object()
#: There when its handler has ended, before the connection has.
ENDED = object()


def of_the_engine(method: Any) -> Any:
    """Mark a method that is not a program's own."""
    method.of_the_engine = True
    return method


@functools.lru_cache(maxsize=256)
def _is_own(name: str, method: Any) -> bool:
    """Whether a method is a program's, and neither http.server's nor hangup's."""
    return method is not getattr(_Stock, name) and not hasattr(method, "of_the_engine")


def program_logs(factory: Any) -> bool:
    """Whether the handlers that ``factory`` makes have a log of their own, as far as can be seen."""
    cls = getattr(factory, "func", factory)
    return hasattr(cls, "log_message") and _writes_own_log(cls)


def keeps_thread(factory: Any) -> bool:
    """Whether a connection of these handlers is to be kept on one thread (``thread_per_connection``)."""
    cls = getattr(factory, "func", factory)
    cls = getattr(cls, "adapted", cls)
    wish = getattr(cls, "thread_per_connection", None)
    if wish is not None or not isinstance(cls, type) or not issubclass(cls, _Stock):
        return bool(wish)
    return _is_own("setup", cls.setup) or _is_own("finish", cls.finish)


def _writes_own_log(cls: Any) -> bool:
    """Whether ``log_request`` or ``log_message`` was replaced: the line is then the program's own."""
    return _is_own("log_message", cls.log_message) or _is_own("log_request", cls.log_request)


class ClientOfRequest:
    """``self.client``: the client of the request at hand.

    It gives way to an attribute of the same name that a program sets on its handler.
    """

    def __get__(self, handler: Any, owner: type | None = None) -> Client:
        if handler is None:
            return self  # type: ignore[return-value]
        connection = handler._hangup  # noqa: SLF001
        if connection is None:
            # A server that is not hangup's, or TLS: nobody watches, and it stays OPEN.
            unwatched = handler.__dict__["client"] = Client(handler.client_address)
            return unwatched
        if connection.exchange is None:
            raise AttributeError("there is no client between requests")
        client: Client = connection.exchange.client
        return client


class Handling:
    """What both kinds of handler do for the engine: who writes the log, and the answer's status."""

    _hangup: "Connection | None"
    close_connection: bool
    command: str
    raw_requestline: Any
    rfile: Any
    wfile: Any
    #: Does one thread run all of a connection's requests, ``setup()`` and ``finish()``, waiting for each
    #: request, as under ``http.server``?  None: if the class has a ``setup`` or a ``finish`` of its own,
    #: since what it makes there may belong to the thread, as a connection of :mod:`sqlite3` does.
    thread_per_connection: bool | None = None

    def serve_one(self) -> None:
        """Answer the one request at hand.  The engine calls this."""
        raise NotImplementedError

    def serve_all(self) -> None:
        """Handle the requests that are at hand, and with a thread of one's own, all that come."""
        connection = self._hangup
        assert connection is not None
        while connection.exchange is not None or connection.wait_for_next_request():
            exchange = connection.exchange
            assert exchange is not None
            if connection.peer.state is ClientState.GONE:
                connection.closing.drop()
                return
            # As the engine does it: each request in a context of its own.
            context = copy_context()
            if not exchange.started_at:
                context.run(exchange.start, connection)
            context.run(self.serve_one)
            if not connection.keep_open or not connection.blocking:
                return

    def _program(self) -> Any:
        """The class whose methods are the program's."""
        return type(self)

    # What the program replaced is asked for each connection, not each class: it may do so at any time.

    def _writes_own_log(self) -> bool:
        return _writes_own_log(self._program())

    def finishes_itself(self) -> bool:
        """Whether the program has a ``finish`` of its own, which may take its time."""
        return _is_own("finish", self._program().finish)

    # -- loops of the program's own

    def end_request(self, connection: "Connection") -> None:
        """Its handler is done with the request at hand: check the response, and end the exchange."""
        raise NotImplementedError

    def begin_request(self, connection: "Connection") -> None:
        """Another request is at hand: forget what was kept of the last one."""
        raise NotImplementedError

    def next_request(self) -> bool:
        """End the request at hand, and wait in this thread for the next one.

        Returns False at the connection's end.

        ``http.server`` calls ``handle()`` once for each connection, and a program may have one of its
        own that takes request after request.  Each is taken once; who asks for another waits for it
        here, as it would wait in ``rfile.readline()`` there.
        """
        connection = self._hangup
        assert connection is not None
        if connection.exchange is not None:
            self.end_request(connection)
        if connection.keep_open and connection.wait_for_next_request():
            exchange = connection.exchange
            assert exchange is not None
            if connection.peer.state is not ClientState.GONE:
                exchange.start(connection)
                self.begin_request(connection)
                return True
            connection.delivery.tell_unstarted()
        connection.keep_open = False
        self.close_connection = True
        self.raw_requestline = b""  # What http.server's own finds there at the end.
        return False

    def _is_whole(self, connection: "Connection") -> bool:
        """Whether all of the response was sent, as far as can be seen."""
        exchange = connection.exchange
        if exchange is None:
            return False
        try:
            connection.output.flush()
        except ClientDisconnected:
            return False
        return self._has_sent_all(connection, exchange)

    def _has_sent_all(self, connection: "Connection", exchange: "Exchange") -> bool:
        """Whether the response has the length that it says; nothing is held back any more."""
        raise NotImplementedError

    def _report_departure(self, connection: "Connection") -> None:
        """A program's own log is told of a client that left before any answer began, too."""
        exchange = connection.exchange
        if (
            exchange is not None
            and connection.peer.disconnected_at is not None
            and not exchange.reported
            and not exchange.response_began
            and hasattr(self, "requestline")
        ):
            exchange.reported = True
            self.log_request(CLIENT_CLOSED_REQUEST)  # type: ignore[attr-defined]

    def flush_headers(self) -> None:
        """Send the head, or keep it for a moment so that the body's beginning goes with it."""
        connection = self._hangup
        buffer = self.__dict__.get("_headers_buffer")
        if connection is None or type(self.wfile) is not ResponseStream:
            if connection is not None and connection.exchange is not None:
                connection.exchange.head_out += sum(map(len, buffer or ()))
            super().flush_headers()  # type: ignore[misc]
            return
        if not buffer:
            return
        head = b"".join(buffer)
        buffer.clear()
        exchange = connection.exchange
        if exchange is None:
            connection.output.send(head)
            return
        exchange.head_out += len(head)
        if not head.endswith(b"\r\n\r\n"):
            # Not all of it: somebody else goes on writing, a CGI script say.
            connection.output.send(head)
        elif exchange.status >= 200 and self.command != "CONNECT":
            connection.output.hold(head)
        else:
            connection.output.send(head)
            if exchange.status < 200 and exchange.status != HTTPStatus.SWITCHING_PROTOCOLS:
                exchange.forget_interim(len(head))
                return
            if not connection.input.is_raw and (
                exchange.status == HTTPStatus.SWITCHING_PROTOCOLS or 200 <= exchange.status < 300
            ):
                connection.input.upgrade()


def shown_client(address: Any) -> str:
    """``address_string()``: the client's host, or ``-`` where it has none: a unix socket's is ``""``."""
    return str(address[0]) if isinstance(address, tuple) and address else "-"


def reported_status(connection: "Connection", code: Any) -> Any:
    """The status that a program's own log is told: 499 for a client that has disconnected before.

    A FIN that was there before the handler began is none of that: a half-closed client sends it with its
    request, and waits for the response.
    """
    peer, exchange = connection.peer, connection.exchange
    if peer.disconnected_at is None or exchange is None or exchange.response_began:
        return code
    if peer.state is not ClientState.GONE and peer.disconnected_at <= exchange.started_at:
        return code
    return CLIENT_CLOSED_REQUEST


def write_message(handler: Any, text: str) -> None:
    """What ``http.server``'s ``log_message`` does, on each Python, and whatever ``sys.stderr`` is.

    At once, as there: a program's own words come in the order in which it says them.
    """
    when, who = handler.log_date_time_string(), handler.address_string()
    # What log_request() and log_error() leave there, on each Python by the names that 3.15 has.
    notes = handler.__dict__
    logged, is_error = notes.pop("_log_request_info", None), notes.pop("_log_is_error", False)
    is_request = logged is not None and text == _REQUEST % (notes.get("requestline"), *logged)
    try:
        text = _shown(text)
        theme = theme_for(sys.stderr)
        if theme.reset and is_request:
            text = _colored_request(theme, _shown(handler.requestline), *logged)
        elif is_error:
            text = f"{theme.error}{text}{theme.reset}"
        start = f"{theme.timestamp}{who} - - [{when}]{theme.reset}"
        write_text(sys.stderr, f"{start} {text}\n")
    except (OSError, ValueError):
        pass  # It is closed, or nobody is behind it: that costs no client its answer.


def _shown(text: str) -> str:
    return printable(text.replace("\\", "\\\\"))


def _colored_request(theme: Theme, line: str, code: Any, size: Any) -> str:
    parts = line.split(None, 2)
    if len(parts) == 3:
        method, target, protocol = parts
        line = f"{method} {theme.path}{target}{theme.reset} {protocol}"
    return f'"{line}" {theme.of_status(code)}{code}{theme.reset} {theme.size}{size}{theme.reset}'


def log_request(handler: Any, log: Callable[..., None], code: Any, size: Any) -> None:
    """``log_request`` on the engine.

    By default the access log tells of the request when it has ended, once, and this says nothing.  A
    program that has its own ``log_request`` or ``log_message`` is called when ``http.server`` would
    call it, and then the access log says nothing.
    """
    connection = handler._hangup  # noqa: SLF001
    if connection is not None and connection.exchange is not None:
        if not handler._own_log:  # noqa: SLF001
            return
        connection.exchange.reported = True
        code = reported_status(connection, code)
    # As its log_request() does it from Python 3.15 on.
    handler._log_request_info = (code.value if isinstance(code, HTTPStatus) else code, size)  # noqa: SLF001
    log(code, size)
