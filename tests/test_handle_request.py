"""``handle_request()``: one request at each call, whatever else is connected."""

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Peer, answer, until

SERVERS = [hangup.HTTPServer, hangup.ThreadingHTTPServer]


class Recorder:
    protocol_version = "HTTP/1.1"
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/exit":  # type: ignore[attr-defined]
            raise SystemExit(3)
        if self.path == "/raise":  # type: ignore[attr-defined]
            raise RuntimeError
        answer(self, self.path.encode())  # type: ignore[attr-defined]

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def handler(base: Any) -> Any:
    return type("H", (Recorder, base), {"seen": []})


@pytest.fixture
def make(handler: Any) -> Iterator[Callable[..., Any]]:
    """Make servers that are closed at the end, and whose `timeout` fails a test that waits in vain."""
    made: list[Any] = []

    def make(kind: Any = hangup.HTTPServer, /, **own: Any) -> Any:
        own.setdefault("timeout", PATIENCE)
        own.setdefault("timeouts", 0)
        own.setdefault("handle_timeout", note_timeout)
        server = type(kind.__name__, (kind,), own)(("127.0.0.1", 0), handler)
        made.append(server)
        return server

    yield make
    for server in made:
        server.server_close()


def note_timeout(self: Any) -> None:
    self.timeouts += 1


@contextlib.contextmanager
def calling(server: Any, times: int = 1) -> Iterator[None]:
    """Meanwhile another thread calls it."""

    def call() -> None:
        for _ in range(times):
            server.handle_request()

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive(), "handle_request() has not returned"


def connections(server: Any) -> int:
    loop = server._engine.loop
    return int(loop.opened - loop.gone)


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("begun", [b"", b"GET /nev"], ids=["silent", "half a request"])
def test_connections_that_say_nothing_keep_nobody_waiting(make: Any, kind: Any, begun: bytes) -> None:
    """Browsers open some in advance."""
    server = make(kind)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Peer(server.server_address)).send(begun)
        with calling(server), Peer(server.server_address) as peer:
            assert peer.get("/", "Connection: close").response()[1] == b"/"
    assert server.timeouts == 0


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("timeout", [0, 0.05])
def test_it_gives_up_after_its_timeout_and_says_so(make: Any, kind: Any, timeout: float) -> None:
    server = make(kind, timeout=timeout)
    with Peer(server.server_address):
        for count in (1, 2):
            server.handle_request()
            assert server.timeouts == count


@pytest.mark.parametrize("own", [None, PATIENCE])
def test_the_sockets_time_out_counts_if_it_is_less(make: Any, own: float | None) -> None:
    server = make(timeout=own)
    server.socket.settimeout(0.05)
    for count in (1, 2):
        server.handle_request()
        assert server.timeouts == count
    server.timeout = 0.01
    server.socket.settimeout(PATIENCE)
    server.handle_request()
    assert server.timeouts == 3


@pytest.mark.parametrize("kind", SERVERS)
def test_a_loop_without_patience_serves_who_connects(make: Any, handler: Any, kind: Any) -> None:
    """As programs do that have other things to do: ``timeout = 0``, and call again."""
    server = make(kind, timeout=0)
    with Peer(server.server_address) as peer:
        for number in range(3):
            peer.get(f"/{number}")
            until(lambda: server.handle_request() or len(handler.seen) > number, "served")  # noqa: B023
            assert peer.response()[1] == b"/%d" % number


@pytest.mark.parametrize("kind", SERVERS)
def test_each_call_serves_one_request(make: Any, handler: Any, kind: Any) -> None:
    server = make(kind)
    peers = [Peer(server.server_address).get(f"/{number}", "Connection: close") for number in range(3)]
    for number in range(3):
        server.handle_request()
        assert peers[number].response()[1] == b"/%d" % number
        assert handler.seen == [f"/{number}" for number in range(number + 1)]
        peers[number].fin()


def test_a_connection_is_kept_over_several_calls(make: Any, handler: Any) -> None:
    server = make()
    with Peer(server.server_address) as peer, Peer(server.server_address) as other:
        for number in range(4):
            (other if number == 2 else peer).get(f"/{number}")
            server.handle_request()
            assert (other if number == 2 else peer).response()[1] == b"/%d" % number
    assert handler.seen == [f"/{number}" for number in range(4)]


def test_a_thread_keeps_its_connection_on_a_threading_server(make: Any, handler: Any) -> None:
    """As ThreadingMixIn has it: no other call is needed for what follows on it."""
    server = make(hangup.ThreadingHTTPServer)
    with calling(server), Peer(server.server_address) as peer:
        for number in range(3):
            assert peer.get(f"/{number}").response()[1] == b"/%d" % number
    assert handler.seen == ["/0", "/1", "/2"]


@pytest.mark.parametrize("kind", SERVERS)
def test_who_waits_for_the_listening_socket_first_is_told_of_each_request(
    make: Any, handler: Any, kind: Any
) -> None:
    """A connection that was accepted is none that the program could wait for."""
    server = make(kind, timeout=0)

    def served(count: int) -> None:
        while len(handler.seen) < count:
            assert select.select([server], [], [], PATIENCE)[0], "the socket is not ready"
            server.handle_request()
            if kind is hangup.ThreadingHTTPServer:
                until(
                    lambda: len(handler.seen) == count or not server._steps._started[-1].is_alive(), ""
                )

    with Peer(server.server_address) as peer:
        served_before = len(handler.seen)
        peer.get("/0")
        served(1)
        assert (served_before, peer.response()[1]) == (0, b"/0")
        if kind is hangup.HTTPServer:
            for number in (1, 2):
                peer.get(f"/{number}")
                served(number + 1)
                assert peer.response()[1] == b"/%d" % number


def test_a_request_that_comes_between_two_calls_asks_no_hook(make: Any, handler: Any) -> None:
    asked: list[Any] = []
    server = make(verify_request=lambda _self, _request, address: asked.append(address) or True)
    with Peer(server.server_address) as peer:
        for number in range(3):
            peer.get(f"/{number}")
            until(lambda: server._steps is None or server._steps._workers.waiting, "it waits")
            server.handle_request()
            peer.response()
        with calling(server), Peer(server.server_address) as other:
            other.get("/").response()
            assert asked == [peer.sock.getsockname(), other.sock.getsockname()]


@pytest.mark.parametrize("kind", SERVERS)
def test_an_exception_is_reported_and_the_next_call_serves(make: Any, kind: Any) -> None:
    reported: list[Any] = []
    server = make(kind, handle_error=lambda *_: reported.append(1))
    for path, status in (("/raise", 500), ("/", 200)):
        with calling(server), Peer(server.server_address) as peer:
            assert peer.get(path, "Connection: close").response()[0].status == status
    assert reported == [1]


def test_system_exit_ends_the_program_that_calls(make: Any) -> None:
    server = make()
    with Peer(server.server_address) as peer:
        peer.get("/exit")
        with pytest.raises(SystemExit) as exit_:
            server.handle_request()
        assert exit_.value.code == 3
        assert peer.response()[0].status == 500
    with Peer(server.server_address) as peer:
        peer.get("/")
        server.handle_request()
        assert peer.response()[1] == b"/"


def test_system_exit_in_a_thread_ends_the_thread(make: Any) -> None:
    server = make(hangup.ThreadingHTTPServer)
    for path, status in (("/exit", 500), ("/", 200)):
        with calling(server), Peer(server.server_address) as peer:
            assert peer.get(path, "Connection: close").response()[0].status == status


@pytest.mark.parametrize("kind", SERVERS)
def test_handle_request_then_serve_forever_and_again(make: Any, kind: Any) -> None:
    server = make(kind)
    for path in ("/a", "/b"):
        with calling(server), Peer(server.server_address) as peer:
            assert peer.get(path, "Connection: close").response()[1] == path.encode()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for _ in range(2):
            with Peer(server.server_address) as peer:
                assert peer.get("/c").response()[1] == b"/c"
        server.shutdown()
        thread.join()


def test_an_idle_connection_of_a_call_ends_when_serve_forever_takes_over(make: Any) -> None:
    server = make()
    with Peer(server.server_address) as peer:
        peer.get("/")
        server.handle_request()
        peer.response()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert peer.read_to_end() == b""
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", SERVERS)
def test_server_close_ends_the_connections_and_a_call_that_waits(make: Any, kind: Any) -> None:
    server = make(kind, timeout=None)
    with Peer(server.server_address) as silent, calling(server):
        until(lambda: server._engine is not None and connections(server) == 1, "the call waits")
        server.server_close()
        assert silent.read_to_end() == b""
    assert server.timeouts == 0


@pytest.mark.parametrize("kind", SERVERS)
def test_a_call_on_a_closed_server_fails_as_ever(make: Any, kind: Any) -> None:
    server = make(kind)
    server.server_close()
    with pytest.raises((ValueError, OSError)):
        server.handle_request()


def test_server_close_between_calls_frees_the_port(make: Any, handler: Any) -> None:
    server = make()
    with calling(server), Peer(server.server_address) as peer:
        peer.get("/").response()
    server.server_close()
    with hangup.HTTPServer(server.server_address, handler) as other:
        other.timeout = PATIENCE
        with calling(other), Peer(other.server_address) as peer:
            assert peer.get("/").response()[1] == b"/"


@pytest.mark.parametrize("kind", SERVERS)
def test_several_threads_may_call_at_once(make: Any, handler: Any, kind: Any) -> None:
    server = make(kind)
    with calling(server, 2), calling(server, 2), calling(server, 2):
        for number in range(6):
            with Peer(server.server_address) as peer:
                assert peer.get(f"/{number}", "Connection: close").response()[1] == b"/%d" % number
    assert len(handler.seen) == 6


def test_a_process_request_of_the_programs_own_is_called(make: Any) -> None:
    called: list[Any] = []

    def process_request(self: Any, request: Any, address: Any) -> None:
        called.append(address)
        super(type(self), self).process_request(request, address)

    server = make(process_request=process_request)
    for _ in range(2):
        with calling(server), Peer(server.server_address) as peer:
            assert peer.get("/", "Connection: close").response()[1] == b"/"
    assert len(called) == 2


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("how", ["the listener", "get_request"])
def test_tls(make: Any, kind: Any, how: str, certificate: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.rsa.both)
    own: dict[str, Any] = {}
    if how == "get_request":

        def get_request(self: Any) -> Any:
            sock, address = self.socket.accept()
            return context.wrap_socket(sock, server_side=True), address

        own["get_request"] = get_request
    server = make(kind, **own)
    if how == "the listener":
        server.socket = context.wrap_socket(server.socket, server_side=True)
    trusting = ssl.create_default_context(cafile=certificate.rsa.cert)
    for _ in range(2):
        with (
            calling(server),
            socket.create_connection(server.server_address, PATIENCE) as plain,
            trusting.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(b"GET /tls HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            got = b"".join(iter(lambda: sock.recv(4096), b""))
        assert got.endswith(b"/tls")
    assert server.timeouts == 0


def test_a_get_request_of_ones_own_before_serve_forever_leaves_nothing(make: Any) -> None:
    server = make(
        hangup.ThreadingHTTPServer, get_request=lambda self: super(type(self), self).get_request()
    )
    with calling(server), Peer(server.server_address) as peer:
        assert peer.get("/").response()[1] == b"/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with Peer(server.server_address) as peer:
        assert peer.get("/").response()[1] == b"/"
    server.shutdown()
    thread.join()


def test_a_unix_socket(handler: Any, tmp_path: Any) -> None:
    class Unix(hangup.HTTPServer):
        address_family = socket.AF_UNIX
        timeout = PATIENCE

    path: Any = str(tmp_path / "s")
    with Unix(path, handler) as server, Peer(path), Peer(path) as peer:
        for number in range(2):
            peer.get(f"/{number}")
            server.handle_request()
            assert peer.response()[1] == b"/%d" % number
