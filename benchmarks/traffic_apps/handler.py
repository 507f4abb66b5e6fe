"""An ``http.server`` handler that reads its fields: ``traffic_apps/handler.py KIND PORT``.

KIND is the server and the handler's base: ``stock``, ``hangup`` (its own handler), or ``adapted`` (the
standard library's handler, unmodified, on hangup's server).
"""

import http.server
import os
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from traffic_apps import routes

HOST = "127.0.0.1"
#: The standard library's own is 5: of more clients than that the kernel drops some, which come again
#: after a second, and what is measured is their waiting.
QUEUE = 1024


def bases(kind: str) -> tuple[Any, Any]:
    if kind == "stock":
        return http.server.ThreadingHTTPServer, http.server.BaseHTTPRequestHandler
    import hangup

    own = hangup.BaseHTTPRequestHandler if kind == "hangup" else http.server.BaseHTTPRequestHandler
    return hangup.ThreadingHTTPServer, own


def main() -> None:
    kind, port = sys.argv[1], int(sys.argv[2])
    server_class, base = bases(kind)

    class Handler(base):  # type: ignore[misc]
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            self.answer(routes.get(path, query, lambda name: self.headers.get(name, "")))

        def do_POST(self) -> None:
            path, _, _ = self.path.partition("?")
            self.answer(routes.post(path, self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, answer: routes.Answer) -> None:
            status, kind, more, body = answer
            self.send_response(status)
            for field in more:
                self.send_header(*field)
            if self.close_connection:
                # The standard library leaves it to the handler, and wrk would send its next request to
                # a connection that is about to close.
                self.send_header("Connection", "close")
            if status != 304:
                length = len(body) if isinstance(body, bytes) else body.stat().st_size
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if isinstance(body, bytes):
                self.wfile.write(body)
            else:
                with body.open("rb") as file:
                    shutil.copyfileobj(file, self.wfile)

    # Each request is logged, as both do it by default; what comes of that is no part of the measurement.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    server_class.request_queue_size = max(server_class.request_queue_size, QUEUE)
    with server_class((HOST, port), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
