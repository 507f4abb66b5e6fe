"""The access log: its formats, and who writes it.

Its lines are printable ASCII, whatever a client has sent: no line can be forged, none takes a terminal
by surprise, and none is lost to an encoding.
"""

import datetime as dt
import json
import logging
import threading
import time
from typing import Any, TextIO

from .._http1.escape import escaped
from ..records import Outcome, Phase, RequestRecord
from .colors import Theme, theme_for
from .line_writer import LineWriter, stderr_writer
from .loggers import has_own_handler, log, protect

__all__ = [
    "FORMATS",
    "AccessLog",
    "access_logger",
    "as_json",
    "claim",
    "combined",
    "common",
    "log_access",
    "offer",
]

access_logger = protect("hangup.access")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Those who did not get what they had asked for hear why, and so does the log.
_REJECTED = {Outcome.REJECTED: "rejected", Outcome.TIMED_OUT: "timed out"}
# Where a request was when its client disconnected, in words.
_PHASES = {
    Phase.HEADER: "its header was received",
    Phase.QUEUED: "it was queued",
    Phase.BODY: "its body was received",
    Phase.HANDLER: "the handler ran",
    Phase.RESPONSE: "the response was sent",
    Phase.COMPLETE: "it ended",
}


def _clf_time(second: int, memory: list[tuple[int, str]] = [(-1, "")]) -> str:  # noqa: B006
    """``10/Oct/2000:13:55:36 -0700``.  The last second's text is kept: it serves a whole second."""
    last, text = memory[0]
    if last != second:
        at = time.localtime(second)
        minutes = at.tm_gmtoff // 60
        sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
        text = (
            f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}"
            f":{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
            f" {sign}{minutes // 60:02}{minutes % 60:02}"
        )
        memory[0] = (second, text)
    return text


def common(record: RequestRecord) -> str:
    """The record as a line of the Common Log Format.

    A client that left adds, behind the format's own fields, where its request was at that moment
    and, if a handler went on working for it, for how long; a request that was refused adds why.
    """
    return _common(record) + _ending(record)


def combined(record: RequestRecord) -> str:
    """The record as a line of the Combined Log Format: :func:`common`, and Referer and User-Agent."""
    who = f' "{escaped(record.field("referer") or "-")}" "{escaped(record.field("user-agent") or "-")}"'
    return _common(record) + who + _ending(record)


def as_json(record: RequestRecord) -> str:
    """The record as one line of JSON: all of it but the header fields, with Referer and User-Agent."""
    at = dt.datetime.fromtimestamp(record.began, dt.UTC)
    told = {
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **{
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in record._asdict().items()
            if name not in ("began", "outcome", "phase", "request", "response_fields", "environ")
        },
        "outcome": record.outcome.value,
        "phase": record.phase.value,
        "referer": record.field("referer"),
        "user_agent": record.field("user-agent"),
    }
    return json.dumps(told).replace("\x7f", "\\u007f")  # The one control character that JSON lets pass.


def _request_line(record: RequestRecord) -> str:
    # A refused line that is no request line is the target alone.
    known = record.method or not record.protocol
    return f"{record.method} {record.target} {record.protocol}".strip() if known else ""


def _common(record: RequestRecord) -> str:
    request = _request_line(record)
    return (
        f"{escaped(record.client) or '-'} - - [{_clf_time(int(record.began))}]"
        f' "{escaped(request) or "-"}" {record.status or "-"} {record.body_out or "-"}'
    )


def colored(record: RequestRecord, theme: Theme) -> str:
    """:func:`common`, for a terminal."""
    request = escaped(_request_line(record)) or "-"
    if record.method and record.target and record.protocol:
        target = escaped(record.target)
        request = (
            f"{escaped(record.method)} {theme.path}{target}{theme.reset} {escaped(record.protocol)}"
        )
    when = _clf_time(int(record.began))
    return (
        f"{theme.timestamp}{escaped(record.client) or '-'} - - [{when}]{theme.reset}"
        f' "{request}" {theme.of_status(record.status)}{record.status or "-"}{theme.reset}'
        f" {theme.size}{record.body_out or '-'}{theme.reset}{_ending(record)}"
    )


def _ending(record: RequestRecord) -> str:
    outcome = record.outcome
    if outcome is Outcome.COMPLETED:
        return ""
    if outcome is Outcome.DISCONNECTED:
        wasted = f", {record.wasted:.3f} s wasted" if record.wasted >= 0.001 else ""
        return f" client disconnected while {_PHASES[record.phase]}{wasted}"
    if record.reason and outcome in _REJECTED:
        return f" {_REJECTED[outcome]}: {escaped(record.reason)}"
    return ""


#: The formats of an access log, by name.
FORMATS = {"common": common, "combined": combined, "json": as_json}


def offer(line: str, record: RequestRecord, writer: Any = None) -> None:
    """Hand a line to the handlers of ``hangup.access``; its ``request`` attribute is the record."""
    # Straight to the LogRecord: Logger.info would first walk the stack to find its caller.
    entry = logging.LogRecord(access_logger.name, logging.INFO, __file__, 0, line, None, None)
    entry.request = record
    entry.writer = writer
    access_logger.handle(entry)


class _OwnHandler(logging.Handler):
    """Stands on ``hangup.access`` for the streams that servers write to, each to its own.

    A program that configures ``hangup.access`` by :mod:`logging.config` takes it away, and puts what it
    wants in its place, as it would with any server's log.
    """

    def emit(self, entry: logging.LogRecord) -> None:
        writer = entry.__dict__.get("writer") or stderr_writer()
        writer.write(entry.getMessage() + "\n")

    def close(self) -> None:
        """Nothing: :mod:`logging.config` closes all handlers that there are, not only its own."""


_own = _OwnHandler()
_only_own: list[logging.Handler] = [_own]


class _Claim:
    """How ``hangup.access`` is set up while servers write there, and how it was before.

    Servers are made and closed by any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers = 0
        self._before = (logging.NOTSET, True)

    def __enter__(self) -> None:
        """One more server."""
        with self._lock:
            self._servers += 1
            if self._servers > 1:
                return
            self._before = access_logger.level, access_logger.propagate
            if not access_logger.handlers:  # Else the program has said where these lines go.
                access_logger.addHandler(_own)
            if access_logger.level == logging.NOTSET:
                access_logger.setLevel(logging.INFO)
            access_logger.propagate = False

    def __exit__(self, *_: object) -> None:
        """One less."""
        with self._lock:
            self._servers -= 1
            if not self._servers:
                access_logger.removeHandler(_own)
                level, access_logger.propagate = self._before
                access_logger.setLevel(level)


#: Taken by each server that writes lines, and by a command before it imports an application.
claim = _Claim()


class AccessLog:
    """The sink that writes one line for each request to a stream, for servers of WSGI applications.

    The logger ``hangup.access`` has the same lines, for handlers and filters that a program puts there;
    while there is such a server, it doesn't propagate: the root logger is the program's own.
    """

    def __init__(self, form: str, stream: TextIO | None) -> None:
        self._line = FORMATS[form]
        self._writer = LineWriter(stream, "the access log")
        self._closed = False
        claim.__enter__()

    def __call__(self, record: RequestRecord) -> None:
        logger = access_logger
        if not logger.isEnabledFor(logging.INFO):
            return
        line = self._line(record)
        if logger.handlers == _only_own and not logger.filters and not _own.filters:
            self._writer.write(line + "\n")
        else:
            offer(line, record, self._writer)

    def close(self) -> None:
        """Wait until all lines are written, a second at the most."""
        self._writer.close()
        if not self._closed:
            self._closed = True
            claim.__exit__()


# A writer of lines to sys.stderr, and its colours: it is always one and the same, unless a program sets
# another stream there.
_latest_theme: list[Any] = [None, None]


def log_access(record: RequestRecord) -> None:
    """The sink that writes the access log of ``http.server``'s programs.

    It is one INFO line on the logger ``hangup.access``, whose ``request`` attribute is the record, if
    the program's logging shows that, or has a handler for it; and else a line on ``sys.stderr``, where
    ``http.server`` writes its own, unless the program has set that logger's level, or its parent's, too
    high for it.
    """
    logger = access_logger
    if logger.isEnabledFor(logging.INFO) and logger.hasHandlers():
        offer(common(record), record)
    elif logger.disabled or _level() > logging.INFO:
        pass
    elif (logger.handlers or has_own_handler(log)) and logger.manager.disable < logging.INFO:
        offer(common(record), record)
    else:
        writer = stderr_writer()
        if _latest_theme[0] is not writer:
            _latest_theme[:] = [writer, theme_for(writer.stream)]
        theme: Any = _latest_theme[1]
        writer.write((colored(record, theme) if theme.reset else common(record)) + "\n")


def _level() -> int:
    """What a program has said of these lines on purpose: the root logger's level is about its own."""
    return access_logger.level or log.level
