"""Threads and connections that slow clients hold, while requests and other clients wait for them."""

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

import hangup
from conftest import BASES, PATIENCE, Certificates, Peer, ServingApp, answer, until
from hangup import Config, DisconnectReason, Outcome, Phase
from hangup._engine import pressure
from program_support import Program
from tls_support import TLSPeer

SIZE = 1 << 40
PIECE = bytes(65536)


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "_INTERVAL", 0.02)
    monkeypatch.setattr(pressure, "_OBSERVED", 0.2)
    monkeypatch.setattr(hangup._connection.input, "_LOOK", 0.02)


class Stage:
    """An application whose handlers wait for their clients; it keeps the clients it has met."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.clients: dict[str, hangup.Client] = {}
        self.closed: list[str] = []

    def app(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        self.clients[path] = environ["hangup.client"]
        if path.startswith("/read"):
            self.began.release()
            while environ["wsgi.input"].read(1000):
                pass
        elif path.startswith("/stream"):
            start_response("200 OK", [])
            return self.stream(path)
        elif path.startswith("/wait"):
            self.began.release()
            environ["hangup.client"].wait(PATIENCE)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def stream(self, path: str) -> Any:
        self.began.release()
        try:
            while True:
                yield PIECE
        finally:
            self.closed.append(path)

    def begun(self, count: int) -> None:
        for _ in range(count):
            assert self.began.acquire(timeout=PATIENCE)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def upload(peer: Peer, path: str, come: int = 70_000) -> Peer:
    """Begin a body that is longer than what comes before its handler."""
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {SIZE}\r\n\r\n".encode()
    return peer.send(head + bytes(come))


def limits(**more: Any) -> Config:
    return Config(max_request_body_size=2 * SIZE, min_data_rate=0, **more)


def held_up(serving: ServingApp) -> int:
    return len(serving.server.engine.loop.held_up)


class Dripping:
    """A client that sends, or reads, slowly until it is over."""

    def __init__(self, step: Callable[[], object], pause: float) -> None:
        self._over = threading.Event()
        self._step, self._pause = step, pause
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(self._pause):
            try:
                self._step()
            except OSError:
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_a_slow_body_gives_its_thread_back_and_hears_408(serve_app: Any, stage: Stage) -> None:
    serving = serve_app(stage.app, config=limits(max_threads=2))
    with serving.connect() as one, serving.connect() as two:
        upload(one, "/read/1")
        upload(two, "/read/2")
        stage.begun(2)
        with Dripping(lambda: one.send(b"x"), 0.01), Dripping(lambda: two.send(b"x"), 0.01):
            assert serving.get()[1] == b"ok"
            assert serving.get()[1] == b"ok"
            serving.wait_for_records(3)
            evicted = one if told(serving, "/read/1") else two
            assert evicted.response()[0].status == 408
        assert evicted.sock.recv(1) == b""
    record = next(r for r in serving.records if r.target.startswith("/read"))
    assert (record.outcome, record.phase, record.status) == (Outcome.TIMED_OUT, Phase.BODY, 408)
    # It was too slow; it has not left.
    assert stage.clients[record.target].reason is None


def told(serving: ServingApp, target: str) -> bool:
    return any(record.target == target for record in serving.records)


@pytest.mark.parametrize("base", BASES)
def test_a_slow_body_of_a_handler(serve: Any, base: str) -> None:
    began = threading.Semaphore(0)

    class Handler(BASES[base]):  # type: ignore[misc]
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            began.release()
            self.rfile.read(1_000_000)
            answer(self)

        def do_GET(self) -> None:
            answer(self)

    serving = serve(Handler, config=limits(max_threads=1))
    with serving.connect() as slow:
        upload(slow, "/")
        assert began.acquire(timeout=PATIENCE)
        assert serving.get() == (200, b"ok")
        if base == "own":
            assert slow.response()[0].status == 408
        else:
            slow.read_to_end()


def test_an_unread_stream_gives_its_thread_back(serve_app: Any, stage: Stage) -> None:
    serving = serve_app(stage.app, config=limits(max_threads=1))
    with serving.connect() as deaf:
        deaf.get("/stream")
        stage.begun(1)
        until(lambda: held_up(serving), "it waits for its client")
        assert serving.get()[1] == b"ok"
        record = next(r for r in serving.wait_for_records(2) if r.target == "/stream")
        assert (record.outcome, record.phase) == (Outcome.DISCONNECTED, Phase.RESPONSE)
        assert stage.clients["/stream"].reason is DisconnectReason.WRITE_TIMEOUT
        assert stage.closed == ["/stream"]


def test_over_tls_too(serve_app: Any, stage: Stage, certificate: Certificates) -> None:
    cert = certificate.ecdsa
    serving = serve_app(stage.app, config=limits(max_threads=1), certfile=cert.cert, keyfile=cert.key)

    def ok() -> None:
        with TLSPeer(serving.server.address) as peer:
            assert peer.get("/").response()[1] == b"ok"

    with TLSPeer(serving.server.address) as slow:
        upload(slow, "/read")
        stage.begun(1)
        ok()
        assert slow.response()[0].status == 408
    with TLSPeer(serving.server.address) as deaf:
        deaf.get("/stream")
        stage.begun(1)
        ok()


def test_an_idle_connection_that_keeps_a_thread_gives_it_back(serve: Any) -> None:
    class Handler(hangup.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        thread_per_connection = True

        def do_GET(self) -> None:
            answer(self)

    serving = serve(Handler, config=Config(max_threads=2))
    with serving.connect() as one, serving.connect() as two:
        for peer in (one, two):
            assert peer.get("/").response()[1] == b"ok"
        assert serving.get() == (200, b"ok")
        # One of them was enough.
        ended = []
        for peer in (one, two):
            peer.sock.setblocking(False)
            try:
                ended.append(peer.sock.recv(1) == b"")
            except BlockingIOError:
                ended.append(False)
        assert sorted(ended) == [False, True]


def test_nobody_is_cut_off_while_no_request_waits(serve_app: Any, stage: Stage) -> None:
    serving = serve_app(stage.app, config=limits(max_threads=3))
    with serving.connect() as slow, serving.connect() as deaf:
        upload(slow, "/read")
        deaf.get("/stream")
        stage.begun(2)
        pause = threading.Event()
        for _ in range(40):  # Longer than a client is watched before it is cut off.
            assert serving.get()[1] == b"ok"
            pause.wait(0.02)
        assert held_up(serving) == 2
        assert not told(serving, "/read")
        assert not told(serving, "/stream")


def test_quick_clients_and_busy_handlers_are_left_alone_and_the_slowest_goes_first(
    serve_app: Any, stage: Stage
) -> None:
    serving = serve_app(stage.app, config=limits(max_threads=5))
    names = ["/wait", "/read/quick", "/stream/quick", "/read/slow", "/read/slower"]
    peers = {name: serving.connect() for name in names}
    for name, peer in peers.items():
        if name.startswith("/read"):
            upload(peer, name)
        else:
            peer.get(name)
    stage.begun(5)
    quick = peers["/stream/quick"].sock
    with (
        Dripping(lambda: peers["/read/quick"].send(bytes(20_000)), 0.005),
        Dripping(lambda: quick.recv(1 << 20), 0.005),
        Dripping(lambda: peers["/read/slow"].send(bytes(50)), 0.01),  # and the slower one nothing
    ):
        assert serving.get()[1] == b"ok"
        first = next(r.target for r in serving.wait_for_records(2) if r.target != "/")
        assert first == "/read/slower"
        assert {r.target for r in serving.records} == {"/", "/read/slower"}
        # With two more, one would do; who is quick is never cut off.
        peers["/wait"].half_close()
        until(lambda: told(serving, "/wait"), "its client has left")
        assert not told(serving, "/read/quick")
        assert not told(serving, "/stream/quick")
    for peer in peers.values():
        peer.rst()


def test_who_was_quick_and_is_slow_now_is_slow(serve_app: Any, stage: Stage) -> None:
    serving = serve_app(stage.app, config=limits(max_threads=1))
    with serving.connect() as peer:
        upload(peer, "/read", come=50_000_000)
        stage.begun(1)
        assert serving.get()[1] == b"ok"
        assert peer.response()[0].status == 408


def test_a_body_that_is_gathered_counts_as_it_comes(serve_app: Any, stage: Stage) -> None:
    # Chunks are received before the application begins: none of them has been read by then.
    serving = serve_app(stage.app, config=limits(max_threads=1, min_data_rate_under_load=20_000))
    with serving.connect() as peer:
        peer.send(b"POST /read HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"3e8\r\n" + bytes(1000) + b"\r\n"
        peer.send(chunk * 100)
        until(lambda: held_up(serving), "it is gathered")
        with serving.connect() as waiting:
            waiting.get("/", "Connection: close")
            pause = threading.Event()
            for _ in range(100):
                peer.send(chunk)
                pause.wait(0.01)
            assert not serving.records
            peer.send(b"0\r\n\r\n")
            assert peer.response()[1] == b"ok"
            assert waiting.response()[1] == b"ok"


def test_without_a_rate_nobody_is_cut_off(serve_app: Any, stage: Stage) -> None:
    serving = serve_app(stage.app, config=limits(max_threads=1, min_data_rate_under_load=0))
    with serving.connect() as slow, serving.connect() as waiting:
        upload(slow, "/read")
        stage.begun(1)
        waiting.get("/")
        pause = threading.Event()
        for _ in range(40):
            slow.send(b"x")
            pause.wait(0.02)
        assert not serving.records
        slow.fin()
        assert waiting.response()[1] == b"ok"


# -- memory

HOLDS = """
body = bytes(10_000_000)
def app(environ, start_response):
    if environ["PATH_INFO"] == "/rss":
        body_ = open("/proc/self/statm").read().split()[1].encode()
    else:
        body_ = bytes(10_000_000)
    start_response("200 OK", [("Content-Length", str(len(body_)))])
    return [body_]
config = hangup.Config(max_threads=8, max_held_output=LIMIT, min_data_rate_under_load=0)
server = hangup.WSGIServer(app, port=0, access_log="off", config=config)
server.start()
say("port", server.port)
signal.pause()
"""


@pytest.mark.parametrize("limit", [0, 20_000_000])
def test_what_is_held_for_slow_readers_is_bounded(limit: int) -> None:
    program = Program(HOLDS.replace("LIMIT", str(limit)))
    try:
        before = int(program.get("/rss"))
        peers = [program.connect() for _ in range(40)]
        for peer in peers:
            peer.get("/")
        until(lambda: "T" not in program.said and threads(program) >= 8, "all threads wait")
        held = (resident(program) - before) * 4096
        # A thread holds its own response; beyond these and the budget, nothing.
        assert held < limit + 10 * 11_000_000 + 50_000_000
        for peer in peers:
            peer.fin()
        until(lambda: get_now(program), "it serves on")
    finally:
        program.stop()


def get_now(program: Program) -> str:
    return program.get("/rss")


def threads(program: Program) -> int:
    with open(f"/proc/{program.process.pid}/status") as file:
        return int(re.findall(r"Threads:\s+(\d+)", file.read())[0])


def resident(program: Program) -> int:
    with open(f"/proc/{program.process.pid}/statm") as file:
        return int(file.read().split()[1])
