"""Text that a program hands over, and that goes out: whatever it is, its client gets one response.

CWE-113: a CR LF in a reason, a field or a server's name would begin another field, or another response.
"""

import http.client
import http.server
import io
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import hangup
from conftest import Serving, ServingApp
from hangup import RequestRejected
from hangup._http1.error_response import plain_response

EVIL = (
    "x\r\nSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n"
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
)
TEXT = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\r\n\0\t :\x0b\x0c\x1b\x1c\x1d\x1e\x7f\x80\x85\x9b\xff\u2028\ud800"),
    ),
    max_size=40,
)
many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
SENT_ALWAYS = {"server", "date", "connection", "content-type", "content-length", "transfer-encoding"}
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Unclosed(io.BytesIO):
    """What http.client closes at a response's end, and the next one follows in."""

    def makefile(self, *_: object) -> "Unclosed":
        return self

    def close(self) -> None: ...


def responses(data: bytes) -> list[tuple[http.client.HTTPResponse, bytes]]:
    """What http.client makes of all that a server has sent."""
    file, found = Unclosed(data), []
    while file.tell() < len(data):
        response = http.client.HTTPResponse(file)  # type: ignore[arg-type]
        response.begin()
        found.append((response, response.read()))
    return found


class Counting:
    """What llhttp makes of it."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.complete = 0
        self.parser = httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        self.complete += 1

    def on_headers_complete(self) -> None:
        self.statuses.append(self.parser.get_status_code())


def assert_one_response(data: bytes, names: tuple[str, ...] = ()) -> http.client.HTTPResponse:
    """One response to the first request, with no other fields; and one to the next, or the end."""
    found = responses(data)
    first, body = found[0]
    assert len(found) <= 2
    if len(found) == 2:
        assert (found[1][0].status, found[1][1]) == (200, b"next")
    assert b"evil" not in body or first.status >= 400  # An error's body may quote it.
    length = first.headers.get("Content-Length")
    assert length is None or int(length) == len(body)
    assert {name.lower() for name in first.headers} <= SENT_ALWAYS | {name.lower() for name in names}
    counting = Counting()
    counting.parser.feed_data(data)
    assert counting.statuses == [response.status for response, _ in found]
    return first


Act = Callable[[Any], None]


class Handing:
    """A server whose handler does what a test hands it."""

    def __init__(self, serving: Serving, base: Any) -> None:
        self.act: Act = lambda handler: None
        self.serving = serving
        self.handler = base

    def __call__(self, act: Act, **overridden: Any) -> bytes:
        self.act = act
        for name, value in overridden.items():
            setattr(self.handler, name, value)
        try:
            with self.serving.connect() as peer:
                return peer.send(GET).read_to_end()
        finally:
            for name in overridden:
                delattr(self.handler, name)


@pytest.fixture
def handing(serve: Any, base: Any, monkeypatch: pytest.MonkeyPatch) -> Handing:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/next":
                whole(self, 200, None, b"next")
            else:
                handing.act(self)

        def log_message(self, *_: Any) -> None: ...

    class Server(hangup.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None: ...

    handing = Handing(serve(Handler, Server), Handler)
    return handing


def whole(handler: Any, status: int, message: Any, body: bytes, *fields: tuple[str, str]) -> None:
    handler.send_response(status, message)
    for field in fields:
        handler.send_header(*field)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def test_the_message_and_the_explanation_of_an_error(handing: Any) -> None:
    @many
    @given(TEXT, TEXT)
    @example(EVIL, EVIL)
    @example("Ärger \u2603", "\ud800")
    def check(message: str, explain: str) -> None:
        got = handing(lambda handler: handler.send_error(404, message, explain))
        # hangup's own handler refuses what would split a line; a stock one's is replaced.
        assert assert_one_response(got).status in ((404, 500) if CONTROL.search(message) else (404,))

    check()


def test_a_reason_phrase(handing: Any) -> None:
    @many
    @given(TEXT)
    @example(EVIL)
    @example("\u2603")
    def check(message: str) -> None:
        got = handing(lambda handler: whole(handler, 299, message, b"mine"))
        assert assert_one_response(got).status in (299, 500)

    check()


def test_a_fields_value_and_its_name(handing: Any) -> None:
    @many
    @given(TEXT, st.one_of(st.just("X-Given"), st.just("Content-Type")))
    @example(EVIL, "X-Given")
    def check(value: str, name: str) -> None:
        got = handing(lambda handler: whole(handler, 200, None, b"mine", (name, value)))
        first = assert_one_response(got, ("X-Given",))
        if first.status == 200:
            assert first.headers[name].strip() == value.strip(" \t").strip()

    check()


@pytest.mark.parametrize("base", [hangup.BaseHTTPRequestHandler])
def test_a_fields_name(serve: Any, base: Any, handing: Any) -> None:
    @many
    @given(TEXT)
    @example("X: a\r\nSet-Cookie")
    @example("")
    def check(name: str) -> None:
        # With which a handler says that its response is in chunks, beside the length that it has.
        assume(name.lower() != "transfer-encoding")
        got = handing(lambda handler: whole(handler, 200, None, b"mine", (name, "v")))
        assert_one_response(got, (name,))

    check()


@pytest.mark.parametrize(
    "value", ["5\r\nX: y", "abc", "-1", "+4", "4, 4", "٤", "4 ", " 4", "1e3", "9" * 30]
)
def test_a_content_length_that_is_none_is_not_sent(serve: Any, value: str) -> None:
    class Handler(hangup.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", value)
            self.end_headers()
            self.wfile.write(b"mine")

        def log_message(self, *_: Any) -> None: ...

    class Server(hangup.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None: ...

    with serve(Handler, Server).connect() as peer:
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        first = assert_one_response(peer.send(request).read_to_end())
    assert first.headers.get("Content-Length", "4").strip() == "4" or first.status == 500


@pytest.mark.parametrize("base", [hangup.BaseHTTPRequestHandler])
@pytest.mark.parametrize(
    "name", ["server_version", "sys_version", "version_string", "date_time_string", "error_content_type"]
)
def test_what_a_program_puts_in_a_class(base: Any, handing: Any, name: str) -> None:
    @many
    @given(TEXT)
    @example(EVIL)
    def check(text: str) -> None:
        value = (lambda *_: text) if name.endswith("string") else text
        got = handing(lambda handler: handler.send_error(404), **{name: value})
        expected = (404, 500) if name == "error_content_type" else (404,)
        assert assert_one_response(got).status in expected

    check()


@pytest.mark.parametrize(
    "format", [EVIL, "%(message)s", "%(foo)s", "%", "\ud800", "%(code)d%(explain)s"]
)
def test_an_errors_page(handing: Any, format: str) -> None:
    got = handing(lambda handler: handler.send_error(404, EVIL), error_message_format=format)
    assert assert_one_response(got).status in (404, 500)


def test_a_refusal_of_a_programs_own(handing: Any) -> None:
    def refuse(handler: Any, text: str) -> None:
        raise RequestRejected(418, text)

    @many
    @given(TEXT)
    @example(EVIL)
    @example("long" * 30_000)
    def check(text: str) -> None:
        assert assert_one_response(handing(lambda handler: refuse(handler, text))).status == 418

    check()


@pytest.mark.parametrize("status", [0, 99, 100, 200, 304, 399, 600, 1000, "400", 400.0, None])
def test_a_refusal_is_an_error(status: Any) -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        RequestRejected(status, "x")


def test_a_refusals_status_may_be_of_an_enum() -> None:
    refusal = RequestRejected(HTTPStatus.NOT_FOUND, "Not here")
    assert (refusal.status, str(refusal)) == (404, "404 Not here")
    assert type(refusal.status) is int


@many
@given(TEXT, TEXT)
@example(EVIL, f"Retry-After: {EVIL}")
def test_a_plain_answer(reason: str, field: str) -> None:
    head, body = plain_response(400, reason, f"X-Given: {field}")
    assert_one_response(head + body, ("X-Given",))


def test_what_a_wsgi_application_says(serve_app: Any) -> None:
    said: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/next":
            start_response("200 OK", [("Content-Length", "4")])
            return [b"next"]
        phrase, name, value = said
        start_response(f"299 {phrase}", [(name, value), ("Content-Length", "4")])
        return [b"mine"]

    serving: ServingApp = serve_app(app)

    @many
    @given(TEXT, st.one_of(st.just("X-Given"), TEXT), TEXT)
    @example(EVIL, "X-Given", "v")
    @example("OK", EVIL, "v")
    @example("OK", "X-Given", EVIL)
    def check(phrase: str, name: str, value: str) -> None:
        said[:] = phrase, name, value
        with serving.connect() as peer:
            first = assert_one_response(peer.send(GET).read_to_end(), (name,))
        assert first.status in (299, 500)

    check()
