"""Whether a server answers rightly: the requests are wrk's own, and each answer is looked at whole.

They are caught by :func:`caught`: a server that answers anything, and keeps what it got.
"""

import html
import http.client
import io
import json
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs

from traffic_apps import answers
from wsgi_servers import HOST, NoServer

HERE = Path(__file__).resolve().parent
#: Seconds that an answer may take.
PATIENCE = 10
#: At so many connections at once.
SIDE_BY_SIDE = 8
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(frozen=True, slots=True)
class Request:
    """One of wrk's; ``head`` is as it came, with its empty line."""

    head: bytes
    body: bytes
    method: str
    path: str
    query: dict[str, str]
    fields: dict[str, str]

    @classmethod
    def parsed(cls, head: bytes, body: bytes) -> "Request":
        line, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = line.split(" ")
        if version != "HTTP/1.1":
            raise ValueError(f"version {version}")
        path, _, query = target.partition("?")
        fields = dict(each.split(": ", 1) for each in lines)
        if len(fields) != len(lines):
            raise ValueError("a field comes twice")
        return cls(head, body, method, path, single(query), fields)

    def sent_to(self, port: int) -> bytes:
        """Its bytes for a server at that port: Host and Origin say which."""
        host = self.fields["Host"].encode()
        here = f"{HOST}:{port}".encode()
        return self.head.replace(host, here) + self.body

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def single(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query, strict_parsing=bool(query)).items()}


def wrk(port: int, load: str, seconds: int, connections: int, *, close: bool, seed: int) -> list[str]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{PATIENCE}s"]
    command += ["-s", str(HERE / "traffic.lua")]
    ending = ["close"] if close else []
    return [*command, f"http://{HOST}:{port}/{load}", "--", load, str(seed), *ending]


def read(reader: BinaryIO) -> Request | None:
    """The next request, or None at the end."""
    head = reader.readline()
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line:
            return None
        head += line
    fields = http.client.parse_headers(io.BytesIO(head.partition(b"\r\n")[2]))
    return Request.parsed(head, reader.read(int(fields["Content-Length"] or 0)))


def caught(load: str, count: int, *, close: bool = False) -> list[Request]:
    """The first ``count`` requests of a load."""
    found: list[Request] = []

    def receive() -> None:
        while len(found) < count:
            # wrk opens a connection first, only to see whether it can.
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as reader:
                while len(found) < count and (request := read(reader)):
                    found.append(request)
                    connection.sendall(RESPONSE)

    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=receive)
        thread.start()
        command = wrk(listener.getsockname()[1], load, 1, 1, close=close, seed=1)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        thread.join()
        process.kill()
        process.wait()
    if len(found) < count:
        raise NoServer(f"wrk sent {len(found)} requests of {count}")
    return found


Check = Callable[[Request, int, bytes], bool]


def item(request: Request, status: int, body: bytes) -> bool:
    number, query = int(request.path.split("/")[3]), request.query
    expected = answers.item(number, query["q"], int(query["page"]), request.fields["X-Request-ID"])
    return status == 200 and json.loads(body) == expected


def page(request: Request, status: int, body: bytes) -> bool:
    number = int(request.path.split("/")[2])
    source = html.escape(request.query["from"])
    shown = [f"<h1>Page {number}</h1>", f"From {source}", f"Item &lt;{number + 19}&gt;"]
    return status == 200 and all(each in body.decode() for each in shown)


def asset(request: Request, status: int, body: bytes) -> bool:
    if "If-Modified-Since" in request.fields:
        return status == 304 and not body
    return status == 200 and body == answers.ASSETS[request.path.split("/")[2]][1]


def feed(request: Request, status: int, body: bytes) -> bool:
    return status == 304 and not body


def order(request: Request, status: int, body: bytes) -> bool:
    return status == 200 and json.loads(body) == answers.order(json.loads(request.body))


def contact(request: Request, status: int, body: bytes) -> bool:
    form = single(request.body.decode())
    return status == 200 and json.loads(body) == answers.contact(
        form["name"], form["email"], form["message"]
    )


CHECKS: dict[str, Check] = {
    "/api/items/": item,
    "/pages/": page,
    "/static/": asset,
    "/feeds/": feed,
    "/api/orders": order,
    "/contact": contact,
}
FIXED = {
    "hello": answers.HELLO,
    "megabyte": answers.MEGABYTE,
    "stream": answers.CHUNK * answers.CHUNKS,
}


def check_requests(port: int, requests: list[Request]) -> None:
    """:exc:`NoServer` if the server gives a wrong answer to any of them."""
    for start in range(0, len(requests), SIDE_BY_SIDE):
        some = requests[start : start + SIDE_BY_SIDE]
        sockets = [socket.create_connection((HOST, port), PATIENCE) for _ in some]
        try:
            for request, sock in zip(some, sockets, strict=True):
                sock.sendall(request.sent_to(port))
            for request, sock in zip(some, sockets, strict=True):
                check_answer(request, sock)
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            raise NoServer(f"{type(error).__name__} {error}".rstrip()) from error
        finally:
            for sock in sockets:
                sock.close()


def check_answer(request: Request, sock: socket.socket) -> None:
    response = http.client.HTTPResponse(sock, method=request.method)
    with response:
        response.begin()
        status, body = response.status, response.read()
    check = next(check for prefix, check in CHECKS.items() if request.path.startswith(prefix))
    try:
        right = check(request, status, body)
    except ValueError:
        right = False  # It is no JSON, or no text.
    if not right:
        raise NoServer(f"{request}: {status} with {len(body):,} bytes, {body[:80]!r}")


def check_fixed(port: int, load: str) -> bool:
    """Likewise of a request that is always the same; and whether it ends its answer by closing."""
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.request("GET", f"/{load}")
        response = connection.getresponse()
        status, body = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NoServer(f"/{load}: {type(error).__name__} {error}".rstrip()) from error
    finally:
        connection.close()
    if status != 200 or body != FIXED[load]:
        raise NoServer(f"/{load}: {status} with {len(body):,} of {len(FIXED[load]):,} bytes")
    return not response.chunked and response.getheader("Content-Length") is None
