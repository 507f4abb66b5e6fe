"""Room for connections: who has no good of one makes room for others."""

from typing import Any

import pytest

import hangup
from conftest import Certificates, Peer, ServingApp, until
from hangup import Config, Outcome
from test_pressure import Stage, limits, quick_looks, stage, upload
from tls_support import TLSPeer

__all__ = ["quick_looks", "stage"]


def fill(serving: ServingApp, kind: str, count: int) -> list[Peer]:
    """Connections of a kind that nobody has any good of."""
    peers = []
    for _ in range(count):
        peer = serving.connect()
        peers.append(peer)
        if kind == "idle":
            assert peer.get("/").response()[1] == b"ok"
        elif kind == "heads":
            peer.send(b"G")
        elif kind == "bodies":
            peer.send(b"POST /read HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nx")
        elif kind == "long bodies":
            upload(peer, "/read")
        elif kind == "streams":
            peer.get("/stream")
        elif kind == "big":
            peer.get("/big")
        elif kind == "lingering":
            upload(peer, "/", come=10).get("/")
    return peers


@pytest.mark.parametrize(
    "kind", ["silent", "idle", "heads", "bodies", "long bodies", "streams", "big", "lingering"]
)
def test_who_keeps_all_connections_makes_room_for_others(
    serve_app: Any, stage: Stage, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(hangup._engine.room, "SLOW_REQUEST", 0.05)
    big = [bytes(10_000_000)]

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/big":
            start_response("200 OK", [("Content-Length", "10000000")])
            return big
        return stage.app(environ, start_response)

    serving = serve_app(app, config=limits(max_threads=30, max_connections=10))
    peers = fill(serving, kind, 10)
    for _ in range(3):
        assert serving.get()[1] == b"ok"
    if kind in ("heads", "bodies", "long bodies"):
        timed_out = [r for r in serving.records if r.outcome is Outcome.TIMED_OUT]
        assert timed_out
        assert {r.status for r in timed_out} == {408}
    for peer in peers:
        peer.rst()


def test_handshakes_make_room_for_others(serve_app: Any, certificate: Certificates) -> None:
    cert = certificate.ecdsa
    serving = serve_app(
        Stage().app, config=Config(max_connections=10), certfile=cert.cert, keyfile=cert.key
    )
    peers = [serving.connect() for _ in range(10)]
    for peer in peers[:5]:
        peer.send(b"\x16\x03\x01")
    for _ in range(3):
        with TLSPeer(serving.server.address) as peer:
            assert peer.get("/", "Connection: close").response()[1] == b"ok"
    for peer in peers:
        peer.rst()


def test_whoever_has_sent_least_makes_room_first(
    serve_app: Any, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hangup._engine.room, "SLOW_REQUEST", 0.0)
    serving = serve_app(stage.app, config=Config(max_connections=3))
    peers = [serving.connect() for _ in range(3)]
    for peer, text in zip(peers, (b"GET /", b"GET /long", b"G"), strict=True):
        peer.send(text)
    until(lambda: serving.server.engine.loop.opened == 3, "they are there")
    assert serving.get()[1] == b"ok"
    assert peers[2].response()[0].status == 408
    assert peers[0].send(b" HTTP/1.1\r\nHost: test\r\n\r\n").response()[1] == b"ok"
    for peer in peers:
        peer.fin()
