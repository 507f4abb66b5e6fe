"""The examples of docs/howto.md, each against the real thing: when the client leaves, the work ends."""

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Peer, Serving, until
from hangup import ClientDisconnected, Outcome

HERE = Path(__file__).parent.parent
EXAMPLES = HERE / "examples"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_example_is_shown_in_the_docs_and_tested_here() -> None:
    page = (HERE / "docs" / "howto.md").read_text()
    tests = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"../examples/{path.name}" in page
        assert f'load("{path.stem}")' in tests


def ends_as_left(serving: Serving) -> None:
    record = serving.record()
    assert (record.outcome, record.status) == (Outcome.DISCONNECTED, 499)
    assert record.took < PATIENCE


def running(connection: Any) -> bool:
    """Whether an SQLite connection is at work: it then reports its progress."""
    return bool(connection.progress)


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_sqlite_stops(serve: Any, monkeypatch: pytest.MonkeyPatch, manner: str) -> None:
    example = load("sqlite")
    at_work = threading.Event()
    connect = sqlite3.connect

    def connect_and_tell(name: str) -> sqlite3.Connection:
        connection = connect(name)
        connection.set_progress_handler(at_work.set, 1000)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_tell)
    serving: Serving = serve(example.Handler)
    peer = serving.connect().get("/")
    assert at_work.wait(PATIENCE)
    getattr(peer, manner)()
    ends_as_left(serving)


# -- PostgreSQL


def postgres_programs() -> Path | None:
    """Where initdb and postgres are; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: p.parts[-3])
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL of our own: a socket in a directory, and no port."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # as whom it refuses to run
        try:
            entry = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory(prefix="hangup-pg-") as directory:
        if user:
            os.chown(directory, user["user"], user["group"])
        data = f"{directory}/data"
        options = ["--auth=trust", "--username=postgres", "--no-sync", "--no-instructions"]
        subprocess.run(
            [programs / "initdb", *options, "-D", data],
            check=True, capture_output=True, cwd=directory, **user,
        )  # fmt: skip
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses="],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory, **user,
        )  # fmt: skip
        try:
            until(lambda: os.path.exists(f"{directory}/.s.PGSQL.5432"), "its socket")
            yield directory
        finally:
            server.send_signal(signal.SIGQUIT)  # immediate shutdown
            server.wait(PATIENCE)


@pytest.fixture
def activity(postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What the database is at, by its own account."""
    psycopg = pytest.importorskip("psycopg")
    monkeypatch.setenv("PGHOST", postgres)
    monkeypatch.setenv("PGUSER", "postgres")
    monkeypatch.setenv("PGDATABASE", "postgres")

    def connect() -> Any:
        with contextlib.suppress(psycopg.OperationalError):  # It is starting up.
            return psycopg.connect("", autocommit=True)

    with until(connect, "the database") as connection:

        def queries() -> list[str]:
            rows = connection.execute(
                "SELECT query FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
            )
            return [query for (query,) in rows if "pg_sleep" in query]

        yield queries


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_postgres_stops(serve: Any, activity: Any, manner: str) -> None:
    serving: Serving = serve(load("postgres").Handler)
    peer = serving.connect().get("/")
    until(activity, "the query runs")
    getattr(peer, manner)()
    ends_as_left(serving)
    assert activity() == [], "it ended in the database, too"


def test_a_query_that_begins_when_the_client_has_just_left_is_cancelled_too(
    serve: Any, activity: Any
) -> None:
    """A cancel that comes before the statement is lost; so it is repeated."""
    psycopg = pytest.importorskip("psycopg")
    began = threading.Event()
    raised: list[BaseException] = []

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with psycopg.connect("") as connection:
                try:
                    with hangup.cancels(connection):
                        began.set()
                        self.client.wait(PATIENCE)
                        connection.execute("SELECT pg_sleep(60)")
                except ClientDisconnected as error:
                    raised.append(error)
                # The block has been left, and the connection is its next user's.
                connection.rollback()
                raised.append(connection.execute("SELECT 1").fetchone())

    serving: Serving = serve(Handler)
    peer = serving.connect().get("/")
    assert began.wait(PATIENCE)
    peer.fin()
    ends_as_left(serving)
    assert isinstance(raised[0].__cause__, psycopg.errors.QueryCanceled)
    assert raised[1] == (1,)


# -- a program


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_process_ends(serve: Any, monkeypatch: pytest.MonkeyPatch, stubborn: bool) -> None:
    example = load("process")
    processes: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def note(*args: Any, **options: Any) -> Any:
        processes.append(popen(*args, **options))
        return processes[-1]

    monkeypatch.setattr(example.subprocess, "Popen", note)
    monkeypatch.setattr(example, "PATIENCE", 0.1)
    if stubborn:
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
        monkeypatch.setattr(example, "COMMAND", [sys.executable, "-c", code])
    serving: Serving = serve(example.Handler)
    peer = serving.connect().get("/")
    until(lambda: processes, "it runs")
    if stubborn:
        status = Path(f"/proc/{processes[0].pid}/status")
        until(lambda: ignores_sigterm(status.read_text()), "it ignores SIGTERM")
    peer.fin()
    ends_as_left(serving)
    assert processes[0].returncode == -(signal.SIGKILL if stubborn else signal.SIGTERM)


def ignores_sigterm(status: str) -> bool:
    ignored = re.search(r"SigIgn:\s*(\w+)", status)
    return ignored is not None and bool(int(ignored[1], 16) & 1 << (signal.SIGTERM - 1))


# -- another server


def test_the_upstream_server_sees_its_client_leave_too(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = load("upstream")
    began, left = threading.Event(), threading.Event()

    class Upstream(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            began.set()
            if self.client.wait(PATIENCE):
                left.set()

    upstream: Serving = serve(Upstream)
    monkeypatch.setattr(example, "UPSTREAM", upstream.address)
    serving: Serving = serve(example.Handler)
    peer = serving.connect().get("/")
    assert began.wait(PATIENCE)
    peer.fin()
    assert left.wait(PATIENCE)
    ends_as_left(serving)
    upstream.record()


def test_the_upstream_servers_answer_is_passed_on(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    example = load("upstream")

    class Upstream(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.path)))
            self.end_headers()
            self.wfile.write(self.path.encode())

    monkeypatch.setattr(example, "UPSTREAM", serve(Upstream).address)
    assert serve(example.Handler).get("/hello") == (200, b"/hello")


# -- tokens


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_the_model_stops_within_one_token(
    serve: Any, monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    example = load("tokens")
    tokens: list[int] = []
    step, seen = threading.Semaphore(0), threading.Semaphore(0)

    def generate(_: str) -> Iterator[str]:
        for number in range(1000):
            tokens.append(number)
            seen.release()
            assert step.acquire(timeout=PATIENCE)  # The token is computed meanwhile.
            yield str(number)

    monkeypatch.setattr(example, "generate", generate)
    serving: Serving = serve(example.Handler)
    peer: Peer = serving.connect().get("/")
    step.release(2)
    assert peer.read_until(b"data: 1\n\n")
    for _ in range(3):
        assert seen.acquire(timeout=PATIENCE)
    connection = serving.the_connection()
    getattr(peer, manner)()
    until(lambda: connection.peer.disconnected_at is not None, "it is known")
    step.release(1000)
    record = serving.record()
    assert record.outcome is Outcome.DISCONNECTED
    assert tokens == [0, 1, 2], "the one that was being computed was the last"


# -- the helper itself


class Connection:
    """A database connection whose statement runs until it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.cancels = 0

    def execute(self) -> None:
        assert self.cancelled.wait(PATIENCE)
        raise TimeoutError("canceling statement due to user request")

    def cancel(self) -> None:
        self.cancels += 1
        self.cancelled.set()


def test_outside_of_a_request_nothing_is_cancelled() -> None:
    connection = Connection()
    with hangup.cancels(connection):
        pass
    assert not connection.cancels


def test_an_error_of_the_works_own_stays_as_it_is(serve: Any) -> None:
    errors: list[BaseException] = []

    class Server(hangup.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None: ...

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                with hangup.cancels(Connection()):
                    raise ZeroDivisionError
            except Exception as error:
                errors.append(error)
                raise

    assert serve(Handler, Server).get()[0] == 500
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_a_client_that_has_left_lets_no_work_begin(serve: Any) -> None:
    connection = Connection()
    began = threading.Event()

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            began.set()
            self.client.wait(PATIENCE)
            with hangup.cancels(connection):
                pytest.fail("the work began")

    serving: Serving = serve(Handler)
    peer = serving.connect().get("/")
    assert began.wait(PATIENCE)
    peer.fin()
    ends_as_left(serving)
    assert not connection.cancels


def test_what_can_be_neither_cancelled_nor_interrupted_is_refused() -> None:
    with pytest.raises(TypeError, match=r"socket.* has no method interrupt\(\) or cancel\(\)"):
        hangup.cancels(socket)
