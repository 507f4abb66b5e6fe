"""What went wrong once where threads meet in the engine, each made to happen again."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from time import monotonic
from typing import Any

import pytest

import hangup
from conftest import BASES, PATIENCE, Peer, answer, pure, until
from hangup import Outcome
from hangup._connection.arrival import Arrival
from hangup._connection.connection import Connection
from hangup._connection.waiting import stop_waiting


class Answers(hangup.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        answer(self)

    def log_message(self, *_: Any) -> None: ...


def entries(loop: Any) -> list[Connection]:
    return [entry for entry in list(loop._entries.values()) if isinstance(entry, Connection)]


@pure
def test_room_is_made_while_other_threads_close_connections(serve: Any) -> None:
    serving = serve(Answers)
    loop = serving.engine.loop

    class Neighbour(Arrival):
        """Another connection comes or goes while this one is looked at."""

        __slots__ = ()

        @property
        def is_quiet(self) -> bool:
            if loop._entries.pop(-7, None) is None:
                loop._entries[-7] = loop._entries[loop.poller.wake_fd]
            return True

    with contextlib.ExitStack() as opened:
        for _ in range(3):
            opened.enter_context(serving.connect()).get("/").response()
        until(lambda: len(entries(loop)) == 3, "all are watched")
        for connection in entries(loop):
            connection.arrival.__class__ = Neighbour
        try:
            assert loop.make_room()
        finally:
            loop._entries.pop(-7, None)


def test_a_deadline_that_another_thread_sets_during_a_sweep_is_kept(serve: Any) -> None:
    loop = serve(Answers).engine.loop
    kept = []

    class Timer:
        """Due soon; while the sweep calls on it, another thread parks a connection behind it."""

        deadline = monotonic() + 0.05

        def on_deadline(self) -> bool:
            self.deadline = float("inf")
            another.deadline = monotonic() + 0.05
            loop.expect(another.deadline)
            return False

    class Another:
        deadline = float("inf")

        def on_deadline(self) -> bool:
            self.deadline = float("inf")
            kept.append(self)
            return False

    another = Another()
    loop.timers[:0] = [another, timer := Timer()]
    loop.expect(timer.deadline)
    until(lambda: kept, "the other deadline")


class KeepsThread(hangup.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    thread_per_connection = True
    may_read: threading.Event

    def do_POST(self) -> None:
        self.may_read.wait(PATIENCE)
        answer(self, self.rfile.read())

    def log_message(self, *_: Any) -> None: ...


def test_a_body_that_takes_longer_than_a_connection_may_be_idle_is_waited_for(serve: Any) -> None:
    KeepsThread.may_read = threading.Event()
    KeepsThread.may_read.set()
    serving = serve(KeepsThread, config=hangup.Config(keep_alive_timeout=0.5))
    with serving.connect() as peer:
        for body in (b"", b"abcd"):  # The thread that has answered the first one waits for the second.
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
            for byte in body:
                threading.Event().wait(0.2)
                peer.send(bytes([byte]))
            assert peer.response()[1] == body
    assert [record.outcome for record in serving.wait_for_records(2)] == [Outcome.COMPLETED] * 2


def test_a_head_that_ends_later_than_a_connection_may_be_idle_is_waited_for(serve: Any) -> None:
    KeepsThread.may_read = threading.Event()
    KeepsThread.may_read.set()
    serving = serve(KeepsThread, config=hangup.Config(keep_alive_timeout=0.5))
    with serving.connect() as peer:
        for piece in (b"", b"Host: a\r\nContent-Length: 0\r\n\r\n"):
            peer.send(
                b"POST / HTTP/1.1\r\n" + (b"" if piece else b"Host: a\r\nContent-Length: 0\r\n\r\n")
            )
            if piece:
                threading.Event().wait(0.8)
                peer.send(piece)
            assert peer.response()[0].status == 200


def test_a_client_that_leaves_in_a_head_for_which_a_thread_waits_is_told_of(serve: Any) -> None:
    KeepsThread.may_read = threading.Event()
    KeepsThread.may_read.set()
    serving = serve(KeepsThread)
    with serving.connect() as peer:
        peer.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").response()
        peer.send(b"POST /b HTTP/1.1\r\nHost:")
        peer.fin()
    records = {record.target: record.outcome for record in serving.wait_for_records(2)}
    assert records == {"/a": Outcome.COMPLETED, "/b": Outcome.DISCONNECTED}


@pytest.mark.parametrize("who", ["stop_waiting", "evict"])
def test_whoever_ends_a_threads_wait_ends_no_request_that_has_come_by_then(serve: Any, who: str) -> None:
    """The look at who waits, and the end of the wait, are two steps."""
    KeepsThread.may_read = threading.Event()
    serving = serve(KeepsThread)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n"
    with serving.connect() as peer:
        try:
            peer.send(head + b"a" * 65536)
            connection = serving.the_connection()
            until(lambda: connection.exchange is not None and connection.exchange.started_at, "started")
            if who == "evict":
                connection.evict()
            else:
                stop_waiting(connection.transport)
        finally:
            KeepsThread.may_read.set()
        peer.send(b"a" * (70000 - 65536))
        response, body = peer.response()
        record = serving.record()  # before this client leaves
    assert (response.status, len(body)) == (200, 70000)
    assert (record.outcome, record.disconnected_at) == (Outcome.COMPLETED, None)


def streams_until_told(client: hangup.Client) -> Any:
    yield b"x" * 100
    assert client.wait(PATIENCE)


def stream_app(environ: dict[str, Any], start: Any) -> Any:
    start("200 OK", [("Content-Length", "1000")] if environ["PATH_INFO"] == "/length" else [])
    return streams_until_told(environ["hangup.client"])


def streaming(base: Any) -> Any:
    class Streams(base):  # type: ignore[misc]
        def do_GET(self) -> None:
            self.send_response(200)
            if self.path == "/length":
                self.send_header("Content-Length", "1000")
            self.end_headers()
            for piece in streams_until_told(hangup.current_client()):
                self.wfile.write(piece)

    return Streams


@pytest.mark.parametrize("manner", ["fin", "rst"])
@pytest.mark.parametrize("target", ["/length", "/"])
@pytest.mark.parametrize("front_end", ["own", "stock", "wsgi"])
def test_a_response_that_was_given_up_for_a_client_that_left_was_not_answered(
    serve: Any, serve_app: Any, front_end: str, target: str, manner: str
) -> None:
    """Also if the client's kernel has acknowledged all that there is of it."""
    serving = serve_app(stream_app) if front_end == "wsgi" else serve(streaming(BASES[front_end]))
    with serving.connect() as peer:
        peer.send(b"GET %s HTTP/1.0\r\n\r\n" % target.encode()).read_until(b"x" * 100)
        getattr(peer, manner)()
    record = serving.record()
    assert (record.outcome, record.status) == (Outcome.DISCONNECTED, 200)
    assert record.disconnected_at is not None


@pytest.mark.parametrize("body", [b"ok", b""])
def test_a_half_closed_client_that_has_its_response_was_answered_though_its_handler_was_told(
    serve: Any, base: Any, body: bytes
) -> None:
    class Asks(base):
        def do_GET(self) -> None:
            assert hangup.current_client().wait(PATIENCE)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    serving = serve(Asks)
    with serving.connect() as peer:
        peer.send(b"GET / HTTP/1.0\r\n\r\n").half_close()
        assert peer.read_to_end().endswith(b"\r\n\r\n" + body)
    assert serving.record().outcome is Outcome.COMPLETED


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_who_has_its_response_and_leaves_before_the_handler_ends_was_answered(
    serve: Any, base: Any, manner: str
) -> None:
    """Neither the record, nor a log of the program's own, says 499."""
    lines: list[str] = []

    class Dawdles(base):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
            assert hangup.current_client().wait(PATIENCE)

        def log_message(self, form: str, *args: Any) -> None:
            lines.append(form % args)

    serving = serve(Dawdles)
    with serving.connect() as peer:
        assert peer.get("/").response()[1] == b"ok"
        getattr(peer, manner)()
    assert (serving.record().outcome, serving.record().status) == (Outcome.COMPLETED, 200)
    assert lines == []


def test_a_connection_that_a_deadline_ends_is_closed_though_nothing_else_happens(serve: Any) -> None:
    """A worker runs the program's ``finish``, and the event loop waits for no event before that."""

    class Finishes(Answers):
        thread_per_connection = False

        def finish(self) -> None:
            super().finish()

    serving = serve(Finishes, config=hangup.Config(keep_alive_timeout=0.2))
    with serving.connect() as peer:
        peer.get("/").response()
        peer.sock.settimeout(PATIENCE / 2)
        assert peer.read_to_end() == b""


@pytest.mark.parametrize("server_class", [hangup.HTTPServer, hangup.ThreadingHTTPServer])
def test_serve_forever_takes_over_from_handle_request(server_class: Any) -> None:
    """Without a connection the first event loop ends at once, and is still asked for what it has."""
    for _ in range(20):
        with server_class(("127.0.0.1", 0), Answers) as server:
            server.timeout = 0.001
            server.handle_request()
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with Peer(server.server_address) as peer:
                assert peer.get("/").response()[0].status == 200
            server.shutdown()
            thread.join()


def test_several_threads_handle_one_request_each() -> None:
    with hangup.HTTPServer(("127.0.0.1", 0), Answers) as server, contextlib.ExitStack() as opened:
        threads = [threading.Thread(target=server.handle_request) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in threads:
            peer = opened.enter_context(Peer(server.server_address))
            assert peer.get("/", "Connection: close").response()[0].status == 200
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


FORKS = """
import os, sys, hangup
class Forks(hangup.BaseHTTPRequestHandler):
    def do_GET(self):
        os.write(1, b"%d\\n" % os.fork())
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
server = hangup.HTTPServer(("127.0.0.1", 0), Forks)
print(server.server_port, flush=True)
while True:
    server.handle_request()
"""


def test_a_child_that_a_handler_forked_ends_though_its_program_handles_request_after_request() -> None:
    with subprocess.Popen([sys.executable, "-c", FORKS], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        with Peer(("127.0.0.1", int(program.stdout.readline()))) as peer:
            peer.get("/")
            child = max(int(program.stdout.readline()) for _ in range(2))
            try:
                until(lambda: has_ended(child), "the child has ended")
            finally:
                program.kill()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)


def has_ended(child: int) -> bool:
    """Whether a process is no more, or nobody has asked for its status."""
    try:
        with open(f"/proc/{child}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
