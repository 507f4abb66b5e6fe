"""WSGI applications on hangup's engine (PEP 3333).

What a request's head says is copied from a dict that was made for the first request with that head; what
an answer's head amounts to is remembered, too.  With that, one frame of this module lies between the
engine and the application.
"""

import logging
import socket
from collections.abc import Callable, Iterable
from time import time
from typing import Any

from ._acceptor import Acceptor
from ._answer import Answer, FileWrapper, WSGIError
from ._answer_heads import AnswerHead, answer_head
from ._connection import Connection
from ._environ import environ_of
from ._heads import Request
from ._input import open_input
from ._plain_answer import http_date
from ._tls import ContextOf
from ._version import __version__
from ._watch import Accept, Watch
from .client import BlankClient
from .exceptions import ClientDisconnected

__all__ = ["FileWrapper", "WSGIDoor", "WSGIError"]

_log = logging.getLogger("hangup")


class WSGIDoor:
    """The engine's way into an application.  See :class:`~hangup.server.Door` for who calls what.

    ``known_heads`` and what :meth:`date_line` keeps are shared by all threads, without a lock: each
    value is right, whoever writes it last.
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
        self.known_heads: dict[Any, AnswerHead] = {}
        self.server_line = b"Server: hangup\r\n"
        self._date = (1.0, 0.0, b"")
        self._base = {
            "SERVER_SOFTWARE": f"hangup/{__version__}",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
        }
        if context_of is not None:
            self._base.update({"wsgi.url_scheme": "https", "HTTPS": "on"})

    def new_head(self, status: str, headers: list[tuple[str, str]]) -> AnswerHead:
        """A head that is not known."""
        return answer_head(self.known_heads, status, headers, self.server_line)

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
        environ = (request.seen_by or self._see(request)).copy()
        (
            environ["REMOTE_ADDR"],
            environ["REMOTE_PORT"],
            environ["SERVER_NAME"],
            environ["SERVER_PORT"],
            environ["waitress.client_disconnected"],
        ) = connection.handler
        environ["hangup.client"] = exchange.blank_client = BlankClient(exchange)
        if request.fields.length:
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
        connection.end_exchange(keep_open=answer.keep_open, whole=True)

    def _see(self, request: Request) -> dict[str, Any]:
        seen: dict[str, Any] = environ_of(request, self._base)
        request.seen_by = seen
        return seen

    def acceptor(self, sock: socket.socket) -> Accept:
        """What takes connections from ``sock``; each of their requests will say the same of them."""
        acceptor = Acceptor(sock, self._context_of)
        accept, make = acceptor.accept, acceptor.make
        address = sock.getsockname()
        name, port = address[:2] if isinstance(address, tuple) else ("localhost", 80)
        port = str(port)

        def take(watch: Watch) -> Connection:
            client, address = accept()
            connection = make(client, address, watch)
            peer = connection.peer
            client_port = str(address[1]) if type(address) is tuple else ""
            connection.handler = (peer.host, client_port, name, port, peer.has_left)
            return connection

        return take

    def failed(self, connection: Connection, error: BaseException) -> None:
        """The application raised: its traceback goes to the log."""
        exchange = connection.exchange
        request = exchange.request if exchange is not None else None
        what = f"{request.method} {request.target}" if request is not None else "a request"
        _log.error("the application failed on %s", what, exc_info=error)

    def closed(self, connection: Connection) -> None:
        """The connection has closed."""
