"""Small blocks of a body that come close behind each other: joined, and never kept."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from conftest import PATIENCE, Certificates, Peer, ServingApp, until
from hangup import Outcome
from hangup._connection import output as _sender
from tls_support import TLSPeer

BLOCKS = [b"block %02d\n" % number for number in range(40)]
ROUNDS = 3
LENGTH = ROUNDS * len(b"".join(BLOCKS))


def as_chunk(block: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(block), block)


#: How the client is to know the body's end: the response's fields, the request's protocol, and what a
#: block is on the wire.
FRAMINGS: dict[str, tuple[list[tuple[str, str]], str, Callable[[bytes], bytes]]] = {
    "chunks": ([], "HTTP/1.1", as_chunk),
    "length": ([("Content-Length", str(LENGTH))], "HTTP/1.1", bytes),
    "end": ([], "HTTP/1.0", bytes),
}


class Stage:
    """An application that gives what ``blocks`` yields, and a client that has asked for it."""

    def __init__(self, serve_app: Any, certificate: Certificates, *, over_tls: bool) -> None:
        self._start = serve_app
        self._tls = {}
        if over_tls:
            self._tls = {"certfile": certificate.ecdsa.cert, "keyfile": certificate.ecdsa.key}
        self.serving: ServingApp

    def request(self, framing: str, blocks: Callable[[], Iterable[bytes]]) -> Peer:
        fields, protocol, _ = FRAMINGS[framing]

        def app(_environ: Any, start_response: Any) -> Iterable[bytes]:
            start_response("200 OK", fields)
            return blocks()

        self.serving = self._start(app, **self._tls)
        address = self.serving.server.address
        peer = TLSPeer(address) if self._tls else Peer(address)
        peer.send(f"GET / {protocol}\r\nHost: test\r\n\r\n".encode())
        peer.read_head()
        return peer


@pytest.fixture(params=["plain", "TLS"])
def stage(request: pytest.FixtureRequest, serve_app: Any, certificate: Certificates) -> Stage:
    return Stage(serve_app, certificate, over_tls=request.param == "TLS")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_was_given_arrives_while_the_application_makes_the_next(stage: Stage, framing: str) -> None:
    """PEP 3333: a server may send a block while the next one is made, and must not wait for it."""
    go_on = threading.Semaphore(0)

    def blocks() -> Iterator[bytes]:
        for _ in range(ROUNDS):
            yield from BLOCKS
            assert go_on.acquire(timeout=PATIENCE)

    peer = stage.request(framing, blocks)
    expected = b"".join(map(FRAMINGS[framing][2], BLOCKS))
    for _ in range(ROUNDS):
        assert peer.read(len(expected)) == expected
        go_on.release()
    if framing == "chunks":
        assert peer.read(5) == b"0\r\n\r\n"
    peer.fin()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_was_given_before_a_failure_arrives(stage: Stage, framing: str, caplog: Any) -> None:
    def blocks() -> Iterator[bytes]:
        yield from BLOCKS
        raise LookupError("in the midst of it")

    peer = stage.request(framing, blocks)
    assert peer.read_to_end() == b"".join(map(FRAMINGS[framing][2], BLOCKS))
    peer.fin()
    until(lambda: stage.serving.records, "its record")
    (record,) = stage.serving.records
    assert (record.outcome, record.status) == (Outcome.FAILED, 200)
    assert record.body_out == len(b"".join(BLOCKS))
    assert "in the midst of it" in caplog.text


def test_blocks_that_are_there_at_once_leave_together(
    serve_app: Any, certificate: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send for each costs more than all else that a server does for a stream."""
    calls: list[int] = []
    send = _sender._send

    def note(sock: Any, data: bytes, *flags: int) -> int:
        calls.append(len(data))
        return send(sock, data, *flags)

    monkeypatch.setattr(_sender, "_send", note)
    # So that a machine which is busy with other things changes nothing.
    monkeypatch.setattr(_sender, "_CLOSE", PATIENCE)
    stage = Stage(serve_app, certificate, over_tls=False)
    peer = stage.request("chunks", lambda: iter([bytes(1000)] * 100))
    expected = as_chunk(bytes(1000)) * 100 + b"0\r\n\r\n"
    assert peer.read(len(expected)) == expected
    assert len(calls) < 20
    assert max(calls) < 2 * _sender._BLOCKS_SIZE
    peer.fin()
