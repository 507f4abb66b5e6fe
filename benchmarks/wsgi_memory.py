"""What a body of 1 GB costs hangup in memory: one that is uploaded, then one that is downloaded."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import wsgi_app
from wsgi_loads import MANY, PATIENCE
from wsgi_servers import HOST, LOAD_CORE, SERVER_CORE, NoServer, Running, Server, on_this_core

GIGABYTE = len(wsgi_app.PIECE) * wsgi_app.PIECES
KB_IN_MB = 1024


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory in MB, before and after."""

    title: str
    seconds: float
    before: dict[str, float]
    after: dict[str, float]

    def grown(self, field: str) -> float:
        return self.after[field] - self.before[field]


def ask(port: int, head: str) -> socket.socket:
    sock = socket.create_connection((HOST, port), PATIENCE)
    sock.sendall(f"{head} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n".encode())
    return sock


def received(sock: socket.socket) -> tuple[bytes, int]:
    """An answer's first bytes, and the length of its body."""
    buffer = bytearray(1 << 20)
    head, length = b"", 0
    while count := sock.recv_into(buffer):
        if b"\r\n\r\n" in head:
            length += count
            continue
        head += buffer[:count]
        if b"\r\n\r\n" in head:
            length += len(head.partition(b"\r\n\r\n")[2])
    return head, length


def upload(port: int) -> None:
    with ask(port, "POST /upload") as sock:
        sock.sendall(f"Content-Length: {GIGABYTE}\r\n\r\n".encode())
        for _ in range(wsgi_app.PIECES):
            sock.sendall(wsgi_app.PIECE)
        head, _ = received(sock)
    if not head.endswith(b"\r\n\r\n%d" % GIGABYTE):
        raise NoServer("the upload came to a wrong end")


def download(port: int) -> None:
    with ask(port, "GET /gigabyte") as sock:
        sock.sendall(b"\r\n")
        _, length = received(sock)
    if length != GIGABYTE:
        raise NoServer(f"the download ended after {length:,} bytes")


def hello(port: int) -> None:
    with ask(port, "GET /") as sock:
        sock.sendall(b"\r\n")
        received(sock)


def megabytes(running: Running) -> dict[str, float]:
    return {name: value / KB_IN_MB for name, value in running.memory().items()}


def watched(running: Running, title: str, transfer: Callable[[int], None]) -> Growth:
    before, start = megabytes(running), time.monotonic()
    transfer(running.port)
    return Growth(title, time.monotonic() - start, before, megabytes(running))


def measure(server: Server) -> list[Growth]:
    """On a server that has answered once, so that what it is made of is there before."""
    with Running(server, MANY, SERVER_CORE) as running, on_this_core(LOAD_CORE):
        hello(running.port)
        return [
            watched(running, "1 GB uploaded", upload),
            watched(running, "1 GB downloaded", download),
        ]
