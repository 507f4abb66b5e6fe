"""A request's head as WSGI has it (PEP 3333, "environ Variables"; RFC 3875)."""

import logging
import sys
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from .._disconnect.client import reports_disconnect
from .._http1.field_names import SINGLE, cgi_key
from .._http1.request import Request
from .input import NO_INPUT

__all__ = ["ERRORS", "environ_fields", "environ_of"]

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


ERRORS = _Errors()


def environ_of(
    request: Request, base: dict[str, Any], fields: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a request says, as a dict of its own.

    ``base`` is what the server and the connection add.  ``fields`` is what the request's fields put into
    it, where that is not the usual: there, one whose name has an underscore is left out, since it would
    pass for another's, with a dash.  The path is decoded, and its bytes stand as latin-1.
    """
    if fields is None:
        fields = environ_fields(request.items) if request.cgi is None else request.cgi
    environ = base | fields
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
    environ["wsgi.input"] = NO_INPUT
    if "SERVER_NAME" not in base:
        environ["SERVER_NAME"], environ["SERVER_PORT"] = _server_names(environ)
    return environ


def environ_fields(items: Iterable[tuple[str, str]], *, underscores: bool = False) -> dict[str, Any]:
    """What a request's fields put into an environ; names with underscores only if asked."""
    environ: dict[str, Any] = {}
    for name, value in items:
        key = cgi_key(name, underscores=underscores)
        if key not in environ:
            environ[key] = value
        elif key not in SINGLE:  # The wire has refused two lengths that differ.
            # RFC 9110 §5.3; RFC 6265 §5.4 for cookies, whose values may have commas.
            environ[key] += ("; " if key == "HTTP_COOKIE" else ",") + value
    environ.pop("", None)
    return environ


def _server_names(environ: dict[str, Any]) -> tuple[str, str]:
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
