"""CGI scripts: ``http.server.CGIHTTPRequestHandler``, where Python has one (until 3.14)."""

import http.server
import shutil
import tempfile
from typing import Any

from .files import SimpleHTTPRequestHandler

__all__ = ["CGIHTTPRequestHandler"]

#: None where Python has none.
CGIHTTPRequestHandler: Any = None

_Stock: Any = getattr(http.server, "CGIHTTPRequestHandler", None)

if _Stock is not None:

    class _Handler(_Stock, SimpleHTTPRequestHandler):  # type: ignore[misc]
        """``http.server.CGIHTTPRequestHandler``, on hangup's engine.

        A script is another process, that reads the request's body from a descriptor and writes its
        answer to another.  What has come of the body is in this process by then, so all of it is put
        into a file, which the script finds as its standard input.
        """

        def send_head(self) -> Any:
            """Run a script, or answer with the head of a file."""
            if self.is_cgi():
                return self.run_cgi()
            return SimpleHTTPRequestHandler.send_head(self)

        def run_cgi(self) -> None:
            """Run the script that ``cgi_info`` names."""
            connection = self._hangup
            if connection is None:
                super().run_cgi()
                return
            body_stream, answer_stream = self.rfile, self.wfile
            # Buffered by nobody: the script moves the files on, too.
            with tempfile.TemporaryFile(buffering=0) as body, tempfile.TemporaryFile() as answer:
                shutil.copyfileobj(body_stream, body)
                self._announce_body(body.tell())
                body.seek(0)
                self.rfile = body
                if connection.transport.encrypts:
                    # A script can't encrypt: what it writes goes out when it has ended.
                    self.wfile = answer
                try:
                    super().run_cgi()
                finally:
                    self.rfile, self.wfile = body_stream, answer_stream
                    self.close_connection = True  # The script alone knows where its answer ends.
                if connection.transport.encrypts:
                    answer.seek(0)
                    shutil.copyfileobj(answer, answer_stream)

        def _announce_body(self, size: int) -> None:
            """A script reads as much as CONTENT_LENGTH says (RFC 3875 §4.1.2), in chunks or not."""
            if "Transfer-Encoding" in self.headers:
                del self.headers["Transfer-Encoding"]
                del self.headers["Content-Length"]
                self.headers["Content-Length"] = str(size)

        def send_response(self, code: int, message: str | None = None) -> None:
            super().send_response(code, message)
            if message == "Script output follows" and self._hangup is not None:
                self.send_header("Connection", "close")

    _Handler.__name__ = _Handler.__qualname__ = "CGIHTTPRequestHandler"
    CGIHTTPRequestHandler = _Handler
