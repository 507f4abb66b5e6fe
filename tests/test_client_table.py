"""The table in docs/client.md: what a handler is told, and what it can still write."""

import ctypes
import functools
import re
import socket
import struct
import sys
import threading
from pathlib import Path

import pytest

import hangup
import hangup._engine.engine
from conftest import BEFORE_HANDLER, PATIENCE, Peer, Serving
from hangup import ClientDisconnected, ClientState, Config

PAGE = Path(__file__).parent.parent / "docs" / "client.md"
COLUMNS = ("state", "reason", "wait()", "callbacks", "writes")
GET = b"GET /works HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 70000\r\n\r\n" + bytes(BEFORE_HANDLER)
#: Writes that are tried before a client counts as one that is still written to.
PIECES = 50


def rows() -> list[dict[str, str]]:
    table = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    header = next(line for line in table if line[0] == "point of the request")
    return [
        dict(zip(header, line, strict=True))
        for line in table[table.index(header) + 2 :]
        if len(line) == len(header)
    ]


ROWS = {(row["point of the request"], row["the client"]): row for row in rows()}


class Handler(hangup.BaseHTTPRequestHandler):
    """Tells what it is told.  The path says what it does meanwhile."""

    protocol_version = "HTTP/1.1"
    stage: "Stage"

    def do_GET(self) -> None:
        stage = self.stage
        with self.client.on_disconnect(stage.called.release):
            getattr(self, self.path[1:])()
            seen = stage.seen
            seen["wait()"] = str(self.client.wait(stage.patience))
            seen["state"] = self.client.state.name
            seen["reason"] = self.client.reason.name if self.client.reason else "None"
            called = stage.called.acquire(timeout=stage.patience)
            seen["callbacks"] = "run" if called else "don't run"
        try:
            self.write_on()
        finally:
            stage.told.set()

    def do_POST(self) -> None:
        self.do_GET()

    def works(self) -> None:
        self.stage.began.release()

    def reads(self) -> None:
        self.stage.began.release()
        with pytest.raises(ClientDisconnected):
            self.rfile.read(70000)

    def answers(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"a piece")
        self.wfile.write(b"a piece")
        self.stage.began.release()

    def floods(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.stage.began.release()
        try:
            while True:
                self.wfile.write(bytes(1 << 16))
        except ClientDisconnected:
            pass

    def write_on(self) -> None:
        pause = threading.Event()
        for count in range(PIECES):
            try:
                self.wfile.write(b"piece")
            except ClientDisconnected:
                at_once = count == 0
                self.stage.seen["writes"] = "raise" if at_once else "raise before long"
                assert self.client.state is ClientState.GONE
                raise
            pause.wait(0.005)
        self.stage.seen["writes"] = "all leave"


class Stage:
    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.began = threading.Semaphore(0)
        self.called = threading.Semaphore(0)
        self.told = threading.Event()
        self.seen: dict[str, str] = {}


def deafen(sock: socket.socket) -> None:
    """Drop all that comes in, as if the cable were cut: a filter that accepts no packet."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_ATTACH_FILTER", 26), program)


POINTS = {
    "together with the request": GET,
    "the handler works": GET,
    "the handler works, another request waits behind": GET + GET,
    "the handler works, the body is on its way": POST % b"/works",
    "the handler waits for the body": POST % b"/reads",
    "the answer has begun": GET.replace(b"works", b"answers"),
    "a write waits for the client to read": GET.replace(b"works", b"floods"),
}


def act(peer: Peer, manner: str) -> None:
    if manner == "closes":
        peer.fin()
    elif manner == "half-closes":
        peer.half_close()
    elif manner == "resets":
        peer.rst()
    elif manner == "vanishes":
        deafen(peer.sock)
    else:
        assert manner in ("stays", "reads nothing")


@functools.cache
def observe(point: str, manner: str) -> dict[str, str]:
    """Play one row; what the handler saw."""
    stage = Stage(patience=0.05 if manner == "stays" else PATIENCE)
    handler = type("Handler", (Handler,), {"stage": stage})
    config = Config(tcp_keepalive_idle=1, write_timeout=0.2 if manner == "reads nothing" else 1.5)
    serving = Serving(handler, config=config)
    peer = Peer(serving.address)
    try:
        peer.send(POINTS[point])
        if point == "together with the request":
            act(peer, manner)
            assert stage.began.acquire(timeout=PATIENCE)
        else:
            assert stage.began.acquire(timeout=PATIENCE)
            if point == "the answer has begun":
                assert peer.read_until(b"a piecea piece")
            act(peer, manner)
        assert stage.told.wait(PATIENCE)
        if stage.seen["writes"] == "all leave" and manner == "half-closes":
            assert b"piece" * PIECES in peer.read_to_end(), "they do not only leave, they arrive"
    finally:
        peer.sock.close()
        serving.stop()
    return stage.seen


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize(("point", "manner"), list(ROWS))
def test_each_cell(monkeypatch: pytest.MonkeyPatch, point: str, manner: str, column: str) -> None:
    if manner == "vanishes" and sys.platform != "linux":
        pytest.skip("a peer can be made to vanish by a socket filter, which only Linux has")
    monkeypatch.setattr(hangup._engine.engine, "_PROBE_INTERVAL", 1)
    monkeypatch.setattr(hangup._engine.engine, "_PROBES", 1)
    assert observe(point, manner)[column] == ROWS[point, manner][column]


def test_the_table_is_read_whole() -> None:
    assert {point for point, _ in ROWS} == set(POINTS)
    assert len(ROWS) == len(re.findall(r"^\|.*\| (True|False) \|", PAGE.read_text(), re.MULTILINE))
