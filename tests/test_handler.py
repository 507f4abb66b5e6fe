"""Handlers: hangup's own, and the standard library's as they are."""

import functools
import http.server
import io
import logging
import threading
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Serving, answer, until
from hangup import ClientDisconnected, Config, Outcome

Own = hangup.BaseHTTPRequestHandler
Stock = http.server.BaseHTTPRequestHandler


class Echo(Own):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        answer(self, self.rfile.read())

    def do_GET(self) -> None:
        answer(self, self.path.encode())


def post(*fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", "Host: test", *fields, "", ""]).encode() + body


def test_rfile_ends_where_the_body_ends(serve: Any) -> None:
    serving: Serving = serve(Echo)
    with serving.connect() as peer:
        peer.send(post("Content-Length: 5", body=b"hello") + post(body=b""))
        assert peer.response()[1] == b"hello"
        assert peer.response()[1] == b""
        peer.send(post("Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))
        assert peer.response()[1] == b"abcde"
    assert [record.bytes_in > 30 for record in serving.wait_for_records(3)] == [True] * 3


def test_a_body_that_arrives_slowly_is_waited_for(serve: Any) -> None:
    serving = serve(Echo)
    with serving.connect() as peer:
        peer.send(post("Content-Length: 10"))
        for byte in b"0123456789":
            peer.send(bytes([byte]))
        assert peer.response()[1] == b"0123456789"


def test_what_a_handler_leaves_unread_never_becomes_a_request(serve: Any) -> None:
    class Careless(Echo):
        def do_POST(self) -> None:
            answer(self, b"unread")

    serving = serve(Careless, config=Config(body_prefetch=0))
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving.connect() as peer:
        peer.send(post(f"Content-Length: {len(smuggled)}"))
        assert peer.response()[1] == b"unread"
        peer.send(smuggled)
        assert peer.get("/real").response()[1] == b"/real"
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(smuggled), smuggled)
        peer.send(post("Transfer-Encoding: chunked", body=chunked))
        assert peer.response()[1] == b"unread"
        assert peer.get("/real").response()[1] == b"/real"
    assert "/smuggled" not in [record.target for record in serving.wait_for_records(4)]


def test_a_long_unread_body_ends_the_connection_and_the_answer_arrives(serve: Any) -> None:
    class Careless(Echo):
        def do_POST(self) -> None:
            answer(self, b"unread")

    serving = serve(Careless)
    with serving.connect() as peer:
        peer.send(post("Content-Length: 1000000", body=bytes(200_000)))
        assert peer.response()[1] == b"unread"
        assert peer.read_to_end() == b""


def test_a_malformed_chunk_is_refused(serve: Any) -> None:
    serving = serve(Echo)
    with serving.connect() as peer:
        peer.send(post("Transfer-Encoding: chunked", body=b"zz\r\n"))
        response, _ = peer.response()
        assert response.status == 400
        assert peer.read_to_end() == b""
    assert serving.record().outcome is Outcome.REJECTED


def test_a_body_that_stops_is_answered_with_408(serve: Any) -> None:
    serving = serve(Echo, config=Config(body_timeout=0.05))
    with serving.connect() as peer:
        peer.send(post("Content-Length: 10", body=b"half"))
        assert peer.response()[0].status == 408
        assert peer.read_to_end() == b""
    assert serving.record().outcome is Outcome.TIMED_OUT


def test_expect_100_continue_is_answered_before_the_body_comes(serve: Any, base: Any) -> None:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer(self, self.rfile.read(int(self.headers["Content-Length"])))

    serving = serve(Handler)
    with serving.connect() as peer:
        peer.send(post("Content-Length: 5", "Expect: 100-continue"))
        assert peer.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(b"hello")
        assert peer.response()[1] == b"hello"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70000 + b"\r\n\r\n", 431),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
    ],
    ids=["long line", "long head", "unknown method", "malformed", "version"],
)
def test_bad_input_gets_a_complete_answer_and_a_closed_connection(
    serve: Any, base: Any, request_bytes: bytes, status: int
) -> None:
    class Handler(base):
        def do_GET(self) -> None:
            answer(self)

    if base is Stock:
        # http.server's own answer to a line without a version has no head: HTTP/0.9.
        Handler.default_request_version = "HTTP/1.1"
    serving = serve(Handler)
    with serving.connect() as peer:
        peer.send(request_bytes)
        response, body = peer.response()
        assert response.status == status
        if base is Own:
            assert int(response.headers["Content-Length"]) == len(body)
        assert peer.read_to_end() == b""


def test_an_exception_is_answered_with_500_unless_the_answer_had_begun(
    serve: Any, base: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the head would leave before the exception is raised.
    monkeypatch.setattr(hangup._connection.output.Output, "send_held", lambda _connection: None)

    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            if self.path == "/begun":
                self.wfile.write(b"begun")
            raise ZeroDivisionError

    serving = serve(Handler)
    with serving.connect() as peer:
        response, body = peer.get("/").response()
        assert (response.status, body) == (500, b"500 Internal Server Error\n")
    with serving.connect() as peer:
        assert peer.get("/begun").read_to_end().endswith(b"\r\n\r\nbegun")
    assert [r.status for r in serving.wait_for_records(2)] == [500, 200]
    assert capfd.readouterr().err.count("Traceback") == 2


def test_an_exception_is_answered_with_500_however_long_its_report_takes(serve: Any, base: Any) -> None:
    """The head that was held back for the body is not sent meanwhile."""
    looks: list[None] = []

    class Handler(base):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            raise ZeroDivisionError

    def handle_error(*_: Any) -> None:
        watchdog = serving.engine.loop.watchdog
        until(lambda: len(looks) > 5 or watchdog.asleep, "the watchdog has had time to send it")

    serving = serve(Handler)
    serving.server.handle_error = handle_error
    watchdog = serving.engine.loop.watchdog
    look = watchdog._look

    def noted() -> float:
        looks.append(None)
        return float(look())

    watchdog._look = noted
    assert serving.get() == (500, b"500 Internal Server Error\n")


def test_head_and_body_leave_in_one_send(serve: Any, base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from hangup._connection import output as _sender

    sends: list[int] = []
    send = _sender._send

    def note(sock: Any, data: Any, flags: int) -> int:
        sends.append(len(data))
        return send(sock, data, flags)

    class Handler(base):
        def do_GET(self) -> None:
            answer(self)

    serving = serve(Handler)
    monkeypatch.setattr(_sender, "_send", note)
    assert serving.get() == (200, b"ok")
    assert len(sends) == 1


def test_nagle_is_off_and_dead_peers_are_probed(serve: Any) -> None:
    import socket

    options: list[int] = []

    class Handler(Own):
        def do_GET(self) -> None:
            for level, name in [
                (socket.IPPROTO_TCP, socket.TCP_NODELAY),
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            ]:
                options.append(self.connection.getsockopt(level, name))
            self.send_response(200)
            self.end_headers()
            # Set from the second piece on: where it is set it takes the place of the probes' number.
            for _ in range(3):
                limit = self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                options.append(limit)
                self.wfile.write(b"ok")

    serving = serve(Handler, config=Config(tcp_keepalive_idle=9, write_timeout=7))
    assert serving.get() == (200, b"okokok")
    assert options[0]
    assert options[1]
    assert options[2:] == [9, 0, 0, 7000]


def test_an_answer_without_a_length_ends_with_the_connection_and_says_so(serve: Any) -> None:
    class Handler(Own):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(204 if self.path == "/204" else 200)
            self.end_headers()
            if self.path != "/204":
                self.wfile.write(b"no length")

    serving = serve(Handler)
    with serving.connect() as peer:
        assert peer.get("/204").response()[0].getheader("Connection") is None
        response, body = peer.get("/").response()
        assert response.getheader("Connection") == "close"
        assert body == b"no length"


def test_an_http_1_0_client_is_told_that_the_connection_stays(serve: Any) -> None:
    serving = serve(Echo)
    with serving.connect() as peer:
        for _ in range(2):
            peer.send(b"GET /1.0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response, body = peer.response()
            assert response.getheader("Connection") == "keep-alive"
            assert body == b"/1.0"


def test_a_header_that_would_split_the_answer_is_an_error(serve: Any) -> None:
    refused: list[str] = []

    class Handler(Own):
        def do_GET(self) -> None:
            for name, value in [("X", "a\r\nSet-Cookie: b"), ("X", "a\0"), ("X\n", "a")]:
                try:
                    self.send_header(name, value)
                except ValueError as error:
                    refused.append(str(error))
            try:
                self.send_response_only(200, "OK\r\nX: y")
            except ValueError as error:
                refused.append(str(error))
            answer(self)

    assert serve(Handler).get() == (200, b"ok")
    assert len(refused) == 4


def test_a_handler_lives_as_long_as_its_connection(serve: Any, base: Any) -> None:
    calls: list[str] = []

    class Handler(base):
        protocol_version = "HTTP/1.1"
        count = 0

        def setup(self) -> None:
            calls.append("setup")
            super().setup()

        def finish(self) -> None:
            calls.append("finish")
            super().finish()

        def do_GET(self) -> None:
            self.count += 1
            answer(self, str(self.count).encode())

    serving = serve(Handler)
    with serving.connect() as peer:
        assert [peer.get("/").response()[1] for _ in range(3)] == [b"1", b"2", b"3"]
    until(lambda: calls == ["setup", "finish"], "the connection has ended")


def test_a_partial_with_options_makes_handlers(serve: Any, base: Any) -> None:
    class Handler(base):
        def __init__(self, *args: Any, greeting: bytes) -> None:
            self.greeting = greeting
            super().__init__(*args)

        def do_GET(self) -> None:
            answer(self, self.greeting)

    if base is Own:
        Handler.__init__ = _with_greeting(Handler)  # type: ignore[method-assign]
    assert serve(functools.partial(Handler, greeting=b"hi")).get() == (200, b"hi")


def _with_greeting(cls: Any) -> Any:
    def init(self: Any, *args: Any, greeting: bytes) -> None:
        self.greeting = greeting
        Own.__init__(self, *args)

    return init


def test_any_callable_makes_handlers(serve: Any, base: Any) -> None:
    class Handler(base):
        def do_GET(self) -> None:
            answer(self)

    def factory(*args: Any) -> Any:
        return Handler(*args)

    serving = serve(factory)
    for _ in range(3):
        assert serving.get() == (200, b"ok")


class SeedFix(Stock):
    """As the report's fix has it: it reads the request line itself, and closes in its except."""

    def do_GET(self) -> None:
        self.server.stage.acquire(timeout=PATIENCE)  # type: ignore[attr-defined]
        try:
            self.send_response(200)
            self.send_header("Content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>" + self.path.encode())
            self.wfile.write(b"</html>" * 100)
        except OSError:
            self.close_it()

    def close_it(self) -> None:
        self.wfile._sock.close()  # type: ignore[attr-defined]
        self.wfile._sock = None  # type: ignore[attr-defined]

    def handle_one_request(self) -> None:
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if len(self.raw_requestline) > 65536:
                self.requestline = self.request_version = self.command = ""
                self.send_error(414)
                return
            if not self.raw_requestline:
                self.close_connection = True
                return
            if not self.parse_request():
                return
            getattr(self, "do_" + self.command)()
            if not self.wfile.closed:
                self.wfile.flush()
        except TimeoutError as error:
            self.log_error("Request timed out: %r", error)
            self.close_connection = True


class SeedFixOwn(SeedFix, Own):
    pass


class ClosesWfile(SeedFix):
    handle_one_request = Stock.handle_one_request

    def close_it(self) -> None:
        self.wfile.close()


class ClosesConnection(SeedFix):
    def close_it(self) -> None:
        self.connection.close()


@pytest.mark.parametrize("handler", [SeedFix, SeedFixOwn, ClosesWfile, ClosesConnection])
def test_a_handler_that_hangs_up_in_its_own_except_branch(
    serve: Any, handler: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    stage = threading.Semaphore(0)
    serving = serve(handler)
    serving.server.stage = stage
    for manner in ("fin", "rst"):
        peer = serving.connect().get("/hello2")
        until(lambda: serving.connections() == 1, "it is accepted")
        getattr(peer, manner)()
        stage.release()
        until(lambda: serving.connections() == 0, "it has ended")
    stage.release()
    assert serving.get("/hello1")[1].startswith(b"<html>/hello1")
    assert "Traceback" not in capfd.readouterr().err


def test_overridden_parse_request_and_handle(serve: Any, base: Any) -> None:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            if self.headers.get("Authorization") is None:
                self.send_error(401)
                return False
            return True

        def handle(self) -> None:
            try:
                super().handle()
            except ClientDisconnected:  # pragma: no cover - nobody leaves
                raise AssertionError from None

        def do_GET(self) -> None:
            answer(self)

    serving = serve(Handler)
    with serving.connect() as peer:
        assert peer.get("/", "Authorization: me").response()[1] == b"ok"
        assert peer.get("/").response()[0].status == 401


def test_a_handler_may_read_its_head_from_rfile(serve: Any) -> None:
    """As wsgiref's does, in a handle() of its own."""

    class Handler(Own):
        def handle(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            assert self.raw_requestline == b"POST / HTTP/1.1\r\n"
            assert self.parse_request()
            answer(self, self.headers["X-Y"].encode() + self.rfile.read())

    serving = serve(Handler)
    with serving.connect() as peer:
        peer.send(post("X-Y: z", "Content-Length: 4", body=b"body"))
        assert peer.response()[1] == b"zbody"

    class ParsesAll(Own):
        def parse_request(self) -> bool:
            import http.client

            self.command, self.path, self.request_version = self.raw_requestline.decode().split()
            self.requestline = ""
            self.headers = http.client.parse_headers(self.rfile)
            self.close_connection = True
            return True

        def do_POST(self) -> None:
            answer(self, self.headers["X-Y"].encode() + self.rfile.read())

    serving = serve(ParsesAll)
    with serving.connect() as peer:
        peer.send(post("X-Y: z", "Content-Length: 4", body=b"body"))
        assert peer.response()[1] == b"zbody"


def test_log_overrides_go_on_working(serve: Any, base: Any) -> None:
    lines: list[str] = []
    requests: list[tuple[int, str]] = []

    class LogsMessage(base):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            lines.append(format % args)

        def do_GET(self) -> None:
            answer(self)

    class LogsRequest(base):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            requests.append((int(code), self.path))

        def do_GET(self) -> None:
            answer(self)

    assert serve(LogsMessage).get("/a") == (200, b"ok")
    assert lines == ['"GET /a HTTP/1.1" 200 -']
    assert serve(LogsRequest).get("/b") == (200, b"ok")
    assert requests == [(200, "/b")]


def test_a_departure_is_told_to_a_log_of_ones_own(serve: Any, base: Any) -> None:
    began, proceed = threading.Semaphore(0), threading.Semaphore(0)
    lines: list[str] = []

    class Handler(base):
        def log_message(self, format: str, *args: Any) -> None:
            lines.append(format % args)

        def do_GET(self) -> None:
            began.release()
            assert proceed.acquire(timeout=PATIENCE)
            if self.path == "/answers":
                answer(self)

    for path in ("/answers", "/returns"):
        lines.clear()
        serving = serve(Handler)
        peer = serving.connect().get(path)
        assert began.acquire(timeout=PATIENCE)
        peer.fin()
        until(lambda: any(peer.disconnected_at for peer in iter_clients(serving)), "the server knows")  # noqa: B023
        proceed.release()
        serving.record()
        assert lines == [f'"GET {path} HTTP/1.1" 499 -']


def iter_clients(serving: Serving) -> Any:
    return (e.peer for e in list(serving.engine.loop._entries.values()) if hasattr(e, "peer"))


def test_one_access_line_for_each_request(
    serve: Any, base: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hangup.access")

    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, b"four")

    serving = serve(Handler)
    with serving.connect() as peer:
        for path in ("/a", "/b", "/c"):
            peer.get(path).response()
    serving.wait_for_records(3)
    lines = until(lambda: len(caplog.records) == 3 and caplog.records, "three lines")
    assert ['"GET /b HTTP/1.1" 200 4' in line.getMessage() for line in lines] == [
        False,
        True,
        False,
    ]


def test_a_websocket_upgrade_gives_the_handler_the_bytes(serve: Any, base: Any) -> None:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(101)
            self.send_header("Upgrade", "echo")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            while data := self.rfile.read(2):
                self.wfile.write(data.upper())
                assert self.connection.recv(2) == b".."
            self.close_connection = True

    serving = serve(Handler)
    with serving.connect() as peer:
        peer.get("/", "Connection: Upgrade", "Upgrade: echo")
        assert b"101 Switching" in peer.read(20 + 14)
        while b"\r\n\r\n" not in (seen := peer.sock.recv(4096)) and seen:
            pass
        for word in (b"ab", b"cd"):
            peer.send(word + b"..")
            assert peer.read(2) == word.upper()
        peer.half_close()
        assert peer.read_to_end() == b""


def test_connect_makes_a_tunnel(serve: Any) -> None:
    class Handler(Own):
        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"tunnel:" + self.rfile.readline())

    serving = serve(Handler)
    with serving.connect() as peer:
        peer.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nthrough\n")
        assert peer.read_to_end().endswith(b"\r\n\r\ntunnel:through\n")


def test_buffered_and_wrapped_wfiles(serve: Any, base: Any) -> None:
    class Handler(base):
        wbufsize = -1
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "9")
            self.end_headers()
            text = io.TextIOWrapper(self.wfile, write_through=True)
            text.write("buffered!")
            text.detach()

    serving = serve(Handler)
    with serving.connect() as peer:
        for _ in range(2):
            assert peer.get("/").response()[1] == b"buffered!"


def test_a_handlers_timeout_is_its_connections(serve: Any, base: Any) -> None:
    class Handler(base):
        protocol_version = "HTTP/1.1"
        timeout = 0.1

        def do_GET(self) -> None:
            assert self.connection.gettimeout() == 0.1
            answer(self)

    serving = serve(Handler)
    with serving.connect() as peer:
        peer.get("/").response()
        assert peer.read_to_end() == b""


def test_on_another_socket_the_handler_is_the_standard_librarys(serve: Any) -> None:
    """On the standard library's own server: what subclasses of both get."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        from conftest import Peer

        with Peer(server.server_address) as peer:
            assert peer.get("/x", "Connection: close").response()[1] == b"/x"
        server.shutdown()
        thread.join()


def test_an_exception_after_100_continue_is_answered(serve: Any, base: Any) -> None:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raise ZeroDivisionError

    serving = serve(Handler)
    with serving.connect() as peer:
        peer.send(post("Content-Length: 5", "Expect: 100-continue"))
        assert peer.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert peer.response()[0].status == 500


def test_an_endless_unread_body_is_answered_once(serve: Any) -> None:
    class Careless(Echo):
        def do_POST(self) -> None:
            answer(self, b"unread")

    serving = serve(Careless, config=Config(max_discarded_body=1000, body_prefetch=0))
    with serving.connect() as peer:
        peer.send(post("Transfer-Encoding: chunked"))
        assert peer.response()[1] == b"unread"
        peer.send(b"fff\r\n" + bytes(0xFFF) + b"\r\n")
        assert peer.read_to_end() == b""
    assert len(serving.records) == 1


def test_a_head_that_begins_late_has_its_whole_time(serve: Any) -> None:
    serving = serve(Echo, config=Config(keep_alive_timeout=0.3, request_header_timeout=5))
    with serving.connect() as peer:
        assert peer.get("/a").response()[1] == b"/a"
        peer.send(b"GET /b HTTP/1.1\r\n")
        threading.Event().wait(0.5)  # longer than an idle connection is kept
        assert peer.send(b"Host: x\r\n\r\n").response()[1] == b"/b"


def test_a_socket_that_shall_not_block_does_not(serve: Any) -> None:
    class Handler(Own):
        def do_POST(self) -> None:
            self.connection.setblocking(False)
            try:
                self.connection.recv(10)
            except BlockingIOError:
                answer(self, b"would block")

    serving = serve(Handler, config=Config(body_prefetch=0))
    with serving.connect() as peer:
        assert peer.send(post("Content-Length: 5")).response()[1] == b"would block"


def test_what_a_socket_says_after_its_connection_has_ended(serve: Any) -> None:
    kept: list[Any] = []

    class Handler(Own):
        def do_GET(self) -> None:
            kept.append(self.request)
            answer(self)

    serving = serve(Handler)
    assert serving.get() == (200, b"ok")
    sock = kept[0]
    until(lambda: type(sock.connection).__name__ == "_Closed", "it has ended")
    sock.close()
    sock.shutdown(2)
    for call in (lambda: sock.recv(1), lambda: sock.sendall(b"x"), lambda: sock.makefile("rb")):
        with pytest.raises(OSError, match="closed"):
            call()


def test_the_rest_of_the_sockets_face(serve: Any) -> None:
    read = threading.Semaphore(0)

    class Handler(Own):
        def do_POST(self) -> None:
            buffer = bytearray(3)
            assert self.request.recv_into(buffer) == 3
            read.release()
            peeked = self.request.recv(1, 2)  # MSG_PEEK: of the kernel's bytes
            file = self.request.makefile("rwb")
            body = bytes(buffer) + self.request.recv(4, 0x100) + file.read(1)  # MSG_WAITALL
            file.write(b"HTTP/1.0 200 OK\r\n\r\n" + body + peeked)
            file.flush()
            try:
                self.request.makefile("x")
            except ValueError:
                self.request.sendall(memoryview(b"!"))
            assert self.rfile.fileno() == self.wfile.fileno() == self.request.fileno()
            self.close_connection = True

    serving = serve(Handler, config=Config(body_prefetch=0))
    with serving.connect() as peer:
        peer.send(post("Content-Length: 8", body=b"abc"))
        assert read.acquire(timeout=PATIENCE)
        peer.send(b"defgh")
        assert peer.response()[1] == b"abcdefghd!"


def test_a_program_that_wants_silence_gets_it(
    serve: Any, base: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "hangup.access")

    class Handler(base):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            answer(self)

    serving = serve(Handler)
    assert serving.get() == (200, b"ok")
    serving.connect().send(b"GET / HT").fin()
    serving.connect().send(b"nonsense\r\n\r\n").fin()
    serving.wait_for_records(3)
    assert not caplog.records
    assert capfd.readouterr().err == ""


def test_an_answer_that_ends_while_the_server_drains_says_that_the_connection_closes(
    serve: Any,
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Slow(hangup.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            entered.set()
            assert go_on.wait(PATIENCE)
            answer(self)

    serving = serve(Slow)
    with serving.connect() as peer:
        peer.get("/")
        assert entered.wait(PATIENCE)
        serving.engine.drain()
        go_on.set()
        response, body = peer.response()
        assert (body, response.getheader("Connection")) == (b"ok", "close")
        assert peer.read_to_end() == b""
