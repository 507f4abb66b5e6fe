"""A server for one WSGI application: ``hangup serve``, and the same from code."""

import dataclasses
import functools
import logging
import os
import select
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, Self

from .._engine.engine import Engine, tune_listener
from .._logging.access_log import FORMATS, AccessLog
from .._system.binding import bind_socket, file_identity, parse_bind, shown_address, unlink_own
from .._system.fork import ForkWatch
from .._system.poller import Waker
from .._system.tls import Certificate, ContextOf, check_context
from ..config import Config
from ..exceptions import ConfigError
from ..records import RequestRecord
from .adapter import WSGIDoor

__all__ = ["DEFAULT_THREADS", "GRACEFUL_TIMEOUT", "LAST_REQUEST", "WSGIServer", "serve"]

#: ``max_threads`` unless somebody says otherwise: applications hold a database connection for each.
DEFAULT_THREADS = 64
#: Seconds that requests in progress have to finish when the server is told to stop; gunicorn's figure.
GRACEFUL_TIMEOUT = 30.0
# Seconds that an idle connection has to send one more request while the server drains. Its last answer
# did not say that it would close, so its client may be sending: a round trip, and a busy client.
LAST_REQUEST = 1.0
# Seconds after which it is worth saying that the end waits for a request. One whose client has its whole
# response may still be in progress for as long as its thread takes to put it down.
MOMENT = 0.1

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_RENEW: signal.Signals | None = getattr(signal, "SIGHUP", None)

_log = logging.getLogger("hangup")


def _config_of(config: Config | None, settings: dict[str, Any]) -> Config:
    """The limits: ``config``'s, and what was set besides.  Raises :exc:`TypeError` for what is none."""
    if "threads" in settings:
        settings["max_threads"] = settings.pop("threads")
    if config is not None:
        settings = {
            field.name: getattr(config, field.name) for field in dataclasses.fields(config)
        } | settings
    return Config(**{"max_threads": DEFAULT_THREADS} | settings)


class WSGIServer:
    """Serves a WSGI application (PEP 3333).

    ::

        with hangup.WSGIServer(app, port=0) as server:
            print(server.port)
            ...  # it serves, in threads of its own, until the block is left

    ``host`` and ``port`` say where to listen (port 0: any that is free); ``uds`` a path in the file
    system instead, or ``fd`` a listening socket's descriptor; or ``bind`` any of these, in one text, as
    ``"0.0.0.0:8000"``, ``"unix:/run/app.sock"`` and ``"fd://3"``.  The limits are ``config``'s, and each
    may be given by its name, or that of its option: ``threads=8``, ``max_request_body_size=10_000_000``.
    ``certfile`` has it speak TLS with that certificate, whose private key is in ``keyfile`` if not there
    too, encrypted with ``keyfile_password`` if at all; ``ssl_context`` has it speak TLS as that
    :class:`ssl.SSLContext` says.  ``access_log`` is ``"common"``, ``"combined"``, ``"json"`` or
    ``"off"``, and goes to stdout; ``sinks`` are called with the :class:`RequestRecord` of each request
    that has ended.

    Raises :exc:`OSError` where it can't listen, and :exc:`hangup.ConfigError` for a bad value.

    One thread starts and closes it.  ``shutdown`` may come from any thread, and from a signal.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        bind: str | None = None,
        uds: str | None = None,
        fd: int | None = None,
        config: Config | None = None,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        keyfile_password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        access_log: str = "common",
        sinks: Sequence[Callable[[RequestRecord], None]] = (),
        **settings: Any,
    ) -> None:
        if not callable(app):
            raise ConfigError(f"a WSGI application is callable; {app!r} is not")
        if access_log != "off" and access_log not in FORMATS:
            raise ConfigError(f"access_log must be one of {', '.join(FORMATS)}, off, not {access_log!r}")
        self.config = _config_of(config, settings)
        if bind is not None:
            if uds is not None or fd is not None:
                raise ConfigError("bind says where to listen: uds and fd can't be given besides")
            host, port, uds, fd = parse_bind(bind, port)
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
        self.socket = bind_socket(host, port, uds=uds, fd=fd, backlog=self.config.backlog)
        self.socket.setblocking(False)
        #: Where it listens: a pair of host and port, or a path.
        self.address: Any = self.socket.getsockname()
        self._path = uds if fd is None else None
        self._file = None if self._path is None else file_identity(self._path)
        # Whose it is to remove that: a program may fork, and each child serve.
        self._maker = os.getpid()
        tune_listener(self.socket, self.config)
        front_end = WSGIDoor(app, context_of=context_of)
        self._access_log = None if access_log == "off" else AccessLog(access_log, sys.stdout)
        # Made when it starts: a program may fork before that, and each child then has its own.
        self._new_engine = functools.partial(
            Engine, front_end, self.config, sinks=sinks, access_sink=self._access_log
        )
        self.engine: Engine | None = None
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

    def close(self, grace: float | None = GRACEFUL_TIMEOUT, *, say_what_is_left: bool = False) -> None:
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
    graceful_timeout: float | None = GRACEFUL_TIMEOUT,
    ready: Callable[[WSGIServer], object] | None = None,
    **options: Any,
) -> None:
    """Serve a WSGI application until SIGTERM, SIGINT (Ctrl-C), or the server's ``shutdown()``.

    ``ready`` is called with the :class:`WSGIServer` when it listens: there is its ``port``, if 0 was
    asked for, and its ``shutdown``, which is how it ends where it runs in a thread, since signals are
    the main thread's.  ``graceful_timeout`` is how long requests in progress have then to finish, in
    seconds; None: as long as they take.  All
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
        server.close(graceful_timeout, say_what_is_left=True)
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


def _say_what_is_left(engine: Engine) -> None:
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
