"""A program that runs for its client: told to end when the client leaves, and ended if it won't."""

import subprocess

import hangup

COMMAND = ["sleep", "60"]
PATIENCE = 2.0  # seconds between terminate and kill


def stop(process):
    # For a program with children, which would go on: Popen(…, start_new_session=True) and os.killpg.
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


class Handler(hangup.BaseHTTPRequestHandler):
    def do_GET(self):
        process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE)
        with process, self.client.on_disconnect(stop, process):
            body, _ = process.communicate()
        self.client.raise_if_disconnected()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    hangup.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
