"""The classes of :mod:`http.server`, on hangup."""

from .files import SimpleHTTPRequestHandler
from .handler import BaseHTTPRequestHandler
from .https import HTTPSServer, ThreadingHTTPSServer
from .server import HTTPServer, ThreadingHTTPServer

__all__ = [
    "BaseHTTPRequestHandler",
    "HTTPSServer",
    "HTTPServer",
    "SimpleHTTPRequestHandler",
    "ThreadingHTTPSServer",
    "ThreadingHTTPServer",
]
