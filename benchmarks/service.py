"""The service that the benchmarks run: ``python service.py KIND`` prints its port and serves.

KIND is the server and the handler's base: ``stock``, ``hangup`` (its own handler), or ``adapted`` (the
standard library's handler, unmodified, on hangup's server).
"""

import http.server
import sys
import time

import hangup

KINDS = {
    "stock": (http.server.ThreadingHTTPServer, http.server.BaseHTTPRequestHandler),
    "hangup": (hangup.ThreadingHTTPServer, hangup.BaseHTTPRequestHandler),
    "adapted": (hangup.ThreadingHTTPServer, http.server.BaseHTTPRequestHandler),
}


def main() -> None:
    server_class, base = KINDS[sys.argv[1]]

    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/5ms":
                time.sleep(0.005)
            body = b"Hello, world!"
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with server_class(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
