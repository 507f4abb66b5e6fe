"""Servers: what programs call, set and override on http.server's."""

import concurrent.futures
import errno
import http.server
import logging
import os
import socket
import socketserver
import ssl
import sys
import threading
import time
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Certificates, Peer, Serving, answer, until
from hangup import Config, Outcome
from hangup._system.binding import shown


def handler_for(base: Any) -> Any:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, threading.current_thread().name.encode())

    return Handler


Own = handler_for(hangup.BaseHTTPRequestHandler)


def test_they_are_http_servers_own() -> None:
    assert issubclass(hangup.HTTPServer, http.server.HTTPServer)
    assert issubclass(hangup.ThreadingHTTPServer, socketserver.ThreadingMixIn)
    assert issubclass(hangup.BaseHTTPRequestHandler, http.server.BaseHTTPRequestHandler)
    assert issubclass(hangup.SimpleHTTPRequestHandler, http.server.SimpleHTTPRequestHandler)
    assert hangup.ThreadingHTTPServer.daemon_threads
    assert hangup.HTTPServer.allow_reuse_address


def test_context_manager_name_port_and_fileno() -> None:
    with hangup.ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        assert server.fileno() == server.socket.fileno()
        assert server.server_port == server.socket.getsockname()[1]
        assert server.server_name
        assert server.RequestHandlerClass is Own
    assert server.socket.fileno() == -1


def test_bind_later(serve: Any) -> None:
    server = hangup.HTTPServer(("127.0.0.1", 0), Own, bind_and_activate=False)
    server.server_bind()
    server.server_activate()
    with socket.create_connection(server.server_address):
        pass
    server.server_close()


def test_http_server_runs_its_handlers_in_the_thread_that_serves(serve: Any, base: Any) -> None:
    serving: Serving = serve(handler_for(base), hangup.HTTPServer)
    for _ in range(3):
        assert serving.get() == (200, b"serve_forever")


def test_http_server_serves_one_request_at_a_time_in_order(serve: Any) -> None:
    inside = 0
    most = 0
    order: list[str] = []
    entered, go = threading.Semaphore(0), threading.Semaphore(0)

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            order.append(self.path)
            entered.release()
            assert go.acquire(timeout=PATIENCE)
            answer(self)
            inside -= 1

    serving = serve(Handler, hangup.HTTPServer)
    peers = [serving.connect().get("/0")]
    assert entered.acquire(timeout=PATIENCE)
    backlog = serving.engine.workers._backlog
    for number in range(1, 5):
        peers.append(serving.connect().get(f"/{number}"))
        until(lambda: len(backlog) == number, "it waits")  # noqa: B023
    for connection in backlog._waiting:
        connection.exchange.ready_at -= 10  # a long wait changes no order here
    for peer in peers:
        go.release()
        assert peer.response()[1] == b"ok"
        peer.fin()
    assert order == ["/0", "/1", "/2", "/3", "/4"]
    assert most == 1


def test_a_departure_from_http_server_is_noticed_while_its_handler_works(serve: Any) -> None:
    entered, go = threading.Semaphore(0), threading.Semaphore(0)

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            entered.release()
            assert go.acquire(timeout=PATIENCE)
            answer(self)

    serving = serve(Handler, hangup.HTTPServer)
    peer = serving.connect().get("/")
    assert entered.acquire(timeout=PATIENCE)
    peer.fin()
    entries = serving.engine.loop._entries
    until(
        lambda: any(getattr(e, "peer", None) and e.peer.disconnected_at for e in list(entries.values())),
        "noticed",
    )
    go.release()
    assert serving.record().outcome is Outcome.DISCONNECTED


def test_the_threading_mixin_makes_a_threading_server(serve: Any, base: Any) -> None:
    class Server(socketserver.ThreadingMixIn, hangup.HTTPServer):
        daemon_threads = True

    serving = serve(handler_for(base), Server)
    status, name = serving.get()
    assert status == 200
    assert name.startswith(b"hangup-")


def test_get_request_and_verify_request_are_asked(serve: Any) -> None:
    asked: list[str] = []

    class Server(hangup.ThreadingHTTPServer):
        def get_request(self) -> Any:
            accepted = super().get_request()
            asked.append("get")
            return accepted

        def verify_request(self, request: Any, client_address: Any) -> bool:
            asked.append("verify")
            return len(asked) > 2

    serving = serve(Own, Server)
    with serving.connect() as peer:
        assert peer.read_to_end() == b""
    assert serving.get()[0] == 200
    assert asked == ["get", "verify"] * 2


def test_a_verify_request_that_raises_refuses_and_is_reported(serve: Any) -> None:
    errors: list[Any] = []

    class Server(hangup.ThreadingHTTPServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            raise ZeroDivisionError

        def handle_error(self, request: Any, client_address: Any) -> None:
            errors.append(client_address)

    serving = serve(Own, Server)
    with serving.connect() as peer:
        assert peer.read_to_end() == b""
    assert len(errors) == 1


def test_finish_request_may_make_the_handler_itself(
    serve: Any, base: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """As ``python -m http.server`` does, to pass the directory."""
    caplog.set_level(logging.INFO, "hangup.access")
    made: list[Any] = []

    class Server(hangup.ThreadingHTTPServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            made.append(self.RequestHandlerClass(request, client_address, self))

    serving = serve(handler_for(base), Server)
    with serving.connect() as peer:
        for _ in range(2):
            assert peer.get("/").response()[0].status == 200
    until(lambda: made, "the handler has ended")
    first, *_ = serving.wait_for_records(2)
    assert (first.method, first.target, first.status) == ("GET", "/", 200)
    until(lambda: len(caplog.records) == 2, "both lines are written")
    assert all('"GET / HTTP/1.1" 200' in line.getMessage() for line in caplog.records)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("server_class", [hangup.HTTPServer, hangup.ThreadingHTTPServer])
def test_process_request_of_a_programs_own_decides_on_threads(
    serve: Any, base: Any, server_class: Any
) -> None:
    """A pool of one's own: the idiom that http.server's users write."""
    pool = concurrent.futures.ThreadPoolExecutor(4, "pool")

    class Server(server_class):
        def process_request(self, request: Any, client_address: Any) -> None:
            pool.submit(self.work, request, client_address)

        def work(self, request: Any, client_address: Any) -> None:
            try:
                self.finish_request(request, client_address)
            except Exception:  # pragma: no cover - nothing is raised
                self.handle_error(request, client_address)
            finally:
                self.shutdown_request(request)

    with pool:
        serving = serve(handler_for(base), Server)
        with serving.connect() as peer:
            for _ in range(3):
                assert peer.get("/").response()[1].startswith(b"pool")
        peer = serving.connect().get("/")
        peer.rst()
        assert serving.get()[1].startswith(b"pool")
    assert len(serving.wait_for_records(4)) >= 4


def test_service_actions_are_called(serve: Any) -> None:
    acted = threading.Semaphore(0)

    class Server(hangup.ThreadingHTTPServer):
        def service_actions(self) -> None:
            acted.release()

    server = Server(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    for _ in range(3):
        assert acted.acquire(timeout=PATIENCE)
    server.shutdown()
    thread.join()
    server.server_close()


def test_handle_request_handles_one(base: Any) -> None:
    for server_class in (hangup.HTTPServer, hangup.ThreadingHTTPServer):
        with server_class(("127.0.0.1", 0), handler_for(base)) as server:
            peer = Peer(server.server_address).get("/", "Connection: close")
            server.handle_request()
            assert peer.response()[0].status == 200
            peer.fin()


def test_handle_request_gives_up_after_its_timeout() -> None:
    timed_out: list[bool] = []

    class Server(hangup.HTTPServer):
        timeout = 0.01

        def handle_timeout(self) -> None:
            timed_out.append(True)

    with Server(("127.0.0.1", 0), Own) as server:
        server.handle_request()
    assert timed_out == [True]


def test_serve_forever_can_be_called_again(serve: Any) -> None:
    for server_class in (hangup.HTTPServer, hangup.ThreadingHTTPServer):
        server = server_class(("127.0.0.1", 0), Own)
        for _ in range(2):
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with Peer(server.server_address) as peer:
                assert peer.get("/").response()[0].status == 200
                server.shutdown()
                assert peer.read_to_end() == b""  # an idle connection closes
            thread.join()
        server.server_close()


def test_shutdown_lets_requests_in_progress_finish(serve: Any) -> None:
    entered, go = threading.Semaphore(0), threading.Semaphore(0)

    class Handler(hangup.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            entered.release()
            assert go.acquire(timeout=PATIENCE)
            answer(self)

    class Server(socketserver.ThreadingMixIn, hangup.HTTPServer):
        """With block_on_close, and threads that are no daemons: server_close waits."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with Peer(server.server_address) as peer:
        peer.get("/")
        assert entered.acquire(timeout=PATIENCE)
        server.shutdown()
        thread.join()
        closer = threading.Thread(target=server.server_close)
        closer.start()
        go.release()
        assert peer.response()[1] == b"ok"
        assert peer.read_to_end() == b""
        closer.join()


def test_server_close_does_not_wait_for_daemons() -> None:
    entered, go = threading.Semaphore(0), threading.Semaphore(0)

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            entered.release()
            assert go.acquire(timeout=PATIENCE)
            answer(self)

    server = hangup.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with Peer(server.server_address) as peer:
        peer.get("/")
        assert entered.acquire(timeout=PATIENCE)
        server.shutdown()
        thread.join()
        server.server_close()
        go.release()
        assert peer.response()[1] == b"ok"  # it still finishes, on its own


def test_a_port_in_use_is_an_oserror_and_leaks_nothing() -> None:
    with hangup.HTTPServer(("127.0.0.1", 0), Own) as server:
        with pytest.raises(OSError) as error:
            hangup.HTTPServer(server.server_address, Own)
        assert error.value.errno == errno.EADDRINUSE
        assert f"127.0.0.1:{server.server_port}" in str(error.value)


def test_an_address_as_people_write_it() -> None:
    for address, text in [(("", 80), "*:80"), (("::1", 80, 0, 0), "[::1]:80"), ("/run/x", "/run/x")]:
        assert shown(address) == text


def test_a_unix_socket(serve: Any, tmp_path: Any) -> None:
    class Server(socketserver.ThreadingMixIn, hangup.HTTPServer):
        address_family = socket.AF_UNIX
        daemon_threads = True

        def server_bind(self) -> None:
            socketserver.TCPServer.server_bind(self)

    serving = serve(Own, Server, address=str(tmp_path / "socket"))
    assert serving.get()[0] == 200
    assert serving.record().client == ""


def test_ipv6(serve: Any) -> None:
    class Server(hangup.ThreadingHTTPServer):
        address_family = socket.AF_INET6

    try:
        serving = serve(Own, Server, address=("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with socket.create_connection(serving.address[:2]) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(15).startswith(b"HTTP/1.1 200")
    assert serving.record().client == "::1"


def test_the_request_is_a_real_socket(serve: Any, base: Any) -> None:
    seen: list[Any] = []

    class Handler(base):
        def do_GET(self) -> None:
            seen.append(isinstance(self.request, socket.socket))
            seen.append(self.connection is self.request)
            seen.append(self.request.getpeername() == self.client_address)
            seen.append(os.fstat(self.request.fileno()) is not None)
            self.request.settimeout(5)
            seen.append(self.request.gettimeout() == 5)
            self.request.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            self.request.send(b"by ")
            with self.request.makefile("w", newline="\n") as text:
                text.write("hand")
            self.close_connection = True

    assert serve(Handler).get() == (200, b"by hand")
    assert seen == [True] * 5


def test_a_handler_may_take_its_socket_away(serve: Any) -> None:
    taken: list[socket.socket] = []
    ready = threading.Semaphore(0)

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            taken.append(socket.socket(fileno=self.request.detach()))
            ready.release()

    serving = serve(Handler)
    with serving.connect() as peer:
        peer.get("/")
        assert ready.acquire(timeout=PATIENCE)
        with taken[0] as sock:
            sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nmine")
        assert peer.response()[1] == b"mine"
    until(lambda: serving.connections() == 0, "the server has let go of it")


def test_handlers_that_speak_no_http_get_the_standard_librarys_server() -> None:
    from hangup.httpserver.server import TCPServer

    class Shout(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline().upper())

    with TCPServer(("127.0.0.1", 0), Shout) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with Peer(server.server_address) as peer:
            assert peer.send(b"hello\n").read_to_end() == b"HELLO\n"
        server.shutdown()
        thread.join()


def test_sinks_get_each_record_and_their_failures_hurt_nobody(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    records: list[Any] = []

    def broken(record: Any) -> None:
        raise ZeroDivisionError

    serving = serve(Own, sinks=[broken, records.append])
    assert serving.get()[0] == 200
    until(lambda: len(records) == 1, "the second sink is told")
    assert "a sink failed" in caplog.text
    record = records[0]
    assert (record.client, record.method, record.target) == ("127.0.0.1", "GET", "/")
    assert record.protocol == "HTTP/1.1"
    assert record.outcome is Outcome.COMPLETED
    assert record.bytes_out > record.body_out > 0
    assert abs(record.began - time.time()) < 60
    assert 0 <= record.queued <= record.took < 60
    assert record.disconnected_at is None


def test_config_sets_limits(serve: Any) -> None:
    serving = serve(Own, config=Config(max_request_header_size=256))
    with serving.connect() as peer:
        assert peer.get("/", "X: " + "a" * 300).response()[0].status == 431


def test_accepting_pauses_when_no_descriptor_is_left(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError(errno.EMFILE, "Too many open files"), OSError(errno.ECONNABORTED, "gone")]

    class Server(hangup.ThreadingHTTPServer):
        def get_request(self) -> Any:
            if failures:
                raise failures.pop()
            return super().get_request()

    serving = serve(Own, Server)
    assert serving.get()[0] == 200
    assert "accepting pauses" in caplog.text


@pytest.mark.parametrize("where", ["listener", "get_request"])
def test_tls_as_programs_add_it_to_http_server(
    serve: Any, base: Any, certificate: Certificates, where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.rsa.both)

    class Server(hangup.ThreadingHTTPServer):
        def server_activate(self) -> None:
            super().server_activate()
            if where == "listener":
                self.socket = context.wrap_socket(self.socket, server_side=True)

        def get_request(self) -> Any:
            request, address = super().get_request()
            if where == "get_request":
                request = context.wrap_socket(request, server_side=True)
            return request, address

    serving = serve(handler_for(base), Server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for _ in range(2):
        with client.wrap_socket(socket.create_connection(serving.address)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
    assert "Traceback" not in capfd.readouterr().err


def test_a_finish_that_takes_its_time_does_not_stop_the_watch(serve: Any, base: Any) -> None:
    entered, go = threading.Semaphore(0), threading.Semaphore(0)

    class Handler(handler_for(base)):
        def finish(self) -> None:
            super().finish()
            entered.release()
            assert go.acquire(timeout=PATIENCE)

    serving = serve(Handler)
    with serving.connect() as other:
        assert other.get("/").response()[0].status == 200
        peer = serving.connect()
        assert peer.get("/").response()[0].status == 200
        peer.fin()
        assert entered.acquire(timeout=PATIENCE)
        assert other.get("/").response()[0].status == 200
    assert entered.acquire(timeout=PATIENCE)
    for _ in range(2):
        go.release()
    until(lambda: serving.connections() == 0, "both have ended")


def own_threads(server_class: Any) -> Any:
    """A server whose program decides on threads itself: one thread keeps a connection."""

    class Server(server_class):
        def process_request(self, request: Any, client_address: Any) -> None:
            super().process_request(request, client_address)

    return Server


@pytest.mark.parametrize("server_class", [hangup.HTTPServer, hangup.ThreadingHTTPServer])
def test_departures_and_exceptions_on_connections_that_a_thread_keeps(
    serve: Any, base: Any, server_class: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    class Handler(handler_for(base)):
        def do_PUT(self) -> None:
            self.wfile.write(bytes(1 << 24))

        def do_PATCH(self) -> None:
            raise ZeroDivisionError

    class Server(own_threads(server_class)):  # type: ignore[misc]
        def handle_error(self, *args: Any) -> None:
            super().handle_error(*args)
            if isinstance(sys.exc_info()[1], ZeroDivisionError):
                reported.set()

    reported = threading.Event()
    serving = serve(Handler, Server)
    for _ in range(5):
        peer = serving.connect().send(b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.read(100)
        peer.rst()
    serving.connect().rst()
    serving.connect().fin()
    with serving.connect() as peer:
        peer.get("/").half_close()
        assert b"200 OK" in peer.read_to_end()
    assert serving.get()[0] == 200
    assert "Traceback" not in capfd.readouterr().err
    with serving.connect() as peer:
        peer.send(b"PATCH / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.response()[0].status == 500
    assert serving.get()[0] == 200
    # By another thread than that of the last request. What is captured is read once: reading takes it
    # away, and what is written meanwhile with it.
    assert reported.wait(PATIENCE)
    said = capfd.readouterr().err
    assert "ZeroDivisionError\n" in said
    assert said.count("Traceback") == 1


@pytest.mark.parametrize("way", ["own threads", "handle_request"])
def test_finish_request_of_a_programs_own_is_called_once_for_a_kept_connection(
    base: Any, way: str
) -> None:
    calls: list[str] = []

    class Server(own_threads(hangup.ThreadingHTTPServer)):
        def finish_request(self, request: Any, client_address: Any) -> None:
            calls.append("finish_request")
            super().finish_request(request, client_address)

    with Server(("127.0.0.1", 0), handler_for(base)) as server:
        peer = Peer(server.server_address).get("/", "Connection: close")
        if way == "handle_request":
            server.handle_request()
        else:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
        assert peer.response()[0].status == 200
        peer.fin()
        if way != "handle_request":
            server.shutdown()
            thread.join()
    assert calls == ["finish_request"]


def test_a_forking_server_answers_in_its_children(base: Any) -> None:
    import subprocess
    import sys

    module = "hangup" if base is hangup.BaseHTTPRequestHandler else "http.server"
    # In a process of its own: this one has threads.
    source = f"""
import http.server, socketserver, threading, urllib.request
import hangup
class Handler({module}.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"forked")
    def log_message(self, *args): pass
class Server(socketserver.ForkingMixIn, hangup.HTTPServer): pass
with Server(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    for _ in range(3):
        print(urllib.request.urlopen("http://127.0.0.1:%d/" % server.server_port).read().decode())
    server.shutdown()
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source], capture_output=True, text=True
    )
    assert result.stdout == "forked\n" * 3, result.stderr


def test_a_handle_error_that_raises_costs_one_connection(
    serve: Any, base: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Server(hangup.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            raise ValueError

    class Handler(handler_for(base)):
        def do_PUT(self) -> None:
            raise ZeroDivisionError

    serving = serve(Handler, Server)
    with serving.connect() as peer:
        peer.send(b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.response()[0].status == 500
        assert peer.read_to_end() == b""
    assert serving.get()[0] == 200
    assert "while an exception was handled" in caplog.text


def test_a_broken_access_log_costs_nothing(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_record: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("hangup.httpserver.server.log_access", broken)
    serving = serve(Own, config=Config(request_header_timeout=0.05))
    for _ in range(3):
        assert serving.get()[0] == 200
    with serving.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\n")
        assert peer.response()[0].status == 408
    assert serving.get()[0] == 200
    assert "the access log failed" in caplog.text


def test_a_hook_that_exits_does_not_end_the_watch(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Server(hangup.ThreadingHTTPServer):
        exits = 2

        def verify_request(self, request: Any, client_address: Any) -> bool:
            if self.exits:
                self.exits -= 1
                raise SystemExit
            return True

    serving = serve(Own, Server)
    for _ in range(2):
        with serving.connect() as peer:
            assert peer.read_to_end() == b""
    assert serving.get()[0] == 200


def test_closing_does_not_wait_for_a_connection_that_its_handler_took_away() -> None:
    taken: list[socket.socket] = []

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            taken.append(socket.socket(fileno=self.request.detach()))

    class Server(socketserver.ThreadingMixIn, hangup.HTTPServer):
        """server_close waits."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with Peer(server.server_address) as peer:
        peer.get("/")
        until(lambda: taken, "it is taken")
        server.shutdown()
        thread.join()
        server.server_close()
        taken[0].close()


def test_a_process_wide_default_timeout_changes_nothing(serve: Any, base: Any) -> None:
    class Handler(handler_for(base)):
        def do_POST(self) -> None:
            answer(self, self.rfile.read(int(self.headers["Content-Length"])))

    serving = serve(Handler)
    socket.setdefaulttimeout(0.05)
    try:
        with serving.connect() as peer:
            peer.sock.settimeout(PATIENCE)
            assert peer.get("/").response()[0].status == 200
            peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
            threading.Event().wait(0.2)  # four default time-outs
            assert peer.send(b"cd").response()[1] == b"abcd"
    finally:
        socket.setdefaulttimeout(None)


def test_shutting_down_under_load_leaves_no_thread_in_accept() -> None:
    for _ in range(5):
        server = hangup.ThreadingHTTPServer(("127.0.0.1", 0), Own)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stop = threading.Event()

        def knock(address: Any = server.server_address, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                try:
                    socket.create_connection(address, PATIENCE).close()
                except OSError:
                    return

        knocking = [threading.Thread(target=knock) for _ in range(2)]
        for one in knocking:
            one.start()
        until(lambda: server._engine and server._engine.workers.thread_count, "it serves")  # noqa: B023
        server.shutdown()
        thread.join()
        server.server_close()
        stop.set()
        for one in knocking:
            one.join()
