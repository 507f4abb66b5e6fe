"""WSGI applications on hangup (PEP 3333)."""

from ..exceptions import WSGIError
from .file_wrapper import FileWrapper
from .server import WSGIServer, serve

__all__ = ["FileWrapper", "WSGIError", "WSGIServer", "serve"]
