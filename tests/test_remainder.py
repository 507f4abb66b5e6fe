"""The end of an answer that its client has yet to read: the event loop sends it, and no thread waits."""

import hashlib
import os
import socket
import threading
from typing import Any

import pytest

from conftest import PATIENCE, Peer, ServingApp, until
from hangup import Config, DisconnectReason, Outcome, Phase
from hangup._connection.state import State

# More than the kernel takes for a client that does not read.
SIZE = 12_000_000
BODY = os.urandom(SIZE)


def app(environ: dict[str, Any], start_response: Any) -> Any:
    body = BODY if environ["PATH_INFO"] == "/big" else b"ok"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    if environ["QUERY_STRING"] == "blocks":
        return [body[:100_000], b"", body[100_000:1_000_000], body[1_000_000:]]
    return [body]


def sending(serving: ServingApp) -> list[Any]:
    entries = serving.server.engine.loop._entries
    return [each for each in list(entries.values()) if getattr(each, "state", None) is State.SENDING]


def deaf(serving: ServingApp, target: str = "/big", *fields: str) -> Peer:
    """A client that asks and does not read; the event loop sends to it by the time this returns."""
    before = len(sending(serving))
    peer = Peer(serving.server.address)
    peer.get(target, *fields)
    until(lambda: len(sending(serving)) > before, "the event loop sends")
    return peer


@pytest.mark.parametrize("target", ["/big", "/big?blocks"])
def test_clients_that_do_not_read_hold_no_thread_and_get_it_all(serve_app: Any, target: str) -> None:
    serving = serve_app(app, config=Config(max_threads=1))
    peers = [deaf(serving, target) for _ in range(4)]
    assert serving.get()[1] == b"ok"
    for peer in peers:
        response, body = peer.response()
        assert response.getheader("Content-Length") == str(SIZE)
        assert hashlib.sha256(body).digest() == hashlib.sha256(BODY).digest()
        assert peer.get("/").response()[1] == b"ok", "the connection goes on"
        peer.fin()
    records = [r for r in serving.wait_for_records(9) if r.target == target]
    assert {(r.outcome, r.phase, r.body_out) for r in records} == {
        (Outcome.COMPLETED, Phase.COMPLETE, SIZE)
    }


def test_a_request_that_comes_meanwhile_is_answered_behind_it(serve_app: Any) -> None:
    serving = serve_app(app)
    with deaf(serving) as peer:
        peer.get("/small")
        peer.get("/big")
        assert peer.response()[1] == BODY
        assert peer.response()[1] == b"ok"
        assert peer.response()[1] == BODY


def test_the_record_is_told_when_the_last_byte_is_out(serve_app: Any) -> None:
    serving = serve_app(app)
    with deaf(serving) as peer:
        serving.get("/other")
        assert [r.target for r in serving.wait_for_records(1)] == ["/other"]
        assert peer.response()[1] == BODY
    assert serving.wait_for_records(2)[1].target == "/big"


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_a_client_that_leaves_meanwhile_is_told_of_once(serve_app: Any, manner: str) -> None:
    serving = serve_app(app)
    peer = deaf(serving)
    getattr(peer, manner)()
    (record,) = serving.wait_for_records(1)
    assert (record.outcome, record.phase, record.status) == (Outcome.DISCONNECTED, Phase.RESPONSE, 200)
    assert 0 < record.body_out < SIZE
    until(lambda: not sending(serving), "it is closed")


def test_a_half_closed_client_gets_it_all(serve_app: Any) -> None:
    serving = serve_app(app)
    with deaf(serving) as peer:
        peer.half_close()
        until(lambda: sending(serving)[0].peer.state.name == "EOF", "its FIN is seen")
        assert peer.response()[1] == BODY
        assert peer.read_to_end() == b""
    assert serving.record().outcome is Outcome.COMPLETED


def test_a_client_that_goes_on_not_reading_is_given_up(serve_app: Any) -> None:
    serving = serve_app(app, config=Config(write_timeout=0.2))
    with deaf(serving) as peer:
        (connection,) = sending(serving)
        record = serving.record()
        # The kernel's own limit may be the first to notice.
        assert connection.peer.reason in (DisconnectReason.WRITE_TIMEOUT, DisconnectReason.UNREACHABLE)
        assert (record.outcome, record.phase) == (Outcome.DISCONNECTED, Phase.RESPONSE)
        with pytest.raises(ConnectionResetError):
            peer.read_to_end()


def test_it_goes_out_while_the_server_drains(serve_app: Any) -> None:
    serving = serve_app(app)
    with deaf(serving) as peer:
        closing = threading.Thread(target=serving.server.close, args=(PATIENCE,))
        closing.start()
        until(lambda: serving.server.engine.loop.draining, "it drains")
        assert peer.response()[1] == BODY
        closing.join()


def test_what_is_not_out_when_the_grace_time_ends_is_told_of(serve_app: Any) -> None:
    serving = serve_app(app)
    with deaf(serving):
        serving.server.close(0.05)
        record = serving.record()
    assert record.outcome is Outcome.FAILED
    assert record.body_out < SIZE


def test_where_the_poller_cannot_tell_of_room_the_thread_sends_it(
    serve_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANGUP_POLLER", "poll")
    serving = serve_app(app)
    with Peer(serving.server.address) as peer:
        assert peer.get("/big").response()[1] == BODY
        assert peer.get("/").response()[1] == b"ok"
    assert {r.outcome for r in serving.wait_for_records(2)} == {Outcome.COMPLETED}
    peer = Peer(serving.server.address)
    peer.get("/big").sock.recv(1, socket.MSG_PEEK)
    peer.rst()
    assert serving.wait_for_records(3)[2].outcome is Outcome.DISCONNECTED
