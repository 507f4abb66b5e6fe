"""PEP 3333, over real sockets: what an application is given, what becomes of what it returns."""

import errno
import io
import json
import logging
import os
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

import hangup
from conftest import BEFORE_HANDLER, PATIENCE, until
from hangup import Config, Outcome, Phase

PLAIN = [("Content-Type", "text/plain")]
BIG = 200_000


def returns(*blocks: bytes, status: str = "200 OK", headers: Any = None) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, list(PLAIN if headers is None else headers))
        return list(blocks)

    return app


def yields(*blocks: bytes, status: str = "200 OK", headers: Any = None) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, list(PLAIN if headers is None else headers))
        yield from blocks

    return app


def raw(serving: Any, request: bytes) -> bytes:
    with serving.connect() as peer:
        data: bytes = peer.send(request).read_to_end()
        return data


def environ_of(serve_app: Any, request: bytes, **options: Any) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(dict(environ))
        start_response("200 OK", list(PLAIN))
        return [b"ok"]

    assert raw(serve_app(app, **options), request).endswith(b"ok")
    return seen[0]


def head(request_line: str, *fields: str) -> bytes:
    return "\r\n".join([request_line, "Host: h", "Connection: close", *fields, "", ""]).encode("latin-1")


# -- environ


def test_environ_is_a_dict_with_all_that_pep_3333_names(serve_app: Any) -> None:
    environ = environ_of(
        serve_app, head("GET /a%20b/%C3%A9?x=%20y HTTP/1.1", "Accept: */*", "Content-Type: text/x")
    )
    assert type(environ) is dict
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/a b/é".encode().decode("latin-1")
    assert environ["QUERY_STRING"] == "x=%20y"
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == "/a%20b/%C3%A9?x=%20y"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["SERVER_NAME"] == "127.0.0.1"
    assert int(environ["SERVER_PORT"]) > 0
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert int(environ["REMOTE_PORT"]) > 0
    assert environ["SERVER_SOFTWARE"].startswith("hangup/")
    assert environ["CONTENT_TYPE"] == "text/x"
    assert "HTTP_CONTENT_TYPE" not in environ
    assert environ["HTTP_ACCEPT"] == "*/*"
    assert environ["HTTP_HOST"] == "h"
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.input_terminated"] is True
    assert environ["wsgi.input"].read() == b""
    assert environ["wsgi.file_wrapper"] is hangup.wsgi.adapter.FileWrapper
    assert isinstance(environ["hangup.client"], hangup.Client)
    assert environ["waitress.client_disconnected"]() is False


def test_each_request_has_an_environ_of_its_own(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        seen = environ.get("mark", "none")
        environ["mark"] = "set"
        return [seen.encode()]

    with serve_app(app).connect() as peer:
        for _ in range(3):
            assert peer.get("/").response()[1] == b"none"


def test_a_path_that_is_not_ascii_is_its_bytes_as_latin_1(serve_app: Any) -> None:
    environ = environ_of(
        serve_app, b"GET /\xc3\xa9?\xff HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )
    assert environ["PATH_INFO"].encode("latin-1") == b"/\xc3\xa9"
    assert environ["QUERY_STRING"].encode("latin-1") == b"\xff"


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        ("http://other.example:81/p?q", "/p", "other.example:81"),
        ("http://other.example", "/", "other.example"),
        ("//double/slash", "//double/slash", "h"),
    ],
)
def test_the_forms_of_a_target(serve_app: Any, target: str, path: str, host: str) -> None:
    environ = environ_of(serve_app, head(f"GET {target} HTTP/1.1"))
    assert (environ["PATH_INFO"], environ["HTTP_HOST"]) == (path, host)


def test_the_server_as_a_whole_is_a_star(serve_app: Any) -> None:
    assert environ_of(serve_app, head("OPTIONS * HTTP/1.1"))["PATH_INFO"] == "*"


def test_fields_that_come_twice_are_joined(serve_app: Any) -> None:
    environ = environ_of(
        serve_app,
        head("GET / HTTP/1.1", "X-A: 1", "Cookie: a=1", "x-a: 2", "Cookie: b=2,3"),
    )
    assert environ["HTTP_X_A"] == "1,2"
    assert environ["HTTP_COOKIE"] == "a=1; b=2,3"


def test_names_with_underscores_forge_no_dashes(serve_app: Any) -> None:
    environ = environ_of(
        serve_app, head("GET / HTTP/1.1", "X_Forwarded_For: evil", "Content_Length: 5", "X-Real: me")
    )
    assert "HTTP_X_FORWARDED_FOR" not in environ
    assert "CONTENT_LENGTH" not in environ
    assert environ["HTTP_X_REAL"] == "me"


def test_a_proxy_field_does_not_become_a_setting(serve_app: Any) -> None:
    assert "HTTP_PROXY" not in environ_of(serve_app, head("GET / HTTP/1.1", "Proxy: evil"))


def test_a_unix_socket_has_no_remote_address(serve_app: Any, tmp_path: Path) -> None:
    environ = environ_of(serve_app, head("GET / HTTP/1.1"), uds=str(tmp_path / "s"))
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("", "")
    assert environ["SERVER_NAME"]
    assert environ["SERVER_PORT"]


def test_errors_go_where_stderr_is_now(serve_app: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        environ["wsgi.errors"].write("one\n")
        environ["wsgi.errors"].writelines(["two\n"])
        environ["wsgi.errors"].flush()
        return returns(b"ok")(environ, start_response)

    serve_app(app).get()
    assert capsys.readouterr().err == "one\ntwo\n"


# -- start_response


def test_header_fields_go_out_as_given_and_date_and_server_are_added(serve_app: Any) -> None:
    fields = [("X-One", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b"), ("X-Latin", "\xe9\tx")]
    answer = raw(serve_app(returns(b"ok", headers=fields)), head("GET / HTTP/1.1"))
    lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert lines[1:5] == [b"X-One: 1", b"Set-Cookie: a", b"Set-Cookie: b", b"X-Latin: \xe9\tx"]
    assert {line.partition(b":")[0] for line in lines[5:]} == {
        b"Server", b"Date", b"Content-Length", b"Connection"
    }  # fmt: skip


def test_an_application_may_say_date_and_server_itself(serve_app: Any) -> None:
    headers = [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "mine")]
    response, _ = serve_app(returns(b"ok", headers=headers)).get()
    assert response.headers.get_all("Date") == ["Thu, 01 Jan 1970 00:00:00 GMT"]
    assert response.headers.get_all("Server") == ["mine"]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK\r\nX: y", []),
        ("200 OK\n", []),
        ("OK", []),
        ("20 OK", []),
        ("2000 OK", []),
        ("100 Continue", []),
        ("600 Odd", []),
        (b"200 OK", []),
        (200, []),
        ("200 OK", [("X", "a\r\nY: b")]),
        ("200 OK", [("X", "a\nb")]),
        ("200 OK", [("X", "a\0")]),
        ("200 OK", [("X", "\u20ac")]),
        ("200 OK", [("X", b"bytes")]),
        ("200 OK", [("X", 5)]),
        ("200 OK", [("", "x")]),
        ("200 OK", [("X:", "x")]),
        ("200 OK", [("X Y", "x")]),
        ("200 OK", [("X\r\nY", "x")]),
        ("200 OK", [["X", "y"]]),
        ("200 OK", [("X", "y", "z")]),
        ("200 OK", (("X", "y"),)),
        ("200 OK", {"X": "y"}),
        ("200 OK", None),
        ("200 OK", [("Content-Length", "-1")]),
        ("200 OK", [("Content-Length", "1_0")]),
        ("200 OK", [("Content-Length", "1"), ("Content-Length", "2")]),
        ("200 OK", [("Transfer-Encoding", "chunked")]),
        ("200 OK", [("Upgrade", "websocket")]),
        ("200 OK", [("Trailer", "X")]),
    ],
)
def test_what_can_not_be_sent_raises_at_once_and_is_answered_with_500(
    serve_app: Any, caplog: pytest.LogCaptureFixture, status: Any, headers: Any
) -> None:
    raised: list[Exception] = []

    def app(environ: Any, start_response: Any) -> Any:
        try:
            start_response(status, headers)
        except (TypeError, ValueError) as error:
            raised.append(error)
            raise
        return [b"ok"]

    answer = raw(serve_app(app), head("GET / HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"Y: b" not in answer
    assert len(raised) == 1


def test_fields_that_are_no_list_are_refused_also_where_a_list_of_them_is_known(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        kind = {"/list": list, "/tuple": tuple, "/iterator": iter}[environ["PATH_INFO"]]
        start_response("200 OK", kind([("X", "y")]))
        return [b"ok"]

    serving = serve_app(app)
    for _ in range(2):
        assert serving.get("/tuple")[0].status == 500
        assert serving.get("/iterator")[0].status == 500
        assert serving.get("/list")[0].status == 200


def test_426_says_which_protocol_is_meant(serve_app: Any) -> None:
    app = returns(b"no", status="426 Upgrade Required", headers=[("Upgrade", "x/2")])
    with serve_app(app).connect() as peer:
        for _ in range(2):
            response, body = peer.get("/").response()
            assert (response.status, body) == (426, b"no")
            assert response.headers["Upgrade"] == "x/2"
            assert response.headers.get_all("Connection") == ["Upgrade"]  # RFC 9110 §7.8


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "403 Forbidden"])
@pytest.mark.parametrize("shape", ["whole", "blocks", "counted", "stream", "empty"])
def test_behind_connect_the_connection_closes_and_2xx_has_no_length(
    serve_app: Any, status: str, shape: str
) -> None:
    length = ("Content-Length", "4")
    app = {
        "whole": returns(b"body", status=status, headers=[("A", "b"), length, ("C", "d")]),
        "blocks": returns(b"bo", b"dy", status=status),
        "counted": yields(b"bo", b"dy", status=status, headers=[length]),
        "stream": yields(b"bo", b"dy", status=status),
        "empty": returns(status=status),
    }[shape]
    serving = serve_app(app)
    for _ in range(2):  # The second finds its head remembered, and the answer's.
        with serving.connect() as peer:
            request = b"CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n"
            got = peer.send(request + head("GET /smuggled HTTP/1.1")).read_to_end()
        fields, _, body = got.partition(b"\r\n\r\n")
        assert got.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close" in fields
        refused = status == "403 Forbidden"
        assert (b"Content-Length" in fields or b"Transfer-Encoding" in fields) == refused
        assert (b"bo" in body) == (refused and shape != "empty")
        if shape == "whole":
            assert b"\r\nA: b\r\n" in fields
            assert b"\r\nC: d\r\n" in fields
    assert {record.method for record in serving.wait_for_records(2)} == {"CONNECT"}


def test_a_status_needs_no_reason(serve_app: Any) -> None:
    for status in ("204", "204 "):
        assert raw(serve_app(returns(status=status)), head("GET / HTTP/1.1")).startswith(
            b"HTTP/1.1 204 \r\n"
        )


def test_connection_close_is_granted_and_not_sent_twice(serve_app: Any) -> None:
    serving = serve_app(returns(b"ok", headers=[("Connection", "close")]))
    with serving.connect() as peer:
        answer = peer.get("/").read_to_end()
    assert answer.lower().count(b"connection:") == 1


def test_a_second_start_response_needs_exc_info(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        start_response("201 Created", list(PLAIN))
        return [b"never"]

    assert serve_app(app).get()[0].status == 500
    assert "without exc_info" in caplog.text


def test_exc_info_replaces_what_has_not_been_sent(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("X-First", "1")])
        assert callable(write)
        try:
            raise KeyError("x")
        except KeyError:
            start_response("503 Sorry", list(PLAIN), sys.exc_info())
        return [b"sorry"]

    response, body = serve_app(app).get()
    assert (response.status, body) == (503, b"sorry")
    assert "X-First" not in response.headers


def test_exc_info_that_comes_too_late_is_raised_and_the_answer_stays_broken_off(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        yield b"begun"
        try:
            raise KeyError("original")
        except KeyError:
            start_response("500 Oops", list(PLAIN), sys.exc_info())

    answer = raw(serve_app(app), head("GET / HTTP/1.1"))
    assert answer.endswith(b"5\r\nbegun\r\n"), "no last chunk: the client sees that it is not whole"
    assert "KeyError: 'original'" in caplog.text


def test_the_head_waits_for_the_first_block_that_is_not_empty(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        yield b""
        try:
            raise KeyError
        except KeyError:
            start_response("404 Not Found", list(PLAIN), sys.exc_info())
        yield b"late"

    response, body = serve_app(app).get()
    assert (response.status, body) == (404, b"late")


def test_start_response_may_be_called_by_the_first_iteration(serve_app: Any) -> None:
    response, body = serve_app(yields(b"a", b"b")).get()
    assert (response.status, body) == (200, b"ab")


def test_write_sends_at_once_and_before_what_is_returned(serve_app: Any) -> None:
    seen = threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", list(PLAIN))
        write(b"one")
        assert seen.acquire(timeout=PATIENCE)
        write(b"")
        write(b"two")
        return [b"three"]

    with serve_app(app).connect() as peer:
        peer.get("/").read_until(b"3\r\none\r\n")
        seen.release()
        assert peer.read_until(b"0\r\n\r\n") == b"3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"


# -- framing


SHAPES: dict[str, Any] = {
    "no block": (returns(), b"", "length"),
    "one block": (returns(b"one"), b"one", "length"),
    "an empty block": (returns(b""), b"", "length"),
    "a list of blocks": (returns(b"a", b"", b"b"), b"ab", "length"),
    "a large list": (returns(b"x" * BIG, b"y" * BIG), b"x" * BIG + b"y" * BIG, "length"),
    "a large block": (returns(b"x" * BIG), b"x" * BIG, "length"),
    "a generator": (yields(b"a", b"", b"b"), b"ab", "chunked"),
    "a generator of large blocks": (yields(b"x" * BIG, b"y"), b"x" * BIG + b"y", "chunked"),
    "a generator of nothing": (yields(), b"", "length"),
    "a generator, its length": (yields(b"a", b"b", headers=[("Content-Length", "2")]), b"ab", "length"),
    "a tuple": (lambda e, s: (s("200 OK", list(PLAIN)), (b"t", b"u"))[1], b"tu", "length"),
    "a set": (lambda e, s: (s("200 OK", list(PLAIN)), {b"one"})[1], b"one", "length"),
    "a dict of two": (lambda e, s: (s("200 OK", list(PLAIN)), {b"o": 1, b"p": 2})[1], b"op", "chunked"),
    "an iterator": (lambda e, s: (s("200 OK", list(PLAIN)), iter([b"i"]))[1], b"i", "chunked"),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("request_line", ["GET / HTTP/1.1", "GET / HTTP/1.0", "HEAD / HTTP/1.1"])
def test_every_shape_of_body_has_an_end_that_the_client_can_tell(
    serve_app: Any, shape: str, request_line: str
) -> None:
    app, body, framing = SHAPES[shape]
    serving = serve_app(app)
    with serving.connect() as peer:
        method = request_line.split()[0]
        peer.send(f"{request_line}\r\nHost: h\r\nConnection: keep-alive\r\n\r\n".encode())
        response, got = peer.response(method)
        assert response.status == 200
        assert got == (b"" if method == "HEAD" else body)
        chunked = response.headers.get("Transfer-Encoding") == "chunked"
        assert chunked == (framing == "chunked" and request_line == "GET / HTTP/1.1")
        if framing == "length" and (body or method == "GET"):
            assert response.headers["Content-Length"] == str(len(body))
        stays = method == "HEAD" or framing == "length" or chunked
        assert (response.headers.get("Connection") == "close") == (not stays)
        if stays:  # and the next request is not confused with it
            peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert peer.response()[1] == body
        else:
            assert peer.read_to_end() == b""


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("shape", [returns, yields])
def test_204_and_304_have_no_body_whatever_the_application_sends(
    serve_app: Any, status: str, shape: Any
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        return shape(b"body", b"more")(environ, lambda _, fields: start_response(status, fields))

    with serve_app(app).connect() as peer:
        for _ in range(2):
            peer.get("/")
            head = peer.read_until(b"\r\n\r\n")
            assert head.startswith(f"HTTP/1.1 {status}".encode())
            assert b"Transfer-Encoding" not in head
            assert b"Content-Length" not in head


def test_204_has_no_content_length_even_if_the_application_says_so(serve_app: Any) -> None:
    app = returns(status="204 No Content", headers=[("Content-Length", "0")])
    assert "Content-Length" not in serve_app(app).get()[0].headers


def test_head_says_the_length_that_get_would_have(serve_app: Any) -> None:
    with serve_app(returns(b"12345")).connect() as peer:
        response, _ = peer.send(head("HEAD / HTTP/1.1")).response("HEAD")
    assert response.headers["Content-Length"] == "5"


def test_more_than_the_content_length_is_cut_off_and_logged(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for shape in (returns, yields):
        caplog.clear()
        answer = raw(
            serve_app(shape(b"12", b"345", b"6", headers=[("Content-Length", "4")])),
            head("GET / HTTP/1.1"),
        )
        assert answer.partition(b"\r\n\r\n")[2] == b"1234"
        assert "longer than its Content-Length" in caplog.text


def test_less_than_the_content_length_closes_the_connection_and_is_logged(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    serving = serve_app(yields(b"12", headers=[("Content-Length", "4")]))
    with serving.connect() as peer:
        answer = peer.get("/").read_to_end()
    assert answer.partition(b"\r\n\r\n")[2] == b"12"
    assert "shorter than its Content-Length, by 2 bytes" in caplog.text
    assert serving.record().outcome is Outcome.FAILED


def test_a_content_length_without_a_body_is_an_error_that_the_client_sees(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert serve_app(returns(headers=[("Content-Length", "4")])).get()[0].status == 500


@pytest.mark.parametrize(
    "blocks", [["text"], ["text", "more"], [bytearray(b"x")], [b"ok", None], None, 5]
)
@pytest.mark.parametrize("lazily", [False, True])
def test_a_body_that_is_not_bytes_is_an_error(
    serve_app: Any, caplog: pytest.LogCaptureFixture, blocks: Any, lazily: bool
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        return (block for block in blocks) if lazily and blocks not in (None, 5) else blocks

    answer = raw(serve_app(app), head("GET / HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 500 ") or not answer.endswith(b"0\r\n\r\n")
    assert "the application failed on GET /" in caplog.text


def test_an_application_that_never_calls_start_response_is_an_error(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for result in ([], [b"x"], [b"x", b"y"], iter([b"x"])):
        caplog.clear()
        assert serve_app(lambda e, s, result=result: result).get()[0].status == 500
        assert "start_response" in caplog.text


def test_an_exception_is_logged_answered_and_harms_nobody_else(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/bad":
            start_response("200 OK", [("X-Secret", "1")])
            raise ZeroDivisionError("mine")
        return returns(b"ok")(environ, start_response)

    serving = serve_app(app)
    response, body = serving.get("/bad")
    assert (response.status, "X-Secret" in response.headers, b"mine" in body) == (500, False, False)
    assert "the application failed on GET /bad" in caplog.text
    assert "ZeroDivisionError: mine" in caplog.text
    assert serving.get("/good")[1] == b"ok"
    record, _ = serving.wait_for_records(2)
    assert (record.outcome, record.status) == (Outcome.FAILED, 500)


def test_a_500_to_head_has_no_body(serve_app: Any, caplog: pytest.LogCaptureFixture) -> None:
    answer = raw(serve_app(lambda e, s: 1 / 0), head("HEAD / HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.endswith(b"\r\n\r\n")


def test_pipelined_requests_are_answered_in_order(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        return [environ["PATH_INFO"].encode(), b" ", environ["wsgi.input"].read()]

    pipeline = b"".join(
        b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%d" % (number, number)
        for number in range(5)
    )
    with serve_app(app).connect() as peer:
        peer.send(pipeline)
        for number in range(5):
            assert peer.response()[1] == b"/%d %d" % (number, number)


def test_malformed_requests_never_reach_the_application(serve_app: Any) -> None:
    serving = serve_app(lambda e, s: pytest.fail("called"))
    assert raw(serving, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert raw(serving, b"GET / HTTP/3.0\r\nHost: h\r\n\r\n").startswith(b"HTTP/1.1 505 ")
    assert serving.wait_for_records(2)[0].outcome is Outcome.REJECTED


# -- the end of an iterable


class Closing:
    """An iterable that tells of its end."""

    def __init__(self, *blocks: bytes, fails_at: int = -1) -> None:
        self._blocks = iter(enumerate(blocks))
        self._fails_at = fails_at
        self.closed: list[str] = []
        self.iterated = ""
        self.done = threading.Event()

    def __iter__(self) -> "Closing":
        return self

    def __next__(self) -> bytes:
        self.iterated = threading.current_thread().name
        number, block = next(self._blocks)
        if number == self._fails_at:
            raise ZeroDivisionError
        return block

    def close(self) -> None:
        self.closed.append(threading.current_thread().name)
        self.done.set()


@pytest.mark.parametrize(
    ("blocks", "options", "method"),
    [
        ((b"a", b"b"), {}, "GET"),
        ((), {}, "GET"),
        ((b"a", b"b"), {"fails_at": 1}, "GET"),
        ((b"a", b"b"), {"fails_at": 0}, "GET"),
        ((b"a", b"b"), {}, "HEAD"),
    ],
)
def test_close_is_called_once_by_the_thread_that_iterated(
    serve_app: Any, caplog: pytest.LogCaptureFixture, blocks: Any, options: Any, method: str
) -> None:
    body = Closing(*blocks, **options)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        return body

    raw(serve_app(app), head(f"{method} / HTTP/1.1"))
    assert body.done.wait(PATIENCE)
    assert len(body.closed) == 1
    if body.iterated:
        assert body.closed == [body.iterated]


def test_close_is_called_when_start_response_was_not(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    body = Closing(b"a")
    serve_app(lambda e, s: body).get()
    assert len(body.closed) == 1


def test_a_close_that_fails_is_logged_and_costs_the_answer_nothing(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(Closing):
        def close(self) -> None:
            raise ZeroDivisionError("in close")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        return Fails(b"ok")

    with serve_app(app).connect() as peer:
        assert peer.get("/").response()[1] == b"ok"
        assert peer.get("/").response()[1] == b"ok"
    assert "ZeroDivisionError: in close" in caplog.text


# -- wsgi.input


def echo(environ: Any, start_response: Any) -> Any:
    body = environ["wsgi.input"].read()
    start_response("200 OK", list(PLAIN))
    return [body]


@pytest.mark.parametrize("chunked", [False, True])
def test_input_ends_where_the_body_ends(serve_app: Any, chunked: bool) -> None:
    serving = serve_app(echo)
    with serving.connect() as peer:
        for body in (b"one", b"x" * BIG, b"two"):
            if chunked:
                peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
                for start in range(0, len(body), 1000):
                    piece = body[start : start + 1000]
                    peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                peer.send(b"0\r\n\r\n")
            else:
                peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body))
                peer.send(body)
            assert peer.response()[1] == body


def test_every_way_to_read_the_input(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        stream = environ["wsgi.input"]
        assert environ["CONTENT_LENGTH"] == "34"
        got = [
            stream.read(2),
            stream.read(0),
            stream.readline(),
            stream.readline(3),
            next(iter(stream)),
            *stream.readlines(1),
            *stream,
            stream.read(),
            stream.readline(),
        ]
        start_response("200 OK", list(PLAIN))
        return [json.dumps([piece.decode() for piece in got]).encode()]

    body = b"12345\nline two\nline three\nx\nlast!!"
    with serve_app(app).connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 34\r\n\r\n" + body)
        got = json.loads(peer.response()[1])
    assert got == ["12", "", "345\n", "lin", "e two\n", "line three\n", "x\n", "last!!", "", ""]


def test_a_body_that_is_not_read_does_not_become_the_next_request(serve_app: Any) -> None:
    with serve_app(returns(b"ok")).connect() as peer:
        for _ in range(2):
            peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18\r\n\r\nGET /evil HTTP/1.1")
            assert peer.response()[1] == b"ok"


def test_input_is_read_when_it_is_asked_for_and_streams(serve_app: Any) -> None:
    half = threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> Any:
        first = environ["wsgi.input"].read(5)
        half.release()
        rest = environ["wsgi.input"].read()
        start_response("200 OK", list(PLAIN))
        return [first + b"|" + rest]

    with serve_app(app, config=Config(body_prefetch=0)).connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345")
        assert half.acquire(timeout=PATIENCE)
        assert peer.send(b"67890").response()[1] == b"12345|67890"


def test_100_continue_comes_at_the_first_read_and_no_sooner(serve_app: Any) -> None:
    begun, go = threading.Semaphore(0), threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> Any:
        begun.release()
        assert go.acquire(timeout=PATIENCE)
        return echo(environ, start_response)

    serving = serve_app(app)
    with serving.connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert begun.acquire(timeout=PATIENCE)
        peer.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.sock.recv(1)
        peer.sock.settimeout(PATIENCE)
        go.release()
        assert peer.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert peer.send(b"ok").response()[1] == b"ok"
    assert serving.record().status == 200


def test_a_client_that_is_not_told_to_continue_is_not_waited_for(serve_app: Any) -> None:
    with serve_app(returns(b"no", status="403 Forbidden")).connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        answer = peer.read_to_end()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"Connection: close" in answer
    assert b"100 Continue" not in answer


def test_a_body_that_stops_is_answered_with_408(serve_app: Any) -> None:
    serving = serve_app(echo, config=Config(body_timeout=0.05))
    with serving.connect() as peer:
        answer = peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n123").read_to_end()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert serving.record().outcome is Outcome.TIMED_OUT


def test_a_client_that_leaves_mid_body_raises_in_the_read(serve_app: Any) -> None:
    raised: list[BaseException] = []
    begun = threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> Any:
        begun.release()
        try:
            return echo(environ, start_response)
        except OSError as error:
            raised.append(error)
            raise

    serving = serve_app(app)
    peer = serving.connect().send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n")
    peer.send(bytes(BEFORE_HANDLER))
    assert begun.acquire(timeout=PATIENCE)
    peer.fin()
    record = serving.record()
    assert (record.outcome, record.phase, record.status) == (Outcome.DISCONNECTED, Phase.BODY, 499)
    assert isinstance(raised[0], hangup.ClientDisconnected)


# -- wsgi.file_wrapper


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


@pytest.mark.parametrize("skip", [0, 1000])
@pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/1.0"])
def test_a_wrapped_file_is_sent_from_where_it_stands_and_closed(
    serve_app: Any, large_file: Path, skip: int, protocol: str
) -> None:
    files: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        file = large_file.open("rb")
        file.seek(skip)
        files.append(file)
        start_response("200 OK", list(PLAIN))
        return environ["wsgi.file_wrapper"](file)

    with serve_app(app).connect() as peer:
        response, body = peer.send(head(f"GET / {protocol}")).response()
    assert body == large_file.read_bytes()[skip:]
    assert response.headers["Content-Length"] == str(len(body))
    until(lambda: files[0].closed, "the file is closed")


def test_a_wrapped_file_goes_by_sendfile(
    serve_app: Any, large_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    sendfile = os.sendfile
    monkeypatch.setattr(os, "sendfile", lambda *args: calls.append(1) or sendfile(*args))

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "500000")])
        return environ["wsgi.file_wrapper"](large_file.open("rb"))

    assert serve_app(app).get()[1] == large_file.read_bytes()[:500000]
    assert calls


@pytest.mark.parametrize("size", [3, BIG])
def test_a_wrapped_object_that_is_no_real_file_is_iterated(serve_app: Any, size: int) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        return environ["wsgi.file_wrapper"](io.BytesIO(b"x" * size), 1000)

    assert serve_app(app).get()[1] == b"x" * size


def test_a_wrapped_pipe_is_iterated(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        reader, writer = os.pipe()
        os.write(writer, b"from a pipe")
        os.close(writer)
        start_response("200 OK", list(PLAIN))
        return environ["wsgi.file_wrapper"](os.fdopen(reader, "rb"))

    assert serve_app(app).get()[1] == b"from a pipe"


def test_a_wrapped_file_and_head(serve_app: Any, large_file: Path) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        return environ["wsgi.file_wrapper"](large_file.open("rb"))

    with serve_app(app).connect() as peer:
        response, body = peer.send(head("HEAD / HTTP/1.1")).response("HEAD")
    assert (response.headers["Content-Length"], body) == (str(1 << 20), b"")


def test_a_file_that_is_shorter_than_was_said_closes_the_connection(
    serve_app: Any, large_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", str(2 << 20))])
        return environ["wsgi.file_wrapper"](large_file.open("rb"))

    with serve_app(app).connect() as peer:
        body = peer.get("/").read_to_end().partition(b"\r\n\r\n")[2]
    assert body == large_file.read_bytes()
    assert "shorter than its Content-Length" in caplog.text


# -- departures


def test_the_client_in_environ_is_the_current_client(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        client = environ["hangup.client"]
        same = hangup.current_client() is client
        told = (client.disconnected, client.state.value, client.address[0], repr(client)[:7])
        start_response("200 OK", list(PLAIN))
        return [repr((same, told)).encode()]

    assert serve_app(app).get()[1] == b"(True, (False, 'open', '127.0.0.1', '<Client'))"


def test_a_client_that_is_first_asked_from_many_threads_is_one(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        client, found = environ["hangup.client"], []
        start = threading.Barrier(8)

        def ask() -> None:
            start.wait(PATIENCE)
            found.append(client.on_disconnect(print))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        start_response("200 OK", list(PLAIN))
        return [str(len(client._registrations)).encode()]

    assert serve_app(app).get()[1] == b"8"


def test_a_client_that_nobody_asked_may_be_asked_after_its_request(serve_app: Any) -> None:
    kept: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        kept.append((environ["hangup.client"], hangup._disconnect.client._current.get()))
        return returns(b"ok")(environ, start_response)

    serving = serve_app(app)
    serving.get()
    serving.record()
    client, request = kept[0]
    assert (client.ended, client.disconnected) == (True, False)
    assert request.client is client
    with pytest.raises(AttributeError, match="no_such"):
        client.no_such  # noqa: B018


@pytest.mark.parametrize("leave", ["fin", "rst"])
@pytest.mark.parametrize(
    ("block", "fields"),
    [
        (b"", []),
        (b"data", []),
        (b"data", [("Content-Length", "9999999")]),
    ],
)
def test_a_departure_ends_the_iteration_and_close_is_called(
    serve_app: Any, leave: str, block: bytes, fields: Any
) -> None:
    """An application that would go on for ever, with blocks that are empty or not."""
    ended = threading.Event()
    begun = threading.Semaphore(0)
    pause = threading.Event()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [*PLAIN, *fields])
        try:
            yield b"begin"
            begun.release()
            while True:
                pause.wait(0.002)
                yield block
        finally:
            ended.set()

    serving = serve_app(app)
    peer = serving.connect().get("/")
    while b"begin" not in peer.sock.recv(65536):
        pass
    assert begun.acquire(timeout=PATIENCE)
    getattr(peer, leave)()
    assert ended.wait(PATIENCE)
    record = serving.record()
    assert (record.outcome, record.phase) == (Outcome.DISCONNECTED, Phase.RESPONSE)


@pytest.mark.parametrize("leave", ["fin", "rst"])
@pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/1.0"])
def test_a_departure_before_the_first_byte_is_seen_between_empty_blocks(
    serve_app: Any, leave: str, protocol: str
) -> None:
    ended, begun, pause = threading.Event(), threading.Semaphore(0), threading.Event()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        begun.release()
        try:
            while True:
                pause.wait(0.002)
                yield b""
        finally:
            ended.set()

    serving = serve_app(app)
    peer = serving.connect().send(head(f"GET / {protocol}"))
    assert begun.acquire(timeout=PATIENCE)
    getattr(peer, leave)()
    assert ended.wait(PATIENCE)
    record = serving.record()
    assert (record.outcome, record.phase, record.status) == (Outcome.DISCONNECTED, Phase.HANDLER, 499)


@pytest.mark.parametrize("first", [b"begin", b""])
def test_a_half_closed_client_gets_its_whole_stream_also_behind_empty_blocks(
    serve_app: Any, first: bytes
) -> None:
    left = threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        yield first
        assert environ["hangup.client"].wait(PATIENCE)
        assert environ["waitress.client_disconnected"]()
        left.release()
        for _ in range(5):
            yield b""
        yield b"middle"
        yield b""
        yield b"end"

    serving = serve_app(app)
    with serving.connect() as peer:
        peer.get("/").half_close()
        if not first:
            assert peer.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        _, body = peer.response()
        assert body == first + b"middleend"
        assert left.acquire(timeout=PATIENCE)
    record = serving.record()
    assert (record.outcome, record.status) == (Outcome.COMPLETED, 200)


def test_fin_says_nothing_where_half_close_is_ignored(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        yield b"a"
        assert not environ["hangup.client"].wait(0.05)
        yield b""
        yield b"b"

    serving = serve_app(app, config=Config(half_close="ignore"))
    with serving.connect() as peer:
        assert peer.get("/").half_close().response()[1] == b"ab"


def test_writing_to_a_client_that_is_gone_raises(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    begun, raised = threading.Semaphore(0), threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", list(PLAIN))
        write(b"begin")
        begun.release()
        assert environ["hangup.client"].wait(PATIENCE)
        try:
            for _ in range(100):
                write(b"x" * 1000)
        except BrokenPipeError:
            raised.release()
            raise
        return []

    serving = serve_app(app)
    peer = serving.connect().get("/")
    assert begun.acquire(timeout=PATIENCE)
    peer.rst()
    assert raised.acquire(timeout=PATIENCE)
    assert serving.record().outcome is Outcome.DISCONNECTED
    assert not caplog.records, "a departure is no error"


def test_what_an_application_raises_for_a_client_that_left_is_no_error(
    serve_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    begun = threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> Any:
        begun.release()
        assert environ["hangup.client"].wait(PATIENCE)
        raise ZeroDivisionError

    serving = serve_app(app)
    peer = serving.connect().get("/")
    assert begun.acquire(timeout=PATIENCE)
    peer.rst()
    assert serving.record().status == 499
    assert not caplog.records


# -- when the system has no more to give


def test_a_connection_that_can_not_be_watched_is_closed_and_costs_nobody_else(
    serve_app: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is answered if its request had come when it was accepted; it can't be waited for."""
    serving = serve_app(returns(b"ok"))
    poller = type(serving.server.engine.loop.poller)
    add, refused = poller.add, threading.Semaphore(0)

    def refuse(self: Any, sock: Any) -> None:
        refused.release()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(poller, "add", refuse)
    for _ in range(3):
        with serving.connect() as peer:
            try:
                answer = peer.get("/").read_to_end()
            except ConnectionError:
                answer = b""
            assert answer == b"" or answer.endswith(b"ok")
            assert refused.acquire(timeout=PATIENCE)
    monkeypatch.setattr(poller, "add", add)
    with serving.connect() as peer:
        for _ in range(2):
            assert peer.get("/").response()[1] == b"ok"
    assert "can't be watched" in caplog.text


# -- wsgiref.validate


def reads_by_halves(environ: Any, start_response: Any) -> Any:
    stream = environ["wsgi.input"]
    got = [stream.read(2), stream.readline(), *stream.readlines(), *stream]
    start_response("200 OK", list(PLAIN))
    return [b"".join(got)]


def fails_late(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", list(PLAIN))
    try:
        raise KeyError
    except KeyError:
        start_response("500 Sorry", list(PLAIN), sys.exc_info())
    return [b"sorry"]


VALID: dict[str, Any] = {
    "list": returns(b"ok"),
    "empty": returns(b""),
    "blocks": returns(b"a", b"b"),
    "generator": yields(b"a", b"", b"b"),
    "length": returns(b"ok", headers=[*PLAIN, ("Content-Length", "2")]),
    "no content": returns(b"", status="204 No Content", headers=[]),
    "not modified": returns(b"", status="304 Not Modified", headers=[]),
    "echo": lambda e, s: echo({**e, "wsgi.input": io.BytesIO(e["wsgi.input"].read(9))}, s),
    "reads": reads_by_halves,
    "exc_info": fails_late,
    "write": lambda e, s: (s("200 OK", list(PLAIN))(b"w"), [b"x"])[1],
}
REQUESTS = {
    "get": b"GET /p%20q?x=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "1.0": b"GET / HTTP/1.0\r\n\r\n",
    "post": b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n\r\n12\n45",
    "chunked": (
        b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\n12\n45\r\n0\r\n\r\n"
    ),
}


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("app_name", VALID)
def test_both_sides_keep_to_the_protocol(
    serve_app: Any, caplog: pytest.LogCaptureFixture, app_name: str, request_name: str
) -> None:
    """wsgiref.validate stands between server and application and asserts of both."""
    answer = raw(serve_app(validator(VALID[app_name])), REQUESTS[request_name])
    assert answer.startswith(b"HTTP/1.1 ")
    assert (b" 500 Internal" in answer) is False
    assert not caplog.records


def test_paths_survive_quoting(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN))
        return [environ["PATH_INFO"].encode("latin-1")]

    path = "/é/ü%/\u20ac ?#"
    assert serve_app(app).get(urllib.parse.quote(path))[1] == path.encode()
