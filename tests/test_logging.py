"""The server's logs beside an application's own: each line once, whoever configures what, and when."""

import base64
import http.server
import io
import json
import logging
import logging.config
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Peer, until
from hangup import Config
from hangup._logging.access_log import as_json, common
from hangup._logging.loggers import ErrorFormatter, protect

CONSOLE = '"handlers": {"c": {"class": "logging.StreamHandler"}}'
ROOT = '"root": {"handlers": ["c"], "level": "INFO"}'
NAMED = '{"handlers": ["c"], "level": "INFO", "propagate": False}'
#: What an application does about logging.
CONFIGURES = {
    "nothing": "",
    "basicConfig": "logging.basicConfig()",
    "basicConfig to a file": 'logging.basicConfig(filename="app.log", level="INFO")',
    "a handler on the root": "logging.root.addHandler(logging.StreamHandler())",
    "dictConfig": f'dictConfig({{"version": 1, {CONSOLE}, {ROOT}}})',
    "dictConfig that keeps": 'dictConfig({"version": 1, "disable_existing_loggers": False,'
    f" {CONSOLE}, {ROOT}}})",
    "dictConfig without handlers": 'dictConfig({"version": 1})',
    "fileConfig": 'fileConfig("logging.ini")',
    "dictConfig of ours": f'dictConfig({{"version": 1, {CONSOLE},'
    f' "loggers": {{"hangup": {NAMED}, "hangup.access": {NAMED}}}}})',
    "dictConfig of our errors": f'dictConfig({{"version": 1, {CONSOLE},'
    f' "loggers": {{"hangup": {NAMED}}}}})',
}
INI = """
[loggers]
keys=root
[handlers]
keys=c
[formatters]
keys=
[logger_root]
level=INFO
handlers=c
[handler_c]
class=StreamHandler
args=(sys.stderr,)
"""
APP = """
import logging, logging.config, sys
from logging.config import dictConfig, fileConfig
configured = []
def configure():
    if not configured:
        configured.append(1)
        {configure}
{early}
def app(environ, start_response):
    configure()
    if environ["PATH_INFO"] == "/boom":
        raise RuntimeError("boom")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
def make():
    configure()
    return app
"""
PROGRAM = """
import http.server, signal, sys, threading
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM}})
from a import configure
import hangup
class Handler({handler}):
    def do_GET(self):
        configure()
        if self.path == "/boom":
            raise RuntimeError("boom")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
with {server}(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever).start()
    print(f"http://127.0.0.1:{{server.server_port}} ", file=sys.stderr, flush=True)
    signal.sigwait({{signal.SIGTERM}})
    server.shutdown()
"""
OWN = PROGRAM.format(handler="hangup.BaseHTTPRequestHandler", server="hangup.ThreadingHTTPServer")
STOCK = PROGRAM.format(handler="http.server.BaseHTTPRequestHandler", server="hangup.ThreadingHTTPServer")
RUN = PROGRAM.format(
    handler="http.server.BaseHTTPRequestHandler", server="http.server.ThreadingHTTPServer"
)
SERVE = """
import hangup, sys
from a import app
hangup.serve(app, port=0, ready=lambda s: print(s.url, "", file=sys.stderr, flush=True))
"""
WSGI_SERVER = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
import hangup
from a import app
with hangup.WSGIServer(app, port=0) as server:
    print(server.url, "", file=sys.stderr, flush=True)
    signal.sigwait({signal.SIGTERM})
"""
GUNICORN = ["-m", "gunicorn", "--no-control-socket", "-k", "hangup.gunicorn.Worker", "-b", "127.0.0.1:0"]
#: How an application is served: arguments of the interpreter, and a program where there is one.
RUNNERS: dict[str, tuple[list[str], str]] = {
    "hangup serve": (["-m", "hangup", "serve", "--port", "0", "a:app"], ""),
    "gunicorn": ([*GUNICORN, "--access-logfile", "-", "a:app"], ""),
    "hangup.serve": (["program.py"], SERVE),
    "WSGIServer": (["program.py"], WSGI_SERVER),
    "ThreadingHTTPServer": (["program.py"], OWN),
    "a stock handler": (["program.py"], STOCK),
    "hangup run": (["-m", "hangup", "run", "program.py"], RUN),
}


class Program:
    """A server in a process of its own, whose output goes to files."""

    def __init__(
        self, directory: Path, *args: str, stdout: Any = None, stderr: Any = None, **environment: str
    ) -> None:
        self.directory = directory
        self._files = [(directory / name).open("wb") for name in ("stdout", "stderr")]
        self.process = subprocess.Popen(
            [sys.executable, *args],
            cwd=directory,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdout=self._files[0] if stdout is None else stdout,
            stderr=self._files[1] if stderr is None else stderr,
        )

    @property
    def address(self) -> tuple[str, int]:
        found = until(lambda: re.search(r"http://127\.0\.0\.1:(\d+)[ ,]", self.err), "it listens")
        return "127.0.0.1", int(found[1])

    @property
    def out(self) -> str:
        return (self.directory / "stdout").read_text("utf-8", "backslashreplace")

    @property
    def err(self) -> str:
        return (self.directory / "stderr").read_text("utf-8", "backslashreplace")

    def get(self, path: str, *fields: str) -> int:
        with Peer(self.address) as peer:
            status = peer.get(path, "Connection: close", *fields).response()[0].status
            peer.read_to_end()
            return status

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for file in self._files:
            file.close()

    def everything(self) -> str:
        return "".join(
            path.read_text("utf-8", "backslashreplace")
            for path in self.directory.iterdir()
            if path.name.startswith("std") or path.suffix == ".log"
        )


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*args: str, app: str = "", **options: Any) -> Program:
        (tmp_path / "a.py").write_text(app or APP.format(configure="pass", early=""))
        started.append(Program(tmp_path, *args, **options))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def run(
    program: Any, tmp_path: Path, runner: str, configure: str, early: str = "configure()"
) -> Program:
    """Serve an application that configures logging so, and ask it for something and for an error."""
    args, source = RUNNERS[runner]
    (tmp_path / "program.py").write_text(source)
    (tmp_path / "logging.ini").write_text(INI)
    started: Program = program(*args, app=APP.format(configure=configure or "pass", early=early))
    assert started.get("/fine") == 200
    assert started.get("/boom") == 500
    assert started.end() == 0, started.everything()
    return started


def assert_each_is_told_once(started: Program) -> None:
    told = started.everything()
    assert told.count("RuntimeError: boom") == 1, told
    assert told.count('"GET /fine HTTP/1.1" 200') == 1, told
    # A program of http.server's that dies before it answers has said nothing, here as there.
    assert told.count('"GET /boom HTTP/1.1" 500') == 1, told


@pytest.mark.parametrize("configure", list(CONFIGURES))
@pytest.mark.parametrize("runner", list(RUNNERS))
def test_each_traceback_and_each_request_is_logged_once(
    program: Any, tmp_path: Path, runner: str, configure: str
) -> None:
    started = run(program, tmp_path, runner, CONFIGURES[configure])
    if (runner, configure) == ("gunicorn", "dictConfig of ours"):
        # gunicorn's access log is another logger, gunicorn.access.
        assert started.err.count('"GET /fine HTTP/1.1" 200') == 1
        assert started.out.count('"GET /fine HTTP/1.1" 200') == 1
        assert started.err.count("RuntimeError: boom") == 1
    else:
        assert_each_is_told_once(started)


@pytest.mark.parametrize("configure", ["dictConfig", "dictConfig without handlers", "fileConfig"])
@pytest.mark.parametrize("runner", list(RUNNERS))
def test_so_it_is_where_logging_is_configured_at_the_first_request(
    program: Any, tmp_path: Path, runner: str, configure: str
) -> None:
    assert_each_is_told_once(run(program, tmp_path, runner, CONFIGURES[configure], early=""))


@pytest.mark.parametrize(
    "args",
    [
        ["-m", "hangup", "serve", "--port", "0", "a:make()"],
        [*GUNICORN, "--access-logfile", "-", "a:make()"],
        [*GUNICORN, "--access-logfile", "-", "--preload", "a:app"],
    ],
    ids=["hangup serve", "gunicorn", "gunicorn --preload"],
)
def test_so_it_is_where_a_factory_configures_it(program: Any, args: list[str]) -> None:
    early = "configure()" if "--preload" in args else ""
    started = program(*args, app=APP.format(configure=CONFIGURES["dictConfig"], early=early))
    assert started.get("/fine") == 200
    assert started.get("/boom") == 500
    assert started.end() == 0
    assert_each_is_told_once(started)


OWN_HANDLERS = (
    'logging.getLogger("hangup").addHandler(logging.FileHandler("own.txt"));'
    ' logging.getLogger("hangup.access").addHandler(logging.FileHandler("own access.txt"))'
)


@pytest.mark.parametrize("runner", list(RUNNERS))
def test_a_handler_that_a_program_adds_on_purpose_is_heard(
    program: Any, tmp_path: Path, runner: str
) -> None:
    started = run(program, tmp_path, runner, OWN_HANDLERS)
    assert (tmp_path / "own access.txt").read_text().count('"GET /fine HTTP/1.1" 200') == 1
    if RUNNERS[runner][1] not in (OWN, STOCK, RUN):  # There an exception is handle_error's.
        assert (tmp_path / "own.txt").read_text().count("RuntimeError: boom") == 1
    told = started.everything()
    # Where the server is the program its lines are where they are without the handler, too; in a
    # program that had its handler before it made the server, they are there instead.
    assert told.count('"GET /fine HTTP/1.1" 200') == (runner in ("hangup serve", "gunicorn")), told


@pytest.mark.parametrize("runner", ["hangup serve", "WSGIServer", "hangup.serve"])
def test_a_filter_that_a_program_adds_is_heard(program: Any, tmp_path: Path, runner: str) -> None:
    only_errors = "lambda line: line.request.status >= 500"
    started = run(
        program, tmp_path, runner, f'logging.getLogger("hangup.access").addFilter({only_errors})'
    )
    assert '"GET /fine' not in started.everything()
    assert started.out.count('"GET /boom') == 1


@pytest.mark.parametrize("runner", ["hangup serve", "gunicorn"])
def test_the_root_logger_is_the_applications_alone(program: Any, tmp_path: Path, runner: str) -> None:
    configure = CONFIGURES["basicConfig to a file"] + '; logging.getLogger("shop").info("sold")'
    started = run(program, tmp_path, runner, configure)
    assert (tmp_path / "app.log").read_text().count("sold") == 1
    assert "boom" not in (tmp_path / "app.log").read_text()
    assert "sold" not in started.out + started.err


def test_what_a_program_says_of_a_logger_itself_is_obeyed() -> None:
    logger = protect("hangup.test")
    logger.disabled = True
    assert not logger.isEnabledFor(logging.CRITICAL)
    logger.disabled = False
    for name in ("disabled", "handlers", "level", "propagate"):
        assert name in vars(logger)
    logger.setLevel(logging.DEBUG)
    assert logger.isEnabledFor(logging.DEBUG)


def test_a_logger_that_was_there_before_keeps_its_class() -> None:
    class Chosen(logging.Logger):
        pass

    logging.setLoggerClass(Chosen)
    try:
        before = logging.getLogger("hangup.test.chosen")
    finally:
        logging.setLoggerClass(logging.Logger)
    assert protect("hangup.test.chosen") is before
    assert isinstance(before, Chosen)
    before.disabled = False
    existing: Any = logging.config
    existing._handle_existing_loggers([before.name], [], True)
    assert not before.disabled


# -- what can't be written


def test_a_line_that_the_encoding_has_no_room_for_is_escaped(program: Any) -> None:
    app = APP.format(configure="pass", early="").replace('"boom"', '"b\\u00f6\\u00f6m \\u2603 \\ud800"')
    for encoding in ("ascii", "latin-1", "utf-8"):
        started = program(
            "-m", "hangup", "serve", "--port", "0", "--access-log", "combined", "a:app",
            app=app, PYTHONIOENCODING=encoding,
        )  # fmt: skip
        assert started.get("/\xd1\x82", "User-Agent: \xe9") == 200
        assert started.get("/boom") == 500
        assert started.end() == 0
        first, second = started.out.splitlines()
        assert r'"GET /\xd1\x82 HTTP/1.1" 200' in first
        assert first.endswith(r'"-" "\xe9"')
        assert '"GET /boom HTTP/1.1" 500' in second
        assert started.err.count("Traceback") == 1, started.err
        assert re.search(r"RuntimeError: b(ö|\\xf6)+m (☃|\\u2603) \\ud800", started.err), started.err


SECRETS = ("Authorization: Bearer SECRET", "Cookie: s=SECRET", "X-Api-Key: SECRET")


@pytest.mark.parametrize(
    "args",
    [
        ["-m", "hangup", "serve", "--port", "0", "a:app"],
        [*GUNICORN, "--access-logfile", "-", "a:app"],
        [*GUNICORN, "--access-logfile", "/dev/full", "a:app"],
    ],
    ids=["hangup serve", "gunicorn, stdout", "gunicorn, a file"],
)
def test_a_full_disk_costs_one_line_and_shows_no_secret(program: Any, args: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        started = program(*args, stdout=full)
        before = started.address and len(started.err.splitlines())
        for _ in range(5):
            assert started.get("/?token=SECRET", *SECRETS) == 200
        until(lambda: "No space left" in started.err, "it is said")
        assert started.end() == 0
    assert "SECRET" not in started.err
    assert "Traceback" not in started.err
    assert started.err.count("the access log failed: No space left on device") == 1
    if "gunicorn" not in args:
        said = started.err.splitlines()[before:]
        assert len(said) == 2, said
        assert said[1].endswith("the access log has failed; 5 lines are lost")


def test_a_stdout_whose_reader_has_gone_is_said_once(program: Any) -> None:
    reader, writer = os.pipe()
    try:
        started = program("-m", "hangup", "serve", "--port", "0", "a:app", stdout=writer)
        assert started.address
    finally:
        os.close(writer)
        os.close(reader)
    for _ in range(5):
        assert started.get("/") == 200
    until(lambda: "Broken pipe" in started.err, "it is said")
    assert started.end() == 0
    assert started.err.count("the access log failed: Broken pipe") == 1
    assert "Traceback" not in started.err


@pytest.mark.parametrize(
    "args",
    [["-m", "hangup", "serve", "--port", "0", "a:app"], [*GUNICORN, "--access-logfile", "-", "a:app"]],
    ids=["hangup serve", "gunicorn"],
)
def test_a_stdout_that_nobody_reads_stops_nobody(program: Any, args: list[str]) -> None:
    reader, writer = os.pipe()
    try:
        started = program(*args, "--threads", "2", stdout=writer)
        target = "/" + "x" * 4000
        for _ in range(40):  # A pipe holds 64 KiB.
            assert started.get(target) == 200
        assert started.end() == 0
        assert "Traceback" not in started.err
    finally:
        os.close(reader)
        os.close(writer)


def listens(path: Path) -> bool:
    """Whether somebody accepts connections there: a socket's file is there a little before."""
    try:
        Peer(str(path)).sock.close()
    except OSError:
        return False
    return True


def test_a_stderr_that_nobody_reads_stops_nobody(program: Any, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    (tmp_path / "program.py").write_text(
        "import os, sys\nfrom hangup._cli.main import main\n"
        "os.write(2, b'x' * 60000)\n"
        "sys.argv = ['hangup', 'serve', '--uds', 'sock', 'a:app']\nmain()\n"
    )
    try:
        started = program("program.py", stderr=writer)

        def get() -> int:
            with Peer(str(tmp_path / "sock")) as peer:
                return peer.get("/boom", "Connection: close").response()[0].status

        until(lambda: listens(tmp_path / "sock"), "it listens")
        for _ in range(50):  # Each with a traceback.
            assert get() == 500
        assert started.end() == 0
        assert started.out.count("/boom") == 50
    finally:
        os.close(reader)
        os.close(writer)


def test_a_stderr_that_nobody_reads_makes_no_access_line_wait(program: Any, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    source = OWN.replace("file=sys.stderr", "file=sys.stdout")
    (tmp_path / "program.py").write_text(f"import os\nos.write(2, b'x' * 65536)\n{source}")
    try:
        started = program("program.py", stderr=writer)
        found = until(lambda: re.search(r"http://127\.0\.0\.1:(\d+) ", started.out), "it listens")
        for _ in range(10):
            with Peer(("127.0.0.1", int(found[1]))) as peer:
                assert peer.get("/fine", "Connection: close").response()[0].status == 200
        assert started.end() == 0
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("runner", ["hangup serve", "hangup.serve"])
def test_one_pipe_for_both_that_nobody_reads_stops_nobody(
    program: Any, tmp_path: Path, runner: str
) -> None:
    reader, writer = os.pipe()
    sock = str(tmp_path / "sock")
    (tmp_path / "program.py").write_text(
        f"import hangup\nfrom a import app\nhangup.serve(app, uds={sock!r})\n"
    )
    args = ["-m", "hangup", "serve", "--uds", sock, "a:app"]
    try:
        os.write(writer, b"x" * 65000)
        started = program(
            *(args if runner == "hangup serve" else ["program.py"]), stdout=writer, stderr=writer
        )
        until(lambda: listens(tmp_path / "sock"), "it listens")
        for path in ("/fine", "/boom") * 10:
            with Peer(sock) as peer:
                response, _ = peer.get(path, "Connection: close").response()
                assert response.status == (200 if path == "/fine" else 500)
        assert started.end() == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_without_any_logging_errors_are_on_stderr_and_escaped(program: Any, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SERVE)
    started = program(
        "program.py", app=APP.format(configure="pass", early="").replace('"boom"', r'"b\x1b\u2028m"')
    )
    assert started.get("/boom") == 500
    assert started.end() == 0
    assert started.err.count(r"RuntimeError: b\x1b\u2028m") == 1
    assert re.search(
        r"^[-\d]+ [\d:,]+ ERROR hangup: the application failed on GET /boom$", started.err, re.MULTILINE
    )


def test_what_is_logged_last_is_written_before_the_end(program: Any) -> None:
    started = program("-m", "hangup", "serve", "--port", "0", "a:app")
    with Peer(started.address) as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
        for _ in range(500):
            peer.response()
    assert started.end() == 0
    assert len(started.out.splitlines()) == 500


# -- what clients send

NASTY = [
    "\x00", "\x07", "\x1b[2J", "\r", "\n", "\t", "\x7f", "\x80", "\x85", "\x9b31m", "\xa0", "\xff",
    "\xad", '"', "\\", "\\x0a", "'", "%n%s", "{0}", "\xe2\x80\xa8", "\xe2\x80\xae", "\xc2\x85",
]  # fmt: skip
FORMS: dict[str, list[str]] = {
    **{form: ["-m", "hangup", "serve", "--port", "0", "--access-log", form, "a:app"]
       for form in ("common", "combined", "json")},
    "gunicorn": [
        *GUNICORN, "--access-logfile", "-", "a:app", "--access-logformat",
        '%(h)s %(u)s "%(r)s" %(s)s "%(f)s" "%(a)s" %({x-any}i)s %({raw_uri}e)s %(U)s?%(q)s',
    ],
}  # fmt: skip


def requests_with(text: str) -> Iterator[bytes]:
    """A client's text in each place that a log shows."""
    raw = text.encode("latin-1")
    end = b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    yield b"GET /" + raw + end + b"\r\n"
    yield b"G" + raw + b" /" + end + b"\r\n"
    yield raw + b"\r\n\r\n"
    yield b"GET / HTTP/" + raw + b"\r\nHost: a\r\n\r\n"
    names = "Referer", "User-Agent", "X-Any", "Host", "Transfer-Encoding", "Expect", "Content-Length"
    for name in names:
        yield b"GET /" + end + name.encode() + b": a" + raw + b"b\r\n\r\n"
    user = base64.b64encode(f"a{text}\u2028b:secret".encode())
    yield b"GET /" + end + b"Authorization: Basic " + user + b"\r\n\r\n"
    yield b"POST /" + end + b"Transfer-Encoding: chunked\r\n\r\n5" + raw + b"\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize("form", list(FORMS))
def test_whatever_a_client_sends_is_one_printable_line(program: Any, form: str) -> None:
    started = program(*FORMS[form], PYTHONIOENCODING="utf-8")
    address, count = started.address, 0
    for text in NASTY:
        for request in requests_with(text):
            with Peer(address) as peer:
                if peer.send(request).half_close().read_to_end():
                    count += 1
    assert started.end() == 0
    lines = started.out.removesuffix("\n").split("\n")
    assert len(lines) == count
    for line in lines:
        assert line.isascii(), line
        assert line.isprintable(), line
        if form == "json":
            assert json.loads(line)["status"]
        elif form != "gunicorn":
            assert re.match(r'127\.0\.0\.1 - - \[[^]]+\] "(\\.|[^"\\])*" (\d{3}|-) (\d+|-)', line), line
    for line in started.err.split("\n"):
        assert line.isprintable(), line


REFUSED = {
    400: (b"GET /\x1bx HTTP/1.1\r\nHost: a\r\n\r\n", r'"GET /\x1bx HTTP/1.1" 400 ', "Bad request"),
    408: (b"GET /slow HTTP/1.1\r\nHost: ", '"GET /slow HTTP/1.1" 408 ', "Request Timeout"),
    413: (
        b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n",
        '"POST /up HTTP/1.1" 413 ',
        "Content Too Large",
    ),
    414: (b"GET /" + b"x" * 9000, f'"GET /{"x" * 2043}" 414 ', "Request-URI Too Long"),
    417: (b"GET /e HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", '"GET /e HTTP/1.1" 417 ', "Expectation"),
    431: (b"GET /f HTTP/1.1\r\nX: " + b"x" * 9000, '"GET /f HTTP/1.1" 431 ', "Request Header Field"),
    501: (
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        '"POST /c HTTP/1.1" 501 ',
        "Unsupported transfer coding",
    ),
    505: (b"GET /v HTTP/2.0\r\nHost: a\r\n\r\n", '"GET /v HTTP/2.0" 505 ', "Invalid HTTP version"),
}


@pytest.mark.parametrize("status", list(REFUSED))
def test_a_refused_request_is_logged_with_its_line_and_the_reason(serve_app: Any, status: int) -> None:
    request, line, reason = REFUSED[status]
    config = Config(
        max_request_body_size=100,
        max_request_line_size=8192,
        max_request_header_size=8192,
        max_request_field_size=8000,
        request_header_timeout=0.1,
    )
    serving = serve_app(lambda *_: [b""], config=config)
    with serving.connect() as peer:
        assert peer.send(request).response()[0].status == status
        peer.half_close().read_to_end()
    record = serving.record()
    assert reason in record.reason
    how = "timed out" if status == 408 else "rejected"
    assert line in common(record)
    assert f" {how}: {reason}" in common(record)
    assert len(common(record)) < 2500
    assert json.loads(as_json(record))["reason"] == record.reason


def test_a_request_for_which_there_is_no_room_is_logged_with_the_reason(serve_app: Any) -> None:
    began, proceed = threading.Semaphore(0), threading.Event()

    def app(_environ: Any, start_response: Any) -> Any:
        began.release()
        assert proceed.wait(PATIENCE)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    serving = serve_app(app, config=Config(max_threads=1, max_queue=0))
    with serving.connect() as first, serving.connect() as second:
        first.get("/first")
        assert began.acquire(timeout=PATIENCE)
        assert second.get("/second").response()[0].status == 503
        proceed.set()
        first.response()
    refused = next(one for one in serving.wait_for_records(2) if one.status == 503)
    assert (refused.target, refused.reason) == ("/second", "Service Unavailable")


def test_nothing_in_an_error_forges_a_line_of_the_error_log() -> None:
    try:
        try:
            raise KeyError("\x1b[31m\u2028\u202e")
        except KeyError as error:
            raise ValueError("evil\n2026-01-01 00:00:00,000 ERROR hangup: forged") from error
    except ValueError:
        line = logging.LogRecord("hangup", logging.ERROR, "", 0, "on %s", ("/\n\x85x",), sys.exc_info())
    text = ErrorFormatter().format(line)
    first, *others = text.split("\n")
    assert first.endswith(r"ERROR hangup: on /\x0a\x85x")
    assert not [each for each in others if each.startswith("2026")]
    assert [each for each in others if each.startswith("    2026")]
    assert r"\u2028" in text
    assert all(each.isprintable() for each in others)


# -- sinks that fail


def ok(_environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def test_a_sink_that_fails_is_said_once_and_without_the_record(
    serve_app: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def broken(record: Any) -> None:
        told.append(record)
        if len(told) <= 5:
            raise RuntimeError(record)

    serving = serve_app(ok)
    serving.server.engine.loop.sinks.sinks = [broken, serving._note]
    for count in range(5):
        serving.get("/?token=SECRET", *SECRETS)
        serving.wait_for_records(count + 1)
    (said,) = caplog.records
    assert said.getMessage().startswith("a sink failed: RuntimeError: <RequestRecord ")
    assert "SECRET" not in caplog.text
    assert not said.exc_info
    monkeypatch.setattr("hangup._logging.repeated.INTERVAL", 0.0)
    serving.get("/")
    serving.wait_for_records(6)
    assert caplog.messages[1:] == ["a sink works again; 5 records are lost"]


def test_a_records_repr_shows_neither_fields_nor_the_query(serve_app: Any) -> None:
    serving = serve_app(ok)
    serving.get("/path?token=SECRET", *SECRETS)
    for text in (repr(serving.record()), str(serving.record()), f"{serving.record()}"):
        assert "SECRET" not in text
        assert "GET /path?..." in text
    assert serving.record().field("x-api-key") == "SECRET"


@pytest.mark.parametrize("base", [hangup.BaseHTTPRequestHandler, "stock"])
def test_log_message_escapes_what_it_is_given_and_costs_no_response(
    serve: Any, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(http.server.BaseHTTPRequestHandler if base == "stock" else base):  # type: ignore[misc]
        def do_GET(self) -> None:
            self.log_message("got %s", "\x1b\n\\\x85\u2028\u202e\xe9\u2603")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    raw = io.BytesIO()
    with io.TextIOWrapper(raw, "ascii", write_through=True) as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        serving = serve(Handler)
        assert serving.get()[0] == 200
        (said,) = (line for line in raw.getvalue().decode().splitlines() if "got" in line)
        assert said.endswith(r"got \x1b\x0a\\\x85\u2028\u202e\xe9\u2603")
    assert serving.get()[0] == 200  # It is closed.
    monkeypatch.setattr("sys.stderr", None)
    assert serving.get()[0] == 200
