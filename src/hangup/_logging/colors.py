"""Colours on a terminal: ``http.server``'s of Python 3.15, on each Python.

Whether there are any is decided as Python does it for its own tracebacks: by ``PYTHON_COLORS``,
``NO_COLOR``, ``FORCE_COLOR`` and ``TERM``, and by the stream's being a terminal.
"""

import os
import sys
from typing import Any, NamedTuple

__all__ = ["Theme", "theme_for"]


class Theme(NamedTuple):
    """What begins each part of a line, and ``reset``, which ends it; all empty where there are none."""

    timestamp: str = ""
    path: str = ""
    size: str = ""
    error: str = ""
    serving: str = ""
    url: str = ""
    status_informational: str = ""
    status_ok: str = ""
    status_redirect: str = ""
    status_client_error: str = ""
    status_server_error: str = ""
    reset: str = ""

    def of_status(self, code: object) -> str:
        """The colour of a response's status, which may be anything that a program logs."""
        try:
            kind = int(code) // 100  # type: ignore[call-overload]
        except (TypeError, ValueError):
            return ""
        if kind >= 5:
            return self.status_server_error
        names = {4: self.status_client_error, 3: self.status_redirect, 2: self.status_ok}
        return names.get(kind, self.status_informational)


_NONE = Theme()
_OWN = Theme(
    timestamp="\x1b[90m",
    path="\x1b[36m",
    size="\x1b[90m",
    error="\x1b[33m",
    serving="\x1b[32m",
    url="\x1b[36m",
    status_informational="\x1b[0m",
    status_ok="\x1b[32m",
    status_redirect="\x1b[96m",
    status_client_error="\x1b[33m",
    status_server_error="\x1b[31m",
    reset="\x1b[0m",
)


def theme_for(stream: Any) -> Theme:
    """The colours for what is written to ``stream``."""
    if not _has_colors(stream):
        return _NONE
    try:
        import _colorize

        found = _colorize.get_theme(force_color=True).http_server
    except (ImportError, AttributeError):
        return _OWN  # Python 3.14 has themes, and none for http.server.
    # What the user has set there. A name that is new there costs nobody a log line.
    return Theme(**{name: getattr(found, name, getattr(_OWN, name)) for name in Theme._fields})


def _has_colors(stream: Any) -> bool:
    said = {} if sys.flags.ignore_environment else os.environ
    if said.get("PYTHON_COLORS") in ("0", "1"):
        return said["PYTHON_COLORS"] == "1"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if os.environ.get("TERM") == "dumb":
        return False
    try:
        return os.isatty(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return False
