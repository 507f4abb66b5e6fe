"""A threaded HTTP server that knows when its client hangs up."""

from . import _logs as _logs  # Before the modules that take their logger: it is of a class of ours.
from ._peer import ClientState, Departure
from ._version import __version__ as __version__
from .cancelling import cancels
from .client import Client, current_client, raise_if_disconnected, sleep
from .config import Config
from .exceptions import BadRequest, BodyTimeout, ClientDisconnected, ConfigError, HangupError
from .files import SimpleHTTPRequestHandler
from .handler import BaseHTTPRequestHandler
from .https import HTTPSServer, ThreadingHTTPSServer
from .httpserver import HTTPServer, ThreadingHTTPServer
from .records import Outcome, Phase, RequestRecord
from .wsgi import WSGIError
from .wsgiserver import WSGIServer, serve

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
