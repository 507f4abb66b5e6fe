"""WSGI applications on hangup (PEP 3333)."""

from .file_wrapper import FileWrapper
from .server import WSGIServer, serve

__all__ = ["FileWrapper", "WSGIServer", "serve"]
