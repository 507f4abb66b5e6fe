"""SystemExit, KeyboardInterrupt and the like in a program's code: what they end, and what they don't."""

import asyncio
import http.server
import logging
import threading
from typing import Any

import pytest

import hangup
from conftest import BASES, PATIENCE, answer, until
from hangup import Config, Outcome


class OfTheirOwn(BaseException):
    """A library's own: gevent's timeouts, say."""


ERRORS = [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, OfTheirOwn]


@pytest.fixture(params=ERRORS)
def error(request: pytest.FixtureRequest) -> type[BaseException]:
    found: type[BaseException] = request.param
    return found


class Raising:
    """An application that raises in one place, on /raise."""

    def __init__(self, error: type[BaseException], place: str) -> None:
        self.error, self.place = error, place

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        place = self.place if environ["PATH_INFO"] == "/raise" else ""
        if place == "view":
            raise self.error
        if place == "input":
            environ["wsgi.input"].read = None
        try:
            if place == "start_response":
                raise self.error
            write = start_response("200 OK", [("Content-Type", "text/plain")])
        except self.error:
            if place == "start_response":
                start_response("200 OK", [])
            raise
        if place == "write":
            write(b"begun")
            raise self.error
        return Body(self.error, place)


class Body:
    def __init__(self, error: type[BaseException], place: str) -> None:
        self.error, self.place, self.count = error, place, 0

    def __iter__(self) -> "Body":
        if self.place == "iter":
            raise self.error
        return self

    def __next__(self) -> bytes:
        self.count += 1
        if self.place == "first" or (self.place == "later" and self.count == 2):
            raise self.error
        if self.count > 2:
            raise StopIteration
        return b"block"

    def close(self) -> None:
        if self.place == "close":
            raise self.error


#: Where it is raised, and whether a 500 is possible still.
PLACES = {
    "view": True, "start_response": True, "iter": True, "first": True,
    "write": False, "later": False, "close": False,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_in_an_application(
    serve_app: Any, caplog: pytest.LogCaptureFixture, error: Any, place: str
) -> None:
    serving = serve_app(Raising(error, place), config=Config(max_threads=2))
    for number in range(1, 5):  # More than there are threads.
        with serving.connect() as peer:
            sent = peer.get("/raise").read_to_end()
        if PLACES[place]:
            assert sent.startswith(b"HTTP/1.1 500 ")
        elif place == "close":
            assert sent.endswith(b"\r\n0\r\n\r\n"), "its response was whole"
        else:
            assert sent.startswith(b"HTTP/1.1 200 OK")
            assert not sent.endswith(b"\r\n0\r\n\r\n"), "it is seen to be cut short"
        said = [r for r in caplog.records if r.levelno >= logging.ERROR]
        serving.wait_for_records(number)
        assert len(said) == number, caplog.text
        assert said[-1].exc_info is not None
        assert said[-1].exc_info[0] is error
    assert {record.outcome for record in serving.records} == {Outcome.FAILED}
    assert serving.get("/")[1] == b"blockblock"


def handler_for(base: Any, error: type[BaseException], place: str) -> Any:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            if place == "setup" and raising:
                raise error

        def do_GET(self) -> None:
            if place == "before" and self.path == "/raise":
                raise error
            answer(self)
            if place == "after" and self.path == "/raise":
                raise error

        def finish(self) -> None:
            super().finish()
            if place == "finish" and raising:
                raise error

        def log_message(self, *args: Any) -> None: ...

    raising = [1]
    Handler.raising = raising
    return Handler


@pytest.mark.parametrize("kind", ["own", "stock"])
@pytest.mark.parametrize("place", ["before", "after", "finish", "setup"])
def test_in_a_handler(
    serve: Any, capfd: pytest.CaptureFixture[str], error: Any, kind: str, place: str
) -> None:
    handler = handler_for(BASES[kind], error, place)
    serving = serve(handler, config=Config(max_threads=2))
    for _ in range(4):
        with serving.connect() as peer:
            sent = peer.get("/raise", "Connection: close").read_to_end()
        if place in ("before", "setup"):
            assert sent.startswith(b"HTTP/1.1 500 ")
        else:
            assert sent.endswith(b"\r\n\r\nok")
    handler.raising.clear()
    assert serving.get() == (200, b"ok")
    said = ""

    def all_said() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return said.count("Traceback") == 4

    until(all_said, "it is said, once for each")
    assert error.__name__ in said


def test_in_verify_request(serve: Any, caplog: pytest.LogCaptureFixture, error: Any) -> None:
    class Server(hangup.ThreadingHTTPServer):
        raising = True

        def verify_request(self, _request: Any, _address: Any) -> bool:
            if self.raising:
                raise error
            return True

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

    serving = serve(Handler, Server)
    for _ in range(3):
        with serving.connect() as peer:
            assert peer.read_to_end() == b""
    said = caplog.records
    until(lambda: len(said) >= 3, "it is said, once for each")
    assert len(said) == 3
    serving.server.raising = False
    assert serving.get() == (200, b"ok")


def test_in_verify_request_of_a_server_that_is_asked_for_each_request(error: Any) -> None:
    class Server(hangup.HTTPServer):
        timeout = 0.2

        def verify_request(self, _request: Any, _address: Any) -> bool:
            raise error

    with Server(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        from conftest import Peer

        with Peer(server.server_address) as peer:
            server.handle_request()  # It returns.
            assert peer.read_to_end() == b""


@pytest.mark.parametrize("threads", [1, 3])
def test_in_a_sink(serve_app: Any, caplog: pytest.LogCaptureFixture, error: Any, threads: int) -> None:
    app = Raising(error, "")
    serving = serve_app(app, config=Config(max_threads=threads))
    loop = serving.server.engine.loop
    raising = [1]

    def sink(_record: Any) -> None:
        if raising:
            raise error

    loop.sinks.sinks = (sink, serving._note)
    with serving.connect() as peer:
        for _ in range(4):
            # A sink is no part of the response, nor of the connection.
            assert peer.get("/").response()[1] == b"blockblock"
    # Also one that is called by the event loop, of a request that is refused by it.
    with serving.connect() as peer:
        peer.send(b"GET / HT").half_close()
        peer.read_to_end()
    raising.clear()
    assert serving.get("/")[1] == b"blockblock"
    assert len(serving.wait_for_records(6)) == 6, "the other sinks are told"
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(said) == 1
    assert error.__name__ in said[0]


def test_in_a_callback(serve_app: Any, caplog: pytest.LogCaptureFixture, error: Any) -> None:
    ran = threading.Event()

    def callback() -> None:
        ran.set()
        raise error

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/wait":
            with environ["hangup.client"].on_disconnect(callback):
                began.release()
                assert ran.wait(PATIENCE)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    began = threading.Semaphore(0)
    serving = serve_app(app)
    for number in range(1, 4):
        ran.clear()
        peer = serving.connect().get("/wait")
        assert began.acquire(timeout=PATIENCE)
        peer.fin()
        serving.wait_for_records(number)
        said = [r for r in caplog.records if r.levelno >= logging.ERROR]
        assert len(said) == number
        assert said[-1].exc_info[0] is error  # type: ignore[index]
    assert serving.get()[1] == b"ok"


@pytest.mark.parametrize("kind", ["own", "stock"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["method", "finish"])
def test_a_serial_servers_handler_ends_the_program_as_ever(place: str, error: Any, kind: str) -> None:
    # Its handlers run in the thread that called serve_forever: sys.exit() and Ctrl-C are meant for that.
    class Handler(BASES[kind]):  # type: ignore[misc]
        def do_GET(self) -> None:
            if place == "method":
                raise error
            answer(self)

        def finish(self) -> None:
            super().finish()
            if place == "finish":
                raise error

    with hangup.HTTPServer(("127.0.0.1", 0), Handler) as server:
        from conftest import Peer

        with Peer(server.server_address) as peer:
            peer.get("/")
            with pytest.raises(error):
                server.serve_forever()
            assert peer.read_to_end().endswith(b"ok" if place == "finish" else b"")
