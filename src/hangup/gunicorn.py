"""hangup's engine in gunicorn's workers: ``gunicorn -k hangup.gunicorn.Worker -w 4 app:app``.

gunicorn keeps the processes: it binds, forks, restarts, counts and buries.  Each of its workers runs one
engine, over the sockets that all of them share.

What gunicorn's settings become: ``threads`` is the most handlers that run at one time (gunicorn's own
default, 1, stands for hangup's); ``keepalive``, ``limit_request_line``, ``limit_request_fields``,
``limit_request_field_size`` and ``backlog`` are hangup's settings of those kinds; ``certfile`` and all
else about TLS, ``graceful_timeout``, ``max_requests``, the access log's settings,
``forwarded_allow_ips`` with ``secure_scheme_headers``, and ``SCRIPT_NAME`` mean what they mean with
gunicorn's own workers.  Any other of hangup's settings is read from ``HANGUP_…`` in the
environment, as ``hangup serve`` reads it.
"""

import contextlib
import dataclasses
import datetime as dt
import ipaddress
import itertools
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from gunicorn.glogging import SafeAtoms
from gunicorn.http.wsgi import WSGIErrorsWrapper
from gunicorn.sock import ssl_context
from gunicorn.workers import base

from ._connection import Connection
from ._environ import environ_fields
from ._escape import escaped
from ._line_writer import LineWriter
from ._logs import protect
from ._tls import check_context
from ._trouble import Trouble
from .access_log import access_logger, common, offer
from .config import Config
from .records import RequestRecord
from .server import Server
from .wsgi import WSGIDoor
from .wsgiserver import DEFAULT_THREADS, LAST_REQUEST

__all__ = ["Worker"]

_App = Callable[..., Iterable[bytes]]

# Seconds between two signs of life; gunicorn's time-out is in whole seconds.
_HEARTBEAT = 1.0
_UNHEARD_HOOKS = ("pre_request", "post_request")


for _name in ("gunicorn.error", "gunicorn.access"):
    protect(_name)

# gunicorn's own handlers, as they stand on hangup's logger.
_lent: list[logging.Handler] = []


class _Atoms(SafeAtoms):  # type: ignore[misc]
    """The parts of a line of gunicorn's access log; no text from the wire gets there as it is."""

    def __init__(self, atoms: dict[str, Any]) -> None:
        dict.__init__(self)
        for key, value in atoms.items():
            self[key] = escaped(value) if isinstance(value, str) else value

    def __repr__(self) -> str:
        return "<the parts of a line, which may be secret>"


class _Door(WSGIDoor):
    """Counts requests, where a worker ends after so many."""

    def __init__(self, worker: "Worker", app: _App) -> None:
        cfg = worker.cfg
        context_of = None
        if cfg.is_ssl:
            context = check_context(ssl_context(cfg))  # With gunicorn's own settings and hook.
            context_of = lambda: context  # noqa: E731
        super().__init__(app, multiprocess=cfg.workers > 1, context_of=context_of)
        self._base["wsgi.errors"] = WSGIErrorsWrapper(worker.cfg)
        self._worker = worker
        self._numbers = itertools.count(1)

    def handle(self, connection: Connection) -> None:
        if next(self._numbers) == self._worker.max_requests:
            self._worker.end_soon()
        super().handle(connection)


class Worker(base.Worker):  # type: ignore[misc]
    """A gunicorn worker of hangup's.

    gunicorn makes it, and calls :meth:`run` in the process's main thread, where its signals come, too.
    """

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Say what is asked for in vain."""
        for name in _UNHEARD_HOOKS:
            if cfg.settings[name].get() is not cfg.settings[name].default:
                log.warning("%s is not called by hangup.gunicorn.Worker", name)
        _log_to(log.error_log)  # Before the application is imported, here or in a worker.

    def run(self) -> None:
        """Serve until gunicorn says otherwise; then finish what is in progress."""
        _shield(self.log)
        app = _behind_proxy(self.wsgi, self.cfg)
        told = _logs_access(self.cfg, self.log) or access_logger.handlers
        sink = self._log_access if told else None
        engine = Server(_Door(self, app), _config(self.cfg), access_sink=sink)
        for sock in self.sockets:
            engine.listen(sock.sock)
        engine.start()
        while self.alive and self.ppid == os.getppid():
            self.notify()
            self._wait()
        engine.drain(LAST_REQUEST)
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while engine.busy and (left := deadline - time.monotonic()) > 0:
            self.notify()
            engine.wait(min(left, _HEARTBEAT))
        engine.close(wait=False)
        for sock in self.sockets:
            sock.close()

    def end_soon(self) -> None:
        """This worker has served its share; any thread may say so."""
        self.log.info("Autorestarting worker after current request.")
        self.alive = False
        with contextlib.suppress(BlockingIOError):
            os.write(self.PIPE[1], b".")

    def _wait(self) -> None:
        """Until a signal comes, which writes into the pipe, or for a heartbeat."""
        if select.select([self.PIPE[0]], [], [], _HEARTBEAT)[0]:
            os.read(self.PIPE[0], 4096)

    def _log_access(self, record: RequestRecord) -> None:
        """The sink that fills gunicorn's access log, in gunicorn's own format."""
        path, _, query = record.target.partition("?")
        environ = {
            "REMOTE_ADDR": record.client,
            "REQUEST_METHOD": record.method,
            "RAW_URI": record.target,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": record.protocol,
            **environ_fields(record.fields),
        }
        answer = SimpleNamespace(
            status=str(record.status), headers=record.answer_fields, sent=record.body_out
        )
        request = SimpleNamespace(headers=record.fields)
        self.log.access(answer, request, environ, dt.timedelta(seconds=record.took))
        if access_logger.handlers:
            offer(common(record), record)


def _logs_access(cfg: Any, log: Any) -> bool:
    if cfg.statsd_host:
        return True  # which counts requests by their lines in the access log
    syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
    told = cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or syslog
    return bool(getattr(log, "access_log_enabled", told))


def _log_to(error_log: logging.Logger) -> None:
    """What hangup has to say goes where gunicorn's own errors go.

    Once more when gunicorn is configured anew.  If an application has said meanwhile that it goes
    somewhere else, it does.
    """
    ours = logging.getLogger("hangup")
    if _lent and not [handler for handler in _lent if handler in ours.handlers]:
        return
    for handler in _lent:
        ours.removeHandler(handler)
    _lent[:] = error_log.handlers
    for handler in _lent:
        ours.addHandler(handler)
    ours.propagate = access_logger.propagate = False
    ours.setLevel(error_log.level)
    access_logger.setLevel(logging.INFO)


def _shield(log: Any) -> None:
    """Have a worker's logs stop nobody, and show nothing but what they are for.

    What its clients send is escaped; a log that nobody reads, or that can't be written, costs no
    request, and what is said of it holds no header fields.
    """
    if getattr(log, "atoms_wrapper_class", None) is SafeAtoms:
        log.atoms_wrapper_class = _Atoms
    for logger, what in ((log.error_log, "the error log"), (log.access_log, "the access log")):
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                errors = logger is log.error_log
                handler.stream = LineWriter(handler.stream, what, is_log=errors, prompt=errors)
            elif logger is log.access_log:
                handler.handleError = _quietly(what)


def _quietly(what: str) -> Callable[[logging.LogRecord], None]:
    trouble = Trouble(what, "lines")
    return lambda _record: trouble.failed(sys.exc_info()[1] or "unknown")


def _config(cfg: Any) -> Config:
    """The settings: from gunicorn's, and from the environment for what gunicorn doesn't know."""
    known = {
        "max_threads": cfg.threads if cfg.threads > 1 else DEFAULT_THREADS,
        "backlog": cfg.backlog,
        "keep_alive_timeout": max(float(cfg.keepalive), 0.01),
        "max_fields": cfg.limit_request_fields,
    }
    if cfg.limit_request_line:
        known["max_request_line"] = max(cfg.limit_request_line, 64)
    if cfg.limit_request_field_size:
        known["max_field"] = max(cfg.limit_request_field_size, 64)
    for field in dataclasses.fields(Config):
        text = os.environ.get(f"HANGUP_{field.name.upper()}")
        if field.name not in known and text is not None:
            kind = float if field.type is float else int if field.type is int else str
            known[field.name] = kind(text)
    return Config(**known)


def _behind_proxy(app: _App, cfg: Any) -> _App:
    """The application, told of the scheme that a trusted proxy says, and of where it is mounted."""
    secure = {
        "HTTP_" + name.upper().replace("-", "_"): value
        for name, value in cfg.secure_scheme_headers.items()
    }
    is_trusted = _trusts(cfg.forwarded_allow_ips)
    mounted = os.environ.get("SCRIPT_NAME", "").rstrip("/")

    def behind(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        for name, value in secure.items():
            if environ.get(name) == value and is_trusted(environ["REMOTE_ADDR"]):
                environ["wsgi.url_scheme"] = "https"
        if mounted and (environ["PATH_INFO"] + "/").startswith(mounted + "/"):
            environ["SCRIPT_NAME"] = mounted
            environ["PATH_INFO"] = environ["PATH_INFO"][len(mounted) :]
        return app(environ, start_response)

    return behind


def _trusts(allowed: Any) -> Callable[[str], bool]:
    """Whether an address is a proxy's that may be believed; a unix socket's always is."""
    names = [str(one) for one in allowed]
    networks = [ipaddress.ip_network(name, strict=False) for name in names if name != "*"]

    def is_trusted(address: str) -> bool:
        if not address or "*" in names:
            return True
        try:
            return any(ipaddress.ip_address(address) in network for network in networks)
        except ValueError:
            return False

    return is_trusted
