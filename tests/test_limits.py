"""Limits on what clients may take: connections, requests, threads and time."""

import errno
import logging
import os
import resource
import socket
import threading
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Peer, answer, pure, until
from hangup import ClientDisconnected, Config, Outcome, Phase

HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Echo(hangup.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        answer(self)

    def do_POST(self) -> None:
        answer(self, self.rfile.read())


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read() or b"ok"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture(params=["handler", "wsgi"])
def start(request: pytest.FixtureRequest, serve: Any, serve_app: Any) -> Any:
    """Start a server that echoes, with a config, behind either front end."""

    def started(**settings: Any) -> Any:
        config = Config(**settings)
        return (
            serve(Echo, config=config) if request.param == "handler" else serve_app(echo, config=config)
        )

    return started


def engine_of(serving: Any) -> Any:
    return serving.engine if hasattr(serving, "engine") else serving.server.engine


def post(length: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length


# -- fields and requests


@pytest.mark.parametrize("whole", [True, False])
def test_one_field_may_be_so_long_and_no_longer(start: Any, whole: bool) -> None:
    serving = start(max_request_field_size=200)
    for length, status in ((200, 200), (201, 431)):
        field = b"X: " + b"y" * (length - 3)
        head = (
            b"GET / HTTP/1.1\r\nHost: x\r\n" + field + (b"\r\n\r\n" if whole or status == 200 else b"")
        )
        with serving.connect() as peer:
            assert peer.send(head).response()[0].status == status


def test_a_connection_carries_as_many_requests_as_it_may_and_says_so(start: Any) -> None:
    serving = start(max_requests=3)
    with serving.connect() as peer:
        peer.send(HELLO * 5)
        said = [peer.response()[0].getheader("Connection") for _ in range(3)]
        assert said == [None, None, "close"]
        assert peer.read_to_end() == b""
    assert len(serving.wait_for_records(3)) == 3


# -- connections


def served(serving: Any) -> Peer:
    """A client that has been answered, and stays."""
    peer = serving.connect()
    assert peer.get("/").response()[1] == b"ok"
    return peer


def test_at_the_limit_the_connection_that_was_idle_for_longest_makes_room(start: Any) -> None:
    serving = start(max_connections=3)
    first, second, third = (served(serving) for _ in range(3))
    assert first.get("/").response()[1] == b"ok"  # so now the second one is the oldest
    until(lambda: all(c.state.name == "IDLE" for c in connections(serving)), "all are idle")
    with served(serving):
        assert second.read_to_end() == b""
        for peer in (first, third):
            assert peer.get("/").response()[1] == b"ok"
    for peer in (first, second, third):
        peer.fin()


def connections(serving: Any) -> list[Any]:
    entries = engine_of(serving).loop._entries
    return [entry for entry in list(entries.values()) if hasattr(entry, "peer")]


@pure
def test_at_the_limit_accepting_pauses_until_a_connection_closes(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    inside, out = threading.Semaphore(0), threading.Semaphore(0)

    class Held(Echo):
        def do_GET(self) -> None:
            inside.release()
            assert out.acquire(timeout=PATIENCE)
            answer(self)

    serving = serve(Held, config=Config(max_connections=2))
    held = [serving.connect().get("/") for _ in range(2)]
    for _ in held:
        assert inside.acquire(timeout=PATIENCE)
    late = serving.connect().get("/")
    loop = serving.engine.loop
    until(lambda: loop.paused, "accepting pauses")
    assert len(connections(serving)) == 2
    (listener,) = loop.paused
    # It must not spin: without a connection that closes, the listener is looked at again after a while.
    looks: list[int] = []
    accept = listener.accept
    listener.accept = lambda most: looks.append(most) or accept(most)
    threading.Event().wait(0.25)
    assert len(looks) <= 3
    out.release()
    first = next(p for p in held if p.response()[1] == b"ok" and (p.fin() or True))
    assert inside.acquire(timeout=PATIENCE), "the third one is accepted when there is room"
    out.release(2)
    assert late.response()[1] == b"ok"
    for peer in [p for p in held if p is not first] + [late]:
        peer.fin()
    warnings = [r for r in caplog.records if "accepting pauses" in r.message]
    assert len(warnings) == 1
    assert "2 connections are open, and none is idle" in warnings[0].message


def test_a_connection_whose_client_has_just_sent_something_is_not_closed_for_room(start: Any) -> None:
    serving = start(max_connections=2)
    peers = [served(serving) for _ in range(2)]
    until(lambda: all(c.state.name == "IDLE" for c in connections(serving)), "all are idle")
    loop = engine_of(serving).loop
    for peer in peers:
        peer.send(b"G")
    until(lambda: all(c.input.parser.buffer for c in connections(serving)), "a head begins to come")
    assert not loop.make_room()
    for peer in peers:
        peer.send(b"ET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.response()[1] == b"ok"
        peer.fin()


def test_without_a_descriptor_idle_connections_make_room(
    serve: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMFILE, really: the process has no descriptor left."""
    serving = serve(Echo)
    idle = [served(serving) for _ in range(3)]
    until(lambda: all(c.state.name == "IDLE" for c in connections(serving)), "all are idle")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    late = [socket.socket() for _ in range(2)]
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        for sock in late:
            sock.settimeout(PATIENCE)
            sock.connect(serving.address)
            sock.sendall(HELLO)
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    left = 0
    for peer in idle:
        peer.sock.setblocking(False)
        try:
            left += peer.sock.recv(1) == b""
        except BlockingIOError:
            pass
        peer.fin()
    assert left >= 2
    for sock in late:
        sock.close()


def test_without_a_descriptor_and_with_nobody_idle_accepting_pauses(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError(errno.EMFILE, "Too many open files")] * 2

    class Server(hangup.ThreadingHTTPServer):
        def get_request(self) -> Any:
            if failures:
                raise failures.pop()
            return super().get_request()

    serving = serve(Echo, Server)
    assert serving.get("/") == (200, b"ok")
    warned = [r for r in caplog.records if "accepting pauses" in r.message]
    assert len(warned) == 1, "one line tells of a bad time, not one for each try"


def test_as_many_connections_may_be_open_as_descriptors_allow(serve: Any) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert limit // 2 < serve(Echo).engine.loop.most < limit


# -- bodies that come slowly


def slow_bodies(serving: Any, count: int, fields: bytes = b"Content-Length: 5") -> list[Peer]:
    head = b"POST / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n\r\n"
    return [serving.connect().send(head) for _ in range(count)]


@pytest.mark.parametrize("fields", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_many_slow_bodies_never_hold_all_threads(start: Any, fields: bytes) -> None:
    serving = start(max_threads=4)
    peers = slow_bodies(serving, 20, fields)
    until(
        lambda: sum(c.arrival.coming is not None for c in connections(serving)) == 20,
        "the event loop has them",
    )
    with serving.connect() as normal:
        assert normal.get("/").response()[1] == b"ok"
        assert normal.send(post(2) + b"hi").response()[1] == b"hi"
    chunked = fields.startswith(b"T")
    for peer in peers:
        peer.send(b"5\r\nhello\r\n0\r\n\r\n" if chunked else b"hello")
        assert peer.response()[1] == b"hello"
        peer.fin()


def test_a_body_that_comes_first_is_read_whole_behind_it_whatever_its_length(start: Any) -> None:
    serving = start(max_threads=1, body_prefetch=1000)
    body = os.urandom(500_000)
    with serving.connect() as peer:
        peer.send(post(len(body)))
        for at in range(0, len(body), 50_000):
            peer.send(body[at : at + 50_000])
        peer.send(HELLO)
        assert peer.response()[1] == body
        assert peer.response()[1] == b"ok"


@pytest.mark.parametrize("manner", ["fin", "rst", "half_close"])
def test_who_leaves_in_a_body_that_comes_first_is_told_of_and_no_handler_runs(
    start: Any, manner: str
) -> None:
    serving = start(max_threads=1)
    with serving.connect() as peer:
        peer.send(post(5) + b"he")
        until(lambda: any(c.arrival.coming for c in connections(serving)), "its body comes first")
        getattr(peer, manner)()
        record = serving.record()
    assert (record.outcome, record.phase, record.status) == (Outcome.DISCONNECTED, Phase.BODY, 499)
    assert (record.method, record.wasted) == ("POST", 0)
    assert record.bytes_in == len(post(5)) + 2


def test_a_body_that_comes_first_must_come_on(start: Any) -> None:
    serving = start(max_threads=1, body_timeout=0.2)
    with serving.connect() as peer:
        peer.send(post(5) + b"he")
        response, _ = peer.response()
        assert response.status == 408
        assert response.getheader("Connection") == "close"
    record = serving.record()
    assert (record.outcome, record.phase, record.method) == (Outcome.TIMED_OUT, Phase.BODY, "POST")


def test_what_is_malformed_in_a_body_that_comes_first_is_refused_by_its_name(start: Any) -> None:
    serving = start(max_threads=1)
    with serving.connect() as peer:
        peer.send(b"POST /here HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
        until(lambda: any(c.arrival.coming for c in connections(serving)), "its body comes first")
        peer.send(b"lo!\r\n")
        assert peer.response()[0].status == 400
        assert peer.read_to_end() == b""
    record = serving.record()
    assert (record.outcome, record.target, record.status) == (Outcome.REJECTED, "/here", 400)


def test_a_client_that_asks_first_is_told_to_send_its_body(start: Any) -> None:
    serving = start(max_threads=1)
    with serving.connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert peer.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert peer.send(b"hi").response()[1] == b"hi"


# -- clients that are too slow to wait for


@pytest.mark.parametrize("fields", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("threads", [1, 8])  # the event loop waits for it, or a thread
def test_a_body_that_trickles_is_cut_off(start: Any, fields: bytes, threads: int) -> None:
    """A byte comes in time, each time; but at that rate it would hold its thread for hours."""
    serving = start(max_threads=threads, body_timeout=0.4, min_data_rate=1000)
    piece = b"1\r\nx\r\n" if fields.startswith(b"T") else b"x"
    ended = threading.Event()
    with serving.connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n\r\n")

        def trickle() -> None:
            while not ended.wait(0.05):
                try:
                    peer.send(piece)
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert peer.response()[0].status == 408
        finally:
            ended.set()
            thread.join()
    record = serving.record()
    assert record.outcome is Outcome.TIMED_OUT
    assert record.took < PATIENCE


def reader(serving: Any) -> socket.socket:
    """A client that has asked, and for which the kernel keeps little: so it opens its window often."""
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.connect(serving.address)
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    return sock


def big_answer(size: int, told: list[BaseException]) -> Any:
    class Big(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 262144)
            try:
                answer(self, b"x" * size)
            except ClientDisconnected as error:
                told.append(error)
                raise

    return Big


def test_an_answer_that_is_read_too_slowly_is_given_up(serve: Any) -> None:
    told: list[BaseException] = []
    serving = serve(big_answer(10_000_000, told), config=Config(write_timeout=0.4, min_data_rate=1e6))
    ended = threading.Event()
    with reader(serving) as sock:

        def trickle() -> None:
            while not ended.wait(0.05):
                if not sock.recv(100):
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        record = serving.record()
        ended.set()
        thread.join()
    assert (record.outcome, record.phase) == (Outcome.DISCONNECTED, Phase.RESPONSE)
    assert told[0].errno == errno.ETIMEDOUT  # type: ignore[attr-defined]


def test_who_reads_slowly_but_reads_gets_a_whole_answer(serve: Any) -> None:
    """While it empties the kernel's buffer there is no room for long; that is no silence."""
    told: list[BaseException] = []
    size = 600_000
    serving = serve(big_answer(size, told), config=Config(write_timeout=0.4, min_data_rate=1000))
    with reader(serving) as sock:
        got = 0
        pause = threading.Event()
        while data := sock.recv(4000):
            got += len(data)
            pause.wait(0.02)
        assert got > size
    assert serving.record().outcome is Outcome.COMPLETED
    assert told == []


def test_another_protocol_may_be_silent_for_longer_than_a_body(serve: Any) -> None:
    """min_data_rate is about bodies: an upgraded connection is nobody's upload."""

    class Upgrading(hangup.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(101)
            self.send_header("Connection", "upgrade")
            self.send_header("Upgrade", "x")
            self.end_headers()
            while line := self.rfile.readline():
                self.wfile.write(line)

    serving = serve(Upgrading, config=Config(body_timeout=0.5, min_data_rate=1e6))
    with serving.connect() as peer:
        peer.get("/", "Connection: upgrade", "Upgrade: x")
        assert b" 101 " in peer.read_head()
        pause = threading.Event()
        for _ in range(8):  # in all longer than the time-out, and each time shorter
            pause.wait(0.1)
            assert peer.send(b"a\n").read(2) == b"a\n"


def test_the_wait_after_which_the_newest_go_first_is_a_setting(serve: Any) -> None:
    gate = threading.Semaphore(0)
    inside = threading.Semaphore(0)
    order: list[str] = []

    class Held(Echo):
        def do_GET(self) -> None:
            order.append(self.path)
            inside.release()
            assert gate.acquire(timeout=PATIENCE)
            answer(self)

    for lifo_threshold, wanted in ((0.0, ["/0", "/3", "/2", "/1"]), (60.0, ["/0", "/1", "/2", "/3"])):
        order.clear()
        serving = serve(Held, config=Config(max_threads=1, lifo_threshold=lifo_threshold))
        peers = [serving.connect().get("/0")]
        assert inside.acquire(timeout=PATIENCE)
        backlog = serving.engine.workers._backlog
        for number in range(1, 4):
            peers.append(serving.connect().get(f"/{number}"))
            until(lambda: len(backlog) == number, "it waits")  # noqa: B023
        gate.release(4)
        for peer in peers:
            assert peer.response()[1] == b"ok"
            peer.fin()
        for _ in range(3):
            assert inside.acquire(timeout=PATIENCE)
        assert order == wanted


def test_nothing_of_all_this_is_logged_as_an_error(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        serving = start(max_threads=1, body_timeout=0.1)
        with serving.connect() as peer:
            assert peer.send(post(5)).response()[0].status == 408
        with serving.connect() as peer:
            peer.send(post(5) + b"h").rst()
        serving.wait_for_records(2)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
