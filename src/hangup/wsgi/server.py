"""A server for one WSGI application: ``hangup serve``, and the same from code."""

import errno
import functools
import logging
import os
import select
import signal
import socket
import ssl
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, Self

from .._engine.engine import Server, shown, tune_listener
from .._logging.access_log import FORMATS, AccessLog
from .._system.fork import ForkWatch
from .._system.poller import Waker
from .._system.tls import Certificate, ContextOf, check_context
from ..config import Config
from ..exceptions import ConfigError
from ..records import RequestRecord
from .adapter import WSGIDoor

__all__ = ["DEFAULT_THREADS", "GRACE", "CannotListen", "WSGIServer", "bind", "serve"]

#: ``max_threads`` unless somebody says otherwise: applications hold a database connection for each.
DEFAULT_THREADS = 64
#: Seconds that requests in progress have to finish when the server is told to stop; gunicorn's figure.
GRACE = 30.0
# Seconds that an idle connection has to send one more request while the server drains. Its last answer
# did not say that it would close, so its client may be sending: a round trip, and a busy client.
LAST_REQUEST = 1.0
# Seconds after which it is worth saying that the end waits for a request. One whose client has its whole
# response may still be in progress for as long as its thread takes to put it down.
MOMENT = 0.1

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_RENEW: signal.Signals | None = getattr(signal, "SIGHUP", None)

_log = logging.getLogger("hangup")


class CannotListen(OSError):
    """A socket can't be had; the text says which, and why."""


def bind(
    host: str, port: int, *, unix: str | None = None, fd: int | None = None, backlog: int
) -> socket.socket:
    """A listening socket: a TCP one, one in the file system, or one that another process has bound.

    Raises :exc:`OSError` where it can't be had, and :exc:`hangup.ConfigError` for a descriptor that is
    no listening socket; both say which.
    """
    if fd is not None:
        return _inherited(fd)
    if unix is not None:
        return _bind_unix(unix, backlog)
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
        try:
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        raise _cannot_listen(error, shown_address((host, port))) from error
    return sock


def _inherited(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"can't listen on descriptor {fd}: {error.strerror}") from None
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise ConfigError(f"can't listen on descriptor {fd}: it is no listening socket")
    sock.set_inheritable(False)  # It was meant for this process, and not for those that it starts.
    return sock


def _bind_unix(path: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_over(path):
            os.unlink(path)
        sock.bind(path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _cannot_listen(error, path) from error
    return sock


def _is_left_over(path: str) -> bool:
    """Whether there is a socket behind which nobody listens any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        return False


def file_identity(path: str) -> tuple[int, int] | None:
    """Which file a path leads to."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def unlink_own(path: str, identity: tuple[int, int] | None) -> None:
    """Remove a socket from the file system, unless it is the one of a server that succeeds this one."""
    if identity is not None and file_identity(path) == identity:
        os.unlink(path)


def _cannot_listen(error: Exception, where: str) -> CannotListen:
    reason = getattr(error, "strerror", None) or str(error)
    return CannotListen(
        getattr(error, "errno", None) or errno.EINVAL, f"can't listen on {where}: {reason}"
    )


def shown_address(address: Any, scheme: str = "http") -> str:
    """A socket's address, as people write it."""
    if not isinstance(address, tuple):
        return f"unix:{os.fsdecode(address)}"
    return f"{scheme}://{shown(address)}"


class WSGIServer:
    """Serves a WSGI application (PEP 3333).

    ::

        with hangup.WSGIServer(app, port=0) as server:
            print(server.port)
            ...  # it serves, in threads of its own, until the block is left

    ``host`` and ``port`` say where to listen (port 0: any that is free); ``unix`` a path in the file
    system instead, or ``fd`` a listening socket's descriptor.  ``certfile`` has it speak TLS with that
    certificate, whose private key is in ``keyfile`` if not there too, encrypted with
    ``keyfile_password`` if at all; ``ssl_context`` has it speak TLS as that
    :class:`ssl.SSLContext` says.  ``access_log`` is ``"common"``,
    ``"combined"``, ``"json"`` or ``"off"``, and goes to stdout; ``sinks`` are called with the
    :class:`RequestRecord` of each request that has ended.

    Raises :exc:`OSError` where it can't listen, and :exc:`hangup.ConfigError` for a bad value.

    One thread starts and closes it.  ``shutdown`` may come from any thread, and from a signal.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        unix: str | None = None,
        fd: int | None = None,
        config: Config | None = None,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        keyfile_password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        access_log: str = "common",
        sinks: Sequence[Callable[[RequestRecord], None]] = (),
    ) -> None:
        if not callable(app):
            raise ConfigError(f"a WSGI application is callable; {app!r} is not")
        if access_log != "off" and access_log not in FORMATS:
            raise ConfigError(f"access_log must be one of {', '.join(FORMATS)}, off, not {access_log!r}")
        self.config = config or Config(max_threads=DEFAULT_THREADS)
        self._certificate: Certificate | None = None
        context_of: ContextOf | None = None
        if ssl_context is not None:
            if certfile is not None:
                raise ConfigError("ssl_context has its certificate: certfile can't be given besides")
            context = check_context(ssl_context)
            context_of = lambda: context  # noqa: E731
        elif certfile is not None:
            self._certificate = Certificate(certfile, keyfile, keyfile_password)
            context_of = self._certificate.context
        elif keyfile is not None:
            raise ConfigError("keyfile is of no use without certfile")
        self._scheme = "http" if context_of is None else "https"
        self.socket = bind(host, port, unix=unix, fd=fd, backlog=self.config.backlog)
        self.socket.setblocking(False)
        #: Where it listens: a pair of host and port, or a path.
        self.address: Any = self.socket.getsockname()
        self._path = unix if fd is None else None
        self._file = None if self._path is None else file_identity(self._path)
        # Whose it is to remove that: a program may fork, and each child serve.
        self._maker = os.getpid()
        tune_listener(self.socket, self.config)
        door = WSGIDoor(app, context_of=context_of)
        self._access_log = None if access_log == "off" else AccessLog(access_log, sys.stdout)
        # Made when it starts: a program may fork before that, and each child then has its own.
        self._new_engine = functools.partial(
            Server, door, self.config, sinks=sinks, access_sink=self._access_log
        )
        self.engine: Server | None = None
        self._started = False
        # Set, and then woken, by whoever wants it to stop. No Event, which a signal's handler must not
        # set: it may run in the middle of that event's own wait.
        self._stopping = False
        self._waker: Waker | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; 0 for a path."""
        return int(self.address[1]) if isinstance(self.address, tuple) else 0

    @property
    def url(self) -> str:
        """Where it listens, as people write it."""
        return shown_address(self.address, self._scheme)

    @property
    def can_reload(self) -> bool:
        """Whether there are files of a certificate to read again."""
        return self._certificate is not None

    def reload_certificate(self) -> None:
        """Read the certificate's files again, for the connections that are accepted from now on.

        Raises :exc:`hangup.ConfigError` if they can't be used; what was read before serves on then.
        """
        if self._certificate is None:
            raise ConfigError("there is no certfile to read again")
        self._certificate.reload()

    def start(self) -> None:
        """Start to serve, in threads of its own."""
        self._started = True
        self.engine = self._new_engine()
        self.engine.listen(self.socket)
        self.engine.start()

    def serve_forever(self) -> None:
        """Serve until :meth:`shutdown`, which another thread calls; then finish what is in progress."""
        if not self._started:
            self.start()
        waker = self._own_waker()
        poll = select.poll()
        poll.register(waker.wake_fd, select.POLLIN)
        while not self._stopping:
            poll.poll()
            waker.woken()

    def _own_waker(self) -> Waker:
        if self._waker is None:
            self._waker = Waker()
        return self._waker

    @property
    def signal_fd(self) -> int:
        """What a signal must write to for :meth:`serve_forever` to notice it.

        For :func:`signal.set_wakeup_fd`.  A signal that comes just before the main thread begins to
        wait, or to another thread, does not end that wait by itself.
        """
        return self._own_waker().signal_fd

    def shutdown(self) -> None:
        """Have :meth:`serve_forever` return.  It may be called more than once, and does not wait."""
        self._stopping = True
        if (waker := self._waker) is not None:
            waker.wake()

    def close(self, grace: float | None = GRACE, *, say_what_is_left: bool = False) -> None:
        """End: accept nothing more, and finish what is in progress, within ``grace`` s (None: no limit).

        What runs on after that keeps its thread, and ends with the process.  ``say_what_is_left`` tells
        whoever waits for the end what it waits for, once that has taken a moment.
        """
        engine = self.engine
        if self._path is not None and os.getpid() == self._maker:
            # While we listen: for so long, no successor's file can be taken for ours (it would have its
            # inode's number).
            unlink_own(self._path, self._file)
            self._path = None
        if engine is not None and self._started:
            self._started = False
            engine.drain(LAST_REQUEST, close_listeners=True)
            if say_what_is_left:
                moment = MOMENT if grace is None else min(MOMENT, grace / 2)
                engine.wait(moment)
                _say_what_is_left(engine)
                engine.close(wait=True, grace=grace, waited=moment)
            else:
                engine.close(wait=True, grace=grace)
        self.socket.close()
        if self._waker is not None:
            self._waker.close()
        if self._access_log is not None:
            self._access_log.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    app: Callable[..., Iterable[bytes]],
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    grace: float | None = GRACE,
    ready: Callable[[WSGIServer], object] | None = None,
    **options: Any,
) -> None:
    """Serve a WSGI application until SIGTERM, SIGINT (Ctrl-C), or the server's ``shutdown()``.

    ``ready`` is called with the :class:`WSGIServer` when it listens: there is its ``port``, if 0 was
    asked for, and its ``shutdown``, which is how it ends where it runs in a thread, since signals are
    the main thread's.  ``grace`` is how long requests in progress have then to finish, in seconds.  All
    other arguments are those of :class:`WSGIServer`.

    After the first signal nothing is accepted any more, and requests in progress are finished.  A
    second one ends the process at once.  With a ``certfile``, SIGHUP has it read again.
    """
    server = WSGIServer(app, host, port, **options)
    signals = _Signals(server)
    if threading.current_thread() is threading.main_thread():
        signals.take()
    try:
        server.start()
        if ready is not None:
            ready(server)
        server.serve_forever()
    finally:
        signals.give_up_waker()
        server.close(grace, say_what_is_left=True)
        signals.give_back()


class _Signals:
    """The signals that :func:`serve` takes for a server, if it is called by the main thread.

    In a child that a handler has forked they end the process, which has nothing to finish.  The system
    does that, and no handler: from 3.13 on, CPython calls none in the child of a thread that is not the
    main one, until a call that blocks is interrupted.
    """

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self._handlers: dict[signal.Signals, Any] = {}
        self._renewing: Any = None
        self._wakeup_fd = -1

    def take(self) -> None:
        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, self._stop)
        self._wakeup_fd = signal.set_wakeup_fd(self._server.signal_fd, warn_on_full_buffer=False)
        if self._server.can_reload and _RENEW is not None:
            self._renewing = signal.signal(_RENEW, lambda _signal, _frame: _renew(self._server))
        self._fork_watch = ForkWatch(self)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        for each in self._handlers:
            signal.signal(each, signal.SIG_DFL)
        self._server.shutdown()

    def give_up_waker(self) -> None:
        if self._handlers:
            signal.set_wakeup_fd(self._wakeup_fd)

    def give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if self._renewing is not None and _RENEW is not None:
            signal.signal(_RENEW, self._renewing)

    def before_fork(self) -> None:
        """Nothing: see :class:`hangup._system.fork.ForkWatch`."""

    def after_fork_in_child(self) -> None:
        """What the program has set meanwhile stays."""
        for number in self._handlers:
            if signal.getsignal(number) == self._stop:
                signal.signal(number, signal.SIG_DFL)


def _say_what_is_left(engine: Server) -> None:
    count = len(engine.in_progress())
    if count:
        requests = "1 request" if count == 1 else f"{count} requests"
        # A warning, since whoever has set up no logging is to see it, too.
        _log.warning("finishing %s; a second Ctrl-C or SIGTERM ends at once", requests)


def _renew(server: WSGIServer) -> None:
    try:
        server.reload_certificate()
    except ConfigError as error:
        _log.error("the certificate was not renewed: %s", error)
    else:
        _log.info("the certificate has been read again")
