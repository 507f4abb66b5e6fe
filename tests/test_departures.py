"""A client leaves, at any point of its request, in any manner: nobody else notices."""

import logging
import threading
from typing import Any

import pytest

import hangup
from conftest import BEFORE_HANDLER, PATIENCE, Peer, Serving, answer, descriptors, until
from hangup import ClientDisconnected, Config, Outcome, Phase

TIMES = 20


@pytest.fixture(autouse=True, params=["", "poll"], ids=["best-poller", "fallback"])
def _poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of this holds with the best poller of the system, and with the portable fallback."""
    monkeypatch.setenv("HANGUP_POLLER", request.param)


class Stage:
    """Where handler and test meet."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.proceed = threading.Semaphore(0)
        self.caught: list[BaseException] = []

    def handler_waits(self) -> None:
        self.began.release()
        assert self.proceed.acquire(timeout=PATIENCE)


def make_handler(base: Any, stage: Stage) -> Any:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/work":
                stage.handler_waits()
            elif self.path == "/head":
                self.send_response(200)
                self.send_header("Content-Length", "4")
                self.end_headers()
                stage.handler_waits()
                self.write_until_it_fails(b"body")
                return
            elif self.path == "/large":
                self.send_response(200)
                self.send_header("Content-Length", str(1 << 32))
                self.end_headers()
                stage.began.release()
                self.write_until_it_fails(bytes(1 << 16))
                return
            answer(self)

        def do_POST(self) -> None:
            stage.began.release()
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self)

        def write_until_it_fails(self, data: bytes) -> None:
            try:
                while True:
                    self.wfile.write(data)
            except ClientDisconnected as error:
                stage.caught.append(error)
                raise

    return Handler


GET_WORK = b"GET /work HTTP/1.1\r\nHost: test\r\n\r\n"


def at_once(peer: Peer, stage: Stage) -> None:
    """before any byte"""


def in_the_line(peer: Peer, stage: Stage) -> None:
    peer.send(b"GET /wo")


def in_the_head(peer: Peer, stage: Stage) -> None:
    peer.send(b"GET /work HTTP/1.1\r\nHost: te")


def in_the_upload(peer: Peer, stage: Stage) -> None:
    peer.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 70000\r\n\r\n" + bytes(BEFORE_HANDLER))
    assert stage.began.acquire(timeout=PATIENCE)


def while_the_handler_works(peer: Peer, stage: Stage) -> None:
    peer.send(GET_WORK)
    assert stage.began.acquire(timeout=PATIENCE)


def after_the_head_of_the_answer(peer: Peer, stage: Stage) -> None:
    peer.get("/head")
    assert stage.began.acquire(timeout=PATIENCE)
    assert peer.read(15) == b"HTTP/1.1 200 OK"


def in_the_body_of_the_answer(peer: Peer, stage: Stage) -> None:
    peer.get("/large")
    assert stage.began.acquire(timeout=PATIENCE)
    assert len(peer.read(1 << 20)) == 1 << 20


def while_idle(peer: Peer, stage: Stage) -> None:
    peer.get("/")
    assert peer.response()[1] == b"ok"


def with_a_request_behind(peer: Peer, stage: Stage) -> None:
    peer.send(GET_WORK + b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert stage.began.acquire(timeout=PATIENCE)


POINTS = [
    at_once,
    in_the_line,
    in_the_head,
    in_the_upload,
    while_the_handler_works,
    after_the_head_of_the_answer,
    in_the_body_of_the_answer,
    while_idle,
    with_a_request_behind,
]
WAITING = (while_the_handler_works, after_the_head_of_the_answer, with_a_request_behind)


@pytest.mark.parametrize("manner", ["fin", "rst"])
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)
def test_a_departure_costs_nothing(
    serve: Any, base: Any, point: Any, manner: str, capfd: pytest.CaptureFixture[str]
) -> None:
    stage = Stage()
    serving: Serving = serve(make_handler(base, stage))
    assert serving.get() == (200, b"ok")
    until(lambda: serving.connections() == 0, "the first connection has closed")
    before = descriptors()
    for _ in range(TIMES):
        peer = serving.connect()
        point(peer, stage)
        getattr(peer, manner)()
        if point in WAITING:
            stage.proceed.release()
        assert serving.get() == (200, b"ok")
    until(lambda: serving.connections() == 0, "every connection has closed")
    until(lambda: serving.engine.workers._busy == 0, "every handler has returned")
    until(lambda: descriptors() <= before, "every descriptor is back")
    captured = capfd.readouterr().err
    assert "Traceback" not in captured
    assert "Exception" not in captured
    assert captured.count("\n") <= 2 * TIMES + 1 + (TIMES if point is with_a_request_behind else 0)
    assert all(isinstance(error, BrokenPipeError) for error in stage.caught)


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_a_client_that_left_before_its_answer_began_is_logged_once_with_499(
    serve: Any, base: Any, manner: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hangup.access")
    stage = Stage()
    serving = serve(make_handler(base, stage))
    peer = serving.connect()
    while_the_handler_works(peer, stage)
    getattr(peer, manner)()
    until(lambda: is_told(serving), "the server knows")
    stage.proceed.release()
    record = serving.record()
    assert record.outcome is Outcome.DISCONNECTED
    assert record.phase is Phase.HANDLER
    assert record.status == 499
    assert (record.method, record.target) == ("GET", "/work")
    assert record.disconnected_at is not None
    assert 0 <= record.wasted <= record.took
    lines = until(lambda: [line.getMessage() for line in caplog.records], "the line")
    assert len(lines) == 1
    assert '"GET /work HTTP/1.1" 499 ' in lines[0]
    assert " client disconnected while the handler ran" in lines[0]


def is_told(serving: Serving) -> bool:
    return any(
        getattr(entry, "peer", None) is not None and entry.peer.disconnected_at is not None
        for entry in list(serving.engine.loop._entries.values())
    )


def in_phase(serving: Serving, phase: Phase) -> bool:
    exchanges = [getattr(e, "exchange", None) for e in list(serving.engine.loop._entries.values())]
    return any(exchange is not None and exchange.phase is phase for exchange in exchanges)


def test_a_half_closed_client_gets_its_whole_answer(serve: Any, base: Any) -> None:
    stage = Stage()
    serving = serve(make_handler(base, stage))
    with serving.connect() as peer:
        peer.send(GET_WORK).half_close()
        assert stage.began.acquire(timeout=PATIENCE)
        until(lambda: is_told(serving), "the server saw the FIN")
        stage.proceed.release()
        assert peer.read_to_end().endswith(b"\r\n\r\nok")
    record = serving.record()
    assert record.outcome is Outcome.COMPLETED
    assert record.status == 200


def test_a_half_closed_client_gets_every_pipelined_answer(serve: Any, base: Any) -> None:
    serving = serve(make_handler(base, Stage()))
    with serving.connect() as peer:
        peer.get("/").get("/").get("/").half_close()
        assert peer.read_to_end().count(b"HTTP/1.1 200 OK") == 3


def test_a_half_closed_client_gets_a_large_answer(serve: Any, base: Any) -> None:
    body = bytes(range(256)) * (1 << 15)  # 8 MiB: more than the buffers hold

    class Handler(base):
        def do_GET(self) -> None:
            answer(self, body)

    serving = serve(Handler)
    with serving.connect() as peer:
        peer.get("/").half_close()
        assert peer.read_to_end().endswith(body)
    assert serving.record().outcome is Outcome.COMPLETED


def test_a_client_that_reads_nothing_is_given_up(serve: Any, base: Any) -> None:
    stage = Stage()
    serving = serve(make_handler(base, stage), config=Config(write_timeout=0.2))
    with serving.connect() as peer:
        peer.get("/large")
        record = serving.record()
    assert record.outcome is Outcome.DISCONNECTED
    assert record.phase is Phase.RESPONSE
    assert record.status == 200
    assert isinstance(stage.caught[0], ClientDisconnected)


def test_a_head_that_never_ends_is_given_up(serve: Any, base: Any) -> None:
    serving = serve(make_handler(base, Stage()), config=Config(request_header_timeout=0.1))
    with serving.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\n")
        assert b"408" in peer.read_to_end()
    record = serving.record()
    assert record.outcome is Outcome.TIMED_OUT
    assert record.phase is Phase.HEADER


def test_an_idle_connection_is_closed_in_time(serve: Any, base: Any) -> None:
    serving = serve(make_handler(base, Stage()), config=Config(keep_alive_timeout=0.1))
    with serving.connect() as peer:
        peer.get("/")
        assert peer.response()[1] == b"ok"
        assert peer.read_to_end() == b""
    assert len(serving.records) == 1


def test_handle_error_is_for_the_handlers_own_exceptions(serve: Any, base: Any) -> None:
    stage = Stage()
    errors: list[str] = []

    class Server(hangup.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            errors.append(str(client_address[0]))

    class Handler(make_handler(base, stage)):  # type: ignore[misc]
        def do_PUT(self) -> None:
            raise ZeroDivisionError

        def do_PATCH(self) -> None:
            stage.handler_waits()
            raise ZeroDivisionError

    serving = serve(Handler, Server)
    peer = serving.connect().send(b"PATCH / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert stage.began.acquire(timeout=PATIENCE)
    peer.fin()
    until(lambda: is_told(serving), "the server knows")
    stage.proceed.release()
    serving.wait_for_records(1)
    assert errors == []
    with serving.connect() as peer:
        response, _ = peer.send(b"PUT / HTTP/1.1\r\nHost: test\r\n\r\n").response()
        assert response.status == 500
    assert errors == ["127.0.0.1"]
    assert serving.wait_for_records(2)[1].outcome is Outcome.FAILED


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_a_half_closed_client_that_sent_more_than_was_read_gets_its_whole_answer(
    serve: Any, base: Any, size: int
) -> None:
    began = threading.Semaphore(0)

    class Handler(base):
        def do_POST(self) -> None:
            began.release()
            answer(self, bytes(size))

    serving = serve(Handler)
    with serving.connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + bytes(BEFORE_HANDLER))
        assert began.acquire(timeout=PATIENCE)
        peer.send(bytes(70000 - BEFORE_HANDLER)).half_close()
        assert len(peer.read_to_end()) > size


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_a_client_that_leaves_in_its_upload_is_told_of_as_such(serve: Any, manner: str) -> None:
    stage = Stage()
    serving = serve(make_handler(hangup.BaseHTTPRequestHandler, stage))
    peer = serving.connect()
    in_the_upload(peer, stage)
    until(lambda: in_phase(serving, Phase.BODY), "the handler waits for the rest")
    getattr(peer, manner)()
    record = serving.record()
    assert (record.outcome, record.phase, record.status) == (Outcome.DISCONNECTED, Phase.BODY, 499)


def test_a_client_that_leaves_after_100_continue_has_not_been_answered(serve: Any) -> None:
    stage = Stage()
    serving = serve(make_handler(hangup.BaseHTTPRequestHandler, stage))
    peer = serving.connect()
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert peer.read(25).startswith(b"HTTP/1.1 100")
    until(lambda: in_phase(serving, Phase.BODY), "the handler waits for the body")
    peer.fin()
    record = serving.record()
    assert (record.outcome, record.phase, record.status) == (Outcome.DISCONNECTED, Phase.BODY, 499)


def test_a_request_that_came_with_fin_while_the_last_one_ended_is_answered(
    serve: Any, base: Any
) -> None:
    """The event loop has seen both by then; the thread that ends the first must look for the second."""
    answered, go_on = threading.Semaphore(0), threading.Semaphore(0)

    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, self.path.encode())
            self.wfile.flush()
            if self.path == "/first":
                answered.release()
                assert go_on.acquire(timeout=PATIENCE)

    serving = serve(Handler)
    with serving.connect() as peer:
        assert peer.get("/first").response()[1] == b"/first"
        assert answered.acquire(timeout=PATIENCE)
        connection = serving.the_connection()
        peer.get("/second").half_close()
        blind = type(serving.engine.loop.poller).__name__ == "PollPoller"  # to FIN behind bytes
        until(lambda: connection.pending if blind else connection.peer.state.name == "EOF", "it is seen")
        go_on.release()
        assert peer.response()[1] == b"/second"
        assert peer.read_to_end() == b""
