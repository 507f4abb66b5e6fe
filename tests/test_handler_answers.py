"""Answers of hangup's own handlers: what their clients get of them, and what follows.

Each test sends a second request behind the first, in one piece.  Whether it is answered says whether the
connection stayed; and nothing of the first answer may become a part of the second.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, answer
from hangup import Config, Outcome

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"

Act = Callable[[Any], object]


def lines(handler: Any, *fields: tuple[str, str], status: int = 200) -> None:
    """A head, without its end."""
    handler.send_response(status)
    for name, value in fields:
        handler.send_header(name, value)


def head(handler: Any, *fields: tuple[str, str], status: int = 200) -> None:
    lines(handler, *fields, status=status)
    handler.end_headers()


@pytest.fixture
def handling(serve: Any) -> Any:
    """Serve with a handler that does this for ``/``, and answers all else with its path."""

    def start(act: Act, *, buffered: bool = False, **settings: Any) -> Any:
        class Handler(hangup.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1 if buffered else 0

            def do_GET(self) -> None:
                if self.path == "/next":
                    answer(self, b"/next")
                else:
                    act(self)

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_CONNECT(self) -> None:
                self.do_GET()

        return serve(Handler, config=Config(**settings))

    return start


def sent(serving: Any, request: bytes = GET) -> bytes:
    """All that comes back for this request and another one."""
    with serving.connect() as peer:
        data: bytes = peer.send(request + NEXT).read_to_end()
        return data


# -- what is no answer


def hint(handler: Any) -> None:
    handler.send_response_only(103)
    handler.end_headers()


@pytest.mark.parametrize(
    ("act", "got"),
    [
        (lambda handler: None, b""),
        (hint, b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (lambda handler: lines(handler, ("Set-Cookie", "secret")), b""),
    ],
    ids=["nothing", "an interim answer", "a head without its end"],
)
def test_behind_what_is_no_answer_the_connection_closes(
    handling: Any, caplog: pytest.LogCaptureFixture, act: Act, got: bytes
) -> None:
    serving = handling(act)
    assert sent(serving) == got
    assert [(r.outcome, r.status) for r in serving.wait_for_records(1)] == [(Outcome.FAILED, 0)]
    assert [one.levelno for one in caplog.records if one.name == "hangup"] == [logging.ERROR]


def test_a_head_that_is_begun_behind_an_answer_is_not_the_next_ones(handling: Any) -> None:
    def act(handler: Any) -> None:
        answer(handler, b"whole")
        handler.send_header("Set-Cookie", "secret")

    got = sent(handling(act))
    assert got.endswith(b"\r\n\r\nwhole")
    assert b"secret" not in got


def test_who_leaves_without_an_answer_is_no_failure_of_the_handlers(
    handling: Any, nothing_is_said: None
) -> None:
    serving = handling(lambda handler: handler.client.wait())
    with serving.connect() as peer:
        peer.send(GET).fin()
    assert serving.record().outcome is Outcome.DISCONNECTED


def test_a_handler_may_write_its_head_itself(handling: Any, nothing_is_said: None) -> None:
    def act(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    got = sent(handling(act), GET + GET)
    assert got.count(b"\r\n\r\nok") == 2
    assert got.endswith(b"/next")


# -- what a handler says of the connection


@pytest.mark.parametrize("value", ["close", "close, x", "x, close", " Close", "keep-alive, close"])
def test_a_handlers_close_is_heard_wherever_it_stands(handling: Any, value: str) -> None:
    def act(handler: Any) -> None:
        head(handler, ("Connection", value), ("Connection", "keep-alive"), ("Content-Length", "0"))

    got = sent(handling(act))
    assert got.count(b"HTTP/1.1 ") == 1
    assert got.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_bytes",
    [GET, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"],
    ids=["1.1", "1.0"],
)
@pytest.mark.parametrize(
    ("status", "fields"), [(200, [("Content-Length", "0")]), (204, []), (304, [])], ids=str
)
def test_a_handlers_keep_alive_is_granted(
    handling: Any, request_bytes: bytes, status: int, fields: Any
) -> None:
    serving = handling(lambda each: head(each, ("Connection", "Keep-Alive"), *fields, status=status))
    with serving.connect() as peer:
        for _ in range(2):
            response, _ = peer.send(request_bytes).response()
            assert response.headers.get_all("Connection") == ["keep-alive"]
        assert peer.send(NEXT).response()[1] == b"/next"


@pytest.mark.parametrize(
    ("request_bytes", "settings", "fields"),
    [
        (GET[:-2] + b"Connection: close\r\n\r\n", {}, [("Content-Length", "0")]),
        (GET_1_0, {}, [("Content-Length", "0")]),
        (GET, {"max_requests": 1}, [("Content-Length", "0")]),
        (GET, {}, []),
        (GET, {}, [("Content-Length", "none")]),
        (GET, {}, [("Transfer-Encoding", "x")]),
    ],
    ids=["close", "1.0", "max_requests", "no length", "a length that is none", "no chunks"],
)
def test_a_handlers_keep_alive_does_not_override_what_closes_the_connection(
    handling: Any, request_bytes: bytes, settings: Any, fields: Any
) -> None:
    serving = handling(lambda each: head(each, ("Connection", "keep-alive"), *fields), **settings)
    got = sent(serving, request_bytes).lower()
    assert got.count(b"http/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in got
    assert b"keep-alive" not in got


def test_a_handlers_keep_alive_does_not_keep_a_server_that_drains(handling: Any) -> None:
    def act(handler: Any) -> None:
        serving.engine.drain()
        head(handler, ("Connection", "keep-alive"), ("Content-Length", "0"))

    serving = handling(act)
    with serving.connect() as peer:
        response, _ = peer.send(GET).response()
        assert response.headers.get_all("Connection") == ["close"]
        assert peer.read_to_end() == b""


@pytest.mark.parametrize("fields", [[], [("Content-Length", "2")]], ids=["no length", "a length"])
def test_a_handler_that_refuses_connect_closes_and_says_so(handling: Any, fields: Any) -> None:
    def act(handler: Any) -> None:
        head(handler, *fields, status=403)
        handler.wfile.write(b"no")

    got = sent(handling(act), b"CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 403 ")
    assert got.endswith(b"\r\nConnection: close\r\n\r\nno")


# -- bodies


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("body", [b"", b"abc"])
def test_behind_a_body_that_is_shorter_than_was_said_the_connection_closes(
    handling: Any, caplog: pytest.LogCaptureFixture, buffered: bool, body: bytes
) -> None:
    def act(handler: Any) -> None:
        head(handler, ("Content-Length", "10"))
        handler.wfile.write(body)

    serving = handling(act, buffered=buffered)
    assert sent(serving).partition(b"\r\n\r\n")[2] == body
    assert serving.record().outcome is Outcome.FAILED
    assert f"sent a body of {len(body)} bytes, and said that it has 10" in caplog.text


@pytest.mark.parametrize(
    "pieces", [[b"abcde"], [b"a", b"bcd", b"e"], [b"abc", b"de", b"f"], [memoryview(b"abcd")]]
)
def test_what_is_more_than_was_said_is_cut_off_and_the_connection_closes(
    handling: Any, caplog: pytest.LogCaptureFixture, pieces: list[Any]
) -> None:
    def act(handler: Any) -> None:
        head(handler, ("Content-Length", "3"))
        for piece in pieces:
            assert handler.wfile.write(piece) == len(piece)

    assert sent(handling(act)).partition(b"\r\n\r\n")[2] == b"abc"
    assert caplog.text.count("longer than its Content-Length") == 1


@pytest.mark.parametrize("buffered", [False, True])
def test_behind_more_than_was_said_by_another_way_the_connection_closes(
    handling: Any, buffered: bool
) -> None:
    def act(handler: Any) -> None:
        head(handler, ("Content-Length", "3"))
        handler.wfile.flush()
        handler.connection.sendall(b"abcde")

    assert sent(handling(act, buffered=buffered)).partition(b"\r\n\r\n")[2] == b"abcde"


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", 200), (b"HEAD", 404), (b"GET", 204), (b"GET", 304)]
)
@pytest.mark.parametrize("field", [("Content-Length", "4"), ("Transfer-Encoding", "chunked")])
def test_no_body_goes_out_behind_head_204_and_304(
    handling: Any, nothing_is_said: None, method: bytes, status: int, field: Any
) -> None:
    def act(handler: Any) -> None:
        head(handler, field, status=status)
        handler.wfile.write(b"BO")
        handler.wfile.write(b"DY")

    got = sent(handling(act), GET.replace(b"GET", method))
    first, end, second = got.partition(b"\r\n\r\n")
    assert end
    says_so = status == 200 or method == b"HEAD" or (status == 304 and field[0] == "Content-Length")
    assert (f"{field[0]}: {field[1]}".encode() in first) == says_so
    assert b"Connection" not in first
    assert second.startswith(b"HTTP/1.1 200 ")
    assert second.endswith(b"\r\n\r\n/next")


def test_a_body_behind_head_that_was_buffered_closes_the_connection(handling: Any) -> None:
    got = sent(handling(lambda each: answer(each, b"BODY"), buffered=True), GET.replace(b"GET", b"HEAD"))
    assert got.endswith(b"\r\n\r\nBODY")


def test_behind_an_answer_without_a_body_a_handler_may_write_its_head_itself(handling: Any) -> None:
    def act(handler: Any) -> None:
        if handler.command == "HEAD":
            answer(handler, b"BODY")
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown")

    assert b"\r\n\r\nown" in sent(handling(act), GET.replace(b"GET", b"HEAD") + GET)


def test_a_wfile_that_is_closed_takes_nothing(handling: Any) -> None:
    def act(handler: Any) -> None:
        assert handler.raw_requestline == b"GET / HTTP/1.1\r\n"
        answer(handler)
        handler.wfile.close()
        for data in (b"more", b""):
            with pytest.raises(ValueError, match="closed"):
                handler.wfile.write(data)

    assert sent(handling(act)).partition(b"\r\n\r\n")[2] == b"ok"


CHUNKED = b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("keeps", [b"", b"Connection: keep-alive\r\n"])
def test_http_1_0_gets_a_handlers_chunks_without_their_coding(
    handling: Any, nothing_is_said: None, size: int, keeps: bytes
) -> None:
    def act(handler: Any) -> None:
        head(handler, ("A", "b"), ("Transfer-Encoding", "chunked"))
        for at in range(0, len(CHUNKED), size):
            handler.wfile.write(CHUNKED[at : at + size])

    got = sent(handling(act), b"GET / HTTP/1.0\r\n" + keeps + b"\r\n")
    fields, _, body = got.partition(b"\r\n\r\n")
    assert body == b"abcde"
    assert b"Transfer-Encoding" not in fields
    assert b"\r\nA: b\r\n" in fields
    assert fields.endswith(b"\r\nConnection: close")


def test_chunks_that_are_none_break_an_answer_to_http_1_0_off(
    handling: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    def act(handler: Any) -> None:
        head(handler, ("Transfer-Encoding", "chunked"))
        handler.wfile.write(CHUNKED[:8])
        handler.wfile.write(b"no chunk")

    serving = handling(act)
    assert sent(serving, GET_1_0).endswith(b"\r\n\r\na")
    assert serving.record().outcome is Outcome.FAILED
    assert "chunks of a handler's answer are malformed" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("request_line", "status", "says_so"),
    [
        (b"GET / HTTP/1.1", 304, False),  # http.client, for one, would wait for the chunks
        (b"GET / HTTP/1.1", 204, False),
        (b"HEAD / HTTP/1.1", 200, True),
        (b"HEAD / HTTP/1.0", 200, False),
    ],
)
def test_chunks_are_announced_to_whom_they_may_be_where_there_is_no_body(
    handling: Any, request_line: bytes, status: int, says_so: bool
) -> None:
    def act(handler: Any) -> None:
        handler.send_response(status)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(CHUNKED)

    got = sent(handling(act), request_line + b"\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert got.endswith(b"\r\n\r\n")
    assert (b"Transfer-Encoding" in got) == says_so


def test_an_error_for_connect_is_as_long_as_it_says(handling: Any) -> None:
    def act(handler: Any) -> None:
        head(handler, ("Content-Length", "2"), status=403)
        handler.wfile.write(b"noHTTP/1.1 200 OK")

    got = sent(handling(act), b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    assert got.endswith(b"\r\nConnection: close\r\n\r\nno")


# -- names, values, statuses


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "v") for name in ["", "Bad Name", "X:", "X\t", "X\x0b", "X\r\n Y", "(X)", "é"]),
        *(("X", f"a{character}b") for character in "\0\x01\x08\n\x0b\x0c\r\x1b\x1f\x7f"),
    ],
)
def test_what_is_no_header_field_raises(handling: Any, name: str, value: str) -> None:
    def act(handler: Any) -> None:
        with pytest.raises(ValueError, match="header field"):
            handler.send_header(name, value)
        answer(handler, b"refused")

    assert b"\r\n\r\nrefusedHTTP/1.1 200 " in sent(handling(act))


def test_tabs_and_letters_of_latin_1_are_sent(handling: Any) -> None:
    got = sent(handling(lambda each: head(each, ("X", "a\tä\xa0\x80"), ("Content-Length", 0))))
    assert b"\r\nX: a\t\xe4\xa0\x80\r\n" in got
    assert got.endswith(b"/next")


@pytest.mark.parametrize("status", [-5, 0, 20, 99, 1000, 2000])
def test_a_status_without_three_digits_raises(handling: Any, status: int) -> None:
    def act(handler: Any) -> None:
        for method in (handler.send_response, handler.send_response_only):
            with pytest.raises(ValueError, match="three digits"):
                method(status)
        answer(handler, b"refused", 999)

    assert b"\r\n\r\nrefusedHTTP/1.1 200 " in sent(handling(act))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_writes_until_it_fails_is_told_that_the_client_left_also_where_nothing_is_sent(
    serve: Any, method: str
) -> None:
    told = threading.Event()

    class Handler(hangup.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"ok")
            except hangup.ClientDisconnected:
                told.set()
                raise

        do_HEAD = do_GET

    with serve(Handler).connect() as peer:
        peer.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode()).read(12)
        peer.half_close()
        assert told.wait(PATIENCE)
