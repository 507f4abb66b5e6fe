"""The loads that ``wsgi.py`` puts on servers, what is the right answer to each, and wrk's figures."""

import http.client
import json
import math
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import wsgi_app
from wsgi_servers import BOTH, HOST, LOAD_CORE, SERVER_CORE, NoServer, on_cores

HERE = Path(__file__).resolve().parent
CONNECTIONS = 32
#: Threads of the servers that have a fixed number of them: where handlers compute, and where they sleep.
FEW, MANY = 8, 64
#: Seconds that one answer may take, and what a run may take beyond its time.
PATIENCE = 10
UPLOAD = 10_000_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What one measurement found; ``trouble`` is what went wrong while it ran."""

    rate: float
    p99: float
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """A load; ``answer`` is the body of the right answer to its request."""

    name: str
    title: str
    path: str = "/"
    answer: bytes = wsgi_app.HELLO
    threads: int = FEW
    connections: int = CONNECTIONS
    options: tuple[str, ...] = ()
    body: bytes | None = None
    #: Whether it is about connections that are kept; where servers can't do otherwise, they close.
    keep: bool = True
    #: Where server and load run.
    cores: tuple[str, str] = (SERVER_CORE, LOAD_CORE)
    #: Which servers it is for (none: all).
    only: tuple[str, ...] = ()

    def check(self, port: int) -> str:
        """Whether the server answers it rightly (:exc:`NoServer` if not), and what it does besides."""
        check(port, self.path, self.answer, self.body)
        if self.body:
            return ""
        if CLOSING[1] in self.options:
            check_closing(port)
            return ""
        return kept(port, self.path, self.connections)

    def run(self, port: int, seconds: int) -> Figures:
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "--latency", *self.options]
        return wrk(on_cores(self.cores[1], [*command, f"http://{HOST}:{port}{self.path}"]), seconds)


class Mix(Load):
    """One request in ten sleeps 50 ms; the latency that counts is the others'."""

    __slots__ = ()

    def check(self, port: int) -> str:
        check(port, "/slow", self.answer, None)
        return super().check(port)

    def run(self, port: int, seconds: int) -> Figures:
        command = [sys.executable, str(HERE / "wsgi_mix.py"), str(port), str(seconds)]
        done = finish(on_cores(self.cores[1], command), seconds)
        if done.returncode:
            return Figures(0, math.inf, (done.stderr.strip().splitlines() or ["the load failed"])[-1])
        return Figures(**json.loads(done.stdout))


SCRIPTED = ("-s", str(HERE / "wsgi_differs.lua"))
UPLOADING = ("-s", str(HERE / "wsgi_upload.lua"))
CLOSING = ("-H", "Connection: close")
SHARED = (BOTH, BOTH)
MIXED = ("hangup", "granian", "waitress", "gunicorn")

ALL = (
    Load("hello", "hello, keep-alive"),
    Load("hello-both", "hello, keep-alive, both on both cores", cores=SHARED),
    Load("differs", "hello, keep-alive, every path another", "/hello/0", options=SCRIPTED),
    Load("new", "hello, new connections", options=CLOSING, keep=False),
    Load("5ms", "a handler that sleeps 5 ms", "/5ms", threads=MANY),
    Load(
        "5ms-both", "a handler that sleeps 5 ms, both on both cores", "/5ms", threads=MANY, cores=SHARED
    ),
    Load("big", "1 MB down", "/big", wsgi_app.BIG),
    Load(
        "upload",
        "10 MB up, 4 connections",
        "/upload",
        str(UPLOAD).encode(),
        connections=4,
        options=UPLOADING,
        body=b"x" * UPLOAD,
    ),
    Load("stream", "a stream of 100 chunks", "/stream", wsgi_app.CHUNK * wsgi_app.CHUNKS, keep=False),
    Mix("mix", "the mix", "/quick", threads=MANY, only=MIXED),
)


def check(port: int, path: str, answer: bytes, body: bytes | None) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.request("POST" if body else "GET", path, body)
        response = connection.getresponse()
        got = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NoServer(f"{path}: {type(error).__name__} {error}".rstrip()) from error
    finally:
        connection.close()
    if response.status != 200 or got != answer:
        raise NoServer(f"{path}: {response.status} with {len(got):,} of {len(answer):,} bytes")


def check_closing(port: int) -> None:
    """Whether it closes when it is told to; otherwise these would be no new connections."""
    with socket.create_connection((HOST, port), 1) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        try:
            while sock.recv(65536):
                pass
        except OSError as error:
            raise NoServer("does not close a connection with Connection: close") from error


def kept(port: int, path: str, count: int) -> str:
    """What the server does with connections that are to be kept: wrk measures only those it answers."""
    connections = [http.client.HTTPConnection(HOST, port, timeout=1) for _ in range(count)]
    try:
        for number, connection in enumerate(connections):
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
            except TimeoutError:
                if not number:
                    raise NoServer(f"{path}: no end of the answer within 1 s") from None
                return f"holds a thread for each connection: with {number} open, the next one waits"
            except (OSError, http.client.HTTPException) as error:
                raise NoServer(f"kept connections: {type(error).__name__} {error}") from error
            if not response.chunked and response.getheader("Content-Length") is None:
                return "ends its answer by closing, which wrk counts as a read error, and as an answer"
            if response.will_close or closed(connection.sock):
                return (
                    f"keeps {number} connections, and closes others" if number else "closes connections"
                )
        return ""
    finally:
        for connection in connections:
            connection.close()


def closed(sock: socket.socket | None) -> bool:
    """Whether the server has closed it, though its answer didn't say so."""
    if sock is None:
        return True
    sock.settimeout(0.01)
    try:
        return not sock.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True


def finish(command: list[str], seconds: int) -> subprocess.CompletedProcess[str]:
    limit = seconds + PATIENCE
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"the load did not end within {limit} s")


def wrk(command: list[str], seconds: int) -> Figures:
    done = finish(command, seconds)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", done.stdout)
    if not rate or not p99:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        return Figures(0, math.inf, f"wrk said: {said[-1].strip()}")
    trouble = re.findall(r"(?:Socket errors|Non-2xx).*", done.stdout)
    unit = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[p99[2]]
    return Figures(float(rate[1]), float(p99[1]) * unit, "; ".join(each.strip() for each in trouble))
