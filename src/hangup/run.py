"""Run a program that imports from ``http.server`` on hangup's classes instead."""

import http.server
import importlib.util
import os
import runpy
import socketserver
import sys
import warnings
from collections.abc import Callable, Sequence

from ._loading import print_own
from .exceptions import HangupError
from .files import SimpleHTTPRequestHandler
from .handler import BaseHTTPRequestHandler
from .https import HTTPSServer, ThreadingHTTPSServer
from .httpserver import HTTPServer, TCPServer, ThreadingHTTPServer

__all__ = ["ScriptError", "run_module", "run_script", "swap_classes"]

# The exit status of a program that Ctrl-C ended, as a shell reports it.
_INTERRUPTED = 130


class ScriptError(HangupError):
    """The program can't be run at all; the message says why, in one line."""


def swap_classes() -> None:
    """Put hangup's classes where programs look for the standard library's.

    What is imported from then on gets them: ``http.server``'s four, the two that speak TLS where it has
    them, and ``socketserver.TCPServer``, which ``xmlrpc.server`` is built on (without an HTTP handler it
    is what it was).
    """
    for cls in (HTTPServer, ThreadingHTTPServer, BaseHTTPRequestHandler, SimpleHTTPRequestHandler):
        setattr(http.server, cls.__name__, cls)
    for server in (HTTPSServer, ThreadingHTTPSServer):
        if hasattr(http.server, server.__name__):  # Python 3.14
            setattr(http.server, server.__name__, server)
    socketserver.TCPServer = TCPServer  # type: ignore[misc]


def run_script(path: str, args: Sequence[str]) -> int:
    """Run the file at ``path`` as ``python path args…`` would; return its exit status.

    Raises :exc:`ScriptError` if there is no such file.
    """
    if os.path.isdir(path) or not os.access(path, os.R_OK):
        reason = "it is a directory" if os.path.isdir(path) else "no such file, or not readable"
        raise ScriptError(f"can't run {path!r}: {reason}")
    sys.argv = [path, *args]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    return _run(lambda: runpy.run_path(path, run_name="__main__"))


def run_module(name: str, args: Sequence[str]) -> int:
    """Run a module as ``python -m name args…`` would; return its exit status.

    Raises :exc:`ScriptError` if there is no such module.
    """
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise ScriptError(f"there is no module named {name!r}")
    sys.argv = [name, *args]
    # runpy's word on http.server, which was imported to be changed.
    warnings.filterwarnings("ignore", ".*found in sys.modules after import", RuntimeWarning)
    return _run(lambda: runpy.run_module(name, run_name="__main__", alter_sys=True))


def _run(program: Callable[[], object]) -> int:
    swap_classes()
    try:
        program()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except HangupError as error:
        return _say(str(error))
    except Exception as error:
        if isinstance(error, OSError) and hasattr(error, "listen_address"):
            return _say(f"can't listen: {error.strerror}")
        print_own(error)
        return 1
    return 0


def _say(what: str) -> int:
    """What the person at the terminal can mend: one line, and no traceback."""
    print(f"Error: {what}", file=sys.stderr)
    return 1
