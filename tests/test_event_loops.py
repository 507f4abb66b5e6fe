"""Several event loops in one server, as Pythons without an interpreter lock have them.

They share the threads, the queue and the limits; each has connections of its own.
"""

import threading
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Peer, ServingApp, answer, until
from hangup import Config, Outcome
from hangup._engine import engine as server

LOOPS = 3

pytestmark = pytest.mark.usefixtures("nothing_is_said")


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGUP_EVENT_LOOPS", str(LOOPS))


class Stage:
    """An application whose handlers wait, and that knows how many of them are inside."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = self.served = 0
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.left: list[str] = []

    def app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        path = environ["PATH_INFO"]
        if path.startswith("/slow"):
            self.entered.release()
            assert self.go_on.acquire(timeout=PATIENCE)
        elif path.startswith("/leave"):
            self.entered.release()
            if environ["hangup.client"].wait(PATIENCE):
                self.left.append(path)
        with self.lock:
            self.inside -= 1
            self.served += 1
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def loops(serving: ServingApp) -> Any:
    return serving.server.engine.loops


def connected(serving: ServingApp, number: int) -> list[Peer]:
    """Clients that have had an answer, and stay."""
    peers = []
    for _ in range(number):
        peers.append(serving.connect())
        assert peers[-1].get("/").response()[1] == b"ok"
    return peers


def closed(peers: list[Peer]) -> None:
    for peer in peers:
        peer.fin()


def test_connections_are_shared_out(serve_app: Any, stage: Stage) -> None:
    serving = serve_app(stage.app)
    peers = connected(serving, 20)
    held = [loop.opened - loop.gone for loop in loops(serving)]
    assert sum(held) == 20
    assert max(held) - min(held) <= 2
    # Each answers those that it has, and others' quickly done with are gone.
    for peer in peers:
        assert peer.get("/").response()[1] == b"ok"
    closed(peers)
    until(lambda: all(loop.opened == loop.gone for loop in loops(serving)), "all are gone")


def test_connections_that_come_while_others_wait_for_their_handlers_are_shared_out(
    serve_app: Any, stage: Stage
) -> None:
    serving = serve_app(stage.app)
    peers = [serving.connect().get("/slow") for _ in range(10)]
    for _ in peers:
        assert stage.entered.acquire(timeout=PATIENCE)
    others = connected(serving, 10)
    stage.go_on.release(len(peers))
    for peer in peers:
        assert peer.response()[1] == b"ok"
    closed([*peers, *others])


@pytest.mark.parametrize("most", [1, 2, LOOPS, LOOPS + 2])
def test_all_loops_together_run_as_many_handlers_as_are_permitted(
    serve_app: Any, stage: Stage, most: int
) -> None:
    serving = serve_app(stage.app, config=Config(max_threads=most))
    assert len(loops(serving)) == min(LOOPS, most)
    peers = [serving.connect().get(f"/slow/{number}") for number in range(3 * most)]
    for _ in range(most):
        assert stage.entered.acquire(timeout=PATIENCE)
    until(lambda: len(serving.server.engine.workers._backlog) == 2 * most, "the others wait")
    assert stage.inside == most
    stage.go_on.release(len(peers))
    for peer in peers:
        assert peer.response()[1] == b"ok"
    assert stage.most == most
    closed(peers)


@pytest.mark.parametrize("most", [LOOPS, 1000])
def test_requests_of_many_clients_are_each_answered_once(
    serve_app: Any, stage: Stage, most: int
) -> None:
    """Handlers that are quick, and some that are not, with the lead and without it."""
    serving = serve_app(stage.app, config=Config(max_threads=most))
    rounds, clients = 30, 12
    stage.go_on.release(rounds * clients)

    def visit(number: int) -> None:
        with serving.connect() as peer:
            for turn in range(rounds):
                path = "/slow" if (turn + number) % 10 == 0 else "/quick"
                assert peer.get(path).response()[1] == b"ok"
                good.append(1)

    good: list[int] = []
    threads = [threading.Thread(target=visit, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(good) == stage.served == rounds * clients
    assert stage.most <= most
    assert stage.inside == 0
    until(lambda: serving.server.engine.workers._busy == 0, "no handler counts as running")


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_a_departure_is_noticed_by_each_of_them(serve_app: Any, stage: Stage, manner: str) -> None:
    serving = serve_app(stage.app)
    peers = [serving.connect().get(f"/leave/{number}") for number in range(2 * LOOPS)]
    for _ in peers:
        assert stage.entered.acquire(timeout=PATIENCE)
    for peer in peers:
        getattr(peer, manner)()
    until(lambda: len(stage.left) == len(peers), "each is told")
    records = until(lambda: serving.records if len(serving.records) == len(peers) else None, "told")
    assert {record.outcome for record in records} == {Outcome.DISCONNECTED}


def test_the_limit_of_connections_is_all_loops_together(serve_app: Any, stage: Stage) -> None:
    serving = serve_app(stage.app, config=Config(max_connections=4 * LOOPS))
    assert [loop.most for loop in loops(serving)] == [4] * LOOPS
    peers = connected(serving, 4 * LOOPS)
    # There is no room, and the longest idle make some.
    more = connected(serving, LOOPS)
    assert sum(loop.opened - loop.gone for loop in loops(serving)) <= 4 * LOOPS
    closed([*peers, *more])


def test_requests_in_progress_end_and_nobody_accepts_any_more(serve_app: Any, stage: Stage) -> None:
    serving = serve_app(stage.app)
    idle = connected(serving, LOOPS)
    peers = [serving.connect().get("/slow") for _ in range(LOOPS)]
    for _ in peers:
        assert stage.entered.acquire(timeout=PATIENCE)
    ending = threading.Thread(target=serving.server.close, args=(PATIENCE,))
    ending.start()
    until(lambda: all(loop.draining for loop in loops(serving)), "they drain")
    stage.go_on.release(len(peers))
    for peer in peers:
        assert peer.response()[1] == b"ok"
        assert peer.read_to_end() == b""
    ending.join()
    with pytest.raises(ConnectionRefusedError):
        serving.connect()
    closed([*idle, *peers])


def test_a_server_of_handlers_may_serve_again_on_its_socket() -> None:
    """Each ``serve_forever`` has event loops of its own, and the socket outlives them."""

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

    with hangup.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        for _ in range(2):
            thread = threading.Thread(target=httpd.serve_forever)
            thread.start()
            for _ in range(2 * LOOPS):
                with Peer(httpd.server_address) as peer:
                    assert peer.get("/").response()[1] == b"ok"
            httpd.shutdown()
            thread.join()


def test_handlers_that_run_one_at_a_time_have_one_loop() -> None:
    with hangup.HTTPServer(("127.0.0.1", 0), hangup.BaseHTTPRequestHandler) as httpd:
        engine = httpd._new_engine(serial=True)
        assert len(engine.loops) == 1
        engine.close(wait=False)


@pytest.mark.parametrize(("locked", "cores", "expected"), [(True, 8, 1), (False, 8, 8), (False, 1, 1)])
def test_there_is_one_for_each_core_where_python_has_no_interpreter_lock(
    monkeypatch: pytest.MonkeyPatch, locked: bool, cores: int, expected: int
) -> None:
    monkeypatch.delenv("HANGUP_EVENT_LOOPS")
    monkeypatch.setattr(server, "HAS_LOCK", locked)
    monkeypatch.setattr(server.os, "process_cpu_count", lambda: cores, raising=False)
    assert server._event_loop_count(Config()) == expected


@pytest.mark.parametrize("said", ["many", "-1", "1.5", "²"])
def test_what_is_no_number_of_event_loops_is_named(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("HANGUP_EVENT_LOOPS", said)
    with pytest.raises(hangup.ConfigError, match=f"HANGUP_EVENT_LOOPS .* not '{said}'"):
        server._event_loop_count(Config())
