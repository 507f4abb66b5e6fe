"""Programs with a loop of their own: each request is handled once, whoever asks for the next and how.

What http.server does is the reference: where a test has ``stock``, the same program runs there, too.
"""

import http.server
from typing import Any

import pytest

import hangup
from conftest import Peer, Serving, answer, until
from hangup import Outcome, Phase
from loops_support import LOOPS, Counting, Reference, handler

CLOSES = {"Connection: close": b"GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
          "HTTP/1.0": b"GET /1 HTTP/1.0\r\n\r\n"}  # fmt: skip


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> dict[str, Any]:
    return LOOPS[request.param]


@pytest.fixture(params=["hangup", "http.server"])
def run(request: pytest.FixtureRequest, serve: Any) -> Any:
    """Serve a class of handlers, by hangup and by the reference."""
    kind = Reference if request.param == "http.server" else None
    return lambda cls: serve(cls, kind) if kind else serve(cls)


def has_ended(serving: Serving) -> None:
    """Wait until all connections have closed, and so all handlers have ended."""
    loop = serving.engine.loop
    until(lambda: loop.opened and loop.gone == loop.opened, "all connections have closed")


def told(serving: Serving) -> list[tuple[str, int, Outcome, int]]:
    return [(f"{r.method} {r.target}", r.status, r.outcome, r.body_out) for r in serving.records]


def talk(peer: Peer, way: str) -> list[bytes]:
    """Send three requests; the bodies of the answers."""
    requests = [b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(3)]
    if way == "at once":
        peer.send(b"".join(requests))
        return [peer.response()[1] for _ in requests]
    bodies = []
    for request in requests:
        if way == "byte by byte":
            for at in range(len(request)):
                peer.send(request[at : at + 1])
        else:
            peer.send(request)
        bodies.append(peer.response()[1])
    return bodies


@pytest.mark.parametrize("way", ["one by one", "at once", "byte by byte"])
def test_each_request_is_handled_once_and_in_order(run: Any, base: Any, loop: Any, way: str) -> None:
    cls = handler(base, **loop)
    serving = run(cls)
    with serving.connect() as peer:
        assert talk(peer, way) == [b"1 /0", b"2 /1", b"3 /2"]
    assert cls.requests == ["GET /0", "GET /1", "GET /2"]
    if isinstance(serving.server, hangup.HTTPServer):
        serving.wait_for_records(3)
        has_ended(serving)
        assert told(serving) == [(f"GET /{n}", 200, Outcome.COMPLETED, 4) for n in range(3)]
        size = len(b"GET /0 HTTP/1.1\r\nHost: h\r\n\r\n")
        assert [record.bytes_in for record in serving.records] == [size] * 3


def test_bodies_and_heads_stay_with_their_requests(run: Any, base: Any, loop: Any) -> None:
    cls = handler(base, **loop)
    with run(cls).connect() as peer:
        bodies = []
        for method, body in ((b"POST", b"hello"), (b"HEAD", b""), (b"POST", b"there"), (b"GET", b"")):
            peer.send(b"%b /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (method, len(body)))
            peer.send(body)
            bodies.append(peer.response(method.decode())[1])
    assert bodies == [b"1 /x", b"", b"3 /x", b"4 /x"]
    assert cls.requests == ["POST /x", "HEAD /x", "POST /x", "GET /x"]


@pytest.mark.parametrize("how", CLOSES)
def test_a_loop_ends_behind_the_last_request(run: Any, base: Any, loop: Any, how: str) -> None:
    cls = handler(base, **loop)
    with run(cls).connect() as peer:
        peer.get("/0").response()
        peer.send(CLOSES[how])
        assert peer.read_to_end().endswith(b"2 /1")
    assert cls.requests == ["GET /0", "GET /1"]


@pytest.mark.parametrize("way", ["fin", "rst"])
@pytest.mark.parametrize("begun", [b"", b"GET /1 HT"], ids=["between", "in the next request"])
def test_a_client_that_leaves_ends_the_loop_and_what_was_answered_stays_answered(
    serve: Any, base: Any, loop: Any, way: str, begun: bytes
) -> None:
    cls = handler(base, **loop)
    calls = count_calls(cls)
    serving = serve(cls)
    with serving.connect() as peer:
        peer.get("/0").response()
        connection = serving.the_connection()
        if begun:
            peer.send(begun)
            until(lambda: connection.input.parser.buffer == begun, "it has been received")
        getattr(peer, way)()
    has_ended(serving)
    assert cls.requests == ["GET /0"]
    first, *rest = serving.records
    assert (first.status, first.outcome, first.phase) == (200, Outcome.COMPLETED, Phase.COMPLETE)
    # As on the engine's own threads: one line for what has begun to come.
    assert [(one.target, one.status, one.phase) for one in rest] == [("/1", 499, Phase.HEADER)] * bool(
        begun
    )
    assert len(calls) <= 3  # the request, and the call that finds the end


def count_calls(cls: Any) -> list[str]:
    """Who spins calls these."""
    for name in ("handle_one_request", "parse_request"):
        setattr(cls, name, _counted(cls.calls, name, getattr(cls, name)))
    return cls.calls  # type: ignore[no-any-return]


def _counted(calls: list[str], name: str, method: Any) -> Any:
    def counted(self: Any) -> Any:
        calls.append(name)
        return method(self)

    return counted


def test_who_is_idle_for_too_long_is_closed(run: Any, base: Any, loop: Any) -> None:
    cls = handler(base, timeout=0.2, **loop)
    serving = run(cls)
    with serving.connect() as peer:
        peer.get("/0").response()
        assert peer.read_to_end() == b""
    if isinstance(serving.server, hangup.HTTPServer):
        has_ended(serving)
        assert told(serving) == [("GET /0", 200, Outcome.COMPLETED, 4)]


@pytest.mark.parametrize("name", ["copied", "request lines"])
def test_the_keep_alive_time_out_holds_for_a_loop(serve: Any, base: Any, name: str) -> None:
    config = hangup.Config(keep_alive_timeout=0.1)
    serving = serve(handler(base, **LOOPS[name]), config=config)
    with serving.connect() as peer:
        peer.get("/0").response()
        assert peer.read_to_end() == b""
    assert told(serving) == [("GET /0", 200, Outcome.COMPLETED, 4)]


@pytest.mark.parametrize("name", ["copied", "request lines"])
def test_half_a_request_that_stops_is_answered_with_408(serve: Any, base: Any, name: str) -> None:
    serving = serve(handler(base, **LOOPS[name]), config=hangup.Config(request_header_timeout=0.1))
    with serving.connect() as peer:
        peer.get("/0").response()
        peer.send(b"GET /1 HT")
        assert peer.response()[0].status == 408
    has_ended(serving)
    assert told(serving)[1][:3] == ("GET /1", 408, Outcome.TIMED_OUT)


def test_a_malformed_request_is_refused_once_and_told_by_its_own_line(
    serve: Any, base: Any, loop: Any
) -> None:
    serving = serve(handler(base, **loop))
    with serving.connect() as peer:
        peer.get("/0").response()
        peer.send(b"GET /1 HTTP/9.x y\r\n\r\n")
        assert peer.read_to_end().count(b"400") >= 1
    has_ended(serving)
    assert [(r.method, r.target, r.status) for r in serving.records] == [
        ("GET", "/0", 200), ("GET", "/1", 400)
    ]  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_an_unread_body_is_not_the_next_request(serve: Any, name: str) -> None:
    cls = handler(hangup.BaseHTTPRequestHandler, do_POST=Counting._answer, **LOOPS[name])
    with serve(cls).connect() as peer:
        for framing, body in (
            (b"Content-Length: 18", b"GET /no HTTP/1.1\r\n"),
            (b"Transfer-Encoding: chunked", b"12\r\nGET /no HTTP/1.1\r\n\r\n0\r\n\r\n"),
        ):
            peer.send(b"POST /a HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n%b" % (framing, body))
            assert peer.response()[0].status == 200
        assert peer.get("/b").response()[1] == b"3 /b"
    assert cls.requests == ["POST /a", "POST /a", "GET /b"]


def test_shutdown_ends_a_loop_that_waits(base: Any, loop: Any) -> None:
    serving = Serving(handler(base, **loop))
    try:
        with serving.connect() as peer:
            peer.get("/0").response()
            serving.the_connection()
            serving.stop()
            assert peer.read_to_end() == b""
        assert told(serving) == [("GET /0", 200, Outcome.COMPLETED, 4)]
    finally:
        serving.stop()


# -- calls in an order of their own


def calls(count: int, method: str = "handle_one_request") -> Any:
    def handle(self: Any) -> None:
        for _ in range(count):
            getattr(self, method)()

    return handle


def test_each_request_of_a_loop_has_a_client_of_its_own(serve: Any, base: Any, loop: Any) -> None:
    clients: list[Any] = []

    def do_GET(self: Any) -> None:
        clients.append((self.client, hangup.current_client()))
        self._answer()

    with serve(handler(base, do_GET=do_GET, **loop)).connect() as peer:
        for number in range(2):
            peer.get(f"/{number}").response()
    assert [here is current for here, current in clients] == [True, True]
    assert clients[0][0] is not clients[1][0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_so_many_calls_handle_so_many_requests_and_then_the_connection_ends(
    run: Any, base: Any, count: int
) -> None:
    cls = handler(base, handle=calls(count))
    with run(cls).connect() as peer:
        peer.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(count)))
        got = peer.read_to_end()
    assert got.count(b"HTTP/1.1 200") == count
    assert got.endswith(b"%d /%d" % (count, count - 1))
    assert cls.requests == [f"GET /{number}" for number in range(count)]


def test_a_response_without_a_length_ends_with_handle(run: Any, base: Any) -> None:
    """As wsgiref's handle() has it: its client would wait for ever on a connection that stays."""

    def handle(self: Any) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if self.parse_request():
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\nof any length")

    with run(handler(base, handle=handle)).connect() as peer:
        assert peer.get("/").read_to_end().endswith(b"of any length")


@pytest.mark.parametrize("value", [True, False])
def test_close_connection_set_before_the_call_is_no_word_about_the_last_request(
    run: Any, base: Any, value: bool
) -> None:
    def handle(self: Any) -> None:
        while True:
            self.close_connection = value
            self.handle_one_request()
            if self.close_connection:
                return

    cls = handler(base, handle=handle)
    with run(cls).connect() as peer:
        assert [peer.get(f"/{n}").response()[1] for n in range(3)] == [b"1 /0", b"2 /1", b"3 /2"]


def test_a_request_that_a_method_asks_for_is_the_next_one(run: Any, base: Any) -> None:
    def do_GET(self: Any) -> None:
        self._answer()
        if self.path == "/0":
            self.handle_one_request()

    cls = handler(base, do_GET=do_GET)
    with run(cls).connect() as peer:
        assert [peer.get(f"/{n}").response()[1] for n in range(3)] == [b"1 /0", b"2 /1", b"3 /2"]


def test_a_request_behind_an_error_page_or_a_caught_exception_is_not_the_last_one_again(
    serve: Any, base: Any
) -> None:
    def do_GET(self: Any) -> None:
        self.requests.append(self.path)
        if self.path == "/raise":
            answer(self)
            raise RuntimeError
        self.send_error(404)

    def handle(self: Any) -> None:
        self.close_connection = False
        while not self.close_connection:
            try:
                self.handle_one_request()
            except RuntimeError:
                self.requests.append("caught")

    cls = handler(base, handle=handle, do_GET=do_GET)
    serving = serve(cls)
    with serving.connect() as peer:
        assert peer.get("/raise").response()[0].status == 200
        assert peer.get("/error").response()[0].status == 404
        assert peer.read_to_end() == b""  # send_error closes, as ever
    has_ended(serving)
    assert cls.requests == ["/raise", "caught", "/error"]
    assert [record.status for record in serving.records] == [200, 404]


def test_a_caught_exception_without_an_answer_ends_the_connection(serve: Any) -> None:
    """Its client would wait for ever, or take the next answer for its own."""

    def do_GET(self: Any) -> None:
        self.requests.append(self.path)
        raise RuntimeError

    def handle(self: Any) -> None:
        self.close_connection = False
        while not self.close_connection:
            try:
                self.handle_one_request()
            except RuntimeError:
                self.close_connection = False

    cls = handler(hangup.BaseHTTPRequestHandler, handle=handle, do_GET=do_GET)
    serving = serve(cls)
    with serving.connect() as peer:
        assert peer.get("/").read_to_end() == b""
    assert cls.requests == ["/"]


def test_parse_request_says_yes_once_for_each_request(serve: Any) -> None:
    found: list[Any] = []

    def handle(self: Any) -> None:
        while self.parse_request():
            found.append(self.path)
            self._answer()

    with serve(handler(hangup.BaseHTTPRequestHandler, handle=handle)).connect() as peer:
        assert peer.get("/0").response()[1] == b"1 /0"
        assert found == ["/0"]
        assert peer.get("/1", "Connection: close").read_to_end().endswith(b"2 /1")
    assert found == ["/0", "/1"]


def test_handlers_without_a_loop_hold_no_thread_between_requests(serve: Any, base: Any) -> None:
    """Not even with a ``handle`` that calls http.server's, nor with a ``handle_one_request``."""
    for own in ({}, LOOPS["inherited"], LOOPS["own request"], LOOPS["own request by super"]):
        serving = serve(handler(base, **own))
        peers = [serving.connect() for _ in range(5)]
        for peer in peers:
            peer.get("/").response()
        assert not serving.engine.loop.waiting
        until(lambda: serving.handler_threads() <= 2, "one that leads, and one behind it")  # noqa: B023
        for peer in peers:
            peer.fin()


def test_a_line_that_a_handler_reads_after_it_has_begun_its_answer_may_be_its_bodys(run: Any) -> None:
    """cgi.FieldStorage reads lines; and the request is not over before its body is.

    (A handler of hangup's own is called when so short a body is there.)
    """

    def do_POST(self: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "12")
        self.end_headers()
        self.wfile.flush()
        self.wfile.write(self.rfile.readline() + self.rfile.readline())

    cls = handler(http.server.BaseHTTPRequestHandler, do_POST=do_POST, **LOOPS["copied"])
    with run(cls).connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\n\r\none..\n")
        head = peer.read_head()
        peer.send(b"two..\n")
        assert (b" 200 " in head, peer.read(12)) == (True, b"one..\ntwo..\n")
        assert peer.get("/1").response()[1] == b"1 /1"


def test_an_upgraded_connection_is_read_by_lines(run: Any, base: Any) -> None:
    def do_GET(self: Any) -> None:
        self.send_response_only(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "lines")
        self.end_headers()
        self.wfile.flush()
        for line in iter(self.rfile.readline, b""):
            self.wfile.write(line.upper())
        self.close_connection = True

    with run(handler(base, do_GET=do_GET)).connect() as peer:
        peer.get("/", "Connection: Upgrade", "Upgrade: lines")
        peer.read_head()
        for _ in range(2):
            assert peer.send(b"hello\n").read(6) == b"HELLO\n"
