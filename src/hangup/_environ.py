"""A request's head as WSGI has it (PEP 3333, "environ Variables"; RFC 3875)."""

import functools
import logging
import sys
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from ._heads import Fields, Request
from ._input import NO_INPUT
from .client import reports_disconnect

__all__ = ["environ_fields", "environ_of", "server_names"]

#: Fields that have names of their own in CGI.
_CGI_NAMES = frozenset(("CONTENT_TYPE", "CONTENT_LENGTH"))
# HTTP_PROXY is a setting to the libraries of a program that is run with this environment: "httpoxy",
# CVE-2016-5385.  Transfer-Encoding says how the body was sent, which is decoded here: whoever decodes it
# removes the field (RFC 9112 §7.1.3), or the application decodes once more.
_NEVER = frozenset(("PROXY", "TRANSFER_ENCODING"))
# From this length on a name is not remembered: nobody means it, and it would stay.
_LONG_NAME = 64


_log = logging.getLogger("hangup")


class _Errors:
    """``wsgi.errors``: whatever is ``sys.stderr`` at the time; nothing, where a process has none.

    Frameworks report here what an application raises.  That a client has left is no error to report.
    """

    def write(self, text: str) -> int:
        if reports_disconnect(text):
            _log.debug("an application reports a disconnect: %s", text)
            return len(text)
        return len(text) if sys.stderr is None else sys.stderr.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        # Libraries that write there look at `encoding` and `isatty()`.
        return getattr(sys.stderr, name)


_ERRORS = _Errors()


def environ_of(
    request: Request, base: dict[str, Any], fields: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a head says, as a dict that requests with the same head copy.

    ``base`` is what the server adds; ``fields`` is what the request's fields put into it, if that is not
    what they usually do: one whose name has an underscore is left out then, since it would pass for
    another's, with a dash.  The path is decoded, and its bytes stand as latin-1.
    """
    environ = base.copy()
    environ.update(request.fields.seen_by or _see(request.fields) if fields is None else fields)
    target = request.target
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        path = _path_of(path)
    environ["REQUEST_METHOD"] = request.method
    environ["SCRIPT_NAME"] = ""
    if "%" in path:
        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
    environ["RAW_URI"] = environ["REQUEST_URI"] = target
    environ["SERVER_PROTOCOL"] = request.protocol
    environ.setdefault("wsgi.errors", _ERRORS)
    environ["wsgi.input"] = NO_INPUT
    return environ


def _see(fields: Fields) -> dict[str, Any]:
    """:func:`environ_fields`, kept with the fields: all requests that have them share it."""
    fields.seen_by = seen = environ_fields(fields.items)
    return seen


def environ_fields(items: Iterable[tuple[str, str]], *, underscores: bool = False) -> dict[str, Any]:
    """What a request's fields put into an environ; names with underscores only if asked."""
    environ: dict[str, Any] = {}
    for name, value in items:
        key = (_key if len(name) < _LONG_NAME else _make_key)(name, underscores)
        if key not in environ:
            environ[key] = value
        elif key not in _CGI_NAMES:  # The wire has refused two lengths that differ.
            # RFC 9110 §5.3; RFC 6265 §5.4 for cookies, whose values may have commas.
            environ[key] += ("; " if key == "HTTP_COOKIE" else ",") + value
    environ.pop("", None)
    return environ


def _make_key(name: str, underscores: bool) -> str:  # noqa: FBT001
    """What a field is called in an environ; ``""`` for one that is left out."""
    if "_" in name:
        # Never a name of CGI's own: `Content_Length` says nothing of the body.
        return "HTTP_" + name.upper().replace("-", "_") if underscores else ""
    name = name.upper().replace("-", "_")
    if name in _NEVER:
        return ""
    return name if name in _CGI_NAMES else "HTTP_" + name


# Clients use few names: 60 ns for one that is remembered, 250 for another.
_key = functools.lru_cache(maxsize=1024)(_make_key)


def server_names(environ: dict[str, Any]) -> tuple[str, str]:
    """``SERVER_NAME`` and ``SERVER_PORT`` where the listener has neither, on a unix socket.

    What the client asked for stands for them: the Host field, and the scheme's own port.
    """
    name, colon, port = environ.get("HTTP_HOST", "").rpartition(":")
    if not colon or not port.isdigit():  # a colon in an IPv6 address is not before a port
        name, port = name + colon + port, ""
    scheme_port = "443" if environ["wsgi.url_scheme"] == "https" else "80"
    return name or "localhost", port or scheme_port


def _path_of(target: str) -> str:
    """The path of a target that is more than that, or none: absolute-form, ``*``."""
    _, colon, rest = target.partition("://")
    return "/" + rest.partition("/")[2] if colon else target
