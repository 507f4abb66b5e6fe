"""A call to another server, hung up on when one's own client hangs up.

The other server sees its client leave in turn, and can stop as well.
"""

import contextlib
import http.client
import socket

import hangup

UPSTREAM = ("127.0.0.1", 8001)


class Handler(hangup.BaseHTTPRequestHandler):
    def do_GET(self):
        with contextlib.closing(http.client.HTTPConnection(*UPSTREAM, timeout=60)) as upstream:
            upstream.connect()
            # shutdown and not close: close alone does not wake a thread that is reading.
            with self.client.on_disconnect(upstream.sock.shutdown, socket.SHUT_RDWR):
                upstream.request("GET", self.path)
                answer = upstream.getresponse()
                body = answer.read()
            self.client.raise_if_disconnected()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    hangup.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
