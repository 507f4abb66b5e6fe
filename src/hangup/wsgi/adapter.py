"""WSGI applications on hangup's engine (PEP 3333).

One frame of this module lies between the engine and the application.
"""

import logging
import socket
from collections.abc import Callable, Iterable
from time import time
from typing import Any

from .._connection.connection import Connection
from .._connection.loop import Loop
from .._disconnect.client import BlankClient
from .._engine.acceptor import Acceptor
from .._engine.listener import Accept
from .._http1.error_response import http_date
from .._http1.escape import escaped
from .._http1.request import CHUNKED, Request
from .._http1.response_head import ResponseHead
from .._system.tls import ContextOf
from .._version import __version__
from ..exceptions import ClientDisconnected
from .environ import ERRORS, environ_of
from .file_wrapper import FileWrapper
from .input import gather_input, open_input
from .response import Answer
from .tls_environ import tls_environ

__all__ = ["WSGIDoor"]

_log = logging.getLogger("hangup")


class WSGIDoor:
    """The engine's way into an application.  Who calls what: :class:`~hangup._engine.engine.FrontEnd`.

    ``last_head`` and what :meth:`date_line` keeps are shared by all threads, without a lock: each value
    is right, whoever writes it last.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        *,
        multiprocess: bool = False,
        context_of: ContextOf | None = None,
    ) -> None:
        self._app = app
        self._context_of = context_of
        # Whether there is anything for complete() to do.
        self._completes = context_of is not None
        self.server_line = "Server: hangup\r\n"
        self.last_head = ResponseHead("200 OK", [], self.server_line)
        self._date = (1.0, 0.0, b"")
        self._base = {
            "SERVER_SOFTWARE": f"hangup/{__version__}",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.errors": ERRORS,
            "wsgi.file_wrapper": FileWrapper,
        }
        if context_of is not None:
            self._base.update({"wsgi.url_scheme": "https", "HTTPS": "on"})

    def date_line(self) -> bytes:
        """The Date, and the empty line that ends a head."""
        now = time()
        since, until, line = self._date
        if not since <= now < until:
            line = f"Date: {http_date(int(now))}\r\n\r\n".encode()
            self._date = now // 1, now // 1 + 1, line
        return line

    # -- the engine

    def handle(self, connection: Connection) -> None:
        """Answer the request at hand."""
        request = connection.request
        if request is None:
            assert connection.refusal is not None
            raise connection.refusal
        exchange = connection.exchange
        assert exchange is not None
        answer = Answer(self, connection, exchange, request)
        if request is connection.repeated:
            known = connection.repeated_environ
            if known is None:
                known = connection.repeated_environ = self.environ_of(request, connection)
            environ = known.copy()
        else:
            environ = self.environ_of(request, connection)
        environ["hangup.client"] = exchange.blank_client = BlankClient(exchange)
        if self._completes:
            self.complete(environ, connection)
        length = request.length
        if length:
            if length == CHUNKED and (gathered := gather_input(connection)) is not None:
                environ["CONTENT_LENGTH"] = str(gathered)
            environ["wsgi.input"] = open_input(connection)
        try:
            result = self._app(environ, answer.start_response)
            if type(result) is list and len(result) == 1:
                answer.send_whole(result[0])
            else:
                answer.send_all(result)
        except ClientDisconnected:
            if not answer.is_whole:
                raise
            # It has its response: what it left is what the application did behind that.
        connection.end_exchange(keep_open=answer.keep_open, whole=answer.keep_open or answer.is_complete)

    def complete(self, environ: dict[str, Any], connection: Connection) -> None:
        """Add what the head does not say, and plain HTTP has not: TLS."""
        if self._context_of is not None and "SSL_PROTOCOL" not in connection.handler:
            told = tls_environ(connection)
            connection.handler.update(told)
            environ.update(told)

    def environ_of(self, request: Request, connection: Connection) -> dict[str, Any]:
        """What the application is told of a request.  Raises :exc:`~hangup.RequestRejected`."""
        return environ_of(request, connection.handler)

    def acceptor(self, sock: socket.socket) -> Accept:
        """What takes connections from ``sock``; each of their requests will say the same of them."""
        acceptor = Acceptor(sock, self._context_of)
        accept, make, about = acceptor.accept, acceptor.make, _about(sock.getsockname())
        base = self._base

        def take(loop: Loop) -> Connection:
            client, address = accept()
            connection = make(client, address, loop)
            connection.handler = base | about(connection, address)
            return connection

        return take

    def failed(self, connection: Connection, error: BaseException) -> None:
        """The application raised: its traceback goes to the log."""
        exchange = connection.exchange
        request = exchange.request if exchange is not None else None
        what = escaped(f"{request.method} {request.target}") if request is not None else "a request"
        _log.error("the application failed on %s", what, exc_info=error)

    def closed(self, connection: Connection) -> None:
        """The connection has closed."""


def _about(listens_at: Any) -> Callable[[Connection, Any], dict[str, Any]]:
    """Makes what the environ says of a connection, whose listener has this address.

    RFC 3875 §4.1.14 wants the server's own name or address, as the client called it: that of a listener
    on all addresses is none, so the connection's is told.
    """
    if not isinstance(listens_at, tuple):
        return lambda connection, _address: {
            "REMOTE_ADDR": "",
            "REMOTE_PORT": "",
            "waitress.client_disconnected": connection.peer.has_left,
        }
    name, port = listens_at[0], str(listens_at[1])
    is_wildcard = name in ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound

    def about(connection: Connection, address: Any) -> dict[str, Any]:
        peer = connection.peer
        return {
            "REMOTE_ADDR": peer.host,
            "REMOTE_PORT": str(address[1]),
            "SERVER_NAME": connection.sock.getsockname()[0] if is_wildcard else name,
            "SERVER_PORT": port,
            "waitress.client_disconnected": peer.has_left,
        }

    return about
