"""A model that answers token by token, and stops within one token of its client's leaving."""

import time

import hangup

TEXT = "one token and then another one " * 100


def generate(prompt):
    """Stands for the model: each token takes some time to compute."""
    for token in TEXT.split():
        time.sleep(0.05)
        yield token


class Handler(hangup.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for token in generate(self.path):
            # Before the write: the first write to a client that has closed would still succeed.
            self.client.raise_if_disconnected()
            self.wfile.write(f"data: {token}\n\n".encode())


if __name__ == "__main__":
    hangup.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
