"""A threaded HTTP server that knows when its client hangs up."""

# Before the modules that take their logger: it is of a class of ours.
from ._logging import loggers  # noqa: F401

# isort: split
from ._disconnect.cancelling import cancels
from ._disconnect.client import Client, current_client, raise_if_disconnected, sleep
from ._disconnect.peer import ClientState, Departure
from ._version import __version__ as __version__
from .config import Config
from .exceptions import BadRequest, BodyTimeout, ClientDisconnected, ConfigError, HangupError
from .httpserver.files import SimpleHTTPRequestHandler
from .httpserver.handler import BaseHTTPRequestHandler
from .httpserver.https import HTTPSServer, ThreadingHTTPSServer
from .httpserver.server import HTTPServer, ThreadingHTTPServer
from .records import Outcome, Phase, RequestRecord
from .wsgi.adapter import WSGIError
from .wsgi.server import WSGIServer, serve

__all__ = [
    "BadRequest",
    "BaseHTTPRequestHandler",
    "BodyTimeout",
    "Client",
    "ClientDisconnected",
    "ClientState",
    "Config",
    "ConfigError",
    "Departure",
    "HTTPSServer",
    "HTTPServer",
    "HangupError",
    "Outcome",
    "Phase",
    "RequestRecord",
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
