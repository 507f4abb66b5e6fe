"""The client as handlers find it, over real connections."""

import contextvars
import http.server
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import hangup
from conftest import BEFORE_HANDLER, PATIENCE, Peer, Serving, answer, until
from hangup import ClientDisconnected, ClientState, Config, DisconnectReason, Outcome
from hangup._disconnect.client import Client
from test_client_table import deafen
from test_workers import until_silent


class Meeting:
    """Where handler and test meet."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.proceed = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        self.clients: list[Client] = []
        self.seen: list[Any] = []

    def wait(self) -> None:
        assert self.began.acquire(timeout=PATIENCE)

    def wait_for_end(self) -> None:
        assert self.ended.acquire(timeout=PATIENCE)


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    meeting = Meeting()
    yield meeting
    meeting.proceed.release(100)


@pytest.fixture(params=[hangup.ThreadingHTTPServer, hangup.HTTPServer])
def server_class(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_it_is_self_client_and_the_current_client(serve: Any, base: Any, meeting: Meeting) -> None:
    class Handler(base):
        def do_GET(self) -> None:
            meeting.seen += [self.client, self.client, hangup.current_client(), self.client_address]
            answer(self)

    serving: Serving = serve(Handler)
    serving.get()
    first, second, current, address = meeting.seen
    assert isinstance(first, Client)
    assert first is second is current
    assert first.address == address


def test_each_request_of_a_connection_has_its_own(serve: Any, base: Any, meeting: Meeting) -> None:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            meeting.clients.append(self.client)
            if self.path == "/wait":
                self.client.wait(PATIENCE)
            answer(self)

    serving: Serving = serve(Handler)
    peer = serving.connect()
    for path in ("/", "/wait"):
        peer.get(path)
        if path == "/":
            peer.response()
    until(lambda: len(meeting.clients) == 2, "the second request is at work")
    peer.rst()
    serving.wait_for_records(2)
    first, second = meeting.clients
    assert first is not second
    assert (first.state, first.ended) == (ClientState.OPEN, True)
    assert second.state is ClientState.GONE


def test_a_program_with_a_client_of_its_own_keeps_it(serve: Any) -> None:
    seen: list[Any] = []

    class OfTheClass(http.server.BaseHTTPRequestHandler):
        client = "mine"

        def do_GET(self) -> None:
            seen.append(self.client)
            answer(self)

    class OfTheObject(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.client = "mine"
            seen.append(self.client)
            answer(self)

    for handler in (OfTheClass, OfTheObject):
        assert serve(handler).get()[0] == 200
    assert seen == ["mine", "mine"]


def test_between_requests_there_is_no_client(serve: Any, base: Any, meeting: Meeting) -> None:
    class Handler(base):
        def do_GET(self) -> None:
            answer(self)

        def finish(self) -> None:
            meeting.seen.append(getattr(self, "client", "none"))
            super().finish()
            meeting.ended.release()

    serve(Handler).get()
    meeting.wait_for_end()
    assert meeting.seen == ["none"]


def test_on_another_server_it_stays_open() -> None:
    seen: list[Any] = []

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with self.client.on_disconnect(pytest.fail):
                seen.extend([self.client.state, self.client.address, self.client is self.client])
            with pytest.raises(LookupError):
                hangup.current_client()
            hangup.sleep(0)
            answer(self)

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with Peer(server.server_address) as peer:
            assert peer.get("/").response()[1] == b"ok"
        thread.join()
    state, address, same = seen
    assert (state, address[0], same) == (ClientState.OPEN, "127.0.0.1", True)


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_sleep_frees_the_thread_and_the_log_has_one_line(
    serve: Any, base: Any, meeting: Meeting, manner: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hangup.access")

    class Handler(base):
        def do_GET(self) -> None:
            meeting.began.release()
            hangup.sleep(PATIENCE)
            answer(self)

    serving: Serving = serve(Handler)
    peer = serving.connect().get("/hello2")
    meeting.wait()
    getattr(peer, manner)()
    record = serving.record()
    assert (record.outcome, record.status) == (Outcome.DISCONNECTED, 499)
    assert record.disconnected_at is not None
    assert record.took < PATIENCE / 2
    assert record.wasted <= record.took - record.disconnected_at + 0.001
    lines = until(lambda: [line.getMessage() for line in caplog.records], "the line")
    assert len(lines) == 1
    assert '"GET /hello2 HTTP/1.1" 499 - client disconnected while the handler ran' in lines[0]


def test_deep_code_can_ask_too(serve: Any, base: Any, meeting: Meeting, server_class: Any) -> None:
    def deep_code() -> None:
        while True:
            hangup.raise_if_disconnected()

    class Handler(base):
        def do_GET(self) -> None:
            meeting.began.release()
            deep_code()

    serving: Serving = serve(Handler, server_class)
    peer = serving.connect().get("/")
    meeting.wait()
    peer.fin()
    assert serving.record().outcome is Outcome.DISCONNECTED


def test_threads_in_a_copy_of_the_context_know_the_client(
    serve: Any, base: Any, meeting: Meeting
) -> None:
    def work() -> None:
        try:
            hangup.sleep(PATIENCE)
        except ClientDisconnected:
            meeting.seen.append(hangup.current_client())

    class Handler(base):
        def do_GET(self) -> None:
            meeting.seen.append(self.client)
            thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
            thread.start()
            meeting.began.release()
            thread.join()

    serving: Serving = serve(Handler)
    peer = serving.connect().get("/")
    meeting.wait()
    peer.fin()
    serving.record()
    mine, threads = meeting.seen
    assert mine is threads


def test_a_thread_that_outlives_its_request_hears_nothing_of_the_next(
    serve: Any, base: Any, meeting: Meeting
) -> None:
    """Also if it asks for the client only then."""

    def work() -> None:
        assert meeting.proceed.acquire(timeout=PATIENCE)
        client = hangup.current_client()
        meeting.seen += [client.wait(PATIENCE), client.disconnected, client.ended]
        hangup.raise_if_disconnected()
        meeting.ended.release()

    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/first":
                thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
                thread.start()
            else:
                meeting.began.release()
                self.client.wait(PATIENCE)
            answer(self)

    serving: Serving = serve(Handler)
    peer = serving.connect().get("/first")
    peer.response()
    peer.get("/second")
    meeting.wait()
    peer.rst()
    serving.wait_for_records(2)
    meeting.proceed.release()
    meeting.wait_for_end()
    assert meeting.seen == [False, False, True]


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="clean")


def test_each_request_has_a_context_of_its_own(
    serve: Any, base: Any, meeting: Meeting, server_class: Any
) -> None:
    class Handler(base):
        def do_GET(self) -> None:
            meeting.seen.append(VARIABLE.get())
            VARIABLE.set("dirty")
            answer(self)

    serving: Serving = serve(Handler, server_class)
    for _ in range(3):
        serving.get()
    assert meeting.seen == ["clean"] * 3


@pytest.mark.parametrize("kept_by", ["process_request", "finish_request"])
def test_connections_that_a_thread_keeps_have_a_client_for_each_request(
    serve: Any, base: Any, meeting: Meeting, kept_by: str
) -> None:
    class Server(hangup.ThreadingHTTPServer):
        def process_request_in_a_thread(self, request: Any, client_address: Any) -> None:
            threading.Thread(
                target=self.process_request_thread, args=(request, client_address), daemon=True
            ).start()

    if kept_by == "process_request":
        Server.process_request = Server.process_request_in_a_thread  # type: ignore[method-assign]
    else:
        Server.finish_request = lambda self, request, address: self.RequestHandlerClass(  # type: ignore[method-assign]
            request, address, self
        )

    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            meeting.clients.append(self.client)
            assert hangup.current_client() is self.client
            assert VARIABLE.get() == "clean"
            VARIABLE.set("dirty")
            if self.path == "/wait":
                meeting.seen.append(self.client.wait(PATIENCE))
            answer(self)

    serving: Serving = serve(Handler, Server)
    peer = serving.connect()
    peer.get("/").response()
    peer.get("/wait")
    until(lambda: len(meeting.clients) == 2, "the second is at work")
    peer.fin()
    until(lambda: meeting.seen == [True], "it knows")
    first, second = meeting.clients
    assert first is not second
    assert first.ended
    serving.wait_for_records(2)


def test_half_close_can_be_ignored(serve: Any, base: Any, meeting: Meeting) -> None:
    class Handler(base):
        def do_GET(self) -> None:
            meeting.clients.append(self.client)
            with self.client.on_disconnect(meeting.ended.release):
                meeting.began.release()
                assert meeting.proceed.acquire(timeout=PATIENCE)
                meeting.seen.append(self.client.wait(0))
                answer(self)
                if self.path == "/stay":
                    meeting.seen.append(self.client.wait(PATIENCE))

    serving: Serving = serve(Handler, config=Config(half_close="ignore"))
    with serving.connect() as peer:
        peer.get("/").half_close()
        meeting.wait()
        until(lambda: meeting.clients[0].state is ClientState.EOF, "FIN is seen")
        assert meeting.clients[0].disconnected_at is None
        meeting.proceed.release()
        assert peer.read_to_end().endswith(b"ok")
    record = serving.record()
    assert (record.outcome, record.disconnected_at) == (Outcome.COMPLETED, None)
    assert meeting.seen == [False]
    assert not meeting.ended.acquire(blocking=False)
    # It may go on to leave in earnest.
    peer = serving.connect().get("/stay").half_close()
    meeting.wait()
    meeting.proceed.release()
    assert peer.read_until(b"ok")
    peer.rst()
    serving.wait_for_records(2)
    assert meeting.seen == [False, False, True]
    assert meeting.ended.acquire(blocking=False)


def test_a_fin_that_is_ignored_does_not_hide_an_incomplete_request(serve: Any, meeting: Meeting) -> None:
    class Handler(hangup.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            meeting.clients.append(self.client)
            self.rfile.read()

    serving: Serving = serve(Handler, config=Config(half_close="ignore"))
    with serving.connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + bytes(BEFORE_HANDLER))
        peer.half_close()
        assert serving.record().outcome is Outcome.DISCONNECTED
    assert meeting.clients[0].disconnected


def test_a_callback_that_blocks_keeps_nobody_from_noticing(
    serve: Any, base: Any, meeting: Meeting
) -> None:
    def block() -> None:
        meeting.began.release()
        assert meeting.proceed.acquire(timeout=PATIENCE)

    class Handler(base):
        def do_GET(self) -> None:
            with self.client.on_disconnect(block if self.path == "/block" else meeting.ended.release):
                meeting.began.release()
                self.client.wait(PATIENCE)

    serving: Serving = serve(Handler)
    blocking = [serving.connect().get("/block") for _ in range(3)]
    for _ in blocking:
        meeting.wait()
    for peer in blocking:
        peer.fin()
        meeting.wait()  # inside its callback
    other = serving.connect().get("/other")
    meeting.wait()
    other.fin()
    meeting.wait_for_end()
    assert serving.record().target == "/other"
    meeting.proceed.release(3)
    serving.wait_for_records(4)


def test_the_requests_end_waits_for_its_callbacks(serve: Any, base: Any, meeting: Meeting) -> None:
    def callback() -> None:
        meeting.began.release()
        assert meeting.proceed.acquire(timeout=PATIENCE)
        meeting.seen.append("callback")

    class Handler(base):
        def do_GET(self) -> None:
            self.client.on_disconnect(callback)
            meeting.began.release()
            self.client.wait(PATIENCE)
            meeting.wait()
            meeting.ended.release()

    serving: Serving = serve(Handler)
    peer = serving.connect().get("/")
    meeting.wait()
    peer.fin()
    meeting.wait_for_end()
    assert not serving.records
    meeting.proceed.release()
    serving.record()
    assert meeting.seen == ["callback"]


def test_an_exception_of_that_name_is_a_failure_while_the_client_is_there(serve: Any, base: Any) -> None:
    class Handler(base):
        def do_GET(self) -> None:
            raise ClientDisconnected  # somebody else's client, say

    class Server(hangup.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None: ...

    serving: Serving = serve(Handler, Server)
    assert serving.get()[0] == 500
    assert serving.record().outcome is Outcome.FAILED


def test_the_fallback_poller_is_blind_behind_unread_bytes_but_for_resets(
    serve: Any, meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/client.md says."""
    monkeypatch.setenv("HANGUP_POLLER", "poll")

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            meeting.clients.append(self.client)
            meeting.began.release()
            assert meeting.proceed.acquire(timeout=PATIENCE)
            self.client.wait(PATIENCE)

    serving: Serving = serve(Handler, config=Config(body_prefetch=0))
    peer = serving.connect().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n")
    meeting.wait()
    peer.send(b"some of it")
    connection = serving.the_connection()
    until_silent(connection.sock)
    peer.half_close()
    until_silent(connection.sock, 0.15)
    assert not meeting.clients[0].disconnected
    peer.rst()
    meeting.proceed.release()
    serving.record()
    assert meeting.clients[0].state is ClientState.GONE


@pytest.mark.parametrize("leave", ["fin", "half_close"])
def test_a_unix_sockets_client_is_noticed_too(
    serve: Any, base: Any, meeting: Meeting, tmp_path: Any, leave: str
) -> None:
    class Server(hangup.ThreadingHTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            socketserver.TCPServer.server_bind(self)
            self.server_name, self.server_port = "unix", 0

        def get_request(self) -> Any:
            request, _ = super().get_request()
            return request, ("unix", 0)

    class Handler(base):
        def do_GET(self) -> None:
            meeting.began.release()
            meeting.seen += [self.client.wait(PATIENCE), self.client.state]
            answer(self)

    serving: Serving = serve(Handler, Server, address=str(tmp_path / "socket"))
    peer = serving.connect().get("/")
    meeting.wait()
    getattr(peer, leave)()
    if leave == "half_close":
        assert peer.read_to_end().endswith(b"ok")
        peer.fin()
    record = serving.record()
    assert meeting.seen == [True, ClientState.GONE if leave == "fin" else ClientState.EOF]
    assert record.outcome is (Outcome.DISCONNECTED if leave == "fin" else Outcome.COMPLETED)


def test_a_closed_stream_without_a_length_is_no_departure_where_fin_is_ignored(
    serve: Any, meeting: Meeting
) -> None:
    """A handler of the standard library's that reads to the end of the file, and answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            meeting.seen += [self.rfile.read(), self.client.disconnected]
            answer(self)

    serving: Serving = serve(Handler, config=Config(half_close="ignore"))
    with serving.connect() as peer:
        peer.send(b"POST / HTTP/1.0\r\n\r\nthe body").half_close()
        assert peer.read_to_end().endswith(b"ok")
    assert serving.record().outcome is Outcome.COMPLETED
    assert meeting.seen == [b"the body", False]


def test_a_server_may_be_closed_by_a_callback(serve: Any, base: Any, meeting: Meeting) -> None:
    class Handler(base):
        def do_GET(self) -> None:
            with self.client.on_disconnect(close):
                meeting.began.release()
                self.client.wait(PATIENCE)

    def close() -> None:
        serving.server.shutdown()
        serving.server.server_close()
        meeting.ended.release()

    serving: Serving = serve(Handler)
    peer = serving.connect().get("/")
    meeting.wait()
    peer.fin()
    meeting.wait_for_end()
    serving.record()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the filter that cuts a cable")
def test_a_client_that_vanishes_before_it_acknowledges_the_first_piece_is_noticed(
    serve: Any, meeting: Meeting
) -> None:
    """While bytes are unacknowledged the kernel does not probe."""

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            client = self.client
            meeting.began.release()
            assert meeting.proceed.acquire(timeout=PATIENCE)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"the first event")
            meeting.seen += [client.wait(PATIENCE), client.reason]

    serving: Serving = serve(Handler, config=Config(tcp_keepalive_idle=1, write_timeout=1))
    with serving.connect() as peer:
        peer.get("/")
        meeting.wait()
        deafen(peer.sock)
        meeting.proceed.release()
        serving.record()
    assert meeting.seen == [True, DisconnectReason.UNREACHABLE]
