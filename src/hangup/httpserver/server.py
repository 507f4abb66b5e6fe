"""Servers: ``http.server``'s classes, on hangup's engine.

A server here is still a :class:`socketserver.TCPServer`: it binds, activates, verifies and closes with
the same methods, which programs override.  The engine does what the standard library's loop does there:
it accepts connections, watches them and runs handlers.

Three kinds of server can't be run by the engine, and are run by the standard library's own loop:
one whose ``process_request`` the program replaced, since it decides on threads itself; one that
forks; and one whose listening socket is of a class of the program's own.  Plain connections of theirs
are watched all the same.
"""

import http.server
import ipaddress
import logging
import os
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .._connection.connection import Connection
from .._connection.state import State
from .._connection.streams import ClientSocket
from .._engine.engine import Engine, tune_listener
from .._engine.steps import Steps
from .._logging.access_log import log_access
from .._system.binding import shown
from .._system.fork import ForkWatch, PrivateSocket
from .._system.tls import ContextOf, say_goodbye
from ..config import Config
from ..exceptions import ConfigError
from ..records import RequestRecord
from .front_end import HTTPDoor, take_over
from .handling import program_logs
from .stock_handler import is_wire_handler

__all__ = ["HTTPServer", "TCPServer", "ThreadingHTTPServer"]

_log = logging.getLogger("hangup")

# Seconds after which a Ctrl-C is seen that came in the instant before serve_forever began to wait: for
# a lock, that is, which then doesn't look again.
SIGNAL_INTERVAL = 0.5

_FORKING = getattr(socketserver, "ForkingMixIn", ())


class _OnEngine(socketserver.TCPServer):
    """What the engine changes of a :class:`socketserver.TCPServer`.

    ``serve_forever`` runs in one thread; ``shutdown`` comes from another.  ``_lock`` guards
    ``_engine`` and ``_ended``; all else is set before the threads start.
    """

    request_queue_size = 1024

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: Any,  # noqa: N803
        bind_and_activate: bool = True,  # noqa: FBT001, FBT002
        *,
        config: Config | None = None,
        sinks: Sequence[Callable[[RequestRecord], None]] = (),
    ) -> None:
        """As :class:`socketserver.TCPServer`.

        Raises :exc:`OSError` where it can't listen, whose text and ``listen_address`` say where;
        :exc:`hangup.ConfigError` for a ``directory`` that is none.

        ``config`` sets limits; ``sinks`` are called with the record of each request that has ended,
        by the thread that ended it.
        """
        check_directory(RequestHandlerClass)
        self._config = config or Config()
        self._sinks = tuple(sinks)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._ended: list[Engine] = []
        self._steps: Steps | None = None
        self._socket_timeout: float | None = None
        self._front_end: HTTPDoor
        self._stop = False
        self._alarm = threading.Event()
        self._is_shut_down = threading.Event()
        try:
            super().__init__(server_address, RequestHandlerClass, bind_and_activate)
        except OSError as error:
            error.listen_address = shown(server_address)  # type: ignore[attr-defined]
            error.strerror = f"{error.strerror}: {shown(server_address)}"
            raise

    def server_activate(self) -> None:
        """Begin to listen."""
        # Before: clients that connect now are served later, and inherit what is set by now.
        tune_listener(self.socket, self._config)
        super().server_activate()

    # -- which loop

    def is_threading(self) -> bool:
        """Whether handlers run side by side."""
        return isinstance(self, socketserver.ThreadingMixIn)

    def _needs_own_loop(self) -> bool:
        cls = type(self)
        return (
            cls.process_request not in _PROCESS_REQUESTS
            or (self.is_threading() and cls.process_request_thread is not _PROCESS_REQUEST_THREAD)  # type: ignore[attr-defined]
            or isinstance(self, _FORKING)
            # What it makes of the sockets can't be foreseen: here, too, one connection at a time.
            or (not self.is_threading() and cls.get_request is not _OnEngine.get_request)
            or not (type(self.socket) is socket.socket or self._speaks_tls())
            or not _serves_http(self.RequestHandlerClass)
        )

    def _speaks_tls(self) -> bool:
        """Whether a program has wrapped the listening socket: ``context.wrap_socket(server.socket)``."""
        return type(self.socket) is ssl.SSLSocket and self.socket.server_side

    def context_of(self) -> ContextOf | None:
        """What gives each connection its TLS context; None where there is no TLS."""
        sock = self.socket
        return (lambda: sock.context) if self._speaks_tls() else None  # type: ignore[attr-defined]

    def _new_engine(self, *, serial: bool) -> Engine:
        self._front_end = HTTPDoor(self, _OnEngine)
        if self._front_end.made_by_program:
            self.RequestHandlerClass = self._front_end.made_by_program
        engine = Engine(
            self._front_end, self._config, serial=serial, sinks=self._sinks, access_sink=log_access
        )
        engine.sinks.program_logs = program_logs(self.RequestHandlerClass)
        return engine

    # -- serve_forever and shutdown

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until :meth:`shutdown`.

        ``poll_interval`` is in seconds.  Nothing is polled; but a ``service_actions`` that the
        program defines is called this often.
        """
        if self._needs_own_loop():
            forks = None
            if not isinstance(self, _FORKING):  # whose children are the standard library's
                forks = ForkWatch(PrivateSocket(self.socket))
            super().serve_forever(poll_interval)
            del forks
            return
        self._is_shut_down.clear()
        self._end_steps()
        serial = not self.is_threading()
        # A client that left the backlog must not stall the event loop. It stays so: the loop may be
        # about to accept when this returns.
        self.socket.setblocking(False)
        engine = self._new_engine(serial=serial)
        engine.listen(self.socket)
        with self._lock:
            self._engine = engine
        try:
            engine.start()
            acts = type(self).service_actions is not socketserver.BaseServer.service_actions
            self._loop(engine if serial else None, poll_interval if acts else None)
            engine.stop_accepting()
            if serial:
                engine.serve_until_drained()
        finally:
            engine.drain()
            with self._lock:
                self._engine = None
                self._ended.append(engine)
            self._stop = False
            self._alarm.clear()
            self._is_shut_down.set()

    def handle_request(self) -> None:
        """Serve one request: wait for it for :attr:`timeout` seconds (None: for ever) at the most.

        ``handle_timeout()`` is called if there is none.  Connections that stay silent keep nobody
        waiting.  With :class:`socketserver.ThreadingMixIn` the handler runs in a thread, which keeps the
        connection.
        """
        own_get = type(self).get_request is not _OnEngine.get_request
        if self._needs_own_loop() or own_get:  # which may start a thread of its own, for TLS say
            super().handle_request()
            return
        timeout = self._timeout_of_request()
        with self._lock:
            if self._steps is None:
                engine = self._new_engine(serial=True)
                self._steps = Steps(engine, self.socket)
                self._front_end.is_ours = self._steps.is_ours
                self._engine = engine
            steps = self._steps
        connection = steps.take(timeout)
        if connection is None:
            if not steps.closed:
                self.handle_timeout()
        elif self.is_threading():
            steps.serve_in_thread(connection, daemon=getattr(self, "daemon_threads", False))
        else:
            steps.serve(connection)
            while steps.stay(connection, timeout):
                steps.serve(connection)

    def _timeout_of_request(self) -> float | None:
        """:attr:`timeout`, or what the listening socket has, if that is less."""
        found = self.socket.gettimeout()
        if found != 0.0:  # which is ours
            self._socket_timeout = found
            self.socket.setblocking(False)
        limits = [limit for limit in (self._socket_timeout, self.timeout) if limit is not None]
        return min(limits, default=None)

    def _end_steps(self) -> None:
        """``serve_forever`` takes over from ``handle_request``: what waits for a call is served."""
        with self._lock:
            steps, self._steps = self._steps, None
            engine, self._engine = self._engine, None
            if engine is not None:
                self._ended.append(engine)
        if steps is None:
            return
        steps.engine.drain()
        while (connection := steps.take_last()) is not None:
            steps.serve_in_thread(connection, daemon=True)
        steps.close()

    def _loop(self, serial_engine: Engine | None, interval: float | None) -> None:
        while not self._stop:
            if serial_engine is not None:
                serial_engine.serve_one(interval)
            else:
                self._alarm.wait(SIGNAL_INTERVAL if interval is None else interval)
            if not self._stop:
                self.service_actions()

    def shutdown(self) -> None:
        """Stop :meth:`serve_forever`, and wait until it has returned.

        No connection is accepted any more and idle ones close; requests in progress are finished.
        Must be called by another thread than ``serve_forever`` runs in, as ever.
        """
        if self._needs_own_loop():
            super().shutdown()
            return
        self._stop = True
        self._alarm.set()
        with self._lock:
            if self._engine is not None and not self.is_threading():
                self._engine.interrupt()
        self._is_shut_down.wait()

    def server_close(self) -> None:
        """Close the listening socket and end the threads.

        Requests in progress are waited for if ``block_on_close`` is set and ``daemon_threads`` is
        not, as :class:`socketserver.ThreadingMixIn` has it.
        """
        with self._lock:
            engines, self._ended = self._ended, []
            if self._engine is not None and self._engine not in engines:
                engines.append(self._engine)
            steps, self._steps = self._steps, None
        wait = (
            self.is_threading()
            and getattr(self, "block_on_close", True)
            and not getattr(self, "daemon_threads", False)
        )
        for engine in engines:
            engine.close(wait=wait)
        if steps is not None:
            steps.close()
            if wait:
                steps.join()
        super().server_close()

    # -- one request, for loops that are not the engine's

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection: its socket, and the client's address.

        Over TLS, the handshake is left to whoever handles the connection: its client may say nothing.
        """
        if self._speaks_tls():
            listener: Any = self.socket
            descriptor, address = listener._accept()  # noqa: SLF001
            sock = socket.socket(listener.family, listener.type, listener.proto, fileno=descriptor)
            return (
                listener.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False),
                address,
            )
        request, address = super().get_request()
        if (
            type(request) is not socket.socket
            or not _serves_http(self.RequestHandlerClass)
            or isinstance(self, _FORKING)  # parent and child can't share an event loop
        ):
            return request, address
        with self._lock:
            if self._engine is None:
                # It only watches: these connections are others' to handle.
                self._engine = self._new_engine(serial=False)
                self._engine.start()
            engine = self._engine
        tune_connection(request)
        connection = Connection(
            take_over(request),
            address,
            engine.loop,
            raw=not is_wire_handler(self.RequestHandlerClass),
        )
        connection.blocking = True
        connection.state = State.HANDLED
        connection.io_timeout = None
        engine.loop.register(connection)
        return connection.sock, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Run the handler: for the request at hand, or on a thread of its own, for all that come."""
        connection = getattr(request, "connection", None)
        if not isinstance(request, ClientSocket) or connection is None:
            if isinstance(request, ssl.SSLSocket) and not self._shakes_hands(request):
                return
            super().finish_request(request, client_address)
        elif not connection.blocking or connection.exchange is not None:
            self._front_end.answer(connection)
        elif connection.wait_for_next_request():
            assert self._engine is not None
            self._engine.serve_guest(connection)

    def _shakes_hands(self, sock: ssl.SSLSocket) -> bool:
        """The TLS handshake of a connection that has a thread of its own, or a process."""
        timeout = sock.gettimeout()
        try:
            sock.settimeout(self._config.handshake_timeout)
            sock.do_handshake()
            sock.settimeout(timeout)
        except OSError as error:
            _log.debug("no TLS handshake: %s", error)
            return False
        return True

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that is done with."""
        if isinstance(request, ClientSocket) and request.connection.blocking:
            request.connection.closing.finish()
            return
        if isinstance(request, ssl.SSLSocket):
            say_goodbye(request, self._config.write_timeout)
        super().shutdown_request(request)

    def process_foreign(self, request: Any, address: Any) -> None:
        """A connection over something that is no plain socket, TLS say: the standard library's way."""
        if not self.verify_request(request, address):
            self.shutdown_request(request)
            return
        thread = threading.Thread(
            target=socketserver.ThreadingMixIn.process_request_thread,
            args=(self, request, address),
            daemon=True,
        )
        thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an exception of the handler's own.  A client's leaving is none."""
        error = sys.exc_info()[1]
        if isinstance(error, ConnectionError) and not isinstance(request, ClientSocket):
            _log.debug("a client left", exc_info=True)
        else:
            super().handle_error(request, client_address)


_PROCESS_REQUEST_THREAD = socketserver.ThreadingMixIn.process_request_thread
_PROCESS_REQUESTS = (
    socketserver.BaseServer.process_request,
    socketserver.ThreadingMixIn.process_request,
)


def tune_connection(sock: socket.socket) -> None:
    """What :func:`hangup._engine.engine.tune_listener` sets, for a connection of another's listener."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _serves_http(factory: Any) -> bool:
    factory = getattr(factory, "func", factory)
    return not isinstance(factory, type) or hasattr(factory, "parse_request")


def check_directory(factory: Any) -> None:
    """Refuse now what would be 404 for each request.  Raises :exc:`hangup.ConfigError`."""
    directory = getattr(factory, "keywords", {}).get("directory")
    if (
        directory is not None
        and hasattr(factory.func, "translate_path")
        and not os.path.isdir(directory)
    ):
        raise ConfigError(f"can't serve {os.fspath(directory)!r}: there is no such directory")


def _name_of(asked: str, bound: str) -> str:
    """What a server is called that was asked to bind to ``asked``, and is bound to ``bound``."""
    try:
        address = ipaddress.ip_address((asked or bound).partition("%")[0])
    except ValueError:
        return asked
    if address.is_unspecified:
        return socket.gethostname()
    return "localhost" if str(address) in ("127.0.0.1", "::1") else asked or bound


class TCPServer(_OnEngine):
    """``socketserver.TCPServer`` on the engine, for HTTP servers that are built on it.

    ``xmlrpc.server`` is.  With handlers that don't speak HTTP it is the standard library's, unchanged.
    """


class HTTPServer(_OnEngine, http.server.HTTPServer):
    """``http.server.HTTPServer``: one request at a time, in order, in the thread that serves.

    With :class:`socketserver.ThreadingMixIn` before it, a :class:`ThreadingHTTPServer`.
    """

    def server_bind(self) -> None:
        """Bind, and set ``server_name`` and ``server_port``.

        ``http.server`` asks the DNS for the name of the address, and waits for what may be half a
        minute.  Here nobody is asked: a name is what was asked for, and an address its own.
        """
        asked = self.server_address
        socketserver.TCPServer.server_bind(self)
        bound: Any = self.server_address
        if isinstance(bound, tuple):
            self.server_name = _name_of(str(asked[0]), str(bound[0]))
            self.server_port = bound[1]
        else:
            self.server_name, self.server_port = "localhost", 0


class ThreadingHTTPServer(socketserver.ThreadingMixIn, HTTPServer):
    """``http.server.ThreadingHTTPServer``: a thread for each slow request, and none for the others."""

    daemon_threads = True
