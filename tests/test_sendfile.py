"""What a file's ``read()`` gives is what is sent, whatever its descriptor has; a real file still goes
by ``os.sendfile``.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import mmap
import os
import socket
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hangup
from conftest import Certificates, Peer, until
from tls_support import TLSPeer

SIZE = 300_000
DATA = os.urandom(SIZE)
SMALL = b"a" * 100
SYS = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def flipped(data: bytes) -> bytes:
    return bytes(byte ^ 255 for byte in data)


class Shouting(io.BufferedReader):
    """Changes what is read."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size).hex().encode()


class Flipping(io.FileIO):
    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        view = memoryview(buffer).cast("B")
        view[:count] = flipped(bytes(view[:count]))
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        return flipped(super().read(size) or b"")

    def readall(self) -> bytes:
        return flipped(super().readall())


class Duck:
    """A file only in so far as it can be read, with a descriptor of something else."""

    def __init__(self, path: Path) -> None:
        self._data = io.BytesIO(DATA + b"duck")
        self._file = path.open("rb")

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int = -1) -> bytes:
        return self._data.read(size)

    def tell(self) -> int:
        return self._data.tell()

    def close(self) -> None:
        self._file.close()


def plain(path: Path) -> Path:
    path.write_bytes(DATA)
    return path


def compressed(module: Any) -> Callable[[Path], Any]:
    def make(path: Path) -> Any:
        with module.open(path, "wb") as file:
            file.write(DATA)
        return module.open(path, "rb")

    return make


def zip_member(path: Path) -> Any:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", DATA)
    with zipfile.ZipFile(path) as archive:
        return archive.open("member")


def spooled(size: int) -> Callable[[Path], Any]:
    def make(_path: Path) -> Any:
        file = tempfile.SpooledTemporaryFile(max_size=size)  # noqa: SIM115
        file.write(DATA)
        file.seek(5)
        return file

    return make


def temporary(_path: Path) -> Any:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115
    file.write(DATA)
    file.seek(7)
    file.write(b"seven")
    file.seek(3)
    return file


def unflushed(path: Path) -> Any:
    file = plain(path).open("r+b")
    file.seek(100_000)
    file.write(b"unflushed" * 100)
    file.seek(0)
    file.write(b"begin")
    file.seek(1)
    return file


def replaced(path: Path) -> Any:
    file = plain(path).open("rb")
    read = file.read
    file.read = lambda size=-1: read(size).swapcase()  # type: ignore[method-assign]
    return file


def at(path: Path, mode: int, offset: int) -> Any:
    file = plain(path).open("rb", mode)
    file.read(10)
    file.seek(offset)
    return file


def peeked(path: Path) -> Any:
    file = plain(path).open("rb")
    file.readline()
    file.peek(100)
    return file


def sparse(path: Path) -> Any:
    with path.open("wb") as file:
        file.seek(SIZE)
        file.write(b"end")
        file.truncate(2 * SIZE)
    return path.open("rb")


def hollow(path: Path) -> Any:
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path.open("rb")


def small(path: Path) -> Any:
    path.write_bytes(SMALL)
    return path.open("rb")


def pipe(_path: Path) -> Any:
    reader, writer = os.pipe()
    os.write(writer, SMALL)
    os.close(writer)
    return open(reader, "rb")


def from_socket(_path: Path) -> Any:
    one, other = socket.socketpair()
    other.sendall(SMALL)
    other.close()
    with one:
        return one.makefile("rb")


def mapped(path: Path) -> Any:
    with plain(path).open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


FILES: dict[str, Callable[[Path], Any]] = {
    "gzip": compressed(gzip),
    "bz2": compressed(bz2),
    "lzma": compressed(lzma),
    "zip": zip_member,
    "BytesIO": lambda _path: io.BytesIO(DATA),
    "spooled in memory": spooled(1 << 20),
    "spooled on disk": spooled(1000),
    "NamedTemporaryFile": temporary,
    "a subclass of BufferedReader": lambda path: Shouting(io.FileIO(plain(path))),
    "a subclass of FileIO": lambda path: Flipping(plain(path)),
    "a reader of a subclass": lambda path: io.BufferedReader(Flipping(plain(path))),
    "a read of its own": replaced,
    "a duck": lambda path: Duck(plain(path)),
    "unflushed": unflushed,
    "in the middle": lambda path: at(path, -1, 123),
    "in the middle, unbuffered": lambda path: at(path, 0, 123),
    "at its end": lambda path: at(path, -1, SIZE),
    "beyond its end": lambda path: at(path, -1, 2 * SIZE),
    "peeked": peeked,
    "sparse": sparse,
    "a hole": hollow,
    "small": small,
    "empty": lambda path: [path.touch(), path.open("rb")][1],
    "/proc": lambda _path: Path("/proc/self/limits").open("rb"),  # noqa: SIM115
    "/sys": lambda _path: SYS.open("rb"),
    "pipe": pipe,
    "socket": from_socket,
    "mmap": mapped,
}


@pytest.fixture(params=FILES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Makes the same file each time."""
    if request.param == "/sys" and not SYS.exists():
        pytest.skip("there is none")
    return lambda: FILES[request.param](tmp_path / "file")


def content(make: Callable[[], Any]) -> bytes:
    with contextlib.closing(make()) as file:
        return bytes(file.read())


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("over", ["plain", "tls"])
def test_a_file_wrapper_sends_what_read_gives(
    serve_app: Any, certificate: Certificates, make: Any, over: str, *, length: bool
) -> None:
    expected = content(make)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", str(len(expected)))] if length else [])
        return environ["wsgi.file_wrapper"](make())

    cert = certificate.ecdsa
    files = {"certfile": cert.cert, "keyfile": cert.key} if over == "tls" else {}
    serving = serve_app(app, **files)
    connect = TLSPeer if over == "tls" else Peer
    with connect(serving.server.address) as peer:
        for _ in range(2):  # Nothing too much, nor too little: another response follows.
            response, body = peer.get("/").response()
            assert (response.status, body) == (200, expected)
        head = peer.send(b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n").read_head()
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert peer.get("/").response()[1] == expected


def test_a_handler_sends_what_read_gives(serve: Any, make: Any) -> None:
    expected = content(make)

    class Handler(hangup.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(expected)))
            self.end_headers()
            with contextlib.closing(make()) as file:
                # As socket.socket has it, an offset of 0 is a file's beginning.
                try:
                    offset = file.tell()
                except OSError:
                    offset = 0
                sent = self.connection.sendfile(file, offset)
            assert sent == len(expected)

    serving = serve(Handler)
    with serving.connect() as peer:
        for _ in range(2):
            assert peer.get("/").response()[1] == expected


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each ``os.sendfile`` has sent."""
    sent: list[int] = []
    sendfile = os.sendfile

    def counting(*args: Any) -> int:
        sent.append(sendfile(*args))
        return sent[-1]

    monkeypatch.setattr(os, "sendfile", counting)
    return sent


@pytest.mark.parametrize(
    "kind",
    [
        "in the middle",
        "in the middle, unbuffered",
        "unflushed",
        "NamedTemporaryFile",
        "sparse",
        "peeked",
    ],
)
def test_a_real_file_goes_by_sendfile(
    serve_app: Any, tmp_path: Path, calls: list[int], kind: str
) -> None:
    def make() -> Any:
        return FILES[kind](tmp_path / "file")

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](make())

    serving = serve_app(app)
    expected = content(make)
    response, body = serving.get()
    assert body == expected
    assert response.getheader("Content-Length") == str(len(expected))
    # The client has the last byte before the thread that sent it has counted it.
    until(lambda: sum(calls) == len(expected), "all of it went by sendfile")


@pytest.mark.parametrize("kind", ["gzip", "a subclass of FileIO", "spooled on disk", "a duck", "/proc"])
def test_nothing_else_does(serve_app: Any, tmp_path: Path, calls: list[int], kind: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](FILES[kind](tmp_path / "file"))

    serving = serve_app(app)
    serving.get()
    serving.server.close()  # Its thread has ended: whatever it sent with is counted.
    assert not calls


@pytest.mark.parametrize("change", ["grows", "shrinks"])
def test_a_file_that_changes_ends_where_the_response_says(
    serve_app: Any, tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = plain(tmp_path / "file")
    begin = hangup.wsgi.response.Answer._begin

    def begin_and_change(answer: Any, *args: Any) -> None:
        begin(answer, *args)
        if change == "grows":
            with path.open("ab") as file:
                file.write(b"more")
        else:
            os.truncate(path, 100_000)

    monkeypatch.setattr(hangup.wsgi.response.Answer, "_begin", begin_and_change)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    serving = serve_app(app)
    with serving.connect() as peer:
        head = peer.get("/").read_head()
        assert f"Content-Length: {SIZE}\r\n".encode() in head
        if change == "grows":
            assert peer.read(SIZE) == DATA
            monkeypatch.undo()
            assert peer.get("/").response()[1] == DATA + b"more"
        else:
            assert peer.read_to_end() == DATA[:100_000]
    assert calls or change == "grows"


def test_sendfile_leaves_the_file_where_it_has_come_to(serve: Any, tmp_path: Path) -> None:
    # socket.socket.sendfile: "the file position is updated on return".
    path = plain(tmp_path / "file")
    positions: list[int] = []

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with path.open("rb") as file:
                self.connection.sendfile(file, 10, 1000)
                positions.append(file.tell())
                self.wfile.write(file.read(5))

    serving = serve(Handler)
    assert serving.get()[1] == DATA[10:1015]
    assert positions == [1010]
