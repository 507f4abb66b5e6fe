"""Connections that close while their client has yet to read: the last response arrives whole."""

import functools
import http.client
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

import hangup
from conftest import BASES, PATIENCE, Certificates, Peer, Serving, ServingApp, answer, until
from hangup import Config
from hangup._connection.state import State
from hangup._engine.workers import Workers
from hangup._system.poller import bytes_queued
from tls_support import TLSPeer

# As much as the kernel takes for a client that does not read yet, so that the server is done with it.
SIZE = 1_500_000
BODY = os.urandom(SIZE)
HUGE = 20_000_000
# What comes late: the CRLF that some clients send behind a request, a request, anything.
LATE = {
    "crlf": b"\r\n",
    "request": b"GET / HTTP/1.1\r\nHost: test\r\n\r\n",
    "junk": b"\x00\xff" * 5000,
    "nothing": b"",
}


def app(environ: dict[str, Any], start_response: Any) -> Any:
    kind = environ["PATH_INFO"].strip("/")
    body = BODY if kind else b"ok"
    head = [] if kind == "chunked" else [("Content-Length", str(len(body)))]
    start_response("200 OK", head)
    if kind in ("iterator", "chunked"):
        return (body[start : start + 100_000] for start in range(0, len(body), 100_000))
    if kind == "file":
        return environ["wsgi.file_wrapper"](open(environ["QUERY_STRING"], "rb"))
    return [body]


def handler_for(base: Any) -> Any:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, BODY if self.path != "/" else b"ok")

        def log_message(self, *args: Any) -> None: ...

    return Handler


class Files(hangup.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files")
    (path / "body").write_bytes(BODY)
    return path


#: What answers, and the target.
KINDS = ["list", "iterator", "chunked", "file", "own", "stock", "files", "tls"]


@pytest.fixture
def open_kind(serve: Any, serve_app: Any, certificate: Certificates, directory: Path) -> Any:
    """Start a server of a kind; returns how to connect to it, what to ask for, and its engine."""

    def start(kind: str, **limits: Any) -> tuple[Any, str, Any]:
        config = Config(**limits)
        if kind in BASES or kind == "files":
            handler: Any = Files if kind == "files" else handler_for(BASES[kind])
            if kind == "files":
                handler = functools.partial(Files, directory=str(directory))
            serving: Serving = serve(handler, config=config)
            return serving.connect, "/body", serving.engine
        files = {}
        if kind == "tls":
            files = {"certfile": certificate.ecdsa.cert, "keyfile": certificate.ecdsa.key}
        one: ServingApp = serve_app(app, config=config, **files)
        target = f"/file?{directory / 'body'}" if kind == "file" else f"/{kind}"
        connect = one.connect if kind != "tls" else lambda: TLSPeer(one.server.address)
        return connect, target, one.server.engine

    return start


def states(engine: Any) -> list[State]:
    entries = list(engine.loop._entries.values())
    return [entry.state for entry in entries if hasattr(entry, "peer")]


def until_answered(engine: Any) -> None:
    """Until the server has answered and closed, as far as it can: only the kernel has something."""
    until(lambda: set(states(engine)) == {State.LINGERING}, "it is answered")
    until(lambda: not engine.in_progress(), "it is handled")


def body_of(sent: bytes) -> bytes:
    head, _, body = sent.partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return body
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return whole


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("kind", KINDS)
def test_late_bytes_destroy_no_response(open_kind: Any, kind: str, late: str) -> None:
    connect, target, engine = open_kind(kind)
    with connect() as peer:
        peer.get(target, "Connection: close")
        until_answered(engine)
        peer.send(LATE[late])
        assert body_of(peer.read_to_end()) == BODY


@pytest.mark.parametrize("kind", ["list", "own", "stock", "files"])
def test_late_bytes_destroy_no_response_to_http_1_0(open_kind: Any, kind: str) -> None:
    connect, target, engine = open_kind(kind)
    with connect() as peer:
        peer.send(b"GET %b HTTP/1.0\r\n\r\n" % target.encode())
        until_answered(engine)
        for _ in range(3):
            peer.send(b"\r\n")
        assert body_of(peer.read_to_end()) == BODY


def test_what_came_while_it_was_sent_destroys_no_response(serve: Any, monkeypatch: Any) -> None:
    """Nobody has watched the connection, and its client has read all by the time that it is closed."""
    read = threading.Event()  # By the handler: two that read one connection would share its bytes.

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            peer = self.server.peer
            answer(self, bytes(30_000))
            peer.send(LATE["request"])
            peer.read_until(bytes(30_000))
            connection = self.request.connection
            until(lambda: not bytes_queued(connection.sock), "the client has it")
            assert not connection.watched
            read.set()

    class Server(hangup.ThreadingHTTPServer):
        """Its client's request is there before the server is: nobody has to wait for it."""

        def server_activate(self) -> None:
            super().server_activate()
            self.peer = Peer(self.server_address).get("/", "Connection: close")

    monkeypatch.setattr(Workers, "look", lambda workers: False)  # A slow handler's would be watched.
    serving = serve(Handler, Server)
    with serving.server.peer as peer:
        assert read.wait(PATIENCE)
        assert peer.read_to_end() == b""


def test_a_keep_alive_connection_that_ends_meanwhile_destroys_none(open_kind: Any) -> None:
    connect, target, engine = open_kind("list", keep_alive_timeout=0.05)
    with connect() as peer:
        peer.get(target)
        until(lambda: states(engine) == [State.LINGERING], "its time is over")
        peer.send(LATE["request"])
        assert body_of(peer.read_to_end()) == BODY


def test_a_server_that_drains_meanwhile_destroys_none(serve: Any) -> None:
    serving = serve(handler_for(hangup.BaseHTTPRequestHandler))
    with serving.connect() as peer:
        peer.get("/body")
        engine = serving.engine
        until(lambda: states(engine) == [State.IDLE], "it is answered")
        closing = threading.Thread(target=serving.server.shutdown)
        closing.start()
        until(lambda: states(engine) == [State.LINGERING], "it ends")
        peer.send(LATE["crlf"])
        assert body_of(peer.read_to_end()) == BODY
        closing.join()


@pytest.mark.parametrize("kind", ["list", "own"])
def test_a_half_closed_client_gets_its_response(open_kind: Any, kind: str) -> None:
    connect, target, engine = open_kind(kind)
    with connect() as peer:
        peer.get(target, "Connection: close").half_close()
        until_answered(engine)
        assert body_of(peer.read_to_end()) == BODY


def looked_at(connection: Any, deadline: float) -> bool:
    return connection.deadline > deadline or connection.state is State.CLOSED


def test_a_slow_reader_is_waited_for_beyond_all_bounds_on_silence(open_kind: Any) -> None:
    connect, target, engine = open_kind(
        "list", linger_timeout=0.05, linger_time=0.05, write_timeout=30.0
    )
    with connect() as peer:
        peer.get(target, "Connection: close")
        until_answered(engine)
        (connection,) = [one for one in engine.loop._entries.values() if hasattr(one, "peer")]
        got = b""
        deadline = connection.deadline
        while len(got) < SIZE // 2:
            got += peer.sock.recv(65536)
            # At each step it has been looked at, and was kept.
            until(functools.partial(looked_at, connection, deadline), "a look")
            deadline = connection.deadline
        peer.send(b"\r\n")
        assert body_of(got + peer.read_to_end()) == BODY


@pytest.mark.parametrize("kind", ["list", "own", "tls"])
def test_a_client_that_never_reads_is_given_up(open_kind: Any, kind: str) -> None:
    connect, target, engine = open_kind(kind, linger_timeout=0.05, write_timeout=0.3)
    with connect() as peer:
        peer.get(target, "Connection: close")
        until(lambda: engine.loop.opened and not states(engine), "it is given up")


# -- refused uploads


def empty(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "0")])
    return []


def refusing(serve_app: Any, **limits: Any) -> ServingApp:
    return serve_app(empty, config=Config(**limits))


@pytest.mark.parametrize("chunked", [False, True])
def test_http_client_reads_its_413_behind_20_megabytes(serve_app: Any, *, chunked: bool) -> None:
    def read(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.input"].read()
        start_response("200 OK", [])
        return []

    serving = serve_app(read, config=Config(max_request_body_size=1_000_000))
    client = http.client.HTTPConnection(*serving.server.address, timeout=PATIENCE)
    pieces = (bytes(100_000) for _ in range(HUGE // 100_000))
    client.request("POST", "/", body=pieces if chunked else bytes(HUGE), encode_chunked=chunked,
                   headers={"Transfer-Encoding": "chunked"} if chunked else {})  # fmt: skip
    assert client.getresponse().status == 413
    client.close()


def big_fields() -> bytes:
    return b"GET / HTTP/1.1\r\nHost: test\r\n" + b"X: %b\r\n" % (b"x" * 60_000) * 30


#: A request that is refused, and what of it comes before the rest.
REFUSED = {
    400: b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    413: b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % HUGE,
    414: b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
    417: b"POST / HTTP/1.1\r\nHost: test\r\nExpect: a miracle\r\nContent-Length: %d\r\n\r\n" % HUGE,
    431: big_fields(),
}


@pytest.mark.parametrize("status", REFUSED)
@pytest.mark.parametrize("kind", ["list", "own", "tls"])
def test_who_is_refused_reads_why_after_all_is_sent(open_kind: Any, kind: str, status: int) -> None:
    connect, _, _ = open_kind(kind, max_request_body_size=1_000_000)
    with connect() as peer:
        peer.send(REFUSED[status])
        for _ in range(HUGE // 1_000_000):
            peer.send(bytes(1_000_000))
        sent = peer.read_to_end()
        assert sent.startswith(b"HTTP/1.1 %d " % status)
        assert b"Connection: close" in sent


def test_who_is_answered_without_its_body_being_read_gets_it_all(serve_app: Any) -> None:
    serving = serve_app(app)
    with serving.connect() as peer:
        peer.send(b"POST /list HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % HUGE)
        peer.send(bytes(HUGE))
        assert peer.response()[1] == BODY


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("way", ["--data-binary", "-T"])
def test_curl_reads_its_413(serve_app: Any, tmp_path: Path, way: str) -> None:
    serving = refusing(serve_app, max_request_body_size=1_000_000)
    (tmp_path / "body").write_bytes(bytes(HUGE))
    name = str(tmp_path / "body")
    found = subprocess.run(
        ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "-H", "Expect:",
         way, f"@{name}" if way == "--data-binary" else name, serving.server.url],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (0, "413")


def endless(peer: Peer) -> int:
    """Send until the server has had enough; returns how much it took."""
    sent = 0
    peer.sock.settimeout(PATIENCE)
    while True:
        try:
            sent += peer.sock.send(bytes(1_000_000))
        except (BrokenPipeError, ConnectionResetError):
            return sent


def test_the_bound_of_lingering_is_kept(serve_app: Any) -> None:
    serving = refusing(serve_app, max_request_body_size=1000, linger_time=0.5, linger_timeout=30.0)
    with serving.connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (1 << 60))
        assert endless(peer) > 0
    until(lambda: not states(serving.server.engine), "it is closed")


def test_the_bound_is_kept_for_bytes_that_trickle(serve_app: Any) -> None:
    serving = refusing(serve_app, max_request_body_size=1000, linger_time=0.3, linger_timeout=0.1)
    with serving.connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (1 << 60))
        pause = threading.Event()
        try:
            while True:
                peer.send(b"x")
                pause.wait(0.01)
        except (BrokenPipeError, ConnectionResetError):
            pass


def test_others_are_answered_while_a_quick_sender_is_drained(serve_app: Any) -> None:
    serving = refusing(serve_app, max_request_body_size=1000)
    senders = []
    peers = [serving.connect() for _ in range(2)]
    for peer in peers:
        peer.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (1 << 60))
        senders.append(threading.Thread(target=endless, args=(peer,)))
        senders[-1].start()
    for _ in range(50):
        assert serving.get()[0].status == 200
    assert states(serving.server.engine).count(State.LINGERING) == 2
    for peer in peers:
        peer.sock.shutdown(socket.SHUT_RDWR)
    for sender in senders:
        sender.join()
    for peer in peers:
        peer.fin()
