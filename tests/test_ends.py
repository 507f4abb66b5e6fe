"""How connections over TLS end, and how servers do: what is said, who is told, and what is left."""

import http.server
import json
import os
import signal
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Certificates, Peer, Serving, until
from program_support import Program, is_alive
from tls_support import TLSPeer, server_context

BODY = b"x" * 100_000


class UntilTheEnd:
    """HTTP/1.0 without a length: the connection's end is the response's."""

    def do_GET(self: Any) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *args: Any) -> None: ...


def wrapped(base: type, certificate: Certificates) -> type:
    """A server class whose listening socket is wrapped, as people do."""

    class Wrapped(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.socket = server_context(certificate.ecdsa).wrap_socket(self.socket, server_side=True)

    return Wrapped


class Pool(hangup.ThreadingHTTPServer):
    def process_request(self, request: Any, client_address: Any) -> None:
        threading.Thread(target=self.process_request_thread, args=(request, client_address)).start()


class PoolOfMixIn(socketserver.ThreadingMixIn, hangup.HTTPServer):
    daemon_threads = False

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        super().process_request_thread(request, client_address)


def wrapping(base: type, certificate: Certificates) -> type:
    """One that wraps each connection."""
    context = server_context(certificate.ecdsa)

    class Wrapping(base):  # type: ignore[misc]
        def get_request(self) -> Any:
            sock, address = super().get_request()
            return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), address

        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request)

    return Wrapping


WAYS: dict[str, Any] = {
    "wrapped listener": lambda cert: wrapped(hangup.ThreadingHTTPServer, cert),
    "wrapped listener, serial": lambda cert: wrapped(hangup.HTTPServer, cert),
    "process_request of its own": lambda cert: wrapped(Pool, cert),
    "process_request_thread of its own": lambda cert: wrapped(PoolOfMixIn, cert),
    "get_request that wraps": lambda cert: wrapping(hangup.ThreadingHTTPServer, cert),
    "get_request that wraps, serial": lambda cert: wrapping(hangup.HTTPServer, cert),
}


@pytest.mark.parametrize("base", [hangup.BaseHTTPRequestHandler, http.server.BaseHTTPRequestHandler])
@pytest.mark.parametrize("way", WAYS)
def test_a_response_that_ends_with_its_connection_ends_with_close_notify(
    serve: Any, certificate: Certificates, way: str, base: type
) -> None:
    handler = type("Handler", (UntilTheEnd, base), {})
    serving: Serving = serve(handler, WAYS[way](certificate))
    for _ in range(2):
        with TLSPeer(serving.address) as peer:
            # Without one, the last read raises SSLEOFError.
            sent = peer.send(b"GET / HTTP/1.0\r\n\r\n").read_to_end()
            assert sent.endswith(b"\r\n\r\n" + BODY)


FORKING = """
import socketserver, ssl
class Handler(hangup.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"x" * 100000)
class Server(socketserver.ForkingMixIn, hangup.HTTPServer): pass
server = Server(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERT, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
say("port", server.server_port)
server.serve_forever()
"""


@pytest.fixture
def run() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*args: Any, **options: Any) -> Program:
        started.append(Program(*args, **options))
        return started[-1]

    yield start
    for program in started:
        program.stop()


def test_so_it_does_from_a_child_of_a_forking_server(run: Any, certificate: Certificates) -> None:
    cert = certificate.ecdsa
    program = run(FORKING.replace("CERT", repr(cert.cert)).replace("KEY", repr(cert.key)))
    with TLSPeer(program.address) as peer:
        assert peer.send(b"GET / HTTP/1.0\r\n\r\n").read_to_end().endswith(BODY)


def test_a_client_that_reads_nothing_delays_no_goodbye_beyond_its_time(
    serve: Any, certificate: Certificates
) -> None:
    handler = type("Handler", (UntilTheEnd, hangup.BaseHTTPRequestHandler), {})
    serving = serve(
        handler, WAYS["process_request of its own"](certificate), config=hangup.Config(write_timeout=0.1)
    )
    with TLSPeer(serving.address) as peer:
        peer.send(b"GET / HTTP/1.0\r\n\r\n")
        with TLSPeer(serving.address) as other:
            assert other.send(b"GET / HTTP/1.0\r\n\r\n").read_to_end().endswith(BODY)
        with pytest.raises(ssl.SSLEOFError):
            raise ssl.SSLEOFError if peer.read_to_end().endswith(BODY) else AssertionError


# -- the end of a server

APP = """
import os, threading, time
import hangup
def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/wait":
        client = environ["hangup.client"]
        with client.on_disconnect(say, "called back"):
            say("waits")
            say("woke", client.wait(30), client.reason)
    elif path == "/sleep":
        say("sleeps")
        try:
            hangup.sleep(30)
        finally:
            say("slept")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return stream() if path == "/stream" else [b"ok"]
def stream():
    try:
        while True:
            yield b"data\\n"
            time.sleep(0.01)
    finally:
        say("generator closed")
"""
IN_CODE = """
import threading
def ready(server):
    say("port", server.port)
    GIVES
hangup.serve(app, port=0, graceful_timeout=GRACE, access_log="json", ready=ready)
say("returned")
"""
ENDS = {
    "serve": signal.SIGINT,
    "serve, SIGTERM": signal.SIGTERM,
    "code": signal.SIGINT,
    "shutdown": None,
}


def serve_app_in(run: Any, directory: Path, way: str, grace: float) -> Program:
    (directory / "ending.py").write_text(APP)
    if way.startswith("serve"):
        return run(
            "", sys.executable, "-m", "hangup", "serve", "--port", "0", "--graceful-timeout", str(grace),
            "--access-log", "json", "--app-dir", str(directory), "ending:app",
        )  # fmt: skip
    gives = "threading.Thread(target=lambda: (input(), server.shutdown())).start()"
    source = APP + IN_CODE.replace("GRACE", str(grace))
    return run(source.replace("GIVES", gives if way == "shutdown" else "pass"))


def end(program: Program, way: str) -> None:
    number = ENDS[way]
    if number is None:
        program.tell()
    else:
        program.signal(number)


@pytest.mark.parametrize("way", ENDS)
def test_what_runs_beyond_the_grace_time_is_told_and_closed(run: Any, tmp_path: Path, way: str) -> None:
    program = serve_app_in(run, tmp_path, way, 0.2)
    peers = {path: Peer(program.address).get(path) for path in ("/stream", "/wait", "/sleep")}
    assert peers["/stream"].read_until(b"data\n\r\n")
    program.wait_for("waits\n")
    program.wait_for("sleeps\n")
    end(program, way)
    if way != "shutdown":
        program.wait_for("finishing 3 requests; a second Ctrl-C or SIGTERM ends at once")
    program.wait_for("generator closed\n")
    program.wait_for("woke True DisconnectReason.SHUTDOWN\n")
    program.wait_for("called back\n")
    program.wait_for("slept\n")
    assert program.wait() == 0
    for path in peers:
        assert program.wait_for(rf"cut off after 0\.2 s of grace: 'GET {path}'")
        (line,) = program.wait_for(r'(\{.*"' + path + r'".*\})\n')
        assert json.loads(line)["outcome"] == "failed", line
    for peer in peers.values():
        peer.read_to_end()
        peer.fin()


@pytest.mark.parametrize("way", ["serve", "serve, SIGTERM", "code"])
def test_a_second_signal_ends_it_at_once(run: Any, tmp_path: Path, way: str) -> None:
    program = serve_app_in(run, tmp_path, way, 60.0)
    with Peer(program.address) as peer:
        peer.get("/stream").read_until(b"data\n\r\n")
        end(program, way)
        program.wait_for("finishing 1 request; a second Ctrl-C or SIGTERM ends at once")
        end(program, way)
        assert program.wait() == -int(ENDS[way] or 0)


def test_nothing_is_said_of_nothing(run: Any, tmp_path: Path) -> None:
    program = serve_app_in(run, tmp_path, "serve", 60.0)
    with Peer(program.address) as idle:
        assert idle.get("/").response()[1] == b"ok"
        program.wait_for('"target": "/"')  # It is in progress until it is told of.
        program.signal(signal.SIGINT)
        assert idle.read_to_end() == b""
    assert program.wait() == 0
    assert "finishing" not in program.said


def test_under_gunicorn_what_runs_on_is_told_and_closed(gunicorn: Any) -> None:
    said_to_log = APP.replace("os.write(1,", "os.write(2,")
    program = gunicorn(
        "--graceful-timeout", "1", "--access-logfile", "-", app=said_to_log
    ).ready()  # fmt: skip
    with Peer(program.address) as stream, Peer(program.address) as waiting:
        assert stream.get("/stream").read_until(b"data\n\r\n")
        waiting.get("/wait")
        program.wait_for("waits\n")
        program.process.send_signal(signal.SIGTERM)
        program.wait_for("generator closed\n")
        program.wait_for("woke True DisconnectReason.SHUTDOWN\n")
        program.wait_for("called back\n")
        assert program.process.wait(2 * PATIENCE) == 0
        stream.read_to_end()
        waiting.read_to_end()


# -- unix sockets


def on_path(run: Any, directory: Path, path: str, *more: str) -> Program:
    (directory / "ending.py").write_text(APP)
    before = os.path.exists(path) and os.stat(path).st_ino
    program: Program = run(
        "", sys.executable, "-m", "hangup", "serve", "--uds", path, "--graceful-timeout", "30",
        "--access-log", "off", "--app-dir", str(directory), *more, "ending:app",
    )  # fmt: skip
    program.wait_for(r"hangup \S+ serves ending:app")
    assert not before or before != os.stat(path).st_ino or more
    return program


def answers(path: str) -> bool:
    with Peer(path) as peer:
        return peer.get("/", "Connection: close").response()[1] == b"ok"


@pytest.mark.parametrize("options", [(), ("--reload",)])
def test_an_old_server_leaves_its_successors_socket_alone(
    run: Any, tmp_path: Path, options: tuple[str, ...]
) -> None:
    if options:
        pytest.importorskip("watchfiles")
    path = str(tmp_path / "socket")
    first = on_path(run, tmp_path, path, *options)
    os.unlink(path)  # As a roll-over does.
    second = on_path(run, tmp_path, path, *options)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    assert answers(path)
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    assert not os.path.exists(path)


def test_nor_does_one_that_drains_while_its_successor_begins(run: Any, tmp_path: Path) -> None:
    # Its listener has closed by then, and the successor's file may have its inode's number.
    path = str(tmp_path / "socket")
    first = on_path(run, tmp_path, path)
    with Peer(path) as stream:
        stream.get("/stream").read_until(b"data\n\r\n")
        first.signal(signal.SIGTERM)
        first.wait_for("finishing 1 request")
        until(lambda: not os.path.exists(path), "its path is free")
        second = on_path(run, tmp_path, path)
        stream.fin()
        assert first.wait() == 0
        assert answers(path)
        assert is_alive(second.process.pid)
