"""``hangup run``: programs that were written for http.server, unchanged."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import PATIENCE, Peer

#: Each program says on which port it listens, and of whose classes its server is.
TELL = """
import sys
print("port", server.server_port if hasattr(server, "server_port") else server.server_address[1],
      [cls.__module__ for cls in type(server).__mro__], flush=True)
"""
HELLO = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import sys
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = " ".join(sys.argv[1:]).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
"""
XMLRPC = """
from xmlrpc.server import SimpleXMLRPCServer
server = SimpleXMLRPCServer(("127.0.0.1", 0))
server.register_function(pow)
"""
WSGIREF = """
from wsgiref.simple_server import make_server, demo_app
server = make_server("127.0.0.1", 0, demo_app)
"""
PROMETHEUS = """
import prometheus_client
prometheus_client.Counter("departures", "Clients that left").inc(3)
server, thread = prometheus_client.start_http_server(0, "127.0.0.1")
"""
FOREVER = "server.serve_forever()\n"


class Program:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        line = process.stdout.readline()  # type: ignore[union-attr]
        match = re.match(r"port (\d+) (.*)", line)
        assert match, line + process.communicate(timeout=PATIENCE)[1]
        self.port, self.classes = int(match[1]), match[2]

    def get(self, path: str = "/") -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as r:
            return str(r.read().decode())

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=PATIENCE)[1]


@pytest.fixture
def start(tmp_path: Any) -> Iterator[Callable[..., Program]]:
    processes = []

    def begin(source: str, *args: str) -> Program:
        script = tmp_path / "script.py"
        script.write_text(source)
        process = subprocess.Popen(
            [sys.executable, "-m", "hangup", "run", str(script), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return Program(process)

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def test_a_program_gets_its_arguments_and_hangups_classes(start: Any) -> None:
    program = start(HELLO + TELL + FOREVER, "one", "--two", "-h")
    assert program.get() == "one --two -h"
    assert "hangup.httpserver" in program.classes
    with Peer(("127.0.0.1", program.port)) as peer:
        peer.get("/").rst()
    assert program.get() == "one --two -h"
    log = program.stop()
    assert "Traceback" not in log
    assert '"GET / HTTP/1.1" 200 12' in log
    assert program.process.returncode == 130


def test_xmlrpc(start: Any) -> None:
    program = start(XMLRPC + TELL + FOREVER)
    assert "hangup.httpserver" in program.classes
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{program.port}") as proxy:
        assert [proxy.pow(2, n) for n in range(5)] == [1, 2, 4, 8, 16]
        with pytest.raises(xmlrpc.client.Fault):
            proxy.pow("a")
    assert "Traceback" not in program.stop()


def test_wsgiref(start: Any) -> None:
    program = start(WSGIREF + TELL + FOREVER)
    assert "hangup.httpserver" in program.classes
    assert program.get("/x?y=z").startswith("Hello world!")
    with Peer(("127.0.0.1", program.port)) as peer:
        peer.get("/").rst()
    assert "QUERY_STRING = 'y=z'" in program.get("/x?y=z")
    assert "Traceback" not in program.stop()


def test_prometheus_client(start: Any) -> None:
    pytest.importorskip("prometheus_client")
    program = start(PROMETHEUS + TELL + "thread.join()\n")
    assert "hangup.httpserver" in program.classes
    for _ in range(3):
        assert "departures_total 3.0" in program.get("/metrics")
    assert "Traceback" not in program.stop()


def test_the_pages_of_a_directory_with_python_m(tmp_path: Any) -> None:
    (tmp_path / "served.py").write_text(HELLO + TELL + FOREVER)
    process = subprocess.Popen(
        [sys.executable, "-m", "hangup", "run", "-m", "served", "by", "module"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        program = Program(process)
        assert program.get() == "by module"
        program.stop()
    finally:
        process.kill()
        process.communicate()


def test_the_standard_librarys_own_command(tmp_path: Any) -> None:
    (tmp_path / "page.txt").write_text("served")
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "hangup", "run", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        port = int(re.search(r"port (\d+)", process.stdout.readline())[1])  # type: ignore[union-attr,index]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/page.txt", timeout=PATIENCE) as page:
            assert page.read() == b"served"
        with Peer(("127.0.0.1", port)) as peer:
            peer.get("/page.txt").rst()
        process.send_signal(signal.SIGINT)
        log = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
        process.communicate()
    assert "Traceback" not in log
    assert "Warning" not in log


def hangup_run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hangup", "run", *args],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_a_program_that_fails_shows_its_own_traceback_and_nothing_of_ours(tmp_path: Any) -> None:
    script = tmp_path / "fails.py"
    script.write_text(
        textwrap.dedent("""
        def fail():
            1 / 0
        fail()
    """)
    )
    result = hangup_run(str(script))
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr
    assert result.stderr.count("File ") == 2
    assert "hangup" not in result.stderr.replace(str(tmp_path), "")


def test_a_program_that_does_not_compile(tmp_path: Any) -> None:
    script = tmp_path / "wrong.py"
    script.write_text("def:\n")
    result = hangup_run(str(script))
    assert result.returncode == 1
    assert "SyntaxError" in result.stderr
    assert "runpy" not in result.stderr


def test_a_programs_exit_status_is_its_own(tmp_path: Any) -> None:
    script = tmp_path / "exits.py"
    script.write_text("raise SystemExit(7)")
    assert hangup_run(str(script)).returncode == 7
    script.write_text("pass")
    assert hangup_run(str(script)).returncode == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.py"], "can't run 'none.py': no such file, or not readable"),
        (["/"], "can't run '/': it is a directory"),
        (["-m", "no_such_module"], "there is no module named 'no_such_module'"),
        (["-m", "no.such.module"], "there is no module named 'no.such.module'"),
        ([], "Missing argument 'SCRIPT'"),
    ],
)
def test_what_cannot_be_run_is_one_clear_line(args: list[str], message: str) -> None:
    result = hangup_run(*args)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "ThreadingHTTPServer(server.server_address, Handler)",
            r"Error: can't listen: .* in use: 127\.0\.0\.1:\d+\n",
        ),
        ("ThreadingHTTPServer(('127.0.0.1', 1 << 20), Handler)", r"(?s).*OverflowError.*"),
        (
            "import functools as f, http.server as h\n"  # noqa: ISC004
            "h.HTTPServer(('', 0), f.partial(h.SimpleHTTPRequestHandler, directory='/no/such'))",
            r"Error: can't serve '/no/such': there is no such directory\n",
        ),
    ],
)
def test_a_port_in_use_and_a_bad_directory_are_one_clear_line(
    tmp_path: Any, source: str, message: str
) -> None:
    script = tmp_path / "wrong.py"
    script.write_text(HELLO + source)
    result = hangup_run(str(script))
    assert result.returncode == 1
    assert re.fullmatch(message, result.stderr)


def test_in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The same, where the coverage of it can be seen."""
    import http.server
    import socketserver

    from click.testing import CliRunner

    from hangup.cli import main

    for name in ("HTTPServer", "ThreadingHTTPServer", "BaseHTTPRequestHandler"):
        monkeypatch.setattr(http.server, name, getattr(http.server, name))
    monkeypatch.setattr(http.server, "SimpleHTTPRequestHandler", http.server.SimpleHTTPRequestHandler)
    monkeypatch.setattr(socketserver, "TCPServer", socketserver.TCPServer)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    for source, status in [
        ("import http.server as h\nassert h.HTTPServer.__module__ == 'hangup.httpserver'", 0),
        ("1 / 0", 1),
        ("raise KeyboardInterrupt", 130),
        ("raise SystemExit(3)", 3),
    ]:
        (tmp_path / "in_process.py").write_text(source)
        assert CliRunner().invoke(main, ["run", "in_process.py"]).exit_code == status
        assert CliRunner().invoke(main, ["run", "-m", "in_process"]).exit_code == status
    for args in (["run", "none.py"], ["run", "-m", "..none"], ["run", "-m", "no.such"]):
        assert CliRunner().invoke(main, args).exit_code == 2
    assert os.getcwd() == str(tmp_path)
