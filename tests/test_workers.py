"""Threads: who leads, who follows, and that somebody always watches."""

import asyncio
import socket
import struct
import threading
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Peer, Serving, answer, until
from hangup import ClientDisconnected, Config, Outcome, Phase, RequestRecord
from hangup._engine.request_queue import HALF_CLOSE_GRACE
from hangup._system.poller import fin_after_data


class Gate:
    """A handler that stays inside until it is let out."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.out = threading.Semaphore(0)
        self.order: list[str] = []

    def handler(self, base: Any = hangup.BaseHTTPRequestHandler) -> Any:
        gate = self

        class Handler(base):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                gate.order.append(self.path)
                if self.path.startswith("/slow"):
                    gate.inside.release()
                    assert gate.out.acquire(timeout=PATIENCE)
                answer(self)

        return Handler

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.inside.acquire(timeout=PATIENCE)

    def open(self, count: int = 1) -> None:
        for _ in range(count):
            self.out.release()


def test_a_stalled_handler_loses_the_lead(serve: Any) -> None:
    gate = Gate()
    serving: Serving = serve(gate.handler())
    with serving.connect() as slow:
        slow.get("/slow")
        gate.wait()
        assert serving.get("/quick") == (200, b"ok")
        gate.open()
        assert slow.response()[1] == b"ok"
        # Its connection goes on, on whichever thread.
        assert slow.get("/quick").response()[1] == b"ok"


def test_quick_handlers_need_no_thread_for_each_connection(serve: Any) -> None:
    gate = Gate()
    serving = serve(gate.handler())
    peers = [serving.connect() for _ in range(8)]
    for _ in range(20):
        for peer in peers:
            peer.get("/quick")
        for peer in peers:
            assert peer.response()[1] == b"ok"
    names = {record.thread for record in serving.wait_for_records(160)}
    assert len(names) < len(peers)  # one, on a quiet machine; a busy one may stall a few
    for peer in peers:
        peer.fin()


def test_as_many_handlers_run_as_are_allowed_and_the_rest_waits_its_turn(serve: Any) -> None:
    gate = Gate()
    serving = serve(gate.handler(), config=Config(max_threads=2))
    peers = [serving.connect().get(f"/slow{number}") for number in range(2)]
    gate.wait(2)
    third = serving.connect().get("/third")
    until(lambda: len(serving.engine.workers._backlog) == 1, "the third request waits")
    assert serving.handler_threads() == 3
    assert sorted(gate.order) == ["/slow0", "/slow1"]
    gate.open()
    assert third.response()[1] == b"ok"
    gate.open()
    for peer in peers:
        assert peer.response()[1] == b"ok"
    for peer in [*peers, third]:
        peer.fin()
    assert max(record.queued for record in serving.wait_for_records(3)) > 0


@pytest.mark.parametrize("manner", ["rst", "fin"])
def test_a_request_whose_client_left_while_it_waited_is_not_started(serve: Any, manner: str) -> None:
    gate = Gate()
    serving = serve(gate.handler(), config=Config(max_threads=1))
    first = serving.connect().get("/slow")
    gate.wait()
    dead = serving.connect().get("/dead")
    backlog = serving.engine.workers._backlog
    until(lambda: len(backlog) == 1, "the request waits")
    if manner == "fin":
        # A FIN that comes with the request may be a half-close: this one comes later.
        later = until_silent(next(iter(backlog._waiting)).sock)
        assert later > HALF_CLOSE_GRACE
    getattr(dead, manner)()
    until(lambda: not len(backlog), "the event loop sees it leave, and drops it")
    gate.open()
    assert first.response()[1] == b"ok"
    first.fin()
    record = next(r for r in serving.wait_for_records(2) if r.target == "/dead")
    assert record.outcome is Outcome.DISCONNECTED
    assert record.phase is Phase.QUEUED
    assert record.status == 499
    assert record.wasted == 0
    assert gate.order == ["/slow"]


def until_silent(sock: socket.socket, seconds: float = 0.08) -> float:
    """Wait until the kernel says that nothing has come for so long."""

    def silence() -> float:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60)
        return struct.unpack_from("I", info, 52)[0] / 1000

    until(lambda: silence() >= seconds, "silence")
    return seconds


@pytest.mark.parametrize("with_body", [False, True])
def test_a_half_closed_client_that_waited_is_answered(serve: Any, with_body: bool) -> None:
    """FIN that came with the request's last byte, however long the request has waited by then."""
    gate = Gate()
    # Without body_prefetch it waits for a thread while its body comes.
    serving = serve(gate.handler(), config=Config(max_threads=1, body_prefetch=0))
    first = serving.connect().get("/slow")
    gate.wait()
    backlog = serving.engine.workers._backlog
    with serving.connect() as peer:
        if with_body:
            peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
            until(lambda: len(backlog) == 1, "the request waits")
            connection = next(iter(backlog._waiting))
            until_silent(connection.sock)
            peer.send(b"body").half_close()
        else:
            peer.get("/").half_close()
            until(lambda: len(backlog) == 1, "the request waits")
            connection = next(iter(backlog._waiting))
        until(lambda: connection.peer.disconnected_at is not None, "its FIN is seen")
        until_silent(connection.sock)
        gate.open()
        assert peer.read_to_end().endswith(b"ok")
    assert first.response()[1] == b"ok"
    first.fin()


def test_a_half_closed_client_that_answers_the_kernels_probes_is_not_taken_for_gone(
    serve: Any,
) -> None:
    """Its acknowledgement comes long after its request; its FIN did not."""
    gate = Gate()
    serving = serve(gate.handler(), config=Config(max_threads=1, tcp_keepalive_idle=1))
    first = serving.connect().get("/slow")
    gate.wait()
    with serving.connect() as peer:
        peer.get("/").half_close()
        backlog = serving.engine.workers._backlog
        until(lambda: len(backlog) == 1, "the request waits")
        connection = next(iter(backlog._waiting))
        until(lambda: (fin_after_data(connection.sock) or 0) > 0.5, "a probe is acknowledged")
        gate.open()
        assert peer.read_to_end().endswith(b"ok")
    assert first.response()[1] == b"ok"
    first.fin()


def test_a_request_that_came_with_a_reset_is_not_started_and_told_of() -> None:
    gate = Gate()
    records: list[RequestRecord] = []
    with hangup.ThreadingHTTPServer(("127.0.0.1", 0), gate.handler(), sinks=[records.append]) as server:
        # Nobody accepts yet: the server will find the request and the reset together.
        Peer(server.server_address).get("/dead").rst()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        until(lambda: records, "it is told of")
        server.shutdown()
        thread.join()
    (record,) = records
    assert (record.outcome, record.phase, record.status) == (Outcome.DISCONNECTED, Phase.QUEUED, 499)
    assert record.target == "/dead"
    assert gate.order == []


def test_a_pipelined_request_whose_client_is_gone_is_not_started(serve: Any, base: Any) -> None:
    gate = Gate()

    class Handler(gate.handler(base)):  # type: ignore[misc]
        def do_GET(self) -> None:
            try:
                super().do_GET()
            except ClientDisconnected:
                pass  # It goes on as if nothing had happened.

    serving = serve(Handler)
    # In one piece, so that the second has been received when the first begins.
    both = (f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n" for path in ("/slow", "/dead"))
    peer = serving.connect().send("".join(both).encode())
    gate.wait()
    connection = serving.the_connection()
    peer.rst()
    until(lambda: connection.peer.disconnected_at is not None, "it is known")
    gate.open()
    records = serving.wait_for_records(2)
    assert gate.order == ["/slow"]
    assert [(r.target, r.phase, r.status) for r in records] == [
        ("/slow", Phase.HANDLER, 499),
        ("/dead", Phase.QUEUED, 499),
    ]
    until(lambda: serving.connections() == 0, "it is closed")


def test_when_waits_are_long_the_newest_request_goes_first(serve: Any) -> None:
    gate = Gate()
    serving = serve(gate.handler(), config=Config(max_threads=1))
    peers = [serving.connect().get("/slow")]
    gate.wait()
    backlog = serving.engine.workers._backlog
    for number in range(3):
        peers.append(serving.connect().get(f"/{number}"))
        until(lambda: len(backlog) == number + 1, "it waits")  # noqa: B023
    for connection in backlog._waiting:
        connection.exchange.ready_at -= 1
    gate.open()
    for peer in peers:
        assert peer.response()[1] == b"ok"
        peer.fin()
    assert gate.order == ["/slow", "/2", "/1", "/0"]


def test_idle_connections_and_unfinished_heads_hold_no_thread(serve: Any, base: Any) -> None:
    gate = Gate()
    serving = serve(gate.handler(base))
    idle = [serving.connect().get("/quick") for _ in range(50)]
    for peer in idle:
        assert peer.response()[1] == b"ok"
    unfinished = [serving.connect().send(b"GET / HTTP/1.1\r\nHost: ") for _ in range(50)]
    until(lambda: serving.connections() == 100, "all are accepted")
    assert serving.get("/quick") == (200, b"ok")
    assert serving.handler_threads() < 10  # for 100 connections; a stalled machine may need a few
    for peer in unfinished:
        assert peer.send(b"x\r\n\r\n").response()[1] == b"ok"
    for peer in idle + unfinished:
        peer.fin()


def test_threads_that_have_nothing_to_do_end(serve: Any) -> None:
    gate = Gate()
    serving = serve(gate.handler(), config=Config(thread_idle_timeout=0.05))
    peers = [serving.connect().get("/slow") for _ in range(5)]
    gate.wait(5)
    until(lambda: serving.handler_threads() == 6, "one more thread watches")
    gate.open(5)
    for peer in peers:
        assert peer.response()[1] == b"ok"
        peer.fin()
    until(lambda: serving.handler_threads() == 1, "one thread watches, the others have ended")
    assert serving.get("/quick") == (200, b"ok")


def test_an_idle_server_does_not_tick(serve: Any) -> None:
    serving = serve(Gate().handler())
    assert serving.get("/quick") == (200, b"ok")
    watchdog = serving.engine.loop.watchdog
    until(lambda: watchdog.asleep, "the watchdog sleeps")
    looks = []
    look = watchdog._look
    watchdog._look = lambda: looks.append(1) or look()
    threading.Event().wait(0.1)  # fifty ticks
    assert looks == []


def test_a_head_whose_body_takes_long_goes_out(serve: Any, base: Any) -> None:
    out = threading.Semaphore(0)

    class Handler(base):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            assert out.acquire(timeout=PATIENCE)
            self.wfile.write(b"ok")

    for server in (hangup.ThreadingHTTPServer, hangup.HTTPServer):
        serving = serve(Handler, server)
        with serving.connect() as peer:
            peer.get("/")
            assert peer.read(15) in (b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK")
            out.release()
            assert peer.read_to_end().endswith(b"\r\n\r\nok")
        assert serving.record().status == 200


def test_a_handler_that_ends_its_thread_ends_its_request_alone(
    serve: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    kinds = {
        "/exit": SystemExit(3),
        "/odd": BaseException("odd"),
        "/interrupt": KeyboardInterrupt(),
        "/cancelled": asyncio.CancelledError(),
        "/generator": GeneratorExit(),
    }

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in kinds:
                raise kinds[self.path]
            answer(self)

    serving = serve(Handler)
    for path, error in kinds.items():
        for _ in range(3):
            with serving.connect() as peer:
                assert peer.get(path).read_to_end().startswith(b"HTTP/1.1 500 ")
        said = capfd.readouterr().err
        assert (
            said.count(f"\n{type(error).__module__}.{type(error).__name__}".replace("builtins.", ""))
            == 3
        )
    assert serving.get() == (200, b"ok")
    until(lambda: serving.engine.workers._busy == 0, "every handler has returned")
    assert {record.outcome for record in serving.records[:-1]} == {Outcome.FAILED}


def test_a_serial_servers_handler_may_end_the_program(serve: Any) -> None:
    """Its handlers run in the main thread: Ctrl-C and sys.exit() are meant for that."""

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)
            raise SystemExit(3)

    server = hangup.HTTPServer(("127.0.0.1", 0), Handler)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            server.serve_forever()
        except SystemExit as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    with Peer(server.server_address) as peer:
        assert peer.get("/").read_to_end().endswith(b"ok")
    thread.join(PATIENCE)
    server.server_close()
    assert [error.code for error in raised] == [3]  # type: ignore[attr-defined]


def test_when_no_thread_can_be_had_requests_are_served_all_the_same(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    serving = serve(gate.handler())
    assert serving.get("/quick") == (200, b"ok")
    workers = serving.engine.workers

    class NoThread:
        def __init__(self, *_: object, **__: object) -> None: ...

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("hangup._engine.workers.threading.Thread", NoThread)
    workers._handover.keeps_lead = False  # The leader would give the lead away.
    workers._handover._computed = 1.0
    assert serving.get("/quick") == (200, b"ok")
    workers._handover._computed = 0.0
    workers._handover.keeps_lead = True
    with serving.connect() as peer:
        peer.get("/slow")
        gate.wait()
        until(lambda: "no new thread" in caplog.text, "the watchdog has tried")
        gate.open()
        assert peer.response()[1] == b"ok"
    monkeypatch.undo()
    assert serving.get("/quick") == (200, b"ok")


def test_many_clients_with_quick_and_slow_requests_all_get_their_own_answers(serve: Any) -> None:
    pause = threading.Event()

    class Handler(hangup.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.endswith("7"):
                pause.wait(0.005)
            answer(self, self.path.encode())

    serving = serve(Handler, config=Config(max_threads=4))
    failures: list[object] = []

    def client(number: int) -> None:
        try:
            with serving.connect() as peer:
                for turn in range(60):
                    path = f"/{number}-{turn}"
                    if (_ := peer.get(path).response()[1]) != path.encode():
                        failures.append((path, _))
        except Exception as error:
            failures.append(error)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert not failures
    assert len(serving.wait_for_records(16 * 60)) == 16 * 60


def test_a_request_that_finds_the_queue_full_is_turned_away_at_once(serve: Any) -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Slow(hangup.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            entered.set()
            assert go_on.wait(PATIENCE)
            answer(self)

    serving = serve(Slow, config=hangup.Config(max_threads=1, max_queue=1))
    request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    with serving.connect() as first, serving.connect() as waiting, serving.connect() as late:
        first.send(request)
        assert entered.wait(PATIENCE)
        waiting.send(request)
        until(lambda: len(serving.engine.workers._backlog) == 1, "a request waits")
        response, _ = late.send(request).response()
        assert (response.status, response.getheader("Retry-After")) == (503, "1")
        assert late.read_to_end() == b""
        go_on.set()
        assert first.response()[0].status == waiting.response()[0].status == 200
    assert [record.status for record in serving.wait_for_records(3)] == [503, 200, 200]
