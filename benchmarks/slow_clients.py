"""What 2,000 slow clients and 200 stalled handshakes cost a normal client: ``slow_clients.py [ROUNDS]``.

``hangup serve`` with its own defaults (64 threads), once in the clear and once over TLS.  A third of the
slow clients sends its head at a byte a second, a third its body, and a third reads an answer of 1 MB so,
with a small buffer.  Of the stalled handshakes half say nothing, half stop in the middle of a hello.

One normal client asks again and again, on one connection and on new ones, for some seconds without the
slow ones and some seconds with them, in turns.  The server has a core of its own; the slow clients, in a
process of their own, share the other with the normal one.
"""

import datetime as dt
import os
import platform
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SLOW, STALLED = 2000, 200
#: Seconds of one measurement, and between two requests of the normal client.
SECONDS, PAUSE = 6.0, 0.002
APP = """
BIG = b"x" * 1_000_000

def app(environ, start_response):
    body = BIG if environ["PATH_INFO"] == "/big" else environ["wsgi.input"].read() or b"hello"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
HEAD = b"GET /slow HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 300
BODY = b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300\r\n\r\n"
CHUNKED = b"POST /slow HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
BIG = b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Slow:
    """One slow client; over TLS its bytes are encrypted as they go, one by one."""

    def __init__(self, port: int, context: ssl.SSLContext | None, number: int) -> None:
        self.reads = number % 3 == 2
        self.sock = socket.socket()
        if self.reads:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(("127.0.0.1", port))
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        kind = number % 3
        self.rest = HEAD if kind == 0 else b"1\r\nz\r\n" * 60 if number % 6 == 1 else b"z" * 300
        self.sock.sendall({0: b"", 1: CHUNKED if number % 6 == 1 else BODY, 2: BIG}[kind])

    def step(self) -> bool:
        """A byte; False when the server has had enough."""
        try:
            if self.reads:
                return bool(self.sock.recv(1))
            byte, self.rest = self.rest[:1], self.rest[1:]
            if byte:
                self.sock.send(byte)
            return bool(byte)
        except OSError:
            return False


def be_slow(port: int, certfile: str) -> None:
    """The process of the slow clients: a line when all are there; a new one for each that ends."""
    context = ssl.create_default_context(cafile=certfile) if certfile else None
    clients = [Slow(port, context, number) for number in range(SLOW)]
    stalled = []
    for number in range(STALLED if certfile else 0):
        sock = socket.create_connection(("127.0.0.1", port))
        if number % 2:
            sock.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        stalled.append(sock)
    print("ready", flush=True)
    while True:
        for number, client in enumerate(clients):
            if not client.step():
                client.sock.close()
                clients[number] = Slow(port, context, number)
            time.sleep(1 / SLOW)
        for number, sock in enumerate(stalled):
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_READ)
                if selector.select(0):  # Its time was up.
                    sock.close()
                    stalled[number] = socket.create_connection(("127.0.0.1", port))


def ask(sock: socket.socket) -> None:
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    if not sock.recv(65536).endswith(b"hello"):
        raise SystemExit("the normal client was not answered")


def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock if context is None else context.wrap_socket(sock, server_hostname="localhost")


def measure(port: int, context: ssl.SSLContext | None) -> tuple[float, float]:
    """p99 in ms: of requests on one connection, and of those on a new one each."""
    kept, fresh = [], []
    end = time.monotonic() + SECONDS
    with connect(port, context) as sock:
        while time.monotonic() < end:
            for _ in range(8):
                began = time.perf_counter()
                ask(sock)
                kept.append(time.perf_counter() - began)
                time.sleep(PAUSE)
            began = time.perf_counter()
            with connect(port, context) as other:
                ask(other)
            fresh.append(time.perf_counter() - began)
            time.sleep(PAUSE)
    return p99(kept), p99(fresh)


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98] * 1000


def compare(directory: str, files: tuple[str, str] | None, rounds: int) -> list[str]:
    port = free_port()
    tls = ["--certfile", files[0], "--keyfile", files[1]] if files else []
    server = subprocess.Popen(
        [sys.executable, "-m", "hangup", "serve", "app:app", "--app-dir", directory, "--port", str(port),
         "--access-log", "off", *tls],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.sched_setaffinity(server.pid, {0})
    context = ssl.create_default_context(cafile=files[0]) if files else None
    found: list[tuple[float, float, float, float]] = []
    try:
        assert server.stderr is not None
        server.stderr.readline()
        measure(port, context)
        for _ in range(rounds):
            without = measure(port, context)
            slow = subprocess.Popen(
                [sys.executable, __file__, "--slow", str(port), files[0] if files else ""],
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                assert slow.stdout is not None
                slow.stdout.readline()
                found.append((*without, *measure(port, context)))
            finally:
                slow.kill()
                slow.wait()
            time.sleep(1)
            print("TLS" if files else "plain", *(f"{each:.2f}" for each in found[-1]), flush=True)
    finally:
        server.terminate()
        server.wait()
    kept, fresh, kept_with, fresh_with = (statistics.median(each) for each in zip(*found, strict=True))
    what = "TLS, and 200 stalled handshakes" if files else "in the clear"
    return [
        f"| {what}: one connection | {kept:.2f} | {kept_with:.2f} | {kept_with / kept:.2f} |",
        f"| {what}: new connections | {fresh:.2f} | {fresh_with:.2f} | {fresh_with / fresh:.2f} |",
    ]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def certificate(directory: str) -> tuple[str, str]:
    cert, key = f"{directory}/cert.pem", f"{directory}/key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def main() -> None:
    if sys.argv[1:2] == ["--slow"]:
        be_slow(int(sys.argv[2]), sys.argv[3])
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "app.py").write_text(APP)
        rows = compare(directory, None, rounds) + compare(directory, certificate(directory), rounds)
    text = "\n".join([
        "# A normal client beside 2,000 slow ones", "",
        (
            f"{dt.datetime.now(dt.UTC):%Y-%m-%d}. CPython {platform.python_version()}, 2 cores."
            f" Medians of {rounds} rounds of {SECONDS:g} s."
        ), "",
        (__doc__ or "").partition("\n\n")[2].strip(), "",
        "| p99 in ms | without | with them | ratio |", "| --- | ---: | ---: | ---: |", *rows, "",
    ])  # fmt: skip
    (HERE / "slow_clients.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
