"""What RFC 9110 and RFC 9112 ask of a server, where no other test holds it: see docs/http.md."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Peer, answer, until
from hangup import Config, Outcome
from test_corpus import CORPUS

ROOT = Path(__file__).parent.parent
HOST = b"Host: a.example\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
CLOSING = b"GET /closing HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
# RFC 9110 §5.6.7, IMF-fixdate.
DATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"\d{4} \d\d:\d\d:\d\d GMT"
)


class Rules(hangup.BaseHTTPRequestHandler):
    """``/<number>`` is answered with that status, ``/unread`` at once, all else with what was asked.

    ``/part`` is answered when 50 bytes of the body have been read.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        if name == "fails":
            raise ZeroDivisionError
        if name in ("204", "304"):
            self.send_response(int(name))
            self.end_headers()
        elif name == "299":  # a status that has no reason
            self.send_response(299)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name.isdigit():
            answer(self, b"ok", int(name))
        elif name == "unread":
            answer(self, b"unread")
        elif name == "part":
            answer(self, self.rfile.read(50))
        else:
            length = len(self.rfile.read())
            host = self.headers["Host"]
            listed = ",".join(self.headers.get_all("X-List", []))
            said = f"{self.command} {self.path} {host} {length} {listed}"
            answer(self, said.encode("latin-1"))

    def do_POST(self) -> None:
        self.do_GET()


def rules(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers as :class:`Rules` does."""
    target = environ["RAW_URI"]
    name = target.lstrip("/")
    if name == "fails":
        raise ZeroDivisionError
    if name.isdigit():
        start_response(name, [])
        return [] if name == "299" else [b"ok"]
    if name == "unread":
        body = b"unread"
    elif name == "part":
        body = environ["wsgi.input"].read(50)
    else:
        length = len(environ["wsgi.input"].read())
        method, host = environ["REQUEST_METHOD"], environ.get("HTTP_HOST")
        body = f"{method} {target} {host} {length} {environ.get('HTTP_X_LIST', '')}".encode("latin-1")
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture(params=["handler", "wsgi"])
def start(request: pytest.FixtureRequest, serve: Any, serve_app: Any) -> Any:
    """Start a server with these limits, behind either front end."""

    def started(**settings: Any) -> Any:
        config = Config(**settings)
        return (
            serve(Rules, config=config)
            if request.param == "handler"
            else serve_app(rules, config=config)
        )

    return started


# -- requests


def test_no_request_begins_before_its_head_is_whole(start: Any) -> None:
    serving = start()
    with serving.connect() as peer:
        peer.send(b"GET /half HTTP/1.1\r\n" + HOST).half_close()
        assert peer.read_to_end() == b""
    assert serving.record().outcome is Outcome.DISCONNECTED


@pytest.mark.parametrize("lines", [b"\r\n", b"\r\n\r\n", b"\r\n\r"])
def test_empty_lines_behind_a_request_begin_no_other(start: Any, lines: bytes) -> None:
    serving = start(keep_alive_timeout=0.1, request_header_timeout=PATIENCE * 2)
    with serving.connect() as peer:
        peer.send(b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n" + lines)
        assert peer.response()[0].status == 200
        assert peer.read_to_end() == b""  # as an idle connection: in its time, and without a word
    with serving.connect() as peer:
        peer.send(b"GET /b HTTP/1.1\r\n" + HOST + b"\r\n" + lines)
        assert peer.response()[0].status == 200
        assert peer.half_close().read_to_end() == b""
    with serving.connect() as peer:
        peer.send(b"GET /c HTTP/1.1\r\n" + HOST + b"\r\n" + lines.removesuffix(b"\r"))
        assert peer.response()[0].status == 200
        assert peer.get("/d").response()[0].status == 200
    targets = [(record.target, record.status) for record in serving.wait_for_records(4)]
    assert targets == [("/a", 200), ("/b", 200), ("/c", 200), ("/d", 200)]


def test_methods_differ_by_case(serve: Any) -> None:
    with serve(Rules).connect() as peer:
        assert peer.send(b"get / HTTP/1.1\r\n" + HOST + b"\r\n").response()[0].status == 501


def test_fields_of_one_name_keep_their_order_whatever_their_case(start: Any) -> None:
    with start().connect() as peer:
        peer.get("/", "X-List: a", "Other: b", "x-list: c", "X-LIST: d, e")
        assert peer.response()[1] == b"GET / test 0 a,c,d, e"


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://b.example:81/x?y HTTP/1.1\r\n" + HOST,
        b"GET http://b.example:81/x?y HTTP/1.0\r\n" + HOST,
        b"GET http://b.example:81/x?y HTTP/1.0\r\n",
    ],
    ids=["1.1", "1.0", "without a Host"],
)
def test_an_absolute_target_says_the_host_and_the_field_does_not(start: Any, head: bytes) -> None:
    with start().connect() as peer:
        body = peer.send(head + b"\r\n").response()[1]
    assert body == b"GET http://b.example:81/x?y b.example:81 0 "


def test_a_body_that_is_too_long_is_refused_announced_or_not(start: Any) -> None:
    serving = start(max_request_body_size=8)
    for fields, status in (
        (b"Content-Length: 8\r\n\r\n12345678", 200),
        (b"Content-Length: 9\r\n\r\n", 413),  # before a byte of it has come
        (b"Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n0\r\n\r\n", 200),
        (b"Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n1\r\n9\r\n0\r\n\r\n", 413),
    ):
        with serving.connect() as peer:
            response, _ = peer.send(POST + fields).response()
            assert response.status == status
            if status == 413:
                assert response.getheader("Connection") == "close"
                assert peer.read_to_end() == b""


def test_trailer_fields_are_not_merged_into_the_head(start: Any) -> None:
    with start().connect() as peer:
        peer.send(POST + b"X-List: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-List, Host\r\n\r\n")
        peer.send(b"2\r\nhi\r\n0\r\nX-List: forged\r\nHost: b.example\r\nContent-Length: 9\r\n\r\n")
        assert peer.response()[1] == b"POST / a.example 2 a"
        assert peer.get("/next").response()[1] == b"GET /next test 0 "


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HEAD / HTTP/1.1\r\n\r\n", 400),
        (b"\r\nHEAD / HTTP/1.1\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\r\nHost: a\n", 400),
        (b"HEAD / HTTP/3.0\r\n\r\n", 505),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n", 408),
    ],
)
def test_a_refusal_of_head_has_no_body_but_its_length(start: Any, head: bytes, status: int) -> None:
    with start(request_header_timeout=0.1).connect() as peer:
        got = peer.send(head).read_to_end()
    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert got.endswith(b"\r\n\r\n")
    assert got.count(b"\r\n\r\n") == 1
    assert re.search(rb"\r\nContent-Length: [1-9]", got)


def test_head_is_told_without_a_body_that_the_queue_is_full(serve: Any) -> None:
    began, go_on = threading.Event(), threading.Event()

    class Slow(Rules):
        def do_HEAD(self) -> None:
            began.set()
            assert go_on.wait(PATIENCE)
            answer(self, b"")

    serving = serve(Slow, config=Config(max_threads=1, max_queue=1))
    head = b"HEAD / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    with serving.connect() as first, serving.connect() as second, serving.connect() as third:
        first.send(head)
        assert began.wait(PATIENCE)
        second.send(head)
        until(lambda: len(serving.engine.workers._backlog) == 1, "the second waits")
        got = third.send(head).read_to_end()
        go_on.set()
        assert first.read_to_end().startswith(b"HTTP/1.1 200 ")
        assert second.read_to_end().startswith(b"HTTP/1.1 200 ")
    assert got.startswith(b"HTTP/1.1 503 ")
    assert got.endswith(b"\r\n\r\n")


# -- Expect and CONNECT


def test_a_body_that_was_asked_for_and_is_not_read_is_dropped(serve: Any) -> None:
    with serve(Rules).connect() as peer:
        for _ in range(2):
            peer.send(b"POST /unread HTTP/1.1\r\n" + HOST)
            peer.send(b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED))
            assert peer.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            response, body = peer.response()
            assert (response.getheader("Connection"), body) == (None, b"unread")
            peer.send(SMUGGLED)
        assert peer.send(CLOSING).response()[1].startswith(b"GET /closing ")


def test_a_handler_that_does_not_ask_for_a_body_says_that_the_connection_closes(serve: Any) -> None:
    class Silent(Rules):
        def handle_expect_100(self) -> bool:
            return True

    with serve(Silent).connect() as peer:
        peer.send(b"POST /unread HTTP/1.1\r\n" + HOST)
        peer.send(b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        response, body = peer.response()
        assert (response.getheader("Connection"), body) == ("close", b"unread")
        assert peer.read_to_end() == b""


def test_http_1_0_is_never_sent_a_100(start: Any) -> None:
    with start().connect() as peer:
        peer.send(b"POST / HTTP/1.0\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert peer.send(b"hi").read_to_end().startswith(b"HTTP/1.1 200 ")


def test_one_100_is_enough_for_a_body_in_pieces(start: Any) -> None:
    with start().connect() as peer:
        peer.send(
            POST + b"Connection: close\r\nExpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert peer.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        for piece in (b"1\r\n", b"a\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"):
            peer.send(piece)
        got = peer.read_to_end()
    assert got.startswith(b"HTTP/1.1 200 ")
    assert got.endswith(b"POST / a.example 2 ")


def test_a_100_comes_before_the_protocol_is_switched(serve: Any) -> None:
    class Switching(Rules):
        def do_POST(self) -> None:
            body = self.rfile.read()
            self.send_response(101)
            self.send_header("Upgrade", "x")
            self.send_header("Connection", "upgrade")
            self.end_headers()
            self.wfile.write(body + self.rfile.read(5))

    with serve(Switching).connect() as peer:
        peer.send(POST + b"Expect: 100-continue\r\nConnection: upgrade\r\nUpgrade: x\r\n")
        peer.send(b"Content-Length: 2\r\n\r\n")
        assert peer.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(b"hi")
        assert peer.read_head().startswith(b"HTTP/1.1 101 ")
        assert peer.send(b"there").read_to_end() == b"hithere"


def test_a_connect_that_no_handler_takes_is_refused_and_opens_no_tunnel(serve: Any) -> None:
    serving = serve(Rules)
    with serving.connect() as peer:
        peer.send(b"CONNECT a.example:80 HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED)
        assert peer.response("CONNECT")[0].status == 501
        assert peer.read_to_end() == b""
    assert [record.status for record in serving.wait_for_records(1)] == [501]


# -- connections


def test_who_asks_for_close_is_told_so_and_what_follows_is_not_processed(start: Any) -> None:
    serving = start()
    with serving.connect() as peer:
        # In one piece: what comes when the connection has closed is answered by a reset.
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: ,x,\t CLOSE ,\r\n\r\n" + SMUGGLED)
        assert peer.response()[0].getheader("Connection") == "close"
        assert peer.read_to_end() == b""
    assert len(serving.wait_for_records(1)) == 1


def test_http_1_0_is_told_whether_the_connection_stays(start: Any) -> None:
    with start().connect() as peer:
        peer.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        assert peer.response()[0].getheader("Connection") == "keep-alive"
        peer.send(b"GET / HTTP/1.0\r\n\r\n")
        assert peer.response()[0].getheader("Connection") == "close"
        assert peer.read_to_end() == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (POST + b"Content-Length: 1000000000000\r\n\r\n", 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n", 400),
    ],
    ids=["its head", "its length", "its body"],
)
def test_who_is_refused_and_sends_on_gets_the_whole_answer(start: Any, head: bytes, status: int) -> None:
    with start().connect() as peer:
        peer.send(head + bytes(500_000))  # Unread, it would make the kernel send RST.
        response, body = peer.response()
        assert response.status == status
        assert response.getheader("Content-Length") == str(len(body))
        assert response.getheader("Connection") == "close"
        assert peer.read_to_end() == b""


def test_a_body_too_long_to_be_dropped_ends_the_connection_behind_the_answer(start: Any) -> None:
    serving = start(max_discarded_body=1000, body_prefetch=0)
    with serving.connect() as peer:
        peer.send(b"POST /unread HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n" + SMUGGLED)
        assert peer.response()[1] == b"unread"
        assert peer.read_to_end() == b""
    assert len(serving.wait_for_records(1)) == 1


@pytest.mark.parametrize(
    ("path", "length", "closes"),
    [
        (b"/unread", 1000, False),
        (b"/unread", 1001, True),
        (b"/part", 1050, False),
        (b"/part", 1051, True),
    ],
)
def test_that_what_is_left_of_a_body_is_too_long_to_be_dropped_is_said(
    start: Any, path: bytes, length: int, closes: bool
) -> None:
    with start(max_discarded_body=1000, body_prefetch=0).connect() as peer:
        peer.send(b"POST %b HTTP/1.1\r\n" % path + HOST + b"Content-Length: %d\r\n\r\n" % length)
        peer.send(bytes(50))
        response, _ = peer.response()
        assert response.status == 200
        assert (response.getheader("Connection") == "close") == closes
        if closes:
            assert peer.read_to_end() == b""
        else:
            peer.send(bytes(length - 50))
            assert peer.get("/next").response()[1] == b"GET /next test 0 "


def test_a_request_that_comes_too_late_is_told_so(start: Any) -> None:
    with start(request_header_timeout=0.1).connect() as peer:
        response, body = peer.send(b"GET / HTTP/1.1\r\n" + HOST).response()
        assert response.status == 408
        assert response.getheader("Connection") == "close"
        assert response.getheader("Content-Length") == str(len(body))
        assert DATE.fullmatch(response.getheader("Date") or "")
        assert peer.read_to_end() == b""


# -- answers


def test_an_answer_has_the_servers_version_not_the_clients(start: Any) -> None:
    for version in (b"1.0", b"1.1", b"1.9"):
        with start().connect() as peer:
            peer.send(b"GET / HTTP/" + version + b"\r\n" + HOST + b"Connection: close\r\n\r\n")
            assert peer.read_to_end().startswith(b"HTTP/1.1 200 ")


def test_a_handler_that_speaks_1_0_says_so_and_that_it_closes(serve: Any) -> None:
    class Old(Rules):
        protocol_version = "HTTP/1.0"

    with serve(Old).connect() as peer:
        # In one piece, as above.
        got = peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED).read_to_end()
    assert got.startswith(b"HTTP/1.0 200 ")
    assert b"\r\nConnection: close\r\n" in got
    assert b"smuggled" not in got


def test_a_status_line_has_its_second_space_also_without_a_reason(start: Any) -> None:
    with start().connect() as peer:
        assert peer.get("/299").read_head().startswith(b"HTTP/1.1 299 \r\n")


def test_204_and_304_end_with_their_heads_and_need_no_length(start: Any) -> None:
    with start().connect() as peer:
        for status in (b"204", b"304", b"204"):
            head = peer.get("/" + status.decode()).read_head()
            assert head.startswith(b"HTTP/1.1 " + status)
            assert b"Content-Length" not in head
            assert b"Transfer-Encoding" not in head
            assert b"Connection" not in head
        assert peer.send(CLOSING).read_to_end().startswith(b"HTTP/1.1 200 ")


def test_an_error_to_head_has_no_body(serve: Any) -> None:
    class Missing(Rules):
        def do_HEAD(self) -> None:
            self.send_error(404)

    for handler, status in ((Missing, b"404"), (Rules, b"501")):
        with serve(handler).connect() as peer:
            got = peer.send(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n").read_to_end()
        assert got.startswith(b"HTTP/1.1 " + status)
        assert got.endswith(b"\r\n\r\n")
        assert got.count(b"\r\n\r\n") == 1


def test_behind_an_interim_answer_comes_the_final_one(serve: Any) -> None:
    class Hinting(Rules):
        def do_GET(self) -> None:
            self.send_response_only(103)
            self.send_header("Link", "</style.css>; rel=preload")
            self.end_headers()
            answer(self)

    with serve(Hinting).connect() as peer:
        for _ in range(2):
            hint = peer.get("/").read_head()
            assert hint == b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
            response, body = peer.response()
            assert (response.status, body) == (200, b"ok")


@pytest.mark.parametrize("path", ["/200", "/204", "/304", "/404", "/503", "/fails"])
def test_every_answer_has_one_date_and_one_server_at_most(start: Any, path: str) -> None:
    before = int(time.time())
    with start().connect() as peer:
        response, _ = peer.get(path).response()
    (date,) = response.headers.get_all("Date")
    assert DATE.fullmatch(date)
    assert before <= parsedate_to_datetime(date).timestamp() <= time.time()
    assert len(response.headers.get_all("Server", [])) == (path != "/fails")


# -- splitting


@pytest.mark.parametrize("how", ["send_error", "send_response", "send_response_only"])
@pytest.mark.parametrize("end", ["\r\n", "\r", "\n", "\0"])
def test_a_reason_that_would_split_the_answer_is_an_error(serve: Any, how: str, end: str) -> None:
    class Splitting(Rules):
        def do_GET(self) -> None:
            getattr(self, how)(404, f"No{end}X-Forged: yes")
            self.end_headers()

    with serve(Splitting).connect() as peer:
        response, _ = peer.get("/").response()
        assert response.status == 500
        assert response.getheader("X-Forged") is None
        assert peer.read_to_end() == b""


def test_letters_whose_low_byte_ends_a_line_split_no_answer(serve: Any, serve_app: Any) -> None:
    value = "a\u010d\u010aX-Forged: yes"  # cut to bytes, "a\r\nX-Forged: yes"

    class Folding(Rules):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("X", value)
            self.end_headers()

    def folding(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X", value)])
        return [b"ok"]

    for serving in (serve(Folding), serve_app(folding)):
        with serving.connect() as peer:
            got = peer.get("/").read_to_end()
        assert got.startswith(b"HTTP/1.1 500 ")
        assert b"Forged" not in got


# -- the documentation


def test_the_table_of_rules_names_tests_that_are_there() -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "http.md").read_text("utf-8").splitlines()
        if line.startswith("|") and not line.startswith(("| requirement", "| ---"))
    ]
    assert len(rows) > 60
    functions = {
        name
        for path in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text("utf-8"), re.MULTILINE)
    }
    kinds = {"m": "malformed", "w": "well-formed"}
    for row in rows:
        named = re.findall(r"`([^`]+)`", row.rstrip(" |").rpartition("|")[2])
        assert named, row
        for name in named:
            kind, slash, pattern = name.partition("/")
            if slash:
                assert list((CORPUS / kinds[kind]).glob(f"{pattern}.txt")), name
            else:
                assert name in functions, name


def test_on_a_unix_socket_the_host_may_be_its_path(serve_on_path: str) -> None:
    """http.client, and all that is built on it, send what they were told to connect to."""
    path = serve_on_path
    with Peer(path) as peer:
        for host in (path, "/%2e/x.sock:80", "a.example", "", "%2Ftmp%2Fx.sock"):
            response, body = peer.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).response()
            assert (response.status, body.decode()) == (200, host)
        response, _ = peer.send(b"GET / HTTP/1.1\r\nHost: /a b\r\n\r\n").response()
        assert response.status == 400
    with Peer(path) as peer:
        twice = f"GET / HTTP/1.1\r\nHost: {path}\r\nHost: {path}\r\n\r\n".encode()
        assert peer.send(twice).response()[0].status == 400


def test_over_tcp_a_path_is_no_host(start: Any) -> None:
    with start().connect() as peer:
        request = b"GET / HTTP/1.1\r\nHost: /tmp/x.sock\r\n\r\n"
        assert peer.send(request).response()[0].status == 400


@pytest.fixture(params=["handler", "wsgi"])
def serve_on_path(request: pytest.FixtureRequest, serve: Any, tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "x.sock")

    class Server(hangup.ThreadingHTTPServer):
        address_family = socket.AF_UNIX

    class TellsHost(hangup.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, self.headers["Host"].encode())

    def tell_host(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["HTTP_HOST"].encode()]

    if request.param == "handler":
        serve(TellsHost, Server, address=path)
        yield path
    else:
        with hangup.WSGIServer(tell_host, uds=path, access_log="off"):
            yield path
