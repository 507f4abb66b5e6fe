"""The servers that ``wsgi.py`` measures, and how one runs: on a core and a port, until it is stopped."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from wsgi_peers import PYTHON

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
APP = "wsgi_app:app"
#: Seconds that a server has to listen, and to end when it is asked to.
START, END = 20.0, 5.0

#: Linux gives those from 32768 on.
PORTS = 20_000, 32_000

LAST = (os.cpu_count() or 1) - 1
SERVER_CORE, LOAD_CORE, BOTH = "0", str(LAST), f"0,{LAST}"


class NoServer(Exception):
    """It doesn't start, or doesn't answer as it should; the text says which."""


def on_cores(cores: str, command: list[str]) -> list[str]:
    return ["taskset", "-c", cores, *command] if shutil.which("taskset") else command


@contextmanager
def on_this_core(core: str) -> Iterator[None]:
    """This thread itself, for as long as the block lasts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class Server:
    """One of them: ``command(port, threads)`` starts it.

    ``closing``, if there is one, does where connections are not kept.
    """

    name: str
    #: What to call it in the tables, and the distribution that has it (None: it's Python's own).
    title: str
    distribution: str | None
    command: Callable[[int, int], list[str]]
    note: str = ""
    closing: Callable[[int, int], list[str]] | None = None


def from_code(
    kind: str, python: Path | str = PYTHON, app: str = APP, settings: tuple[str, ...] = ()
) -> Callable[[int, int], list[str]]:
    program = [str(python), "wsgi_serve.py", kind]
    return lambda port, threads: [*program, str(port), str(threads), app, *settings]


def hangup(port: int, threads: int, app: str = APP) -> list[str]:
    options = ["--access-log", "off", "--threads", str(threads), app, "--port", str(port)]
    return [sys.executable, "-m", "hangup", "serve", *options]


def hangup_64(port: int, threads: int) -> list[str]:
    """Always with its 64 threads, which are made when they are needed."""
    return hangup(port, 64)


def gunicorn(
    port: int,
    threads: int,
    app: str = APP,
    python: Path | str = PYTHON,
    worker: str = "gthread",
    settings: tuple[str, ...] = (),
) -> list[str]:
    options = ["--worker-class", worker, "--workers", "1", "--threads", str(threads), *settings]
    listen = ["--bind", f"{HOST}:{port}", "--no-control-socket"]
    return [str(python), "-m", "gunicorn", *options, *listen, app]


def granian(port: int, threads: int, app: str = APP) -> list[str]:
    options = ["--interface", "wsgi", "--workers", "1", "--blocking-threads", str(threads)]
    return [str(PYTHON), "-m", "granian", *options, "--host", HOST, "--port", str(port), app]


def uwsgi(port: int, threads: int) -> list[str]:
    return [*uwsgi_options(threads), "--http11-socket", f"{HOST}:{port}"]


def uwsgi_closing(port: int, threads: int) -> list[str]:
    """Its socket with keep-alive heeds no ``Connection: close``, and doesn't end what has no length."""
    listen = ["--http-socket", f"{HOST}:{port}", "--add-header", "Connection: close"]
    return [*uwsgi_options(threads), *listen]


def uwsgi_options(threads: int) -> list[str]:
    options = ["--processes", "1", "--threads", str(threads), "--enable-threads", "--need-app"]
    silent = ["--disable-logging", "--die-on-term"]
    return [str(PYTHON.with_name("uwsgi")), *options, *silent, "--module", APP]


WSGIREF = "stock: one thread, backlog 5; clients that the kernel drops come again after 1 s"
CHEROOT = "1,024 connections in its backlog and kept, instead of 5 and 10"
UWSGI = "1 process; `--http11-socket`, but `--http-socket` for new connections and the stream"

ALL = (
    Server("hangup", "hangup", "hangup", hangup_64, "64 threads at most"),
    Server("wsgiref", "wsgiref", None, from_code("wsgiref", sys.executable), WSGIREF),
    Server("werkzeug", "Werkzeug", "werkzeug", from_code("werkzeug"), "a thread for each connection"),
    Server("waitress", "waitress", "waitress", from_code("waitress")),
    Server("cheroot", "cheroot", "cheroot", from_code("cheroot"), CHEROOT),
    Server("gunicorn", "gunicorn gthread", "gunicorn", gunicorn, "1 worker"),
    Server("granian", "granian", "granian", granian, "1 worker"),
    Server("bjoern", "bjoern", "bjoern", from_code("bjoern"), "one thread"),
    Server("uwsgi", "uWSGI", "uwsgi", uwsgi, UWSGI, uwsgi_closing),
)


def free_port() -> int:
    """None of those that the kernel gives to whoever asks for any: others could have it first."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def stop_when_told() -> None:
    """A signal ends the program as an error would: what runs is stopped on the way out."""

    def end(*_: object) -> NoReturn:
        sys.exit("stopped")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def stop(process: subprocess.Popen[Any], patience: float = END) -> None:
    """Ask a process to end, and have it ended after ``patience`` seconds."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Running:
    """A server in a process group of its own, for as long as the block lasts."""

    def __init__(
        self,
        server: Server,
        threads: int,
        cores: str,
        *,
        keep: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        command = server.command if keep or server.closing is None else server.closing
        self.port = free_port()
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the server
        self.process = subprocess.Popen(
            on_cores(cores, command(self.port, threads)),
            cwd=HERE,
            env=environment and {**os.environ, **environment},
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        try:
            self._await()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _await(self) -> None:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NoServer(f"ended at once: {self.last_words()}")
            try:
                socket.create_connection((HOST, self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise NoServer(f"did not listen within {START:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        self.output.seek(0)
        lines = self.output.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def memory(self) -> dict[str, int]:
        """The process's resident memory in KB, by the names that Linux has for it."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return {name: int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM")}

    def cpu(self) -> float:
        """Seconds of CPU of its session's processes, and of those that they have waited for."""
        ticks = 0
        for each in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = each.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # It has just ended.
            if int(fields[3]) == self.process.pid:
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def __exit__(self, *_: object) -> None:
        try:
            self._signal(signal.SIGTERM)
            self.process.wait(END)
        except subprocess.TimeoutExpired:
            pass  # What follows is not to be ignored.
        finally:
            self._signal(signal.SIGKILL)
            self.process.wait(END)
            self.output.close()

    def _signal(self, number: int) -> None:
        """To all of the group: its id is the process's, also when that one has ended before others."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass
