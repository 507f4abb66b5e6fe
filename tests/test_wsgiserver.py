"""``hangup serve``, ``hangup.serve``, ``WSGIServer``: where they listen, what they say, how they end."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Peer, until
from hangup import Config, ConfigError, WSGIServer
from hangup._cli.loading import LoadError, load_app
from hangup.wsgi.server import bind_socket

APP = """
import threading, sys

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        print("slow begins", file=sys.stderr, flush=True)
        threading.Event().wait({wait})
    if path == "/upload":
        size = 0
        while piece := environ["wsgi.input"].read(65536):
            size += len(piece)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(size).encode()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/download":
        return (b"x" * 65536 for _ in range(4096))
    return [b"{body}"]

def create_app():
    return app

class Mounted:
    inner = staticmethod(app)

not_an_app = 5
"""


def app(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_app(tmp_path)
    return tmp_path


def write_app(directory: Path, body: str = "ok", wait: float = 30) -> None:
    (directory / "hello.py").write_text(APP.format(body=body, wait=wait))


class Command:
    """``hangup serve`` in a process of its own."""

    def __init__(self, directory: Path, *args: str, **environment: str) -> None:
        # A file: a pipe that nobody reads would fill up.
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hangup", "serve", *args],
            cwd=directory,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdout=self._out,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.said = ""
        self.url = ""

    def line(self) -> str:
        """The next line on stderr."""
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        self.said += line
        return line

    def ready(self) -> "Command":
        line = self.line()
        found = re.search(r"http://[^ ,]+", line)
        assert found, line + (self.process.stderr.read() if self.process.stderr else "")
        self.url = found[0]
        return self

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host.strip("[]"), int(port)

    def logged(self) -> int:
        """How many bytes of the access log there are."""
        return os.fstat(self._out.fileno()).st_size

    def end(self, signal_: int = signal.SIGTERM) -> tuple[int, str, str]:
        if self.process.poll() is None:
            self.process.send_signal(signal_)
        _, err = self.process.communicate(timeout=PATIENCE)
        self._out.seek(0)
        return self.process.returncode, self._out.read(), self.said + err

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._out.close()


@pytest.fixture
def command(directory: Path) -> Iterator[Any]:
    """Run ``hangup serve`` where hello.py is."""
    started: list[Command] = []

    def start(*args: str, **environment: str) -> Command:
        one = Command(directory, *args, **environment)
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop()


def get(address: Any, path: str = "/") -> tuple[int, bytes]:
    with Peer(address) as peer:
        response, body = peer.get(path, "Connection: close").response()
        return response.status, body


# -- the command


def test_it_says_what_it_serves_where_and_with_how_many_threads(command: Any) -> None:
    server = command("hello:app", "--port", "0", "--threads", "5").ready()
    assert get(server.address) == (200, b"ok")
    until(server.logged, "the request has ended")  # Its client has the response before that.
    status, out, err = server.end()
    assert status == 0
    assert re.fullmatch(
        r"hangup \S+ serves hello:app on http://127\.0\.0\.1:\d+,"
        r" with up to 5 threads \(Ctrl-C ends it\)\n",
        err,
    )
    assert re.fullmatch(r'127\.0\.0\.1 - - \[.*\] "GET / HTTP/1\.1" 200 2\n', out)


@pytest.mark.parametrize("target", ["hello:create_app()", "hello:Mounted.inner", "hello", "hello:"])
def test_the_ways_to_name_an_application(command: Any, target: str) -> None:
    server = command(target, "--port", "0", "--access-log", "off").ready()
    assert get(server.address) == (200, b"ok")
    assert server.end()[:2] == (0, "")


def test_options_come_from_the_environment_too(command: Any) -> None:
    server = command(
        "hello:create_app",
        HANGUP_PORT="0",
        HANGUP_FACTORY="1",
        HANGUP_THREADS="3",
        HANGUP_ACCESS_LOG="json",
    ).ready()
    assert "up to 3 threads" in server.said
    assert get(server.address, '/"') == (200, b"ok")
    told = json.loads(server.end()[1])
    assert (told["target"], told["status"], told["outcome"]) == ('/"', 200, "completed")


def test_a_limit_of_0_is_none(command: Any) -> None:
    """As it is for gunicorn; a body of 5 GB is announced, and nobody says 413."""
    limits = [
        "--max-request-body-size",
        "--max-request-line-size",
        "--max-request-header-size",
        "--max-request-field-size",
        "--max-request-fields",
    ]
    server = command(
        "hello:app", "--port", "0", *(word for limit in limits for word in (limit, "0"))
    ).ready()
    length, expects = "Content-Length: 5000000000", "Expect: 100-continue"
    with Peer(server.address) as peer:
        assert peer.get("/", length, expects, f"X-A: {'x' * 2_000_000}").response()[0].status == 200
    assert server.end()[0] == 0


def test_the_combined_log(command: Any) -> None:
    server = command("hello:app", "--port", "0", "--access-log", "combined").ready()
    with Peer(server.address) as peer:
        peer.get("/", 'User-Agent: a"b', "Referer: r", "Connection: close").response()
    assert server.end()[1].endswith('"GET / HTTP/1.1" 200 2 "r" "a\\"b"\n')


def test_every_setting_is_an_option(command: Any) -> None:
    help_ = subprocess.run(
        [sys.executable, "-m", "hangup", "serve", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for name in Config.__dataclass_fields__:
        option = "threads" if name == "max_threads" else name.replace("_", "-")
        assert f"--{option} " in help_


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["hello:ap"], "there is no 'ap' in hello; it has app, create_app, Mounted"),
        (["hello:app.x"], "there is no 'app.x' in hello"),
        (["hello:not_an_app"], "hello:not_an_app is no WSGI application: 5 can't be called"),
        (["hello:not_an_app()"], "hello:not_an_app() can't be called: it is 5"),
        (["nowhere:app"], "there is no module 'nowhere'"),
        (["hello.sub:app"], "there is no module 'hello.sub'"),
        (["a b:app"], "an application is named as package.module:app, not 'a b:app'"),
        (["hello:app", "--app-dir", "missing"], "there is no directory 'missing'"),
        (["hello:app", "--port", "70000"], "--port"),
        (["hello:app", "--threads", "0"], "--threads"),
        (
            ["hello:app", "--request-header-timeout", "nan"],
            "request_header_timeout must be at least 0.01, not nan",
        ),
        (["hello:app", "--graceful-timeout", "nan"], "graceful_timeout must be at least 0, not nan"),
        (["hello:app", "--access-log", "x"], "--access-log"),
        (["hello:app", "--fd", "0"], "can't listen on descriptor 0"),
        (["hello:app", "--fd", "999"], "can't listen on descriptor 999"),
        (["hello:app", "--uds", "no/such/place"], "can't listen on no/such/place: No such file"),
        (["hello:app", "--host", "192.0.2.1"], "can't listen on http://192.0.2.1:8000: Cannot assign"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(command: Any, args: list[str], message: str) -> None:
    server = command(*args)
    status, out, err = server.end(signal.SIGCONT)
    assert (status, out) == (2, "")
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_port_in_use_is_said_in_one_line(command: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, _, err = command("hello:app", "--port", port).end(signal.SIGCONT)
    assert (status, err) == (
        2,
        f"Error: can't listen on http://127.0.0.1:{port}: Address already in use\n",
    )


def test_a_module_that_fails_shows_its_own_traceback_and_nothing_of_ours(
    command: Any, directory: Path
) -> None:
    (directory / "broken.py").write_text("def f():\n    import no_such_thing\nf()\n")
    status, _, err = command("broken:app").end(signal.SIGCONT)
    assert status == 1
    assert err.startswith("Traceback (most recent call last):\n")
    assert "ModuleNotFoundError: No module named 'no_such_thing'" in err
    files = re.findall(r'File "([^"]+)"', err)
    assert files == [str(directory / "broken.py")] * 2


def test_a_factory_that_fails_shows_its_own_traceback(command: Any, directory: Path) -> None:
    (directory / "broken.py").write_text("def make():\n    return 1 / 0\n")
    status, _, err = command("broken:make()").end(signal.SIGCONT)
    assert status == 1
    assert re.findall(r'File "([^"]+)"', err) == [str(directory / "broken.py")]


def test_a_module_that_can_not_be_parsed(command: Any, directory: Path) -> None:
    (directory / "broken.py").write_text("def f(:\n")
    status, _, err = command("broken:app").end(signal.SIGCONT)
    assert status == 1
    assert "SyntaxError" in err
    assert re.findall(r'File "([^"]+)"', err) == [str(directory / "broken.py")]


# -- how it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_in_progress_finish(
    command: Any, directory: Path, number: signal.Signals
) -> None:
    write_app(directory, wait=0.3)
    server = command("hello:app", "--port", "0").ready()
    with Peer(server.address) as idle, Peer(server.address) as peer:
        idle.get("/").response()
        peer.get("/slow")
        assert server.line() == "slow begins\n"
        server.process.send_signal(number)
        response, body = peer.response()
        assert (response.status, body, response.headers["Connection"]) == (200, b"ok", "close")
        assert idle.read_to_end() == b""
    status, out, err = server.end(signal.SIGCONT)
    assert status == 0
    assert out.count("\n") == 2
    assert "Traceback" not in err


def test_what_takes_longer_than_the_grace_time_is_left_behind(command: Any) -> None:
    server = command("hello:app", "--port", "0", "--graceful-timeout", "0.1").ready()
    with Peer(server.address) as peer:
        peer.get("/slow")
        assert server.line() == "slow begins\n"
        assert server.end()[0] == 0


def test_a_signal_that_another_thread_gets_ends_it_all_the_same(directory: Path) -> None:
    """The kernel may give a signal to any thread; Python's handler runs in the main one, which waits."""
    program = """
import os, signal, sys, threading
import hangup
from hello import app

def kill():
    main = threading.main_thread().ident
    while sys._current_frames()[main].f_code.co_name != "serve_forever":
        threading.Event().wait(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

def ready(server):
    # From here on the main thread gets none; those of the server do.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=kill, daemon=True).start()

hangup.serve(app, port=0, ready=ready, access_log="off")
print("ended")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_a_second_signal_ends_it_at_once(command: Any) -> None:
    server = command("hello:app", "--port", "0").ready()
    with Peer(server.address) as peer:
        peer.get("/slow")
        assert server.line() == "slow begins\n"
        server.process.send_signal(signal.SIGTERM)
        # It no longer listens: the first signal has been heard.
        until(lambda: not listens(server.address), "it drains")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == -signal.SIGTERM


def listens(address: Any) -> bool:
    with contextlib.closing(socket.socket()) as sock:
        return sock.connect_ex(address) == 0


def test_no_request_is_lost_when_a_busy_server_ends(command: Any) -> None:
    """Clients that keep their connections lose nothing; and whatever the server has begun is answered.

    A connection that the kernel establishes between the last accept and the listener's closing is
    reset by it. Nobody can help that; so a fresh connection may fail, before its first answer.  Clients
    that pipeline send several requests at once: what was received before the answer that says `close`
    is answered, too.
    """
    server = command("hello:app", "--port", "0").ready()
    lost: list[BaseException] = []
    answered = [0]
    busy, counting = threading.Semaphore(0), threading.Lock()

    def client(keep: bool, at_once: int) -> None:
        connection = None
        fresh = True
        while True:
            try:
                if connection is None:
                    connection, fresh = Peer(server.address), True
            except OSError:
                return  # It does not listen any more.
            try:
                if at_once > 1:
                    connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * at_once)
                else:
                    connection.get("/", *([] if keep else ["Connection: close"]))
                for _ in range(at_once):
                    response, body = connection.response()
                    assert (response.status, body) == (200, b"ok")
                    fresh = False
                    with counting:
                        answered[0] += 1
                    busy.release()
                if not keep or response.headers["Connection"] == "close":
                    connection.fin()
                    connection = None
            except (OSError, AssertionError, http.client.HTTPException) as error:
                connection.fin()
                if not fresh or not isinstance(error, ConnectionResetError):
                    lost.append(error)
                return

    kinds = [(True, 1), (False, 1), (True, 7)] * 3
    threads = [threading.Thread(target=client, args=kind) for kind in kinds]
    for thread in threads:
        thread.start()
    for _ in range(200):
        assert busy.acquire(timeout=PATIENCE)
    status, out, err = server.end()
    for thread in threads:
        thread.join(PATIENCE)
    assert (status, lost) == (0, [])
    assert out.count('" 200 2\n') == out.count("\n") == answered[0]
    assert "Traceback" not in err


# -- what it needs


def resident(process: int) -> int:
    """The most memory that a process has had, in KiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_what_is_sent_through_it(command: Any) -> None:
    server = command("hello:app", "--port", "0", "--access-log", "off").ready()
    assert get(server.address) == (200, b"ok")
    before = resident(server.process.pid)
    piece, count, size = b"x" * 65536, 4096, 256 << 20
    with Peer(server.address) as peer:
        peer.send(b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(count):
            peer.send(piece)
        assert peer.response()[1] == str(size).encode()
        peer.send(b"POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(count):
            peer.send(b"10000\r\n%b\r\n" % piece)
        assert peer.send(b"0\r\n\r\n").response()[1] == str(size).encode()
        peer.send(b"GET /download HTTP/1.0\r\n\r\n")
        got = 0
        while data := peer.sock.recv(1 << 20):
            got += len(data)
        assert got > size
    assert resident(server.process.pid) - before < 20 * 1024


# -- where it listens


def test_a_unix_socket_that_was_left_over_is_taken_over_and_removed_at_the_end(
    command: Any, directory: Path
) -> None:
    path = str(directory / "sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    server = command("hello:app", "--uds", "sock")
    assert "serves hello:app on unix:sock, " in server.line()
    assert get(path) == (200, b"ok")
    status, _, err = command("hello:app", "--uds", "sock").end(signal.SIGCONT)
    assert (status, err) == (2, "Error: can't listen on sock: Address already in use\n")
    assert get(path) == (200, b"ok")
    assert server.end()[0] == 0
    assert not os.path.exists(path)


def test_a_file_that_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="Address already in use"):
        bind_socket("", 0, uds=str(path), backlog=1)
    assert path.read_text() == "precious"


def test_an_inherited_socket(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = subprocess.Popen(
            [sys.executable, "-m", "hangup", "serve", "hello:app", "--fd", str(sock.fileno())],
            cwd=directory,
            pass_fds=[sock.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert get(sock.getsockname()) == (200, b"ok")
        finally:
            server.terminate()
            _, err = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0
        assert f"127.0.0.1:{sock.getsockname()[1]}" in err


def test_ipv6(serve_app: Any) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        server = WSGIServer(app, "::1", 0, access_log="off")
    except OSError:
        pytest.skip("no IPv6 on the loopback")
    with server:
        assert server.url == f"http://[::1]:{server.port}"
        connection = http.client.HTTPConnection("::1", server.port)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"ok"
        connection.close()


# -- from code


def test_serve_in_a_thread_and_with_port_0() -> None:
    ready: list[WSGIServer] = []
    listening = threading.Event()

    def tell(server: WSGIServer) -> None:
        ready.append(server)
        listening.set()

    thread = threading.Thread(
        target=hangup.serve, args=(app,), kwargs={"port": 0, "ready": tell, "access_log": "off"}
    )
    thread.start()
    assert listening.wait(PATIENCE)
    assert ready[0].port > 0
    assert get(ready[0].address) == (200, b"ok")
    ready[0].shutdown()
    ready[0].shutdown()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not listens(ready[0].address)


def test_serve_leaves_the_programs_signal_handlers_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    hangup.serve(app, port=0, ready=lambda server: server.shutdown())
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_server_that_never_started_closes_its_socket() -> None:
    server = WSGIServer(app, port=0)
    address = server.address
    server.close()
    assert not listens(address)


def test_bad_arguments_are_typed_errors() -> None:
    with pytest.raises(ConfigError, match="callable"):
        WSGIServer("app", port=0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="access_log must be one of common, combined, json, off"):
        WSGIServer(app, port=0, access_log="xml")
    with pytest.raises(OSError, match=r"can't listen on http://192\.0\.2\.1:80"):
        WSGIServer(app, "192.0.2.1", 80)


def test_close_twice_is_no_error() -> None:
    server = WSGIServer(app, port=0, access_log="off")
    server.start()
    server.close()
    server.close()


def test_load_app_raises_typed_errors(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(LoadError):
        load_app("hello:ap", directory=str(directory))
    assert callable(load_app("hello:app", directory=str(directory)))


# -- reloading


def test_reload_starts_anew_when_a_file_changes_and_refuses_nobody(
    command: Any, directory: Path
) -> None:
    server = command("hello:app", "--port", "0", HANGUP_RELOAD="1").ready()
    assert get(server.address) == (200, b"ok")
    changed = time.monotonic() + PATIENCE
    write_app(directory, body="new")
    answers = [get(server.address)]
    while answers[-1] != (200, b"new"):
        assert time.monotonic() < changed, answers
        answers.append(get(server.address))
    assert {status for status, _ in answers} == {200}
    status, _, err = server.end()
    assert status == 0
    assert "hello.py changed: starting anew" in err
    assert not listens(server.address)
