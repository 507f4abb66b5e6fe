"""wsgiref's, Werkzeug's and Django's own servers: under ``hangup run`` as under the plain interpreter.

Each has a handler of http.server's with a loop of its own, or reads its request line, or decodes chunks.
"""

import contextlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.servers import basehttp
from werkzeug import serving as werkzeug_serving

import hangup
from conftest import PATIENCE, Peer, until

PROGRAM = """
import itertools, json, logging, sys, threading
logging.disable()
count = itertools.count(1)
def app(environ, start_response):
    stream = environ["wsgi.input"]
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = stream.read() if environ.get("wsgi.input_terminated") else stream.read(length)
    found = [next(count), environ["REQUEST_METHOD"], environ["PATH_INFO"], body.decode(),
             environ.get("HTTP_TRANSFER_ENCODING"), environ.get("CONTENT_LENGTH") or None]
    data = json.dumps(found).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(data)))])
    return [data]
def wsgiref():
    from wsgiref.simple_server import WSGIRequestHandler, make_server
    return make_server("127.0.0.1", 0, app)
def werkzeug():
    from werkzeug.serving import make_server
    return make_server("127.0.0.1", 0, app, threaded=True)
def django():
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
    server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
    server.set_app(app)
    return server
server = globals()[sys.argv[1]]()
print(server.server_port, [cls.__module__ for cls in type(server).__mro__], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""
CHUNKED = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
#: How many requests one connection carries, the last one included that says `close`.
KEPT = {"wsgiref": 1, "werkzeug": 1, "django": 4}


@pytest.fixture(params=KEPT)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Running:
    """The program above, in a process."""

    def __init__(self, directory: Path, name: str, *, on_hangup: bool) -> None:
        (directory / "program.py").write_text(textwrap.dedent(PROGRAM))
        command = [sys.executable, *(["-m", "hangup", "run"] if on_hangup else []), "program.py", name]
        self._process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout is not None
        port, _, modules = self._process.stdout.readline().partition(b" ")
        assert (b"hangup" in modules) == on_hangup
        self.address = ("127.0.0.1", int(port))

    def stop(self) -> None:
        self._process.communicate(timeout=PATIENCE)


@pytest.fixture
def both(tmp_path: Path, server: str) -> Iterator[list[Running]]:
    started = [Running(tmp_path, server, on_hangup=on_hangup) for on_hangup in (False, True)]
    yield started
    for one in started:
        one.stop()


def ask(address: Any, *requests: bytes) -> list[Any]:
    """What one connection answers, until it closes."""
    found = []
    with Peer(address) as peer:
        for request in requests:
            peer.send(request)
        while True:
            try:
                response, body = peer.response()
            except ConnectionError:
                return found
            found.append((response.status, json.loads(body)))


def test_requests_on_one_connection(both: list[Running], server: str) -> None:
    """Each is handled once, in order, and then the connection ends where theirs does."""
    requests = [b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(3)]
    requests[1] = b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    requests.append(b"GET /3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    requests = requests[-KEPT[server] :]
    plain, ours = (ask(one.address, b"".join(requests)) for one in both)
    assert ours == plain
    assert [body[:3:2] for _, body in ours] == [
        [n + 1, f"/{3 - len(ours) + n + 1}"] for n in range(len(ours))
    ]
    assert len(ours) == len(requests)


def test_a_chunked_body(both: list[Running]) -> None:
    """What the application finds in its environ and what it reads agree, as they do there."""
    plain, ours = (ask(one.address, CHUNKED + CHUNKS) for one in both)
    assert ours == plain
    assert ours


def test_a_chunked_body_whose_pieces_come_one_by_one(both: list[Running]) -> None:
    def slowly(address: Any) -> Any:
        with Peer(address) as peer:
            # wsgiref's answers without having read the body, and may have closed by now.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for piece in [CHUNKED, *(CHUNKS[at : at + 4] for at in range(0, len(CHUNKS), 4))]:
                    peer.send(piece)
            response, body = peer.response()
            return response.status, json.loads(body)

    plain, ours = (slowly(one.address) for one in both)
    assert ours == plain


# -- their handlers as they are, on hangup's servers


def app(environ: Any, start_response: Any) -> list[bytes]:
    data = environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Length", str(len(data)))])
    return [data]


class QuietWerkzeug(werkzeug_serving.WSGIRequestHandler):
    def log(self, *args: Any) -> None:
        pass


class Server(hangup.ThreadingHTTPServer):
    """What those handlers find on their servers."""

    multithread, multiprocess, passthrough_errors, ssl_context = True, False, False, None
    _server_version = "test"
    app = staticmethod(app)
    base_environ = {"SERVER_NAME": "h", "GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PORT": "80",
                    "REMOTE_HOST": "", "CONTENT_LENGTH": "", "SCRIPT_NAME": ""}  # fmt: skip

    def get_app(self) -> Any:
        return app


@pytest.mark.parametrize("name", ["django", "werkzeug"])
def test_unmodified_handlers_on_our_server(serve: Any, name: str) -> None:
    """One record for each request; and a loop that waits ends with the server, or with its client."""
    cls = {"django": basehttp.WSGIRequestHandler, "werkzeug": QuietWerkzeug}[name]
    serving = serve(cls, Server)
    with serving.connect() as peer:
        for number in range(3 if name == "django" else 1):
            assert peer.get(f"/{number}").response()[1] == b"/%d" % number
        if name == "django":
            peer.get("/3", "Connection: close")
            assert peer.response()[1] == b"/3"
        assert peer.read_to_end() == b""
    loop = serving.engine.loop
    until(lambda: loop.gone == loop.opened, "all connections have closed")
    count = 4 if name == "django" else 1
    assert [(r.target, r.status) for r in serving.records] == [(f"/{n}", 200) for n in range(count)]
    assert {record.outcome for record in serving.records} == {hangup.Outcome.COMPLETED}
