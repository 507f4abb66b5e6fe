"""The engine's way into ``http.server``'s server objects: accept, verify, handle, report, close."""

import logging
import socket
import socketserver
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from .._connection.connection import Connection
from .._connection.loop import Loop
from .._connection.streams import ClientSocket
from .._engine.acceptor import Acceptor
from .handling import BEING_MADE, ENDED, keeps_thread
from .stock_handler import adapt, is_wire_handler

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._engine.listener import Accept

__all__ = ["HTTPDoor", "take_over"]

_log = logging.getLogger("hangup")


class HTTPDoor:
    """The engine's way into one server object and its handlers.

    ``plain`` is the class whose methods are the engine's own: what a program has put in their place is
    called, and what it has not need not be.
    """

    def __init__(self, server: Any, plain: Any) -> None:
        self._server = server
        cls = type(server)
        self._raw = not is_wire_handler(server.RequestHandlerClass)
        self._make = adapt(server.RequestHandlerClass)
        # A serial server runs all handlers in one thread anyhow.
        self._one_thread = server.is_threading() and keeps_thread(server.RequestHandlerClass)
        self._plain_get = cls.get_request is plain.get_request
        self._acceptor = Acceptor(server.socket, server.context_of())
        self._plain_verify = cls.verify_request is socketserver.BaseServer.verify_request
        self._plain_finish = cls.finish_request is plain.finish_request
        #: What a finish_request of the program's own is to make handlers of, so that they tell of what
        #: they do; None if it need not.
        self.made_by_program = None if self._plain_finish or not self._raw else self._make
        #: Whether a connection from this address is the server's own; see _engine.steps.
        self.is_ours: Callable[[Any], bool] | None = None
        self._plain_close = (
            cls.shutdown_request is plain.shutdown_request
            and cls.close_request is socketserver.TCPServer.close_request
        )

    def acceptor(self, sock: socket.socket) -> "Accept":  # noqa: ARG002
        """The server's methods know which socket is theirs."""
        return self.accept

    def accept(self, loop: Loop) -> Connection | None:
        """``get_request`` and ``verify_request``."""
        server = self._server
        if self._plain_get:
            sock, address = self._acceptor.accept()
            connection = self._acceptor.make(sock, address, loop, raw=self._raw)
        else:
            request, address = server.get_request()
            if type(request) is not socket.socket:
                server.process_foreign(request, address)
                return None
            connection = Connection(take_over(request), address, loop, raw=self._raw)
        connection.one_thread = self._one_thread
        if not self._plain_verify and not self._verify(connection):
            return None
        return connection

    def _verify(self, connection: Connection) -> bool:
        server = self._server
        if self.is_ours is not None and self.is_ours(connection.address):
            return True
        wanted = False
        try:
            wanted = server.verify_request(connection.sock, connection.address)
        except Exception:
            server.handle_error(connection.sock, connection.address)
        finally:
            if not wanted:
                connection.closing.close()
        return wanted

    def handle(self, connection: Connection) -> None:
        """``finish_request``, or straight to the handler."""
        if self._plain_finish or connection.blocking:
            self.answer(connection)  # finish_request is where a blocking connection came from
        else:
            self._server.finish_request(connection.sock, connection.address)
        if connection.exchange is not None:
            # Its handler was made by a function of the program's, so nobody saw where it ended; but it
            # has written a line of its own when it answered.
            connection.exchange.reported = connection.exchange.response_began
            connection.end_exchange(keep_open=False, whole=True)

    def answer(self, connection: Connection) -> None:
        """Answer the request at hand, with the connection's handler."""
        handler = connection.handler
        if handler is None:
            if self._make is None:
                self._server.RequestHandlerClass(connection.sock, connection.address, self._server)
                return
            handler = self._new_handler(connection)
        handler.serve_one()

    def _new_handler(self, connection: Connection) -> Any:
        connection.handler = BEING_MADE
        try:
            handler = self._make(connection.sock, connection.address, self._server)
        except BaseException:
            connection.handler = None
            raise
        connection.handler = handler
        if self._plain_finish:
            connection.answer = handler.serve_one
        connection.closing.is_slow = handler.finishes_itself() or not self._plain_close
        return handler

    def failed(self, connection: Connection, error: BaseException) -> None:  # noqa: ARG002
        """``handle_error``."""
        self._server.handle_error(connection.sock, connection.address)

    def closed(self, connection: Connection) -> None:
        """The handler's ``finish``, and ``shutdown_request`` where a program has its own; once."""
        handler, connection.handler = connection.handler, ENDED
        connection.answer = None
        if handler is ENDED:
            return
        try:
            if handler is not None:
                self._finish(handler, connection)
        finally:
            if not self._plain_close:
                self._server.shutdown_request(connection.sock)

    def _finish(self, handler: Any, connection: Connection) -> None:
        """What a ``finish`` of the program's raises is reported, as all of its exceptions are."""
        try:
            handler.finish()
        except OSError:
            _log.debug("finish() failed", exc_info=True)  # Its client has left, most likely.
        except BaseException as error:
            if not isinstance(error, Exception) and current_thread() is main_thread():
                raise  # Ctrl-C, or sys.exit(), in a server whose handlers run there.
            self._server.handle_error(connection.sock, connection.address)


def take_over(request: socket.socket) -> ClientSocket:
    """An accepted socket, as the engine wants it."""
    timeout = request.gettimeout()
    sock = ClientSocket(request.family, request.type, request.proto, fileno=request.detach())
    if timeout is not None:
        # Ours waits by itself; the descriptor's mode is what makefile() and children rely on.
        socket.socket.settimeout(sock, None)
    return sock
