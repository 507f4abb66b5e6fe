"""A long, random mix of good clients, departures, slow clients and malformed requests, on all doors.

``python tests/endurance.py [SECONDS]``: one line for each thing that is wrong, and exit status 1.

The server is a process of its own; what it says on stdout and stderr is unexpected, whatever it is.  Its
memory, descriptors and threads are read from /proc: they must be level at the end, when all clients have
gone, with what they were after a warm-up.
"""

import collections
import json
import os
import random
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

SERVER = """
import http.server, json, logging, signal, sys, threading, time, zlib
import hangup

logging.basicConfig(level=logging.WARNING)
logging.getLogger("hangup.access").setLevel(logging.WARNING)  # Access lines are none of it.

config = hangup.Config(
    max_threads=16, request_header_timeout=2.0, body_timeout=2.0, write_timeout=2.0,
    handshake_timeout=2.0, keep_alive_timeout=5.0, linger_timeout=0.5, thread_idle_timeout=0.5,
    min_data_rate=1000.0,
)

def work(path, read, client):
    if path.startswith("/big"):
        return b"x" * 400_000
    if path.startswith("/sum"):
        return b"%d" % zlib.crc32(read())
    if path.startswith("/wait"):
        return b"left" if client.wait(0.05) else b"stayed"
    return path.encode()

def handler(base):
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = work(self.path, lambda: self.rfile.read(length), self.client)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    return Handler

def app(environ, start_response):
    body = work(environ["PATH_INFO"], environ["wsgi.input"].read, environ["hangup.client"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

running = threading.Lock()
running.acquire()
signal.signal(signal.SIGTERM, lambda *_: running.release())
http_servers = [
    hangup.ThreadingHTTPServer(("127.0.0.1", 0), handler(base), config=config)
    for base in (hangup.BaseHTTPRequestHandler, http.server.BaseHTTPRequestHandler)
]
wsgi_servers = [
    hangup.WSGIServer(app, port=0, config=config, access_log="off", **tls)
    for tls in ({}, {"certfile": sys.argv[1], "keyfile": sys.argv[2]})
]
# Daemons, so that a program which raises before its end does end; at its end they are waited for.
serving = [threading.Thread(target=server.serve_forever, daemon=True) for server in http_servers]
for thread in serving:
    thread.start()
for server in wsgi_servers:
    server.start()
# All of its threads are there: this one, two that serve for ever, and each engine's: one for each of
# its event loops, and its watchdog.
def engines():
    return [server._engine for server in http_servers] + [server.engine for server in wsgi_servers]

while None in engines() or threading.active_count() < 3 + sum(len(e.loops) + 1 for e in engines()):
    time.sleep(0.01)
ports = [server.server_port for server in http_servers] + [server.port for server in wsgi_servers]
sys.stdout.write(json.dumps(ports) + "\\n")
sys.stdout.flush()
running.acquire()
for server in http_servers:
    server.shutdown()
    server.server_close()
for server in wsgi_servers:
    server.close(10)
for thread in serving:
    thread.join()
"""

MALFORMED = (
    b"GET / HTTP/1.1\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    b"\x00\x01\x02\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
)  # fmt: skip
TLS = 3
# Seconds after which a server that is loaded so has reached its most.
WARMING = 60.0


class Load:
    """The clients.  Each thread has a chance of its own; ``_lock`` guards what they count."""

    def __init__(self, ports: list[int], certfile: str, seed: int) -> None:
        self.ports = ports
        self.context = ssl.create_default_context(cafile=certfile)
        self.seed = seed
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self._lock = threading.Lock()

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number

    def connect(self, door: int, *, plain: bool = False, buffer: int = 0) -> socket.socket:
        sock = socket.socket()
        sock.settimeout(30)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(("127.0.0.1", self.ports[door]))
        if door == TLS and not plain:
            sock = self.context.wrap_socket(sock, server_hostname="localhost")
        return sock

    # -- good clients: each answer is looked at

    def good(self, chance: random.Random) -> None:
        door = chance.randrange(4)
        done: list[float] = []
        try:
            self._good(chance, door, done)
        except Exception as error:
            error.add_note(f"door {door}, after {done}")
            raise

    def _good(self, chance: random.Random, door: int, done: list[float]) -> None:
        with self.connect(door) as sock:
            for _ in range(chance.choice((1, 5, 40))):
                kind = chance.random()
                done.append(round(kind, 2))
                if kind < 0.75:
                    count = chance.choice((1, 1, 10, 30))
                    paths = [f"/{chance.randrange(1 << 30)}" for _ in range(count)]
                    sock.sendall("".join(map(get, paths)).encode())
                    self.expect(sock, [path.encode() for path in paths])
                elif kind < 0.85:
                    body = chance.randbytes(chance.choice((1, 1000, 100_000)))
                    sock.sendall(
                        b"POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                    )
                    self.expect(sock, [b"%d" % zlib.crc32(body)])
                elif kind < 0.95:
                    sock.sendall(get("/wait").encode())
                    self.expect(sock, [b"stayed"])
                else:
                    sock.sendall(get("/big").encode())
                    self.expect(sock, [b"x" * 400_000])
            if chance.random() < 0.2 and door != TLS:
                # In one packet: this process is busy, and a FIN that comes 50 ms later is a departure.
                sock.sendall(get("/half").encode(), socket.MSG_MORE)
                sock.shutdown(socket.SHUT_WR)
                self.expect(sock, [b"/half"])

    def expect(self, sock: socket.socket, bodies: list[bytes]) -> None:
        data = b""
        for body in bodies:
            while b"\r\n\r\n" not in data:
                data += received(sock)
            head, _, data = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            pieces, got = [data], len(data)
            while got < length:
                pieces.append(received(sock))
                got += len(pieces[-1])
            data = b"".join(pieces)
            if not head.startswith(b"HTTP/1.1 200") or data[:length] != body:
                raise AssertionError(f"{head[:40]!r} {data[:40]!r} instead of {body[:40]!r}")
            data = data[length:]
        self.count("good", len(bodies))

    # -- the others: what they get is not looked at, but for malformed requests

    def leaver(self, chance: random.Random) -> None:
        door = chance.randrange(4)
        sock = self.connect(door, plain=chance.random() < 0.3)
        try:
            sent = chance.choice((
                b"", b"G", b"GET / HT", b"GET / HTTP/1.1\r\nHo", get("/wait").encode(),
                get("/big").encode(), b"\x16\x03\x01\x02\x00",
                get("/a").encode() + get("/wait").encode(),
                b"POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
                b"POST /sum HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            ))  # fmt: skip
            sock.sendall(sent)
            if chance.random() < 0.5:
                self.stop.wait(chance.random() * 0.02)
            if chance.random() < 0.4:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif chance.random() < 0.2:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        finally:
            sock.close()
        self.count("left")

    def malformed(self, chance: random.Random) -> None:
        door = chance.choice((0, 2, TLS))
        with self.connect(door) as sock:
            sock.sendall(chance.choice(MALFORMED))
            answer = received(sock)
            if not answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
                raise AssertionError(f"a malformed request was answered by {answer[:60]!r}")
        self.count("malformed")

    def slow(self, chance: random.Random) -> None:
        """Some that dawdle at once, each until the server has had enough of it."""
        held = []
        for _ in range(30):
            door = chance.randrange(4)
            sock = self.connect(door, plain=True, buffer=4096)
            head = b"POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
            sock.sendall(chance.choice((b"", b"\x16\x03", head, b"GET / HT", get("/big").encode() * 20)))
            held.append(sock)
        for _ in range(8):
            if self.stop.wait(0.5):
                break
            for sock in held:
                try:
                    sock.send(b"x")
                except OSError:
                    pass
        for sock in held:
            sock.close()
        self.count("slow", len(held))

    def run(self, what: Callable[[random.Random], None], number: int) -> None:
        chance = random.Random(f"{self.seed} {what.__name__} {number}")
        while not self.stop.is_set():
            try:
                what(chance)
            except Exception as error:
                if what.__name__ in ("good", "malformed"):
                    notes = " ".join(getattr(error, "__notes__", ()))
                    self.wrong.append(f"{what.__name__} client: {error!r} {notes}")
                    if len(self.wrong) > 20:
                        return


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"


def received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise EOFError("the server closed the connection")
    return data


class State:
    """What a process holds at one moment."""

    def __init__(self, pid: int) -> None:
        status = Path(f"/proc/{pid}/status").read_text()
        words = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
        self.memory = int(words["VmRSS"].split()[0]) / 1024
        self.threads = int(words["Threads"])
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))

    def __str__(self) -> str:
        return f"{self.memory:.1f} MB, {self.threads} threads, {self.descriptors} descriptors"


def settled(pid: int, like: State | None) -> State:
    """Its state when all clients have gone and idle threads have ended."""
    until = time.monotonic() + 20
    while True:
        state = State(pid)
        if like is not None and (state.threads, state.descriptors) == (like.threads, like.descriptors):
            return state
        if time.monotonic() > until:
            return state
        time.sleep(0.2)


def certificate(directory: str) -> tuple[str, str]:
    cert, key = f"{directory}/cert.pem", f"{directory}/key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def storm(load: Load, seconds: float, progress: bool) -> None:
    kinds = [load.good] * 5 + [load.leaver] * 2 + [load.malformed, load.slow, load.slow]
    threads = [
        threading.Thread(target=load.run, args=(kind, number)) for number, kind in enumerate(kinds)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and len(load.wrong) < 20:
        time.sleep(min(10.0, left))
        if progress:
            print(f"{left:5.0f} s to go: {dict(load.counts)}", flush=True)
    load.stop.set()
    for thread in threads:
        thread.join()
    load.stop.clear()


def soak(seconds: float, *, seed: int, progress: bool = False) -> tuple[list[str], dict[str, Any]]:
    """Run it; returns what is wrong, and the figures."""
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile("w+") as said:
        cert, key = certificate(directory)
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, cert, key], stdout=subprocess.PIPE, stderr=said, text=True
        )
        assert process.stdout is not None
        try:
            if not (ports := process.stdout.readline()):
                said.seek(0)
                return [f"the server did not start, and said {said.read()[:2000]!r}"], {}
            load = Load(json.loads(ports), cert, seed)
            fresh = State(process.pid)
            warming = max(0.2 * seconds, min(0.5 * seconds, WARMING))
            storm(load, warming, progress)
            warm = settled(process.pid, fresh)
            storm(load, seconds - warming, progress)
            end = settled(process.pid, fresh)
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
            status = process.wait(30)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        said.seek(0)
        rest += said.read()
    wrong = load.wrong
    if rest or status:
        wrong.append(f"the server ended with status {status} and said {rest[:2000]!r}")
    if (end.threads, end.descriptors) != (fresh.threads, fresh.descriptors):
        wrong.append(f"it held {fresh} at first, and holds {end}")
    # An allocator keeps some of what it has had, and takes a while to have had its most; what leaks
    # grows with each request.
    if end.memory > warm.memory * 1.1 + (4 if warming >= WARMING else 16):
        wrong.append(f"memory grew: {warm} when warm, {end} at the end")
    figures = {**load.counts, "fresh": str(fresh), "warm": str(warm), "end": str(end)}
    return wrong, figures


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}, {seconds:g} s")
    wrong, figures = soak(seconds, seed=seed, progress=True)
    for name, value in figures.items():
        print(f"{name}: {value}")
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
