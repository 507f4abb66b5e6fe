"""A WSGI application without a framework."""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from traffic_apps import answers, routes

Environ = dict[str, Any]
Start = Callable[[str, list[tuple[str, str]]], Any]

STATUSES = {each.value: f"{each.value} {each.phrase}" for each in HTTPStatus}
BLOCK = 65536


def fixed(start: Start, body: bytes) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def stream(start: Start) -> Iterable[bytes]:
    """Chunks, of which the server does not know beforehand how many there are."""
    start("200 OK", [("Content-Type", "text/plain")])
    return (answers.CHUNK for _ in range(answers.CHUNKS))


def body_of(environ: Environ) -> bytes:
    length = int(environ["CONTENT_LENGTH"])
    body: bytes = environ["wsgi.input"].read(length)
    if len(body) != length:
        raise EOFError(f"{len(body)} of {length} bytes")
    return body


def file(environ: Environ, path: Path) -> Iterable[bytes]:
    wrap = environ.get("wsgi.file_wrapper")
    opened = path.open("rb")
    if wrap is not None:
        wrapped: Iterable[bytes] = wrap(opened, BLOCK)
        return wrapped
    with opened:
        return [opened.read()]


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/hello":
        return fixed(start, answers.HELLO)
    if path == "/megabyte":
        return fixed(start, answers.MEGABYTE)
    if path == "/stream":
        return stream(start)
    if environ["REQUEST_METHOD"] == "POST":
        answer = routes.post(path, body_of(environ))
    else:
        answer = routes.get(
            path,
            environ.get("QUERY_STRING", ""),
            lambda name: environ.get("HTTP_" + name.upper().replace("-", "_"), ""),
        )
    status, kind, more, body = answer
    if status == 304:
        start(STATUSES[status], more)
        return []
    length = len(body) if isinstance(body, bytes) else body.stat().st_size
    start(STATUSES[status], [("Content-Type", kind), ("Content-Length", str(length)), *more])
    return [body] if isinstance(body, bytes) else file(environ, body)
