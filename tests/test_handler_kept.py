"""What lives longer than a request: a handler that is kept, its threads, what belongs to one thread."""

import functools
import sqlite3
import threading
from typing import Any

import pytest

import hangup
from conftest import answer, until
from loops_support import handler

BODY = 3_000_000  # more than is received before a handler begins


# -- a handler that is kept


class Keeping:
    protocol_version = "HTTP/1.1"
    seen: list[Any]

    def do_POST(self) -> None:
        self.seen.append(self)
        if self.path.startswith("/read"):  # type: ignore[attr-defined]
            self.rfile.read(int(self.headers["Content-Length"]))  # type: ignore[attr-defined]
        answer(self)

    do_GET = do_POST

    def log_message(self, *args: Any) -> None: ...


@pytest.mark.parametrize("server", [hangup.HTTPServer, hangup.ThreadingHTTPServer])
def test_a_kept_handler_says_what_it_was_asked(serve: Any, base: Any, server: Any) -> None:
    """Mock servers keep them, and look later at headers that nobody has looked at before."""
    cls: Any = type("H", (Keeping, base), {"seen": []})
    serving = serve(cls, server)
    with serving.connect() as peer:
        peer.send(b"POST /read?a=b HTTP/1.1\r\nHost: h\r\nX-A: b\r\nContent-Length: 2\r\n\r\nhi")
        peer.response()
        client_address = peer.sock.getsockname()
    loop = serving.engine.loop
    until(lambda: loop.gone == 1, "the connection has closed")
    (kept,) = cls.seen
    until(lambda: kept.rfile.closed, "its handler has ended")
    assert (kept.command, kept.path, kept.request_version) == ("POST", "/read?a=b", "HTTP/1.1")
    assert kept.requestline == "POST /read?a=b HTTP/1.1"
    assert kept.raw_requestline.rstrip() == b"POST /read?a=b HTTP/1.1"
    assert (kept.headers["x-a"], kept.headers.get("Content-Length")) == ("b", "2")
    assert kept.client_address == client_address
    assert kept.address_string() == "127.0.0.1"
    assert kept.server is serving.server
    assert kept.close_connection in (True, False)
    assert kept.rfile.closed
    with pytest.raises(ValueError, match="closed"):
        kept.rfile.read()


def test_a_kept_handler_of_an_idle_connection_has_its_headers_and_a_closed_rfile(serve: Any) -> None:
    cls: Any = type("H", (Keeping, hangup.BaseHTTPRequestHandler), {"seen": []})
    with serve(cls).connect() as peer:
        peer.get("/1", "X-A: first").response()
        (kept,) = cls.seen
        until(lambda: kept._hangup.exchange is None, "its request has ended")
        assert (kept.path, kept.headers["X-A"]) == ("/1", "first")
        assert kept.rfile.closed
        peer.get("/2", "X-A: second").response()
        assert cls.seen[0].headers["X-A"] == "second"  # one handler, as long as its connection: as ever


@pytest.mark.parametrize("read", ["read", "readline", "read1"])
@pytest.mark.parametrize("own_loop", [False, True])
def test_who_keeps_rfile_reads_nothing_of_the_next_request(
    serve: Any, read: str, own_loop: bool
) -> None:
    kept: list[Any] = []

    def do_POST(self: Any) -> None:
        if self.path == "/1":
            kept.append(self.rfile)
            self.rfile.read(2)
        else:
            kept.append(getattr(kept[0], read)())
            kept.append(self.rfile.read(4))
        answer(self)

    own = {"handle_one_request": lambda self: super(cls, self).handle_one_request()} if own_loop else {}
    cls = handler(hangup.BaseHTTPRequestHandler, do_POST=do_POST, **own)
    with serve(cls).connect() as peer:
        for number in (1, 2):
            peer.send(b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab\ncd"[:-1] % number)
            assert peer.response()[0].status == 200
    assert kept[1:] == [b"", b"ab\nc"]


def test_a_thread_that_waits_in_rfile_when_its_request_ends_reads_nothing_more(serve: Any) -> None:
    found: list[Any] = []
    threads: list[threading.Thread] = []
    connections: list[Any] = []

    def read(rfile: Any) -> None:
        try:
            found.append(rfile.read(BODY))
        except ValueError as error:
            found.append(error)

    def do_POST(self: Any) -> None:
        if self.path == "/1":
            self.rfile.read(10)
            threads.append(threading.Thread(target=read, args=(self.rfile,)))
            threads[0].start()
            held_up, exchange = self._hangup.loop.held_up, self._hangup.exchange
            connections.append(self._hangup)
            until(lambda: held_up and exchange.body_in == BODY // 2, "it waits for more of the body")
        else:
            found.append(self.rfile.read())
        answer(self)

    config = hangup.Config(max_discarded_body=2 * BODY)
    with serve(handler(hangup.BaseHTTPRequestHandler, do_POST=do_POST), config=config).connect() as peer:
        peer.send(b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % BODY)
        peer.send(b"x" * (BODY // 2))
        assert peer.response()[0].status == 200
        until(lambda: connections[0].input.opened is None, "its stream has been taken back")
        peer.send(b"x" * (BODY - BODY // 2))
        threads[0].join()
        peer.send(b"POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nsecond")
        assert peer.response()[0].status == 200
    assert isinstance(found[0], ValueError)
    assert found[1:] == [b"second"]


# -- what belongs to a thread


class Local:
    """Notes in which thread its methods run."""

    protocol_version = "HTTP/1.1"
    threads: dict[Any, list[int]]

    def _note(self) -> None:
        self.threads.setdefault(self.client_address, []).append(threading.get_ident())  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        self._note()
        answer(self)

    def log_message(self, *args: Any) -> None: ...


def setup(self: Any) -> None:
    super(self.kind, self).setup()
    self._note()


def finish(self: Any) -> None:
    self._note()
    super(self.kind, self).finish()


OWN: dict[str, dict[str, Any]] = {
    "setup": {"setup": setup},
    "finish": {"finish": finish},
    "both": {"setup": setup, "finish": finish},
    "asked for": {"thread_per_connection": True},
}


def local(base: Any, **own: Any) -> Any:
    cls: Any = type("H", (Local, base), {"threads": {}, **own})
    cls.kind = cls
    return cls


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("own", OWN)
def test_one_thread_has_all_of_a_connection(serve: Any, base: Any, own: str, partial: bool) -> None:
    cls = local(base, **OWN[own])
    serving = serve(functools.partial(cls) if partial else cls)
    peers = [serving.connect() for _ in range(4)]
    for _ in range(3):
        for peer in peers:
            peer.get("/")
        for peer in peers:
            peer.response()
    loop = serving.engine.loop
    until(lambda: len(loop.waiting) == 4, "a thread waits for each")
    for peer in peers:
        peer.fin()
    until(lambda: loop.gone == 4, "all connections have closed")
    assert [len(set(threads)) for threads in cls.threads.values()] == [1] * 4
    methods = len([name for name in OWN[own] if name != "thread_per_connection"])
    assert [len(threads) for threads in cls.threads.values()] == [3 + methods] * 4
    assert len({threads[0] for threads in cls.threads.values()}) == 4


@pytest.mark.parametrize(
    "own",
    [{}, {"setup": setup, "finish": finish, "thread_per_connection": False}],
    ids=["nothing of its own", "not asked for"],
)
def test_no_thread_waits_for_who_has_nothing_of_a_threads(serve: Any, base: Any, own: Any) -> None:
    serving = serve(local(base, **own))
    peers = [serving.connect() for _ in range(10)]
    for _ in range(2):
        for peer in peers:
            peer.get("/").response()
    assert not serving.engine.loop.waiting
    until(lambda: serving.handler_threads() <= 3, "few threads are there")
    for peer in peers:
        peer.fin()


@pytest.mark.parametrize("server", [hangup.HTTPServer, hangup.ThreadingHTTPServer])
def test_a_database_that_setup_opens_is_closed_by_finish(
    serve: Any, base: Any, server: Any, tmp_path: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """sqlite3 refuses what was made in another thread."""
    path = tmp_path / "db"
    with sqlite3.connect(path) as made:
        made.execute("create table t (x)")
    made.close()
    closed: list[int] = []

    class Handler(base):  # type: ignore[misc]
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.db = sqlite3.connect(path)

        def finish(self) -> None:
            super().finish()
            self.db.close()
            closed.append(1)

        def do_GET(self) -> None:
            answer(self, repr(self.db.execute("select count(*) from t").fetchone()).encode())

        def log_message(self, *args: Any) -> None: ...

    serving = serve(Handler, server)
    peers = [serving.connect() for _ in range(3)]
    for _ in range(3):
        for peer in peers:
            assert peer.get("/").response()[1] == b"(0,)"
    for peer in peers:
        peer.fin()
    until(lambda: len(closed) == 3, "each is closed")
    assert "Traceback" not in capfd.readouterr().err


def test_what_setup_leaves_in_a_threading_local_is_there_in_each_request(serve: Any, base: Any) -> None:
    local = threading.local()

    class Handler(base):  # type: ignore[misc]
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            local.name = self.client_address

        def do_GET(self) -> None:
            answer(self, repr(local.name == self.client_address).encode())

        def log_message(self, *args: Any) -> None: ...

    serving = serve(Handler)
    with serving.connect() as one, serving.connect() as other:
        for _ in range(3):
            for peer in (one, other):
                assert peer.get("/").response()[1] == b"True"


def test_shutdown_ends_connections_whose_threads_wait(serve: Any, base: Any) -> None:
    cls = local(base, **OWN["both"])
    serving = serve(cls)
    peers = [serving.connect() for _ in range(3)]
    for peer in peers:
        peer.get("/").response()
    loop = serving.engine.loop
    until(lambda: len(loop.waiting) == 3, "they wait")
    serving.server.shutdown()
    for peer in peers:
        assert peer.read_to_end() == b""
        peer.fin()
    until(lambda: loop.gone == 3, "all connections have closed")
    assert [len(set(threads)) for threads in cls.threads.values()] == [1] * 3


def test_idle_connections_give_their_threads_up_when_requests_wait(serve: Any, base: Any) -> None:
    serving = serve(local(base, **OWN["setup"]), config=hangup.Config(max_threads=2))
    peers = [serving.connect() for _ in range(5)]
    for peer in peers:
        assert peer.get("/").response()[0].status == 200
    for peer in peers:
        peer.fin()


def test_an_exception_in_one_of_its_requests_ends_the_connection_in_its_thread(
    serve: Any, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def do_GET(self: Any) -> None:
        self._note()
        if self.path == "/raise":
            raise RuntimeError
        answer(self)

    monkeypatch.setattr(hangup.ThreadingHTTPServer, "handle_error", lambda *_: None)
    cls = local(base, do_GET=do_GET, **OWN["both"])
    serving = serve(cls)
    with serving.connect() as peer:
        peer.get("/").response()
        assert peer.get("/raise").response()[0].status == 500
        assert peer.read_to_end() == b""
    loop = serving.engine.loop
    until(lambda: loop.gone == 1, "the connection has closed")
    (threads,) = cls.threads.values()
    assert (len(threads), len(set(threads))) == (4, 1)
