"""TLS: the servers that speak it, their handshakes and certificates, and departures within it."""

import contextlib
import http.client
import http.server
import inspect
import io
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

import hangup
from conftest import PATIENCE, Peer, Recording, Serving, ServingApp, answer, until
from hangup import ClientState, Config, ConfigError, DisconnectReason, Outcome, Phase, WSGIServer

BIG = os.urandom(3_000_000)


class Files(NamedTuple):
    cert: str
    key: str
    encrypted_key: str
    password: str


def make_certificate(directory: Path, name: str) -> Files:
    files = Files(*(str(directory / f"{name}.{kind}") for kind in ("crt", "key", "enc")), "secret")
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", files.key, "-out", files.cert],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        ["openssl", "ec", "-in", files.key, "-aes256", "-passout", f"pass:{files.password}",
         "-out", files.encrypted_key],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "first")


@pytest.fixture(scope="module")
def other_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_certificate(tmp_path_factory.mktemp("other"), "second")


class Client:
    """A client's end of TLS, in memory: so it can send what it likes, when it likes."""

    def __init__(self, address: Any, cafile: str, **limits: Any) -> None:
        context = ssl.create_default_context(cafile=cafile)
        for name, value in limits.items():
            setattr(context, name, value)
        self.peer = Peer(address)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def flush(self, each: int = 1 << 20) -> None:
        data = self._out.read()
        for at in range(0, len(data), each):
            self.peer.send(data[at : at + each])

    def _receive(self) -> None:
        data = self.peer.sock.recv(65536)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def shake_hands(self, each: int = 1 << 20) -> "Client":
        while True:
            try:
                self.tls.do_handshake()
                self.flush(each)
                return self
            except ssl.SSLWantReadError:
                self.flush(each)
                self._receive()

    def send(self, data: bytes, each: int = 1 << 20) -> "Client":
        self.tls.write(data)
        self.flush(each)
        return self

    def get(self, path: str, *fields: str) -> "Client":
        return self.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode())

    def recv(self, size: int = 65536) -> bytes:
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                self._receive()

    def makefile(self, *_: object) -> Any:
        outer = self

        class Raw(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def readinto(self, buffer: Any) -> int:
                data = outer.recv(len(buffer))
                buffer[: len(data)] = data
                return len(data)

        return io.BufferedReader(Raw())

    def response(self) -> tuple[int, bytes]:
        response = http.client.HTTPResponse(self)  # type: ignore[arg-type]
        response.begin()
        return response.status, response.read()

    def say_goodbye(self) -> "Client":
        with contextlib.suppress(ssl.SSLError):  # It would wait for the server's.
            self.tls.unwrap()
        self.flush()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.fin()


class Handling:
    """What the handlers and the application of these tests share: where they meet the test."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.out = threading.Semaphore(0)
        self.told: list[bool] = []

    def body(self, path: str, client: Any, read: Callable[[], bytes]) -> bytes:
        if path == "/wait":
            self.inside.release()
            self.told.append(client.wait(PATIENCE))
        elif path == "/held":
            self.inside.release()
            assert self.out.acquire(timeout=PATIENCE)
        return {"/big": BIG, "/post": b""}.get(path, b"ok") if path != "/post" else read()


def handler_for(base: Any, handling: Handling) -> Any:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, handling.body(self.path, self.client, lambda: b""))

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            answer(self, handling.body(self.path, self.client, lambda: self.rfile.read(length)))

    return Handler


def app_for(handling: Handling) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        client, path = environ["hangup.client"], environ["PATH_INFO"]
        body = handling.body(path, client, environ["wsgi.input"].read)
        if path == "/scheme":
            body = f"{environ['wsgi.url_scheme']} {environ['HTTPS']}".encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return app


class Door(NamedTuple):
    serving: Any
    handling: Handling
    cert: str

    def client(self, **limits: Any) -> Client:
        address = self.serving.server.address if hasattr(self.serving.server, "engine") else None
        return Client(address or self.serving.address, self.cert, **limits)

    @property
    def engine(self) -> Any:
        return getattr(self.serving.server, "engine", None) or self.serving.engine

    def connections(self) -> list[Any]:
        entries = self.engine.loop._entries
        return [entry for entry in list(entries.values()) if hasattr(entry, "peer")]


DOORS = ["own", "stock", "wrapped", "wsgi"]


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, serve: Any, serve_app: Any, files: Files) -> Any:
    """Start a server that speaks TLS, by each of the ways in."""

    def start(**settings: Any) -> Door:
        handling = Handling()
        config = Config(**settings)
        if request.param == "wsgi":
            serving = serve_app(app_for(handling), config=config, certfile=files.cert, keyfile=files.key)
        elif request.param == "wrapped":
            serving = serve(handler_for(hangup.BaseHTTPRequestHandler, handling), Wrapped, config=config,
                            files=files)  # fmt: skip
        else:
            base = {"own": hangup.BaseHTTPRequestHandler, "stock": http.server.BaseHTTPRequestHandler}
            serving = serve(
                handler_for(base[request.param], handling),
                hangup.ThreadingHTTPSServer,
                certfile=files.cert,
                keyfile=files.key,
                config=config,
            )
        return Door(serving, handling, files.cert)

    return start


class Wrapped(hangup.ThreadingHTTPServer):
    """What everybody does."""

    def __init__(self, *args: Any, files: Files, **options: Any) -> None:
        super().__init__(*args, **options)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)


# -- what is served


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_are_served_on_one_connection_whatever_their_size(door: Any, version: Any) -> None:
    with door().client(maximum_version=version).shake_hands() as client:
        assert client.tls.version() == version.name.replace("_", ".")
        for _ in range(2):
            assert client.get("/").response() == (200, b"ok")
            assert client.get("/big").response() == (200, BIG)
        client.send(b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG)
        assert client.response() == (200, BIG)


def test_a_handshake_and_a_request_may_come_byte_by_byte(door: Any) -> None:
    with door().client() as client:
        client.peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.shake_hands(each=1).send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", each=1)
        assert client.response() == (200, b"ok")


def test_requests_that_are_pipelined_in_one_record_are_all_answered(door: Any) -> None:
    with door().client().shake_hands() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        reader = client.makefile()
        for _ in range(50):
            response = http.client.HTTPResponse(type("S", (), {"makefile": lambda *_: reader})())
            response.fp.close = lambda: None  # type: ignore[method-assign]
            response.begin()
            assert response.read() == b"ok"


def test_curl_and_openssl_are_served(door: Any, files: Files) -> None:
    serving = door().serving
    port = serving.server.port if isinstance(serving, ServingApp) else serving.address[1]
    url = f"https://localhost:{port}/"
    done = subprocess.run(
        ["curl", "-sS", "--http1.1", "--cacert", files.cert, "--resolve", f"localhost:{port}:127.0.0.1",
         "-w", "%{http_code} %{num_connects} ", *(each for _ in range(3) for each in ("-o", os.devnull)),
         url, url, url + "big"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("200 1 200 0 200 0 ", "")
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", files.cert, "-quiet",
         "-verify_return_error"],
        input="GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("HTTP/1.1 200 OK")
    assert done.stdout.endswith("ok")


def test_an_application_is_told_of_the_scheme(serve_app: Any, files: Files) -> None:
    serving = serve_app(app_for(Handling()), certfile=files.cert, keyfile=files.key)
    assert serving.server.url.startswith("https://127.0.0.1:")
    with Client(serving.server.address, files.cert).shake_hands() as client:
        assert client.get("/scheme").response() == (200, b"https on")


def test_a_handler_can_ask_what_was_agreed_on(serve: Any, files: Files) -> None:
    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            connection = self.connection
            said = (connection.version(), connection.selected_alpn_protocol(), connection.cipher()[1],
                    connection.getpeercert())  # fmt: skip
            with pytest.raises(ValueError, match="flags"):
                connection.recv(1, socket.MSG_PEEK)
            with pytest.raises(io.UnsupportedOperation):
                self.wfile.fileno()
            answer(self, repr(said).encode())

    serving = serve(Handler, hangup.HTTPSServer, certfile=files.cert, keyfile=files.key)
    context = ssl.create_default_context(cafile=files.cert)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(
        socket.create_connection(serving.address), server_hostname="localhost"
    ) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"('TLSv1.3', 'http/1.1', 'TLSv1.3', None)" in b"".join(
            iter(lambda: sock.recv(9999), b"")
        )


def test_a_file_is_served_whole(serve: Any, files: Files, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BIG)

    def handler(*args: Any) -> Any:
        return hangup.SimpleHTTPRequestHandler(*args, directory=str(tmp_path))

    serving = serve(handler, hangup.ThreadingHTTPSServer, certfile=files.cert, keyfile=files.key)
    with Client(serving.address, files.cert).shake_hands() as client:
        assert client.get("/file").response() == (200, BIG)


def test_the_servers_have_the_signature_of_python_3_14(files: Files) -> None:
    names = inspect.signature(hangup.HTTPSServer).parameters
    assert list(names)[:7] == [
        "server_address", "RequestHandlerClass", "bind_and_activate", "certfile", "keyfile", "password",
        "alpn_protocols",
    ]  # fmt: skip
    for cls in (hangup.HTTPSServer, hangup.ThreadingHTTPSServer):
        with cls(
            ("127.0.0.1", 0),
            hangup.BaseHTTPRequestHandler,
            certfile=files.cert,
            keyfile=files.encrypted_key,
            password=files.password,
        ) as server:
            assert isinstance(server.socket, ssl.SSLSocket)
    assert issubclass(hangup.ThreadingHTTPSServer, hangup.ThreadingHTTPServer)


def test_clients_may_be_asked_for_certificates(serve_app: Any, files: Files, other_files: Files) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=other_files.cert)
    context.load_cert_chain(files.cert, files.key)
    context.verify_mode = ssl.CERT_REQUIRED
    serving = serve_app(app_for(Handling()), ssl_context=context)
    trusted = ssl.create_default_context(cafile=files.cert)

    def ask() -> bytes:
        with trusted.wrap_socket(
            socket.create_connection(serving.server.address), server_hostname="localhost"
        ) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return sock.recv(15)

    with pytest.raises(OSError, match=r"(?i)certificate.required|reset|broken"):
        ask()
    trusted.load_cert_chain(other_files.cert, other_files.key)
    assert ask() == b"HTTP/1.1 200 OK"


# -- handshakes


def test_who_connects_and_says_nothing_delays_nobody(
    door: Any, caplog: pytest.LogCaptureFixture
) -> None:
    started = door(handshake_timeout=60.0, max_threads=2)
    with started.client() as probe:
        probe.shake_hands().get("/").response()
        silent = [started.client() for _ in range(100)]
        for client in silent[::2]:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.tls.do_handshake()
            client.peer.send(client._out.read()[:50])  # a part of a hello
        until(lambda: len(started.connections()) == 101, "all are accepted")
        assert probe.get("/").response() == (200, b"ok")
        with started.client().shake_hands() as late:
            assert late.get("/").response() == (200, b"ok")
        for client in silent:
            client.peer.fin()
    until(lambda: not started.connections(), "all are closed")
    assert [r for r in caplog.records if r.levelno > logging.DEBUG and r.name == "hangup"] == []


def test_handshakes_do_not_wait_for_slow_handlers(door: Any) -> None:
    started = door(max_threads=1)
    with started.client().shake_hands() as first:
        first.get("/held")
        assert started.handling.inside.acquire(timeout=PATIENCE)
        # In TLS 1.2 the server has the last word.
        others = [
            started.client(maximum_version=ssl.TLSVersion.TLSv1_2).shake_hands() for _ in range(10)
        ]
        for other in others:
            other.get("/")
        backlog = started.engine.workers._backlog
        until(lambda: len(backlog) == 10, "their requests wait; one handler is permitted")
        assert started.engine.workers._busy == 1
        started.handling.out.release()
        for other in (first, *others):
            assert other.response() == (200, b"ok")
            other.peer.fin()


@pytest.mark.parametrize("said", [0, 1, 60])
def test_a_handshake_has_a_deadline(door: Any, said: int) -> None:
    started = door(handshake_timeout=0.2)
    with started.client() as client:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.tls.do_handshake()
        if said:
            client.peer.send(client._out.read()[:said])
        assert client.peer.read_to_end() == b""


@pytest.mark.parametrize("manner", ["fin", "rst", "half_close"])
@pytest.mark.parametrize("point", ["connected", "in its hello", "after the server's hello"])
def test_leaving_during_the_handshake_costs_nothing(
    door: Any, point: str, manner: str, caplog: pytest.LogCaptureFixture
) -> None:
    started = door()
    with started.client() as client:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.tls.do_handshake()
        if point != "connected":
            hello = client._out.read()
            client.peer.send(hello[:40] if point == "in its hello" else hello)
        if point == "after the server's hello":
            assert client.peer.sock.recv(65536)
        until(lambda: started.connections(), "it is accepted")
        getattr(client.peer, manner)()
        until(lambda: not started.connections(), "it is closed")
    with started.client().shake_hands() as healthy:
        assert healthy.get("/").response() == (200, b"ok")
    assert [r for r in caplog.records if r.levelno > logging.DEBUG and r.name == "hangup"] == []


def test_plain_http_is_told_so_in_plain_http(door: Any) -> None:
    started = door()
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\n" + b"x" * 100_000):
        with started.client() as client:
            response, body = client.peer.send(data).response()
            assert (response.status, response.reason) == (400, "This port speaks HTTPS, not HTTP")
            assert response.getheader("Content-Length") == str(len(body))
            assert response.getheader("Connection") == "close"
            assert client.peer.read_to_end() == b""
    for record in started.serving.wait_for_records(2):
        assert (record.outcome, record.status) == (Outcome.REJECTED, 400)


def test_what_is_no_tls_at_all_gets_an_alert_or_a_word_and_the_end(door: Any) -> None:
    started = door()
    with started.client() as client:
        client.peer.send(b"\x16\x03\x01\x00\x05hello")
        alert = client.peer.read_to_end()
        assert alert[:1] == b"\x15", "an alert (RFC 8446 §6)"


def test_old_protocols_are_refused_by_an_alert(door: Any, files: Files) -> None:
    serving = door().serving
    port = serving.server.port if isinstance(serving, ServingApp) else serving.address[1]
    done = subprocess.run(
        ["openssl", "s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0",
         "-connect", f"127.0.0.1:{port}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "alert protocol version" in done.stderr


def test_records_that_were_tampered_with_end_the_connection(door: Any) -> None:
    started = door()
    with started.client().shake_hands() as client:
        assert client.get("/").response() == (200, b"ok")
        client.tls.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        record = bytearray(client._out.read())
        record[-1] ^= 1
        client.peer.send(bytes(record))
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
            client.recv()
    until(lambda: not started.connections(), "it is closed")


# -- departures


def leave(client: Client, manner: str) -> None:
    if manner == "goodbye":
        client.say_goodbye()
    elif manner == "fin":
        client.say_goodbye().peer.fin()
    else:
        {"truncation": client.peer.fin, "rst": client.peer.rst}[manner]()


@pytest.mark.parametrize("manner", ["goodbye", "fin", "truncation", "rst"])
def test_a_handler_is_told_at_once(door: Any, manner: str) -> None:
    started = door()
    client = started.client().shake_hands()
    with client:
        client.get("/wait")
        assert started.handling.inside.acquire(timeout=PATIENCE)
        leave(client, manner)
        until(lambda: started.handling.told, "it is told")
        assert started.handling.told == [True]
        record = None if manner == "goodbye" else started.serving.record()
    if record is not None:
        assert (record.outcome, record.phase, record.status) == (
            Outcome.DISCONNECTED,
            Phase.HANDLER,
            499,
        )


def test_who_says_goodbye_and_reads_on_gets_its_whole_answer(door: Any) -> None:
    """RFC 8446 §6.1: it closes one direction."""
    started = door()
    with started.client().shake_hands() as client:
        client.get("/held")
        assert started.handling.inside.acquire(timeout=PATIENCE)
        (connection,) = started.connections()
        client.say_goodbye()
        until(lambda: connection.peer.state is ClientState.EOF, "it is seen")
        assert connection.peer.reason is DisconnectReason.FIN
        started.handling.out.release()
        # OpenSSL reads no more after a goodbye of its own, so its bytes are counted.
        assert len(client.peer.read_to_end()) > len(b"HTTP/1.1 200 OK")
    assert started.serving.record().outcome is Outcome.COMPLETED


@pytest.mark.parametrize("manner", ["goodbye", "fin", "truncation", "rst"])
def test_a_body_that_is_cut_off_is_never_taken_for_whole(
    serve_app: Any, files: Files, manner: str
) -> None:
    read: list[bytes] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        read.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    at_once = Config(body_prefetch=0)
    serving = serve_app(app, certfile=files.cert, keyfile=files.key, config=at_once)
    with Client(serving.server.address, files.cert).shake_hands() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
        entries = serving.server.engine.loop._entries
        until(
            lambda: any(
                exchange.phase is Phase.BODY
                for entry in list(entries.values())
                if (exchange := getattr(entry, "exchange", None)) is not None
            ),
            "the application waits for the rest",
        )
        leave(client, manner)
        record = serving.record()
    assert (record.outcome, record.phase, record.status) == (Outcome.DISCONNECTED, Phase.BODY, 499)
    assert read == []


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_leaving_in_the_middle_of_an_answer(door: Any, manner: str) -> None:
    started = door()
    client = started.client().shake_hands()
    with client:
        client.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
        assert client.recv(10)
        leave(client, manner)
        until(
            lambda: any(r.outcome is Outcome.DISCONNECTED for r in started.serving.records),
            "it is told of",
        )
    until(lambda: not started.connections(), "it is closed")


@pytest.mark.parametrize("manner", ["goodbye", "fin", "truncation", "rst"])
def test_an_idle_connection_that_is_left_is_closed(door: Any, manner: str) -> None:
    started = door()
    with started.client().shake_hands() as client:
        assert client.get("/").response() == (200, b"ok")
        until(lambda: started.connections()[0].state.name == "IDLE", "it is idle")
        leave(client, manner)
        until(lambda: not started.connections(), "it is closed")
    assert [r.outcome for r in started.serving.wait_for_records(1)] == [Outcome.COMPLETED]


@pytest.mark.parametrize("fields", [(), ("Connection: close",)])
def test_who_has_its_answer_and_leaves_at_once_was_answered(door: Any, fields: tuple[str, ...]) -> None:
    """A goodbye to a client that has closed is answered by RST, as if it had refused its answer."""
    started = door()
    for _ in range(60):
        with started.client().shake_hands() as client:
            assert client.get("/", *fields).response() == (200, b"ok")
            client.say_goodbye()
    records = started.serving.wait_for_records(60)
    assert {(r.outcome, r.status) for r in records} == {(Outcome.COMPLETED, 200)}


@pytest.mark.parametrize("manner", ["goodbye", "fin", "truncation", "rst"])
def test_a_request_whose_client_left_while_it_waited_is_not_started(door: Any, manner: str) -> None:
    started = door(max_threads=1)
    with started.client().shake_hands() as first, started.client().shake_hands() as dead:
        first.get("/held")
        assert started.handling.inside.acquire(timeout=PATIENCE)
        dead.get("/dead")
        backlog = started.engine.workers._backlog
        until(lambda: len(backlog) == 1, "it waits")
        threading.Event().wait(0.06)  # not a half-close: that comes with its request
        leave(dead, manner)
        until(lambda: not len(backlog), "it is dropped")
        started.handling.out.release()
        assert first.response() == (200, b"ok")
        record = next(r for r in started.serving.wait_for_records(2) if r.phase is Phase.QUEUED)
    assert (record.outcome, record.status, record.wasted) == (Outcome.DISCONNECTED, 499, 0)


def test_a_client_that_does_not_read_is_given_up(door: Any) -> None:
    started = door(write_timeout=0.2)
    with started.client().shake_hands() as client:
        client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
        until(
            lambda: any(r.outcome is Outcome.DISCONNECTED for r in started.serving.records),
            "it is given up",
        )
    until(lambda: not started.connections(), "it is closed")


def test_many_clients_that_come_and_go_never_wait_for_bytes_that_have_come(door: Any) -> None:
    """The event loop reads ahead while a handler works; what it has read must not be forgotten."""
    started = door(max_threads=4)
    failures: list[BaseException] = []

    def good(number: int) -> None:
        try:
            for turn in range(25):
                with started.client().shake_hands() as client:
                    for path in ("/", "/big" if turn % 8 == number % 8 else "/", "/"):
                        assert client.get(path).response()[0] == 200
        except BaseException as error:
            failures.append(error)

    def leaver() -> None:
        for turn in range(50):
            with started.client().shake_hands() as client:
                client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * (turn % 3))
                leave(client, ("fin", "truncation", "rst")[turn % 3])

    threads = [threading.Thread(target=good, args=(number,)) for number in range(4)]
    threads += [threading.Thread(target=leaver) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    until(lambda: not started.connections(), "all are closed")


def test_an_idle_server_over_tls_can_be_closed(door: Any) -> None:
    started = door()
    with started.client().shake_hands() as idle, started.client():
        assert idle.get("/").response() == (200, b"ok")
        until(lambda: len(started.connections()) == 2, "both are there")
        started.serving.stop()
        assert idle.recv() == b"", "a goodbye"


# -- certificates


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"certfile": "/nowhere/cert.pem"}, "can't read /nowhere/cert.pem: No such file or directory"),
        ({"keyfile": "/nowhere/key.pem"}, "can't read /nowhere/key.pem: No such file or directory"),
        ({"keyfile": "other"}, "the private key doesn't belong to the certificate"),
        ({"keyfile": "encrypted"}, "is encrypted, and there is no password for it"),
        ({"keyfile": "encrypted", "keyfile_password": "wrong"}, "private key's password is another one"),
        ({"certfile": "key"}, "there is no certificate in PEM form in it"),
        ({"keyfile": "cert"}, "there is no private key in PEM form in it"),
        ({"keyfile": "nonsense"}, "can't make sense of it"),
        ({"certfile": None}, "keyfile is of no use without certfile"),
        ({"ssl_context": "context"}, "ssl_context has its certificate"),
        ({"certfile": None, "keyfile": None, "ssl_context": "client"}, "ssl_context is one for clients"),
        ({"certfile": None, "keyfile": None, "ssl_context": 5}, "must be an ssl.SSLContext, not 5"),
    ],
)
def test_what_can_not_be_used_is_named_in_one_line(
    files: Files, other_files: Files, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (tmp_path / "nonsense").write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n")
    known = {
        "other": other_files.key,
        "key": files.key,
        "cert": files.cert,
        "nonsense": str(tmp_path / "nonsense"),
        "encrypted": files.encrypted_key,
        "context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        "client": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    }
    options: dict[str, Any] = {"certfile": files.cert, "keyfile": files.key}
    options.update({key: known.get(value, value) for key, value in change.items()})
    with pytest.raises(ConfigError) as error:
        WSGIServer(app_for(Handling()), port=0, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


class Command(Recording):
    """``hangup serve`` over TLS, in a process of its own; what it says on stderr, line by line."""

    def __init__(self, directory: Path, *args: str, **environment: str) -> None:
        (directory / "hello.py").write_text(
            "def app(environ, start_response):\n"
            "    start_response('200 OK', [('Content-Length', '2')])\n"
            "    return [b'ok']\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hangup", "serve", "hello:app", "--port", "0", *args],
            cwd=directory, env={**os.environ, **environment},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def line(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            assert self.process.stderr is not None
            self.process.stderr.close()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Any]:
    started: list[Command] = []

    def start(*args: str, **environment: str) -> Command:
        started.append(Command(tmp_path, *args, **environment))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end()
        each.process.wait()
        assert each.process.stderr is not None
        each.process.stderr.close()


def common_name(address: Any, *cafiles: str) -> str:
    """Whose certificate a new connection is shown."""
    context = ssl.create_default_context()
    for cafile in cafiles:
        context.load_verify_locations(cafile)
    with context.wrap_socket(socket.create_connection(address), server_hostname="localhost") as sock:
        certificate: Any = sock.getpeercert()
        return str(certificate["subject"][0][0][1])


def test_sighup_has_the_certificate_read_again(
    command: Any, files: Files, other_files: Files, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert", tmp_path / "key"

    def put(source: Files) -> None:
        cert.write_text(Path(source.cert).read_text())
        key.write_text(Path(source.key).read_text())

    put(files)
    server = command("--certfile", str(cert), "--keyfile", str(key))
    said = server.line()
    assert " on https://127.0.0.1:" in said
    address = "127.0.0.1", int(said.partition("127.0.0.1:")[2].partition(",")[0])
    with Client(address, files.cert).shake_hands() as old:
        assert old.get("/").response() == (200, b"ok")
        assert common_name(address, files.cert) == "first"
        put(other_files)
        server.process.send_signal(signal.SIGHUP)
        assert "INFO hangup: the certificate has been read again" in server.line()
        assert common_name(address, other_files.cert) == "second"
        key.write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        assert "ERROR hangup: the certificate was not renewed: can't use " in server.line()
        assert common_name(address, other_files.cert) == "second"
        assert old.get("/").response() == (200, b"ok"), "what was open goes on"
    assert server.end() == 0


def test_the_keys_password_may_come_from_the_environment(command: Any, files: Files) -> None:
    server = command(
        "--certfile", files.cert, HANGUP_KEYFILE=files.encrypted_key, HANGUP_KEYFILE_PASSWORD="secret"
    )
    assert " on https://" in server.line()
    assert server.end() == 0


def test_a_certificate_that_can_not_be_used_is_one_line_and_status_2(command: Any, files: Files) -> None:
    server = command("--certfile", files.cert, "--keyfile", files.encrypted_key)
    assert server.line().startswith("Error: the private key in ")
    assert server.line() == ""
    assert server.process.wait(PATIENCE) == 2


def test_gunicorn_serves_tls_with_its_own_settings(tmp_path: Path, files: Files) -> None:
    (tmp_path / "hello.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [environ['wsgi.url_scheme'].encode()]\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--no-control-socket", "-k", "hangup.gunicorn.Worker",
         "--certfile", files.cert, "--keyfile", files.key, "-b", "127.0.0.1:0", "hello:app"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "Listening at: https://" in line:
                port = int(line.partition("127.0.0.1:")[2].split()[0])
            if "Booting worker" in line:
                break
        with Client(("127.0.0.1", port), files.cert).shake_hands() as client:
            assert client.get("/").response() == (200, b"https")
    finally:
        process.terminate()
        rest = process.stderr.read()
        assert process.wait(3 * PATIENCE) == 0, rest
        process.stderr.close()
    assert "Traceback" not in rest


# -- servers in the standard library's own loop


class OwnThreads(hangup.HTTPServer):
    """A program that decides on threads itself."""

    threads: list[threading.Thread]

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address))
        self.threads = [*getattr(self, "threads", ()), thread]
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        finally:
            self.shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for thread in getattr(self, "threads", ()):
            thread.join(PATIENCE)


def test_in_a_loop_that_is_not_the_engines_a_silent_client_delays_nobody_either(
    serve: Any, files: Files
) -> None:
    class Server(OwnThreads):
        def server_activate(self) -> None:
            super().server_activate()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.cert, files.key)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

    serving: Serving = serve(Handler, Server, config=Config(handshake_timeout=0.3))
    with Peer(serving.address) as silent:
        with Client(serving.address, files.cert).shake_hands() as client:
            assert client.get("/", "Connection: close").response() == (200, b"ok")
        assert silent.read_to_end() == b""
