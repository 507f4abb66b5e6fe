"""Departures over TLS: in the handshake, within TLS (close_notify), and below it."""

import socket
import ssl
import threading
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Certificates, Peer, descriptors, until
from hangup import ClientDisconnected, ClientState, DisconnectReason, Outcome, Phase
from hangup._connection.connection import Connection
from hangup._connection.state import State
from hangup._connection.tls_transport import TLSTransport
from tls_support import ANY, BIG, MANNERS, TLS_1_2, Door, TLSPeer, opener

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET_WAIT = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"
GET_HELD = b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"
TIMES = 10
VERSIONS = pytest.mark.parametrize("context", [ANY, TLS_1_2], ids=["TLS 1.3", "TLS 1.2"])


pytestmark = pytest.mark.usefixtures("nothing_is_said")


@pytest.fixture(params=["own", "stock", "wsgi", "stock, fallback", "wsgi, fallback"])
def door(
    request: pytest.FixtureRequest,
    serve: Any,
    serve_app: Any,
    certificate: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Open a door, by each of the ways in, and with the portable poller as well."""
    return opener(request.param, serve, serve_app, certificate, monkeypatch)


# -- in the handshake


def connected(peer: TLSPeer) -> None:
    pass


def in_its_hello(peer: TLSPeer) -> None:
    peer.raw.sendall(peer.sock.flight()[:60])


def after_the_servers_hello(peer: TLSPeer) -> None:
    peer.raw.sendall(peer.sock.flight())
    assert peer.sock.hear()


def in_its_last_word(peer: TLSPeer) -> None:
    peer.raw.sendall(peer.sock.last_flight()[:-1])


@pytest.mark.parametrize("manner", ["fin", "rst", "half_close"])
@pytest.mark.parametrize(
    "point",
    [connected, in_its_hello, after_the_servers_hello, in_its_last_word],
    ids=lambda point: point.__name__,
)
def test_leaving_in_the_handshake_costs_nothing(door: Any, point: Any, manner: str) -> None:
    opened = door()
    assert opened.get() == (200, b"ok")
    until(lambda: not opened.connections(), "the first connection has closed")
    before = descriptors()
    peers = []
    for _ in range(TIMES):
        peers.append(opened.connect(shake=False))
        point(peers[-1])
        getattr(peers[-1], manner)()
    until(lambda: not opened.connections(), "every connection has closed")
    for peer in peers:
        peer.fin()
    assert opened.get() == (200, b"ok")
    until(lambda: descriptors() <= before, "every descriptor is back")
    assert len(opened.records(2)) == 2, "there was no request"


def test_a_client_that_trusts_nobody_says_so_and_leaves(door: Any) -> None:
    """Its alert comes encrypted, in the middle of the handshake or behind it."""
    opened = door()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context()
        context.maximum_version = version
        with (
            socket.create_connection(opened.address) as raw,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            context.wrap_socket(raw, server_hostname="localhost")
    until(lambda: not opened.connections(), "they are closed")
    assert opened.get() == (200, b"ok")


@pytest.mark.parametrize("manner", ["half_close", "rst"])
def test_leaving_with_the_last_word_while_a_step_is_taken_is_noticed(
    door: Any, monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    """Its FIN is told of together with bytes, once; whoever reads the bytes must look behind them."""
    opened = door(handshake_timeout=60.0)
    parking, park = threading.Semaphore(0), threading.Semaphore(0)
    really_park = Connection.park

    def slowly(self: Connection, deadline: float) -> float | None:
        if not gated.is_set():
            gated.set()
            parking.release()
            assert park.acquire(timeout=PATIENCE)
        return really_park(self, deadline)

    gated = threading.Event()
    monkeypatch.setattr(Connection, "park", slowly)
    with opened.connect(shake=False) as peer:
        flight = peer.sock.last_flight()
        assert parking.acquire(timeout=PATIENCE)
        (connection,) = until(opened.connections, "it is watched")
        peer.raw.sendall(flight[:-1])
        getattr(peer, manner)()
        if opened.engine.loop.rearm is None:  # The portable poller is muted until then.
            until(lambda: connection.peer.state is not ClientState.OPEN, "the event loop has seen it")
        park.release()
        until(lambda: not opened.connections(), "it is closed")


@pytest.mark.parametrize("manner", ["half_close", "goodbye"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_half_closed_client_whose_requests_came_with_the_last_of_the_handshake_is_answered(
    door: Any, manner: str, number: int
) -> None:
    """All of it may come in one segment, the FIN included (``MSG_MORE``)."""
    opened = door()
    for _ in range(TIMES):
        with opened.connect(shake=False) as peer:
            data = peer.sock.last_flight() + peer.sock.encrypted(GET * number)
            if manner == "goodbye":
                peer.raw.sendall(data + peer.sock.goodbye())
            else:
                peer.raw.send(data, socket.MSG_MORE)
                peer.half_close()
            for _ in range(number):
                assert peer.response()[1] == b"ok"
            peer.end()
    records = opened.records(TIMES * number)
    assert {(record.status, record.outcome) for record in records} == {(200, Outcome.COMPLETED)}


# -- while a handler works


@VERSIONS
@pytest.mark.parametrize("manner", MANNERS)
def test_a_handler_is_told_at_once(door: Any, manner: str, context: ssl.SSLContext) -> None:
    opened = door()
    with opened.connect(context) as peer:
        # What a client has not read when it closes makes its kernel send RST: session tickets, too.
        assert peer.get("/").response()[1] == b"ok"
        peer.get("/wait")
        opened.stage.begun()
        peer.leave(manner)
        until(lambda: opened.stage.told, "it is told")
        assert opened.stage.told == [(True, ClientState.GONE if manner == "rst" else ClientState.EOF)]
        if manner == "goodbye":
            assert peer.response()[1] == b"ok", "it is there, and reads"
    record = opened.records(2)[1]
    if manner == "goodbye":
        assert (record.status, record.outcome) == (200, Outcome.COMPLETED)
    else:
        assert (record.status, record.outcome, record.phase) == (
            499,
            Outcome.DISCONNECTED,
            Phase.HANDLER,
        )


@pytest.mark.parametrize("number", [1, 3])
def test_requests_and_nonsense_in_one_piece_are_the_end_of_a_connection(door: Any, number: int) -> None:
    """Whether they are answered is nobody's business; but it ends, and not when it was idle for long."""
    opened = door()
    with opened.connect() as peer:
        assert peer.get("/").response()[1] == b"ok"
        until(lambda: opened.connections()[0].state is State.IDLE, "it is at rest")
        peer.raw.sendall(peer.sock.encrypted(GET * number) + b"\x17\x03\x03\x00\x20" + bytes(32))
        until(lambda: not opened.connections(), "it is closed")


def test_a_goodbye_that_came_in_one_piece_with_its_request_is_told_of(door: Any) -> None:
    opened = door()
    with opened.connect() as peer:
        assert peer.get("/").response()[1] == b"ok"
        until(lambda: opened.connections()[0].state is State.IDLE, "it is at rest")
        peer.raw.sendall(peer.sock.encrypted(GET_WAIT) + peer.sock.goodbye())
        opened.stage.begun()
        until(lambda: opened.stage.told, "the handler is told")
        assert opened.stage.told == [(True, ClientState.EOF)]


def test_after_a_request_and_a_goodbye_in_one_piece_the_connection_ends(door: Any) -> None:
    """And not only when it has been idle for long."""
    opened = door()
    with opened.connect() as peer:
        assert peer.get("/").response()[1] == b"ok"
        until(lambda: opened.connections()[0].state is State.IDLE, "it is at rest")
        peer.raw.sendall(peer.sock.encrypted(GET) + peer.sock.goodbye())
        assert peer.response()[1] == b"ok"
        peer.end()
    assert [record.status for record in opened.records(2)] == [200, 200]


@VERSIONS
def test_who_said_goodbye_and_reads_on_gets_its_whole_answer(door: Any, context: ssl.SSLContext) -> None:
    opened = door()
    with opened.connect(context) as peer:
        peer.get("/held/big")
        opened.stage.begun()
        (connection,) = until(opened.connections, "it is watched")
        peer.goodbye()
        until(lambda: connection.peer.state is ClientState.EOF, "the server has heard it")
        assert connection.peer.reason is DisconnectReason.FIN
        opened.stage.proceed.release()
        assert peer.response()[1] == BIG
        peer.end()
    (record,) = opened.records(1)
    assert (record.status, record.outcome, record.body_out) == (200, Outcome.COMPLETED, len(BIG))
    assert record.disconnected_at is not None


@pytest.mark.parametrize("manner", ["goodbye", "half_close"])
def test_who_said_so_in_any_way_and_reads_on_gets_the_answers_to_all_that_it_sent(
    door: Any, manner: str
) -> None:
    opened = door(linger_timeout=0.3)
    with opened.connect() as peer:
        peer.get("/held")
        opened.stage.begun()
        (connection,) = until(opened.connections, "it is watched")
        peer.send(GET * 100)
        getattr(peer, manner)()
        until(lambda: connection.peer.state is ClientState.EOF, "the server has heard it")
        opened.stage.proceed.release()
        for _ in range(101):
            assert peer.response()[1] == b"ok"
        peer.end()
    assert {record.outcome for record in opened.records(101)} == {Outcome.COMPLETED}


@pytest.mark.xfail(reason="a goodbye that is refused can't be told from an answer that is", strict=True)
def test_an_answer_that_ends_with_the_connection_ends_with_a_goodbye_for_who_said_so_itself(
    serve_app: Any, certificate: Certificates
) -> None:
    """Else its client could not tell it from one that was cut off (RFC 9112 §9.8)."""
    began, proceed = threading.Semaphore(0), threading.Semaphore(0)

    def app(_environ: Any, start_response: Any) -> Any:
        began.release()
        assert proceed.acquire(timeout=PATIENCE)
        start_response("200 OK", [])
        return iter([b"some", b"thing"])

    serving = serve_app(app, certfile=certificate.ecdsa.both)
    for manner in ("goodbye", "half_close"):
        with TLSPeer(serving.server.address) as peer:
            peer.send(b"GET / HTTP/1.0\r\n\r\n")
            assert began.acquire(timeout=PATIENCE)
            getattr(peer, manner)()
            entries = serving.server.engine.loop._entries
            until(
                lambda: any(
                    getattr(entry, "peer", None) and entry.peer.state is ClientState.EOF
                    for entry in list(entries.values())  # noqa: B023
                ),
                "the server has heard it",
            )
            proceed.release()
            assert peer.read_to_end().endswith(b"\r\n\r\nsomething"), "and no SSLEOFError"


def test_a_goodbye_behind_requests_that_nobody_has_read_yet_is_heard(door: Any) -> None:
    opened = door()
    with opened.connect() as peer:
        peer.get("/wait")
        opened.stage.begun()
        peer.send(GET * 500).goodbye()
        until(lambda: opened.stage.told, "the handler is told")
        assert opened.stage.told == [(True, ClientState.EOF)]
        for _ in range(501):
            assert peer.response()[1] == b"ok"


@pytest.mark.parametrize("manner", MANNERS)
def test_a_request_behind_the_one_that_is_left_is_answered_or_told_of(door: Any, manner: str) -> None:
    opened = door()
    for _ in range(TIMES):
        with opened.connect() as peer:
            peer.send(GET_WAIT + GET)
            opened.stage.begun()
            peer.leave(manner)
    records = opened.records(TIMES)
    until(lambda: not opened.connections(), "all are closed")
    assert {record.outcome for record in records} <= {Outcome.COMPLETED, Outcome.DISCONNECTED}
    assert {record.target for record in records} >= {"/wait"}


# -- in a body


def in_its_body(opened: Door, peer: TLSPeer) -> None:
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    opened.stage.begun()

    def waits() -> bool:
        exchanges = [connection.exchange for connection in opened.connections()]
        return any(exchange is not None and exchange.phase is Phase.BODY for exchange in exchanges)

    until(waits, "the handler waits for the rest")


@pytest.mark.parametrize("manner", MANNERS)
def test_a_body_that_is_cut_off_is_never_taken_for_whole(door: Any, manner: str) -> None:
    """A FIN without a goodbye is how somebody in between would cut it off."""
    opened = door(body_prefetch=0)
    with opened.connect() as peer:
        in_its_body(opened, peer)
        peer.leave(manner)
        if opened.kind == "stock" and manner == "goodbye":
            # Its handlers see the end of a file, and decide for themselves.
            assert peer.response()[0].status == 200
    (record,) = opened.records(1)
    if opened.kind == "stock":
        assert record.outcome is Outcome.DISCONNECTED or manner == "goodbye"
    else:
        assert (record.outcome, record.phase, record.status) == (Outcome.DISCONNECTED, Phase.BODY, 499)


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_half_a_record_is_no_part_of_a_body(door: Any, manner: str) -> None:
    opened = door(body_prefetch=0)
    with opened.connect() as peer:
        in_its_body(opened, peer)
        peer.raw.sendall(peer.sock.encrypted(b"world")[:-1])
        getattr(peer, manner)()
        (record,) = opened.records(1)
    assert record.outcome is Outcome.DISCONNECTED


# -- while it is answered


@pytest.mark.parametrize("manner", ["goodbye and fin", "fin", "rst"])
def test_leaving_in_the_middle_of_an_answer_ends_it(door: Any, manner: str) -> None:
    opened = door()
    for _ in range(3):
        with opened.connect() as peer:
            peer.get("/endless")
            opened.stage.begun()
            assert len(peer.read(1 << 20)) == 1 << 20
            peer.leave(manner)
    records = opened.records(3)
    until(lambda: not opened.connections(), "all are closed")
    for record in records:
        assert (record.outcome, record.phase, record.status) == (
            Outcome.DISCONNECTED,
            Phase.RESPONSE,
            200,
        )
    until(lambda: len(opened.stage.caught) == 3, "the handlers have ended")
    assert all(isinstance(one, ClientDisconnected | GeneratorExit) for one in opened.stage.caught)


def test_a_goodbye_in_the_middle_of_an_answer_does_not_end_it(door: Any) -> None:
    opened = door()
    with opened.connect() as peer:
        peer.get("/big")
        assert peer.read(15) == b"HTTP/1.1 200 OK"
        peer.goodbye()
        # OpenSSL decrypts no more after a goodbye in the middle, so the bytes are counted.
        assert len(peer.end()) > len(BIG) - (1 << 16)
    (record,) = opened.records(1)
    assert (record.outcome, record.status) == (Outcome.COMPLETED, 200)


def test_a_client_that_stops_reading_is_given_up(door: Any) -> None:
    opened = door(write_timeout=0.2)
    with opened.connect() as peer:
        peer.get("/endless")
        (record,) = opened.records(1)
        assert (record.outcome, record.phase, record.status) == (
            Outcome.DISCONNECTED,
            Phase.RESPONSE,
            200,
        )
        until(lambda: not opened.connections(), "it is closed")


# -- with its answer


@pytest.mark.parametrize("fields", [(), ("Connection: close",)], ids=["kept", "close"])
@pytest.mark.parametrize("manner", ["goodbye", "goodbye and fin", "fin"])
def test_who_has_its_whole_answer_and_leaves_at_once_was_answered(
    door: Any, manner: str, fields: tuple[str, ...]
) -> None:
    """Whatever the server says after that is refused with RST, and means nothing."""
    opened = door()
    times = 25
    for _ in range(times):
        with opened.connect() as peer:
            peer.get("/", *fields)
            assert peer.response()[1] == b"ok"
            peer.leave(manner)
    records = opened.records(times)
    assert {(record.status, record.outcome) for record in records} == {(200, Outcome.COMPLETED)}
    until(lambda: not opened.connections(), "all are closed")


@pytest.mark.parametrize("manner", MANNERS)
def test_leaving_while_idle_is_no_event(door: Any, manner: str) -> None:
    opened = door()
    for _ in range(TIMES):
        with opened.connect() as peer:
            assert peer.get("/").response()[1] == b"ok"
            peer.leave(manner)
            until(lambda: not opened.connections(), "it is closed")
    assert len(opened.records(TIMES)) == TIMES


def test_a_goodbye_is_answered_by_one(door: Any) -> None:
    """RFC 5246 §7.2.1 and 8446 §6.1: each side says its own before it closes."""
    opened = door()
    with opened.connect(TLS_1_2) as peer:
        assert peer.get("/").response()[1] == b"ok"
        peer.goodbye()
        alert = peer.end()
        assert alert[0] == 0x15


def test_who_is_told_that_the_connection_closes_gets_a_goodbye_behind_its_answer(door: Any) -> None:
    opened = door()
    for context in (ANY, TLS_1_2):
        with opened.connect(context) as peer:
            peer.get("/", "Connection: close")
            assert peer.read_to_end().endswith(b"ok")


def test_the_end_is_there_at_once_though_its_handler_was_slow_and_the_watch_polls(door: Any) -> None:
    """poll(2) keeps a socket open whose descriptor is closed meanwhile: its client would see no FIN."""
    opened = door()
    with opened.connect() as peer:
        peer.get("/held", "Connection: close")
        opened.stage.begun()
        until(opened.connections, "it is watched")
        opened.stage.proceed.release()
        assert peer.read_to_end().endswith(b"ok")


# -- before a thread was there


@pytest.mark.parametrize("manner", MANNERS)
def test_a_request_whose_client_left_while_it_waited_is_not_started(door: Any, manner: str) -> None:
    opened = door(max_threads=1)
    with opened.connect() as first, opened.connect() as second:
        first.get("/held")
        opened.stage.begun()
        second.get("/never")
        waiting = opened.engine.workers._backlog._waiting
        (connection,) = until(lambda: list(waiting), "it waits")
        connection.exchange.ready_at -= 1.0  # Its goodbye is no part of the request any more.
        second.leave(manner)
        until(lambda: not waiting, "it is dropped")
        opened.stage.proceed.release()
        assert first.response()[1] == b"ok"
    dropped = next(record for record in opened.records(2) if record.target != "/held")
    assert (dropped.outcome, dropped.phase, dropped.status) == (Outcome.DISCONNECTED, Phase.QUEUED, 499)


# -- at the end


def test_a_server_that_ends_answers_what_it_has_begun_and_leaves_nobody_behind(door: Any) -> None:
    """With connections in every state; the fixtures see to it that no descriptor is left."""
    opened = door(linger_timeout=0.5)
    with (
        opened.connect(shake=False),
        opened.connect(shake=False) as hello,
        opened.connect(shake=False) as almost,
        opened.connect(),
        opened.connect() as idle,
        opened.connect() as working,
        opened.connect() as departed,
        opened.connect() as reading,
        opened.connect() as half,
        Peer(opened.address) as plain,
    ):
        hello.raw.sendall(hello.sock.flight()[:60])
        almost.raw.sendall(almost.sock.last_flight()[:-1])
        assert idle.get("/").response()[1] == b"ok"
        for peer in (working, departed):
            peer.get("/held")
            opened.stage.begun()
        departed.goodbye()
        reading.get("/big")
        assert reading.read(15) == b"HTTP/1.1 200 OK"
        half.raw.sendall(half.sock.encrypted(GET)[:-1])
        plain.send(b"G")
        closing = threading.Thread(target=opened.serving.stop)
        loop = opened.engine.loop
        closing.start()
        until(lambda: loop.draining, "it drains")
        for _ in range(2):
            opened.stage.proceed.release()
        assert working.response()[1] == b"ok"
        assert departed.response()[1] == b"ok"
        assert reading.read_head()
        assert reading.read(len(BIG)) == BIG
        closing.join(PATIENCE)
        assert not closing.is_alive()
        assert idle.read_to_end() == b"", "a goodbye"
        opened.records(4)
        answered = [record for record in opened.serving.records if record.status == 200]
        assert {record.outcome for record in answered} == {Outcome.COMPLETED}
        assert len(answered) == 4


# -- races


def test_bytes_that_come_while_the_watch_is_about_to_look_ahead_are_not_lost(
    door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop saw an event of a connection that was handled, which is at rest when it looks."""
    opened = door()
    at_it, look = threading.Semaphore(0), threading.Semaphore(0)
    gated = threading.Event()
    look_ahead = TLSTransport.look_ahead

    def slowly(self: TLSTransport) -> bool:
        if gated.is_set():
            gated.clear()
            at_it.release()
            assert look.acquire(timeout=PATIENCE)
        return look_ahead(self)

    monkeypatch.setattr(TLSTransport, "look_ahead", slowly)
    with opened.connect() as peer:
        peer.get("/held")
        opened.stage.begun()
        (connection,) = until(opened.connections, "it is watched")
        gated.set()
        peer.get("/")
        assert at_it.acquire(timeout=PATIENCE)
        opened.stage.proceed.release()
        for _ in range(2):
            assert peer.response()[1] == b"ok"
        until(lambda: connection.state is State.IDLE, "it is at rest")
        peer.get("/")
        look.release()
        assert peer.response()[1] == b"ok"


def test_a_second_thread_that_asks_for_the_client_hears_of_a_goodbye(
    serve: Any, certificate: Certificates
) -> None:
    heard = threading.Event()

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with self.client.on_disconnect(heard.set):
                assert heard.wait(PATIENCE)

    serving = serve(Handler, hangup.ThreadingHTTPSServer, certfile=certificate.ecdsa.both)
    with TLSPeer(serving.address) as peer:
        peer.get("/").goodbye()
        assert heard.wait(PATIENCE)
