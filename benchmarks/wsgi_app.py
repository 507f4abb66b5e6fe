"""The WSGI application that every server of ``wsgi.py`` serves."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Environ = dict[str, Any]
Start = Callable[[str, list[tuple[str, str]]], Any]

HELLO = b"Hello, world!"
BIG = b"x" * 1_000_000
CHUNK = b"x" * 1_000
CHUNKS = 100
PIECE = b"x" * 100_000
#: How often PIECE makes 1 GB.
PIECES = 10_000
READ = 65536


def answer(start: Start, body: bytes, status: str = "200 OK") -> list[bytes]:
    start(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def hello(environ: Environ, start: Start) -> list[bytes]:
    return answer(start, HELLO)


def five_ms(environ: Environ, start: Start) -> list[bytes]:
    time.sleep(0.005)
    return answer(start, HELLO)


def slow(environ: Environ, start: Start) -> list[bytes]:
    time.sleep(0.05)
    return answer(start, HELLO)


def big(environ: Environ, start: Start) -> list[bytes]:
    return answer(start, BIG)


def upload(environ: Environ, start: Start) -> list[bytes]:
    """Read the body to its end, and tell how long it was; one that is cut short is an error."""
    expected = left = int(environ["CONTENT_LENGTH"])
    read = environ["wsgi.input"].read
    while left and (data := read(min(READ, left))):
        left -= len(data)
    return answer(start, str(expected - left).encode(), "400 Bad Request" if left else "200 OK")


def stream(environ: Environ, start: Start) -> Iterator[bytes]:
    """Chunks, of which the server does not know beforehand how many there are."""
    start("200 OK", [("Content-Type", "text/plain")])
    return (CHUNK for _ in range(CHUNKS))


def gigabyte(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(PIECE) * PIECES))])
    return (PIECE for _ in range(PIECES))


PAGES = {
    "/5ms": five_ms,
    "/slow": slow,
    "/big": big,
    "/upload": upload,
    "/stream": stream,
    "/gigabyte": gigabyte,
}


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    return PAGES.get(environ["PATH_INFO"], hello)(environ, start)
