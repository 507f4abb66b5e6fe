"""A threaded HTTP server that knows when its client hangs up."""

from typing import TYPE_CHECKING

# Before the modules that take their logger: it is of a class of ours.
from ._logging import loggers  # noqa: F401

# isort: split
from ._disconnect.cancelling import cancels
from ._disconnect.client import Client, current_client, raise_if_disconnected, sleep
from ._disconnect.peer import ClientState, DisconnectReason
from ._version import __version__ as __version__
from .config import Config
from .exceptions import (
    BodyTimeout,
    ClientDisconnected,
    ConfigError,
    HangupError,
    RequestRejected,
    WSGIError,
)
from .httpserver.files import SimpleHTTPRequestHandler
from .httpserver.handler import BaseHTTPRequestHandler
from .httpserver.https import HTTPSServer, ThreadingHTTPSServer
from .httpserver.server import HTTPServer, ThreadingHTTPServer
from .records import Outcome, Phase, RequestRecord
from .wsgi.server import WSGIServer, serve

__all__ = [
    "BaseHTTPRequestHandler",
    "BodyTimeout",
    "Client",
    "ClientDisconnected",
    "ClientState",
    "Config",
    "ConfigError",
    "DisconnectReason",
    "HTTPSServer",
    "HTTPServer",
    "HangupError",
    "Outcome",
    "Phase",
    "RequestRecord",
    "RequestRejected",
    "SimpleHTTPRequestHandler",
    "ThreadingHTTPSServer",
    "ThreadingHTTPServer",
    "WSGIError",
    "WSGIServer",
    "cancels",
    "current_client",
    "raise_if_disconnected",
    "serve",
    "sleep",
]

_RENAMED = {"BadRequest": "RequestRejected", "Departure": "DisconnectReason"}

if not TYPE_CHECKING:  # which would take every name for one that is there

    def __getattr__(name: str) -> object:
        """What names of 0.1.0 are called now."""
        if name in _RENAMED:
            raise AttributeError(f"hangup.{name} is now called hangup.{_RENAMED[name]}")
        raise AttributeError(f"module 'hangup' has no attribute {name!r}")
