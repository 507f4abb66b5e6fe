"""When a response counts as delivered: at each moment at which its client may reset, and be found out.

The definition stands in docs/departures.md.  Nothing here is left to luck: the call that sends is
stopped before and behind the kernel's part of it, and goes on when the event loop has noted what the
client did.
"""

import http.server
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Certificates, Peer, hand_over_always, pure, until
from hangup import ClientState, Config, Outcome, Phase
from hangup._connection import output as _sender
from hangup._connection import tls_transport as _tls_transport
from hangup._connection import transport as _transport
from hangup._connection.connection import Connection
from hangup._connection.transport import Transport
from hangup._system.poller import GONE, bytes_queued

pytestmark = pure

# tcpi_state of a connection that was reset (linux/tcp.h).
TCP_CLOSE = 7


class Moment:
    """Runs ``act`` once, at a moment in the sending of the response's last bytes."""

    def __init__(self, when: str, last: Callable[[bytes], bool], act: Callable[[Any], None]) -> None:
        self.when = when
        self._last = last
        self._act = act
        self._done = threading.Event()

    def at(self, when: str, sock: Any, data: bytes | None = None) -> None:
        is_last = data is None or self._last(bytes(data))
        if when == self.when and is_last and not self._done.is_set() and isinstance(sock, socket.socket):
            self._done.set()
            self._act(sock.connection)  # type: ignore[attr-defined]


def intercept(monkeypatch: pytest.MonkeyPatch, moment: Moment) -> None:
    send, end = socket.socket.send, Connection.end_exchange

    def sending(sock: Any, data: Any, *flags: int) -> int:
        moment.at("before the kernel takes the last byte", sock, data)
        sent = send(sock, data, *flags)
        moment.at("before the last byte is counted", sock, data)
        return sent

    def ending(connection: Any, **options: Any) -> None:
        moment.at("before the request ends", connection.sock)
        end(connection, **options)

    monkeypatch.setattr(_sender, "_send", sending)
    monkeypatch.setattr(_transport, "_send", sending)
    monkeypatch.setattr(_tls_transport, "_send", sending)
    monkeypatch.setattr(Connection, "end_exchange", ending)


# -- the ways to respond: an application or a handler, and which data is the last that it sends


def in_one(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "3")])
    return [b"END"]


def in_pieces(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Length", "9")])
    return (piece for piece in (b"first ", b"END"))


def in_chunks(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    return (piece for piece in (b"first ", b"second"))


def large(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "100003")])
    return [bytes(100_000) + b"END"]


def handler_of(base: Any, *, length: bool) -> Any:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            if length:
                self.send_header("Content-Length", "3")
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"END")

    return Handler


def ends(data: bytes) -> bool:
    return data.endswith((b"END", b"\r\n0\r\n\r\n")) or data == b"0\r\n\r\n"


#: By name: what responds, and whether something was sent before the last bytes.
WAYS: dict[str, tuple[Any, bool]] = {
    "wsgi, one block": (in_one, False),
    "wsgi, pieces": (in_pieces, True),
    "wsgi, chunks": (in_chunks, True),
    "wsgi, large": (large, True),
    "own handler": (handler_of(hangup.BaseHTTPRequestHandler, length=True), False),
    "own handler, no length": (handler_of(hangup.BaseHTTPRequestHandler, length=False), False),
    "stock handler": (handler_of(http.server.BaseHTTPRequestHandler, length=True), False),
    "stock handler, no length": (handler_of(http.server.BaseHTTPRequestHandler, length=False), False),
}


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest, serve: Any, serve_app: Any) -> Any:
    respond, is_second = WAYS[request.param]
    serving = serve_app(respond) if request.param.startswith("wsgi") else serve(respond)
    engine = until(
        lambda: serving.server.engine if hasattr(serving.server, "engine") else serving.engine, ""
    )
    # Handlers count as slow: while one runs, another thread turns the event loop, and notes what comes.
    hand_over_always(engine.workers)
    return serving, is_second


def is_reset(connection: Any) -> bool:
    info = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return bool(info[0] == TCP_CLOSE)


def reset(peer: Peer, connection: Any, *, noted: bool) -> None:
    peer.rst()
    until(lambda: is_reset(connection), "the reset has come")
    if noted:
        connection.loop.register(connection)
        until(lambda: connection.peer.state is ClientState.GONE, "the event loop has noted it")


SENT = ["before the last byte is counted", "before the request ends"]


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "not noted"])
@pytest.mark.parametrize("when", SENT)
def test_who_resets_when_it_has_its_whole_response_did_not_leave(
    way: Any, monkeypatch: pytest.MonkeyPatch, when: str, noted: bool
) -> None:
    serving, _ = way

    def read_and_reset(connection: Any) -> None:
        data = b""
        while not ends(data):
            data += peer.sock.recv(1 << 20)
        reset(peer, connection, noted=noted)

    peer = serving.connect()
    intercept(monkeypatch, Moment(when, ends, read_and_reset))
    peer.get("/")
    record = serving.record()
    assert (record.status, record.outcome, record.phase) == (200, Outcome.COMPLETED, Phase.COMPLETE)
    assert record.disconnected_at is None
    assert record.wasted == 0
    assert record.body_out >= 3


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "not noted"])
def test_who_resets_before_the_kernel_has_the_last_byte_left(
    way: Any, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    serving, is_second = way
    peer = serving.connect()
    intercept(
        monkeypatch,
        Moment("before the kernel takes the last byte", ends, lambda c: reset(peer, c, noted=noted)),
    )
    peer.get("/")
    record = serving.record()
    assert record.outcome is Outcome.DISCONNECTED
    if is_second:
        assert (record.status, record.phase) == (200, Phase.RESPONSE)
    else:
        assert (record.status, record.phase) == (499, Phase.HANDLER)
        assert (record.bytes_out, record.body_out) == (0, 0)
    assert len(serving.records) == 1


def test_what_is_sent_behind_a_fin_to_nobody_is_no_part_of_a_499(
    way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 499 with a body's size would contradict itself: its client left before its response began."""
    serving, is_second = way

    def leave(connection: Any) -> None:
        peer.fin()
        connection.loop.register(connection)
        until(lambda: connection.peer.state is not ClientState.OPEN, "the event loop has noted it")

    peer = serving.connect()
    first = (lambda data: True) if not is_second else (lambda data: data.startswith(b"HTTP/1.1 200"))
    intercept(monkeypatch, Moment("before the kernel takes the last byte", first, leave))
    peer.get("/")
    record = serving.record()
    assert record.outcome is Outcome.DISCONNECTED
    # The call that sends had begun, so that its response counts as begun; or it had not.
    assert (record.status, record.body_out) == (499, 0) or record.phase is Phase.RESPONSE


def test_who_sent_fin_reads_its_whole_response_and_resets_did_not_leave(
    way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, _ = way

    def read_and_reset(connection: Any) -> None:
        peer.half_close()
        connection.loop.register(connection)
        until(lambda: connection.peer.state is ClientState.EOF, "the event loop has noted it")
        data = b""
        while not ends(data):
            data += peer.sock.recv(1 << 20)
        until(lambda: not bytes_queued(connection.sock), "it is acknowledged")
        reset(peer, connection, noted=True)

    peer = serving.connect()
    intercept(monkeypatch, Moment("before the request ends", ends, read_and_reset))
    peer.get("/")
    record = serving.record()
    assert (record.status, record.outcome) == (200, Outcome.COMPLETED)


def test_who_reads_a_part_of_what_is_in_the_kernel_and_resets_left(serve_app: Any) -> None:
    """The kernel takes megabytes at once; what nobody has acknowledged nobody has read."""
    begun, proceed = threading.Semaphore(0), threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "1500000")])
        yield bytes(1_500_000)
        begun.release()
        assert proceed.acquire(timeout=PATIENCE)

    serving = serve_app(app)
    peer = Peer(serving.server.address)
    peer.get("/")
    assert begun.acquire(timeout=PATIENCE)
    (connection,) = [one for one, _ in serving.server.engine.in_progress()]
    reset(peer, connection, noted=True)
    proceed.release()
    record = serving.record()
    assert (record.status, record.outcome, record.phase) == (200, Outcome.DISCONNECTED, Phase.RESPONSE)


# Not noted in the middle of the call that sends: that holds the lock which the event loop needs.
@pytest.mark.parametrize(("when", "noted"), [(SENT[0], False), (SENT[1], False), (SENT[1], True)])
@pytest.mark.parametrize("kind", ["wsgi", "stock"])
def test_over_tls_too(
    serve: Any,
    serve_app: Any,
    certificate: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    when: str,
    noted: bool,
) -> None:
    files = certificate.ecdsa
    if kind == "wsgi":
        serving = serve_app(in_one, certfile=files.cert, keyfile=files.key)
        engine, address = serving.server.engine, serving.server.address
    else:
        handler = handler_of(http.server.BaseHTTPRequestHandler, length=True)
        serving = serve(handler, hangup.ThreadingHTTPSServer, certfile=files.cert, keyfile=files.key)
        engine, address = serving.engine, serving.address
    hand_over_always(engine.workers)
    peer = Peer(address)
    context = ssl.create_default_context(cafile=files.cert)
    peer.sock = context.wrap_socket(peer.sock, server_hostname="localhost")

    def read_and_reset(connection: Any) -> None:
        if connection.exchange is None or not connection.transport.established:
            return
        data = b""
        while not ends(data):
            data += peer.sock.recv(65536)
        reset(peer, connection, noted=noted)

    got_response = [False]

    def is_response(data: bytes) -> bool:
        (connection,) = [one for one, _ in engine.in_progress()] or [None]
        got_response[0] = connection is not None and connection.exchange.status == 200
        return got_response[0] and (kind == "wsgi" or len(data) > 3)

    intercept(monkeypatch, Moment(when, is_response, read_and_reset))
    peer.get("/")
    record = serving.record()
    assert (record.status, record.outcome) == (200, Outcome.COMPLETED)


def test_the_record_of_who_closed_waits_for_no_deadline(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides have closed before the connection is the event loop's: nobody tells of that again."""
    shut = Transport.shut

    def shutting(transport: Any, how: int, **options: bool) -> None:
        shut(transport, how, **options)
        until(lambda: transport.link.pending & GONE, "the event loop has seen both FINs")

    def close(connection: Any) -> None:
        assert peer.read_until(b"END")
        peer.fin()
        connection.loop.register(connection)
        until(lambda: connection.peer.state is ClientState.EOF, "the event loop has seen the FIN")

    handler = handler_of(hangup.BaseHTTPRequestHandler, length=False)
    serving = serve(handler, config=Config(linger_timeout=6 * PATIENCE, linger_time=6 * PATIENCE))
    hand_over_always(serving.engine.workers)
    peer = serving.connect()
    intercept(monkeypatch, Moment("before the request ends", ends, close))
    monkeypatch.setattr(Transport, "shut", shutting)
    peer.get("/")
    record = serving.record()
    assert (record.status, record.outcome) == (200, Outcome.COMPLETED)


# -- a log of the program's own


def test_a_log_request_of_ones_own_is_the_whole_log(serve: Any, base: Any, caplog: Any) -> None:
    caplog.set_level("INFO", "hangup.access")
    lines: list[tuple[str, Any]] = []

    class Handler(base):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            lines.append((self.path, int(code)))

    serving = serve(Handler)
    for number in range(5):
        with serving.connect() as peer:
            peer.get(f"/{number}")
            assert peer.read_to_end().endswith(b"ok")
    serving.wait_for_records(5)
    assert lines == [(f"/{number}", 200) for number in range(5)]
    assert not [one for one in caplog.records if one.name == "hangup.access"]


def test_a_half_closed_client_is_no_499_in_a_log_of_ones_own(serve: Any, base: Any) -> None:
    codes: list[int] = []

    class Handler(base):
        def do_GET(self) -> None:
            until(lambda: self.client.disconnected, "its FIN has come")
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            codes.append(int(code))

    serving = serve(Handler)
    engine = serving.engine
    gate = threading.Event()
    (listener,) = engine.loop.listeners._all
    accept = listener._accept

    def slowly(loop: Any) -> Any:
        gate.wait(PATIENCE)  # Its request and its FIN are there together.
        return accept(loop)

    listener._accept = slowly
    with serving.connect() as peer:
        peer.get("/").half_close()
        gate.set()
        assert peer.read_to_end().endswith(b"ok")
    serving.wait_for_records(1)
    assert codes == [200]
