"""gunicorn's logs, with what hangup has to say: its own access log line by line, and its error log."""

import datetime as dt
import http
import logging
import sys
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from gunicorn.glogging import Logger, SafeAtoms
from gunicorn.http import wsgi

from .._connection.exchange import Exchange
from .._disconnect.client import reports_disconnect
from .._http1.escape import escaped
from .._logging.access_log import access_logger, common, offer
from .._logging.line_writer import LineWriter
from .._logging.loggers import protect
from .._logging.repeated import Trouble
from ..records import CLIENT_CLOSED_REQUEST, RequestRecord
from ..wsgi.environ import environ_fields

__all__ = ["ErrorStream", "access_sink", "log_to", "response_of", "shield"]

for _name in ("gunicorn.error", "gunicorn.access"):
    protect(_name)

# What stands on hangup's logger.
_installed: list[logging.Handler] = []


class _ToGunicorn(logging.Handler):
    """Hands each record to a gunicorn logger's own methods.

    A ``logger_class`` may do anything with a line: count it (statsd), write JSON.
    """

    def __init__(self, log: Any) -> None:
        super().__init__()
        self._gunicorn = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            say = getattr(self._gunicorn, record.levelname.lower(), self._gunicorn.info)
            say("%s", record.getMessage(), exc_info=record.exc_info)
        except Exception:
            self.handleError(record)


class ErrorStream:
    """``wsgi.errors``: gunicorn's error log, wherever that goes now.

    Its files are opened anew on SIGUSR1 (log rotation), so they are looked up at each write.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def write(self, text: str) -> int:
        if reports_disconnect(text):
            logging.getLogger("hangup").debug("an application reports a disconnect: %s", text)
            return len(text)
        wsgi.WSGIErrorsWrapper(self._cfg).write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Each write has been flushed."""


def log_to(log: Any) -> None:
    """What hangup has to say goes where gunicorn's own errors go.

    Once more when gunicorn is configured anew.  If an application has said meanwhile that it goes
    somewhere else, it does.
    """
    ours = logging.getLogger("hangup")
    if _installed and _installed[0] not in ours.handlers:
        return
    for handler in _installed:
        ours.removeHandler(handler)
    _installed[:] = [_ToGunicorn(log)]
    ours.addHandler(_installed[0])
    ours.propagate = access_logger.propagate = False
    ours.setLevel(getattr(log, "loglevel", logging.INFO))
    access_logger.setLevel(logging.INFO)


def shield(log: Any) -> None:
    """Have a worker's logs stop nobody, and show nothing but what they are for.

    What its clients send is escaped; a log that nobody reads, or that can't be written, costs no
    request, and what is said of it holds no header fields.
    """
    if getattr(log, "atoms_wrapper_class", None) is SafeAtoms:
        log.atoms_wrapper_class = _Atoms
    for name, what in (("error_log", "the error log"), ("access_log", "the access log")):
        for handler in getattr(getattr(log, name, None), "handlers", ()):
            errors = name == "error_log"
            if type(handler) is logging.StreamHandler:
                handler.stream = LineWriter(handler.stream, what, is_log=errors, prompt=errors)
            elif not errors:
                handler.handleError = _quietly(what)


def _quietly(what: str) -> Callable[[logging.LogRecord], None]:
    trouble = Trouble(what, "lines")
    return lambda _record: trouble.failed(sys.exc_info()[1] or "unknown")


class _Atoms(SafeAtoms):  # type: ignore[misc]
    """The parts of a line of gunicorn's access log; no text from the wire gets there as it is."""

    def __init__(self, atoms: dict[str, Any]) -> None:
        dict.__init__(self)
        for key, value in atoms.items():
            self[key] = escaped(value) if isinstance(value, str) else value

    def __repr__(self) -> str:
        return "<the parts of a line, which may be secret>"


def access_sink(log: Any) -> Callable[[RequestRecord], None] | None:
    """The sink that fills gunicorn's access log, in gunicorn's own format; None if nobody reads it."""
    theirs = type(log).access is not Logger.access or _is_enabled(log)
    if not theirs and not access_logger.handlers:
        return None

    def log_access(record: RequestRecord) -> None:
        if access_logger.handlers:
            offer(common(record), record)
        if not theirs:
            return
        environ = _unstarted(record) if record.environ is None else record.environ.copy()
        response = response_with(record.status, record.response_fields, record.body_out)
        request = SimpleNamespace(
            headers=[(name.upper(), value) for name, value in record.fields],
            method=record.method,
            uri=record.target,
        )
        log.access(response, request, environ, dt.timedelta(seconds=record.took))

    return log_access


def _is_enabled(log: Any) -> bool:
    try:
        return bool(log.access_log_enabled)
    except AttributeError:  # before gunicorn 24, where access() itself looks
        cfg = log.cfg
        syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
        return bool(cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or syslog)


def response_of(exchange: Exchange) -> Any:
    """A response as gunicorn's hooks find it, of a request that has been handled."""
    sent = max(0, exchange.out - exchange.head_out)
    return response_with(exchange.status, exchange.response_fields, sent)


def response_with(status: int, fields: tuple[tuple[str, str], ...], sent: int) -> Any:
    """What hooks and loggers look at in gunicorn's Response."""
    lengths = [value for name, value in fields if name.lower() == "content-length"]
    return SimpleNamespace(
        status=f"{status} {_phrase(status)}".rstrip() if status else None,
        status_code=status or None,
        headers=list(fields),
        headers_sent=bool(status),
        response_length=int(lengths[0]) if lengths else None,
        sent=sent,
        version=wsgi.SERVER,
    )


def _phrase(status: int) -> str:
    if status == CLIENT_CLOSED_REQUEST:
        return "Client Closed Request"
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def _unstarted(record: RequestRecord) -> dict[str, Any]:
    """What is known of a request that no application has seen."""
    path, _, query = record.target.partition("?")
    return {
        "REMOTE_ADDR": record.client,
        "REQUEST_METHOD": record.method,
        "RAW_URI": record.target,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": record.protocol,
        **environ_fields(record.fields),
    }
