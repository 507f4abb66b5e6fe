"""The service of the demonstration: ``python -m hangup._cli.demo.service stock|hangup|sleep SECONDS``.

``RequestHandler`` is the handler of the report that hangup began with, in today's Python; for the last
kind, it sleeps by ``hangup.sleep``.  All else is there to measure: events go to standard output, a
JSON object a line; the log is standard error.
"""

import http.server
import itertools
import json
import sys
import threading
import time
from typing import Any

import hangup


def _tell(event: str, **more: Any) -> None:
    # One write: several threads tell.
    sys.stdout.write(json.dumps({"event": event, "at": time.time(), **more}) + "\n")
    sys.stdout.flush()


def _make(kind: str, work: float) -> Any:
    module: Any = http.server if kind == "stock" else hangup
    sleep = hangup.sleep if kind == "sleep" else time.sleep

    class RequestHandler(module.BaseHTTPRequestHandler):  # type: ignore[misc]
        def do_GET(self) -> None:  # noqa: N802 - http.server's name
            print(f"query: {self.path} thread={threading.current_thread().name}", file=sys.stderr)
            _tell("began", path=self.path)
            try:
                sleep(work)
                self.send_response(200)
                self.send_header("Content-type", "text/html")
                self.end_headers()
                self.wfile.write(f"<html>{self.path}<br>{type(self.server)}</html>".encode())
                print(f"success prod query: {self.path}", file=sys.stderr)
            finally:
                _tell("free", path=self.path)

    class Server(module.ThreadingHTTPServer):  # type: ignore[misc]
        def handle_error(self, request: Any, client_address: Any) -> None:
            # An exception has ended this handler's thread.
            _tell("knew")
            _tell("died")
            super().handle_error(request, client_address)

        def shutdown_request(self, request: Any) -> None:
            # All has been said of this connection.
            super().shutdown_request(request)
            _tell("closed", number=next(numbers))

    numbers = itertools.count(1)
    if kind == "stock":
        return Server(("127.0.0.1", 0), RequestHandler)
    return Server(("127.0.0.1", 0), RequestHandler, sinks=[_tell_departure])


def _tell_departure(record: hangup.RequestRecord) -> None:
    if record.disconnected_at is not None:
        _tell("knew", at=record.began + record.disconnected_at)


def main() -> None:
    """Serve until terminated."""
    kind, work = sys.argv[1:]
    with _make(kind, float(work)) as server:
        _tell("listening", port=server.server_port)
        server.serve_forever()


if __name__ == "__main__":
    main()
