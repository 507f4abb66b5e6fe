"""The access log tells apart who had its response and who disconnected before: 100,000 requests.

``python benchmarks/accounting.py`` starts ``hangup serve``, and a handler of ``http.server``'s under
``hangup run``, and sends each:

- requests of which half are by clients that reset the connection right after the last byte (HAProxy's
  health checks do), and half by clients that close it, with slow requests beside, so that while a
  handler runs another thread turns the event loop: none may be logged as 499;
- requests by clients that reset before anything was sent: each must be logged as 499, once.

Prints a table, and exits with 1 if a line is wrong.
"""

import argparse
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

APP = """
import time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.05)
    elif environ["PATH_INFO"] == "/left":
        environ["hangup.client"].wait(10)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""
HANDLER = """
import sys, time, http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(0.05)
        elif self.path == "/left":
            self.client.wait(10)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""
ABORT = struct.pack("ii", 1, 0)
CLIENTS = 8


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def read_whole(port: int, path: str, *, reset: bool) -> bool:
    with connect(port) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        data = b""
        while not data.endswith(b"ok") and (piece := sock.recv(4096)):
            data += piece
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        return data.endswith(b"\r\n\r\nok")


def reset_early(port: int) -> None:
    with connect(port) as sock:
        sock.sendall(b"GET /left HTTP/1.0\r\n\r\n")
        time.sleep(0.001)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)


def in_threads(count: int, act) -> None:
    def run(number: int) -> None:
        for each in range(number, count, CLIENTS):
            act(each)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def load(port: int, whole: int, early: int) -> int:
    """Send it all; return how many had their whole response."""
    had = []
    done = threading.Event()

    def beside() -> None:
        while not done.is_set():
            read_whole(port, "/slow", reset=False)

    slow = [threading.Thread(target=beside) for _ in range(3)]
    for thread in slow:
        thread.start()
    in_threads(whole, lambda n: had.append(read_whole(port, "/quick", reset=n % 2 == 0)))
    done.set()
    for thread in slow:
        thread.join()
    in_threads(early, lambda _: reset_early(port))
    return sum(had)


def judge(name: str, command: list[str], directory: str, whole: int, early: int) -> bool:
    port = free_port()
    log = Path(directory, "log")
    with log.open("wb") as out:
        server = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in command],
            cwd=directory, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        began = time.monotonic()
        had = load(port, whole, early)
        time.sleep(1.0)
    finally:
        server.terminate()
        server.wait(20)
    lines = log.read_text(errors="replace").splitlines()
    quick = [line for line in lines if '"GET /quick ' in line]
    wrong = [line for line in quick if not re.search(r'" 200 2$', line)]
    left = [line for line in lines if '"GET /left ' in line]
    told = [line for line in left if '" 499 ' in line]
    print(
        f"| {name} | {whole:,} | {had:,} | {len(quick):,} | {len(wrong)} | {early:,} | {len(left):,} |"
        f" {len(told):,} | {time.monotonic() - began:.0f} s |",
        flush=True,
    )
    for line in (*wrong[:3], *[line for line in left if line not in told][:3]):
        print("   ", line)
    return not wrong and len(quick) == had == whole and len(left) == len(told) == early


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--whole", type=int, default=100_000)
    parser.add_argument("--early", type=int, default=10_000)
    asked = parser.parse_args()
    hangup = str(Path(sys.executable).parent / "hangup")
    print(
        "| server | requests | answered whole | logged | not as 200 2 |"
        " reset early | logged | as 499 | took |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        flush=True,
    )
    right = True
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "application.py").write_text(APP)
        Path(directory, "program.py").write_text(HANDLER)
        for name, command in (
            ("hangup serve", [hangup, "serve", "--port", "{port}", "application:app"]),
            ("hangup run, a handler of http.server's", [hangup, "run", "program.py", "{port}"]),
        ):
            right = judge(name, command, directory, asked.whole, asked.early) and right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
