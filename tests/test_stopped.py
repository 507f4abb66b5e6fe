"""A process that is stopped, as a frozen container or a suspended machine is, beyond its deadlines.

What has come in time is read before a deadline is applied; what has not is refused as ever.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import Certificates, Peer, until
from program_support import Program
from tls_support import TLSPeer, Wire, client_context

SERVES = """
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/read":
        say("reads")
        body = b"%d" % len(environ["wsgi.input"].read())
    elif path in ("/big", "/list"):
        say("big")
        body = bytes(30_000_000)
    else:
        body = b"ok"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    if path == "/big":
        return (body[at:at + 1000000] for at in range(0, len(body), 1000000))
    return [body]
limits = dict.fromkeys(
    ["request_header_timeout", "keep_alive_timeout", "body_timeout", "write_timeout",
     "handshake_timeout"], 3.0)
config = hangup.Config(**limits, max_threads=4)
server = hangup.WSGIServer(app, port=0, access_log="off", config=config, **FILES)
server.start()
say("port", server.port)
signal.pause()
"""
# Longer than each of the limits.
STOPPED = 4.0


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start_one(**files: str) -> Program:
        started.append(Program(SERVES.replace("FILES", repr(files))))
        return started[-1]

    yield start_one
    for program in started:
        program.stop()


class stopped:  # noqa: N801
    """While the program is stopped; the block's end is beyond its deadlines."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def __enter__(self) -> None:
        self.program.signal(signal.SIGSTOP)
        # Its threads stop one by one: what is sent sooner one of them may still receive.
        os.waitid(os.P_PID, self.program.process.pid, os.WSTOPPED)

    def __exit__(self, *_: object) -> None:
        # The one thing here that nothing tells of: that a time is over for somebody who sleeps.
        threading.Event().wait(STOPPED)
        self.program.signal(signal.SIGCONT)


def test_a_request_on_an_idle_connection(start: Any) -> None:
    program = start()
    with program.connect() as peer, program.connect() as silent:
        for each in (peer, silent):
            assert each.get("/").response()[1] == b"ok"
        with stopped(program):
            peer.get("/")
        assert peer.response()[1] == b"ok"
        assert silent.read_to_end() == b""


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: te", b"G"])
def test_the_rest_of_a_head(start: Any, first: bytes) -> None:
    program = start()
    whole = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
    with program.connect() as peer, program.connect() as slow, program.connect() as silent:
        for each in (peer, slow, silent):
            each.send(first)
        assert program.get() == "ok"
        with stopped(program):
            peer.send(whole[len(first) :])
            slow.send(whole[len(first) : -2])
        assert peer.response()[1] == b"ok"
        # What has not come is refused, also if some of it has.
        assert slow.response()[0].status == 408
        assert silent.response()[0].status == 408


@pytest.mark.parametrize("size", [1000, 300_000])
def test_the_rest_of_a_body(start: Any, size: int) -> None:
    program = start()
    head = b"POST /read HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size
    body = bytes(size)
    begin = size // 2
    with program.connect() as peer, program.connect() as slow, program.connect() as silent:
        for each in (peer, slow, silent):
            each.send(head + body[:begin])
        if begin > 65536:
            program.wait_for("reads", 3)
        else:
            assert program.get() == "ok"
        with stopped(program):
            peer.send(body[begin:])
            slow.send(body[begin:-1])
        assert peer.response()[1] == b"%d" % size
        assert slow.response()[0].status == 408
        assert silent.response()[0].status == 408


def empty(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "0")])
    return []


def test_what_has_come_is_looked_for_before_a_deadline_is_applied(serve_app: Any) -> None:
    # Which of the two comes first is a matter of where the process was stopped: here, the deadline.
    serving = serve_app(empty)
    loop = serving.server.engine.loop
    with serving.connect() as idle, serving.connect() as half, serving.connect() as silent:
        for each in (idle, silent):
            assert each.get("/").response()[0].status == 200
        half.send(b"GET / HTTP/1.1\r\n")
        until(lambda: len(connections(loop)) == 3, "they are watched")

        class Task:
            deadline = float("inf")

            def on_ready(self, _flags: int) -> bool:
                idle.get("/")
                half.send(b"Host: test\r\n\r\n")
                for connection in connections(loop):
                    connection.deadline = 0.0
                loop.next_sweep = 0.0
                return False

        loop.look_at(Task())
        assert idle.response()[0].status == 200
        assert half.response()[0].status == 200
        assert silent.read_to_end() == b""


def connections(loop: Any) -> list[Any]:
    return [entry for entry in list(loop._entries.values()) if hasattr(entry, "peer")]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_the_rest_of_a_handshake(start: Any, certificate: Certificates, version: str) -> None:
    import ssl

    number = getattr(ssl.TLSVersion, version)
    program = start(certfile=certificate.ecdsa.cert, keyfile=certificate.ecdsa.key)
    context = client_context(maximum_version=number, minimum_version=number)
    with Peer(program.address) as raw, Peer(program.address) as silent:
        wire = Wire(raw.sock, context)
        flight = wire.flight()
        raw.send(flight[:50])
        silent.send(flight[:50])
        with TLSPeer(program.address) as other:
            assert other.get("/").response()[1] == b"ok"
        with stopped(program):
            raw.send(flight[50:])
        wire.hear()
        threading.Event().wait(0.3)  # A round trip, and a busy client.
        wire.shake_hands()
        wire.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert wire.recv(100).startswith(b"HTTP/1.1 200 OK")
        assert silent.read_to_end() == b""


@pytest.mark.parametrize("target", ["/big", "/list"])
def test_a_response_on_its_way(start: Any, target: str) -> None:
    program = start()
    with program.connect() as peer, program.connect() as deaf:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        peer.get(target)
        deaf.get(target)
        program.wait_for("big", 2)
        assert program.get() == "ok"
        got = 0
        with stopped(program):
            # What the kernel has: its client reads all the time.
            peer.sock.settimeout(0.5)
            try:
                while data := peer.sock.recv(1 << 20):
                    got += len(data)
            except TimeoutError:
                pass
        peer.sock.settimeout(10)
        while got < 30_000_000 and (data := peer.sock.recv(1 << 20)):
            got += len(data)
        assert got > 30_000_000
        with pytest.raises(ConnectionResetError):
            deaf.read_to_end()
