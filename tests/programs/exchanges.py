"""What is asked of every program, and what of its responses is compared.

Each function returns something that ``==`` can compare: what a client sees of a server, without what
differs from run to run.
"""

import http.client
import os
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"
#: Seconds that one response may take.
PATIENCE = 8.0
#: Header fields whose values are compared; of ``Date`` and ``Server``, that they are there.
FIELDS = frozenset(
    (
        "accept-ranges",
        "allow",
        "cache-control",
        "content-disposition",
        "content-length",
        "content-range",
        "content-type",
        "dav",
        "etag",
        "last-modified",
        "location",
        "retry-after",
        "transfer-encoding",
        "vary",
        "www-authenticate",
    )
)
ALWAYS = ("date", "server")
#: A body is compared whole up to here, and by its length beyond.
WHOLE = 20_000


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request.  ``body`` is sent with a Content-Length, if it is not None."""

    method: str = "GET"
    path: str = "/"
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """A program that serves: where, and what in its responses differs from run to run."""

    port: int
    volatile: tuple[str, ...] = ()

    def plain(self, text: str) -> str:
        text = text.replace(str(self.port), "PORT")
        for pattern in self.volatile:
            text = re.sub(pattern, "…", text)
        return text


Seen = dict[str, Any]


def seen(site: Site, response: http.client.HTTPResponse) -> Seen:
    """The response as a value: its version, status, header fields and body."""
    try:
        body, cut = response.read(), False
    except (http.client.IncompleteRead, OSError) as error:
        body, cut = getattr(error, "partial", b""), True
    text = site.plain(body.decode("latin-1"))
    fields = {
        name.lower(): site.plain(value)
        for name, value in response.getheaders()
        if name.lower() in FIELDS
    }
    if text != body.decode("latin-1"):
        fields.pop("content-length", None)
    if "allow" in fields:
        fields["allow"] = ", ".join(sorted(fields["allow"].split(", ")))
    fields |= {name: "there" for name in ALWAYS if response.getheader(name)}
    return {
        "version": response.version / 10,
        "status": response.status,
        "kept": not response.will_close,
        "fields": dict(sorted(fields.items())),
        "body": text if len(text) <= WHOLE else f"{len(body)} bytes",
        **({"cut off": True} if cut else {}),
    }


def failure(error: Exception) -> str:
    """A connection that ended is one thing to a client, whichever of these it becomes here."""
    if isinstance(error, TimeoutError):
        return "no response"
    return "closed without a response" if isinstance(error, ConnectionError) else type(error).__name__


def ask(
    site: Site, exchange: Exchange, connection: http.client.HTTPConnection | None = None
) -> Seen | str:
    """One request, on a connection of its own if none is given."""
    own = connection or http.client.HTTPConnection(HOST, site.port, timeout=PATIENCE)
    try:
        own.request(exchange.method, exchange.path, exchange.body, exchange.fields)
        return seen(site, own.getresponse())
    except (OSError, http.client.HTTPException) as error:
        return failure(error)
    finally:
        if connection is None:
            own.close()


def kept(site: Site, exchange: Exchange) -> list[Seen | str]:
    """Five requests by a client that keeps its connection where the server lets it."""
    with closing(http.client.HTTPConnection(HOST, site.port, timeout=PATIENCE)) as connection:
        return [ask(site, exchange, connection) for _ in range(5)]


def parallel(site: Site, exchange: Exchange) -> list[Any]:
    """Twenty clients at once: their statuses."""
    with ThreadPoolExecutor(20) as pool:
        answers = pool.map(lambda _: ask(site, exchange), range(20))
        return [each["status"] if isinstance(each, dict) else each for each in answers]


def pieces(body: bytes) -> Iterator[bytes]:
    """Some ten pieces of it."""
    size = max(1, len(body) // 10)
    for start in range(0, len(body), size):
        yield body[start : start + size]


def chunked(site: Site, exchange: Exchange) -> Seen | str:
    """The same upload in chunks."""
    with closing(http.client.HTTPConnection(HOST, site.port, timeout=PATIENCE)) as connection:
        try:
            connection.request(
                exchange.method,
                exchange.path,
                pieces(exchange.body or b""),
                {**exchange.fields, "Transfer-Encoding": "chunked"},
                encode_chunked=True,
            )
            return seen(site, connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            return failure(error)


def head_of(exchange: Exchange, *more: str, port: int = 0) -> bytes:
    """The request's header section as bytes, with further lines."""
    lines = [f"{exchange.method} {exchange.path} HTTP/1.1", f"Host: {HOST}:{port}"]
    lines += [f"{name}: {value}" for name, value in exchange.fields.items()]
    if exchange.body is not None:
        lines.append(f"Content-Length: {len(exchange.body)}")
    return "\r\n".join([*lines, *more, "", ""]).encode("latin-1")


def expecting(site: Site, exchange: Exchange) -> Any:
    """``Expect: 100-continue``: the statuses that come; the body is sent after the first, or 2 s."""
    with socket.create_connection((HOST, site.port), PATIENCE) as sock:
        sock.sendall(head_of(exchange, "Expect: 100-continue", "Connection: close", port=site.port))
        sock.settimeout(2)
        got = b""
        try:
            got = sock.recv(65536)
        except TimeoutError:
            pass
        except OSError as error:
            return failure(error)
        sock.settimeout(PATIENCE)
        try:
            sock.sendall(exchange.body or b"")
            while piece := sock.recv(65536):
                got += piece
        except TimeoutError:
            return "no response"
        except OSError:
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", got)]


def two_hosts(site: Site, path: str) -> bool:
    """Whether a request with two Host fields is refused: by hangup's own handlers, and by no others."""
    head = f"GET {path} HTTP/1.1\r\nHost: one\r\nHost: two\r\nConnection: close\r\n\r\n"
    with socket.create_connection((HOST, site.port), PATIENCE) as sock:
        sock.sendall(head.encode())
        try:
            return sock.recv(65536).split(b" ")[1:2] == [b"400"]
        except OSError:
            return False


def hang_up(sock: socket.socket, *, reset: bool) -> None:
    """Close a connection by RST, or by FIN."""
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def disconnects(site: Site, read: Exchange, upload: Exchange | None) -> int:
    """Clients that disconnect at each point of a request, by FIN and by RST; how many there were."""
    head = head_of(read, port=site.port)
    points = [b"", head[:8], head[:-6], head, head + head[:20]]
    if upload:
        before = head_of(upload, port=site.port)
        points += [before, before + (upload.body or b"")[: len(upload.body or b"") // 2]]
    count = 0
    for data in points:
        for reset in (False, True):
            for reading in (False, True) if data.endswith(head) else (False,):
                sock = socket.create_connection((HOST, site.port), PATIENCE)
                try:
                    sock.sendall(data)
                    if reading:
                        sock.recv(1)
                except OSError:
                    pass
                hang_up(sock, reset=reset)
                count += 1
    return count


def run(*command: str, cwd: str | None = None, env: dict[str, str] | None = None) -> tuple[int, str]:
    """A client that is a program: its exit status, and what it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def curl(site: Site, read: Exchange, upload: Exchange | None) -> list[Any]:
    """curl twice on one connection; and its upload, which is large enough to ask for 100 Continue."""
    url = f"http://{HOST}:{site.port}"
    status, text = run("curl", "-sS", "-m", "8", url + read.path, url + read.path)
    found = [status, site.plain(text)]
    if upload:
        options = [f"-H{name}: {value}" for name, value in upload.fields.items()]
        data = (upload.body or b"").decode("latin-1")
        shown = ["-o", os.devnull, "-w", "%{http_code}"]
        command = [
            "curl",
            "-sS",
            "-m",
            "8",
            "-X",
            upload.method,
            *options,
            "--data-binary",
            data,
            *shown,
        ]
        found += run(*command, "-H", "Expect: 100-continue", url + upload.path)
    return found


def libraries(site: Site, read: Exchange) -> list[Any]:
    """requests with a session, and urllib3 with a pool: three requests each."""
    import requests
    import urllib3

    url = f"http://{HOST}:{site.port}{read.path}"
    with requests.Session() as session:
        found: list[Any] = [session.get(url, timeout=PATIENCE).status_code for _ in range(3)]
    with urllib3.PoolManager(timeout=PATIENCE, retries=False) as pool:
        found += [pool.request("GET", url).status for _ in range(3)]
    return found


def until(condition: Callable[[], object], seconds: float, every: float = 0.05) -> bool:
    """Whether ``condition()`` became true in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
