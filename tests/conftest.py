"""What the tests share: a server in this process, a client that can leave, and a look for leaks."""

import contextlib
import fcntl
import http.client
import http.server
import logging
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any, NamedTuple, Self

import pytest

import hangup
import hangup._engine.engine
from hangup import RequestRecord
from hangup._disconnect.callbacks import Callbacks
from hangup._disconnect.interrupt import refusal

# A shell starts background jobs with SIGINT ignored; the programs that are tested would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Whether what is tested is in colour is the tests' to say.
for name in ("FORCE_COLOR", "PYTHON_COLORS"):
    os.environ.pop(name, None)

#: Seconds after which a test that waits has failed. Nothing waits this long when all is well.
PATIENCE = 10.0
#: What comes of a longer body before its handler begins.
BEFORE_HANDLER = hangup.Config().body_prefetch
#: What ``interrupting()`` does where it works; ``test_interrupt_refusal.py`` sees where it doesn't.
interrupts = pytest.mark.skipif(
    bool(refusal()), reason=f"interrupting() refuses this Python: {refusal()}"
)

#: Whether the engine is the compiled one (``make compiled``).
COMPILED = not hangup._engine.engine.__file__.endswith(".py")
#: What puts something of its own between the engine's parts: compiled, they call each other directly.
pure = pytest.mark.skipif(COMPILED, reason="nothing can be put into the compiled engine")


@pytest.fixture
def monkeypatch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """pytest's, which skips a test that would patch the compiled engine: there nobody heeds it."""
    patch = monkeypatch.setattr

    def setattr_(target: Any, *args: Any, **options: Any) -> None:
        module = sys.modules.get(getattr(target, "__module__", None) or "")
        is_function = len(args) == 2 and isinstance(getattr(target, args[0], None), BuiltinFunctionType)
        owner = sys.modules.get(target.__name__) if isinstance(target, ModuleType) else None
        if (isinstance(target, type) and is_compiled(module)) or (is_function and is_compiled(owner)):
            pytest.skip("nothing can be put into the compiled engine")
        patch(target, *args, **options)

    monkeypatch.setattr = setattr_  # type: ignore[method-assign]
    return monkeypatch


def is_compiled(module: ModuleType | None) -> bool:
    """Whether it is a compiled module of hangup's."""
    if module is None or not module.__name__.startswith("hangup."):
        return False
    return not (module.__file__ or "").endswith(".py")


def descriptors() -> set[str]:
    """This process's open descriptors, by what they are."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{fd}: {os.readlink(f'/proc/self/fd/{fd}')}")
    return found


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread or a descriptor behind."""
    threads = set(threading.enumerate())
    open_before = descriptors()
    yield
    left = [thread for thread in threading.enumerate() if thread not in threads]
    for thread in left:
        thread.join(PATIENCE)
    assert not [thread for thread in left if thread.is_alive()], "threads are left"
    assert not descriptors() - open_before, "descriptors are left"


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call() -> Iterator[None]:
    """What is captured is written to files that are open for appending.

    To read them (``capfd.readouterr()``), pytest moves the position at which everybody writes to the
    beginning: a server's line that comes just then, of a request that was answered before, stood in the
    place of what the test was about.
    """
    for descriptor in (1, 2):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
    yield


@pytest.fixture
def callbacks() -> Iterator[Callbacks]:
    """The threads that run callbacks, without a server."""
    threads = Callbacks("test", idle_timeout=PATIENCE)
    yield threads
    threads.close()


class Certificate(NamedTuple):
    """A certificate for localhost that nobody else has signed, in files."""

    cert: str
    key: str
    #: Both of them in one file.
    both: str


class Certificates(NamedTuple):
    """One with each kind of key."""

    rsa: Certificate
    ecdsa: Certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certificates")
    ecdsa = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    return Certificates(_certify(directory, "rsa", "rsa:2048"), _certify(directory, "ecdsa", *ecdsa))


def _certify(directory: Path, name: str, *new_key: str) -> Certificate:
    found = Certificate(*(str(directory / f"{name}.{part}") for part in Certificate._fields))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", *new_key, "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", found.key,
         "-out", found.cert],
        check=True, capture_output=True,
    )  # fmt: skip
    Path(found.both).write_text(Path(found.key).read_text() + Path(found.cert).read_text())
    return found


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something that has no event of its own, such as a count of threads."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        pause.wait(0.001)
    return value


class Peer:
    """A client's end of a connection, with every way to leave it."""

    def __init__(self, address: Any) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.connect(address)
        except OSError:
            self.sock.close()
            raise

    def send(self, data: bytes) -> "Peer":
        self.sock.sendall(data)
        return self

    def get(self, path: str, *fields: str) -> "Peer":
        lines = [f"GET {path} HTTP/1.1", "Host: test", *fields, "", ""]
        return self.send("\r\n".join(lines).encode("latin-1"))

    def response(self, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
        """Read one answer; nothing of what follows it."""
        response = http.client.HTTPResponse(Unread(self.sock), method=method)  # type: ignore[arg-type]
        response.begin()
        return response, response.read()

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (piece := self.sock.recv(count - len(data))):
            data += piece
        return data

    def read_until(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end) and (piece := self.sock.recv(65536)):
            data += piece
        return data

    def read_head(self) -> bytes:
        """Up to the empty line, and nothing of what follows it."""
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := self.sock.recv(1)):
            head += byte
        return head

    def read_to_end(self) -> bytes:
        data = b""
        while piece := self.sock.recv(65536):
            data += piece
        return data

    def half_close(self) -> "Peer":
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def fin(self) -> None:
        self.sock.close()

    def rst(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class Unread:
    """Gives http.client an unbuffered file, so that it takes no byte of the next answer."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def makefile(self, *_: object) -> Any:
        return _ByteFile(self.sock)


class _ByteFile:
    closed = False

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def readline(self, limit: int = -1) -> bytes:
        line = b""
        while not line.endswith(b"\n") and (limit < 0 or len(line) < limit):
            byte = self._sock.recv(1)
            if not byte:
                break
            line += byte
        return line

    def read(self, size: int = -1) -> bytes:
        data = b""
        while (size < 0 or len(data) < size) and (
            piece := self._sock.recv(65536 if size < 0 else size - len(data))
        ):
            data += piece
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Recording:
    """A sink that keeps the records of requests."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self._news = threading.Condition()

    def _note(self, record: RequestRecord) -> None:
        with self._news:
            self.records.append(record)
            self._news.notify_all()

    def wait_for_records(self, count: int) -> list[RequestRecord]:
        with self._news:
            assert self._news.wait_for(lambda: len(self.records) >= count, PATIENCE), self.records
            return list(self.records)

    def record(self) -> RequestRecord:
        return self.wait_for_records(1)[-1]


class Serving(Recording):
    """A server at work in this process, and the records of its requests."""

    def __init__(
        self, handler: Any, server_class: Any = hangup.ThreadingHTTPServer, **options: Any
    ) -> None:
        super().__init__()
        address = options.pop("address", ("127.0.0.1", 0))
        if issubclass(server_class, (hangup.HTTPServer,)):
            options.setdefault("sinks", [self._note])
        self.server = server_class(address, handler, **options)
        self._thread = threading.Thread(target=self.server.serve_forever, name="serve_forever")
        self._thread.start()

    @property
    def address(self) -> Any:
        return self.server.server_address

    def connect(self) -> Peer:
        return Peer(self.address)

    def get(self, path: str = "/") -> tuple[int, bytes]:
        with self.connect() as peer:
            response, body = peer.get(path, "Connection: close").response()
            return response.status, body

    @property
    def engine(self) -> Any:
        return until(lambda: self.server._engine, "the engine")

    def handler_threads(self) -> int:
        return len(self.engine.workers._threads)

    def the_connection(self) -> Any:
        """The only connection, once it is watched: one that is quickly done with never is."""
        entries = self.engine.loop._entries
        return until(
            lambda: next((e for e in list(entries.values()) if hasattr(e, "peer")), None), "watched"
        )

    def connections(self) -> int:
        loop = self.engine.loop
        return len(loop._entries) - 1 - len(loop.listeners)

    def stop(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Serving]]:
    """Start servers that end with the test."""
    started: list[Serving] = []

    def start(*args: Any, **options: Any) -> Serving:
        serving = Serving(*args, **options)
        started.append(serving)
        return serving

    yield start
    for serving in started:
        serving.stop()


BASES = {"own": hangup.BaseHTTPRequestHandler, "stock": http.server.BaseHTTPRequestHandler}


@pytest.fixture(params=list(BASES))
def base(request: pytest.FixtureRequest) -> Any:
    """Each of the two kinds of handler: hangup's, and the standard library's unchanged."""
    return BASES[request.param]


def answer(handler: Any, body: bytes = b"ok", status: int = 200) -> None:
    """What a handler sends when nothing matters but that it answers."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class ServingApp(Recording):
    """A WSGI application at work in this process, and the records of its requests."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__()
        options.setdefault("access_log", "off")
        self.server = hangup.WSGIServer(app, port=0, sinks=[self._note], **options)
        self.server.start()

    def connect(self) -> Peer:
        return Peer(self.server.address)

    def get(self, path: str = "/", *fields: str) -> tuple[http.client.HTTPResponse, bytes]:
        with self.connect() as peer:
            return peer.get(path, "Connection: close", *fields).response()

    def stop(self) -> None:
        self.server.close(PATIENCE)


@pytest.fixture
def serve_app() -> Iterator[Callable[..., ServingApp]]:
    """Serve WSGI applications until the test ends."""
    started: list[ServingApp] = []

    def start(*args: Any, **options: Any) -> ServingApp:
        serving = ServingApp(*args, **options)
        started.append(serving)
        return serving

    yield start
    for serving in started:
        serving.stop()


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Any]:
    """Start gunicorn, which ends with the test."""
    from gunicorn_support import Gunicorn

    started: list[Gunicorn] = []

    def start(*args: str, directory: Path = tmp_path, **options: Any) -> Gunicorn:
        one = Gunicorn(directory, *args, **options)
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def nothing_is_said(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """Fail a test in which the server says anything above debug, or shows a traceback."""
    caplog.set_level(logging.DEBUG, "hangup")
    yield
    said = [(one.levelno, one.getMessage()) for one in caplog.records if one.name == "hangup"]
    assert [text for level, text in said if level > logging.DEBUG] == []
    assert "Traceback" not in capfd.readouterr().err


def hand_over_always(workers: Any) -> None:
    """Have the leader give the lead away before each handler, as if all of them blocked."""
    handover = workers._handover
    handover._decide = lambda: None
    handover.tries = lambda: False
    handover.keeps_lead = False
