"""``hangup run``: programs that were written for http.server, unchanged."""

import os
import py_compile
import re
import signal
import ssl
import subprocess
import sys
import textwrap
import types
import urllib.request
import venv
import xmlrpc.client
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Certificates, Peer
from hangup._cli.run import swap_classes

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
#: For handlers that contain a Ctrl-C while they run, as wsgiref's and xmlrpc's do.
IN_A_THREAD = """
import threading
threading.Thread(target=server.serve_forever, daemon=True).start()
threading.Event().wait()
"""


class Program:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        line = process.stdout.readline()  # type: ignore[union-attr]
        match = re.match(r".*port (\d+) (.*)", line)
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

    def begin(source: str, *args: str, run: Any = None, **options: Any) -> Program:
        script = tmp_path / "script.py"
        script.write_text(source)
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "hangup", "run", *(run or [str(script)]), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
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
    assert "hangup.httpserver.server" in program.classes
    with Peer(("127.0.0.1", program.port)) as peer:
        peer.get("/").rst()
    assert program.get() == "one --two -h"
    log = program.stop()
    assert "Traceback" not in log
    assert '"GET / HTTP/1.1" 200 12' in log
    assert program.process.returncode == 130


def test_xmlrpc(start: Any) -> None:
    program = start(XMLRPC + TELL + IN_A_THREAD)
    assert "hangup.httpserver.server" in program.classes
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{program.port}") as proxy:
        assert [proxy.pow(2, n) for n in range(5)] == [1, 2, 4, 8, 16]
        with pytest.raises(xmlrpc.client.Fault):
            proxy.pow("a")
    assert "Traceback" not in program.stop()


def test_wsgiref(start: Any) -> None:
    program = start(WSGIREF + TELL + IN_A_THREAD)
    assert "hangup.httpserver.server" in program.classes
    assert program.get("/x?y=z").startswith("Hello world!")
    with Peer(("127.0.0.1", program.port)) as peer:
        peer.get("/").rst()
    assert "QUERY_STRING = 'y=z'" in program.get("/x?y=z")
    assert "Traceback" not in program.stop()


def test_prometheus_client(start: Any) -> None:
    pytest.importorskip("prometheus_client")
    program = start(PROMETHEUS + TELL + "thread.join()\n")
    assert "hangup.httpserver.server" in program.classes
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


def test_the_command_has_the_newest_pythons_options(tmp_path: Any, certificate: Certificates) -> None:
    """TLS, header fields and a content type: on each Python, by ``hangup run -m http.server``."""
    (tmp_path / "page.unknown").write_text("served")
    (tmp_path / "password").write_text("its password\n")
    key = tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", certificate.rsa.key, "-aes256", "-passout", "pass:its password",
         "-out", str(key)],
        check=True, capture_output=True,
    )  # fmt: skip
    options = ["--tls-cert", certificate.rsa.cert, "--tls-key", str(key),
               "--tls-password-file", str(tmp_path / "password"),
               "-H", "X-One", "1", "--header", "X-Two", "2", "--content-type", "text/x-mine",
               "-d", str(tmp_path), "-p", "HTTP/1.1"]  # fmt: skip
    process = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "-m",
            "hangup",
            "run",
            "-m",
            "http.server",
            "0",
            "-b",
            "127.0.0.1",
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.fullmatch(
            r"Serving HTTPS on 127.0.0.1 port (\d+) \((https://127.0.0.1:\d+/)\) ...\n", said
        )
        assert found, said + process.stderr.read()  # type: ignore[union-attr]
        context = ssl.create_default_context(cafile=certificate.rsa.cert)
        for path, media_type in (("page.unknown", "text/x-mine"), ("", "text/html; charset=utf-8")):
            with urllib.request.urlopen(found[2] + path, timeout=PATIENCE, context=context) as page:
                assert page.headers["Content-Type"] == media_type
                assert (page.headers["X-One"], page.headers["X-Two"]) == ("1", "2")
        process.send_signal(signal.SIGINT)
        said, log = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert "Keyboard interrupt received" in said
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tls-key", "key.pem"], "--tls-key requires --tls-cert"),
        (["--tls-password-file", "password"], "--tls-password-file requires --tls-cert"),
        (["--tls-cert", "c", "--tls-password-file", "/no/such"], "password file"),
        (["--header", "one"], "expected 2 arguments"),
        (["port"], "invalid int value: 'port'"),
    ],
)
def test_what_the_command_can_not_do(options: list[str], message: str) -> None:
    result = hangup_run("-m", "http.server", *options)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


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


def test_in_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, request: pytest.FixtureRequest
) -> None:
    """The same, where the coverage of it can be seen."""
    import http.server
    import socketserver

    from click.testing import CliRunner

    import hangup._cli.run
    from hangup._cli.main import main

    request.addfinalizer(hangup._cli.run.uninstall)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    for name in ("HTTPServer", "ThreadingHTTPServer", "BaseHTTPRequestHandler"):
        monkeypatch.setattr(http.server, name, getattr(http.server, name))
    monkeypatch.setattr(http.server, "SimpleHTTPRequestHandler", http.server.SimpleHTTPRequestHandler)
    monkeypatch.setattr(socketserver, "TCPServer", socketserver.TCPServer)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    for source, status in [
        ("import http.server as h\nassert h.HTTPServer.__module__ == 'hangup.httpserver.server'", 0),
        ("1 / 0", 1),
        ("raise KeyboardInterrupt", 130),
        ("raise SystemExit(3)", 3),
    ]:
        (tmp_path / "in_process.py").write_text(source)
        assert CliRunner().invoke(main, ["run", "in_process.py"]).exit_code == status
        assert CliRunner().invoke(main, ["run", "-m", "in_process"]).exit_code == status
        assert CliRunner().invoke(main, ["run", "-c", source]).exit_code == status
        assert CliRunner().invoke(main, ["run", "-"], input=source).exit_code == status
    for args in (["run", "none.py"], ["run", "-m", "..none"], ["run", "-m", "no.such"]):
        assert CliRunner().invoke(main, args).exit_code == 2
    assert os.getcwd() == str(tmp_path)


# -- as python does


@pytest.mark.parametrize(
    "how", ["file", "compiled", "directory", "zip", "module", "package", "code", "-"]
)
def test_a_program_finds_what_it_would_find_under_python(tmp_path: Any, how: str) -> None:
    """Side by side with the interpreter itself."""
    source = (
        "import sys, os\n"
        "main = sys.modules['__main__']\n"
        "seen = [sys.argv, sys.path[0], __name__, globals().get('__file__'), __package__,"
        " type(__loader__).__name__, main.__dict__ is globals(), __spec__ and __spec__.name]\n"
        "print(seen, 'hangup' in str(sys.path[:2]), sorted(n for n in os.environ if 'HANGUP' in n))\n"
    )
    package = tmp_path / "package"
    package.mkdir()
    for file in (tmp_path / "program.py", package / "__main__.py", package / "__init__.py"):
        file.write_text(source if file.name != "__init__.py" else "")
    py_compile.compile(str(tmp_path / "program.py"), str(tmp_path / "program.pyc"))
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.write(package / "__main__.py", "__main__.py")
    args = {
        "file": ["program.py"], "compiled": ["program.pyc"], "directory": ["package"],
        "zip": ["program.zip"], "module": ["-m", "program"], "package": ["-m", "package"],
        "code": ["-c", source], "-": ["-"],
    }[how]  # fmt: skip
    texts = [
        subprocess.run(
            [sys.executable, *command, *args, "-x", "y"],
            input=source, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE, check=True,
        ).stdout
        for command in ((), ("-m", "hangup", "run"))
    ]  # fmt: skip
    if how in ("code", "-"):
        # The loader of what comes from nowhere is an oddity of the interpreter's own.
        texts = [re.sub("BuiltinImporter|NoneType", "", text).replace("'type'", "''") for text in texts]
    if how == "compiled":
        texts = [re.sub("Source(less)?FileLoader", "", text) for text in texts]
    assert texts[0] == texts[1]
    assert "y" in texts[0]


def test_a_directory_or_a_zip_file_without_a_program_is_one_clear_line(tmp_path: Any) -> None:
    (tmp_path / "folder").mkdir()
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    for path, kind in ((tmp_path / "folder", "directory"), (tmp_path / "empty.zip", "zip file")):
        result = hangup_run(str(path))
        assert result.returncode == 2
        assert f"it is a {kind} without a __main__.py" in result.stderr


def test_a_package_is_imported_on_hangup_and_shows_its_own_fault(tmp_path: Any) -> None:
    """It comes before the module in it, and before anything else of the program."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from http.server import HTTPServer")
    (package / "module.py").write_text("from . import HTTPServer; print(HTTPServer.__module__)")
    command = [sys.executable, "-m", "hangup", "run", "-m", "package.module"]
    options: Any = {"capture_output": True, "text": True, "cwd": tmp_path, "timeout": PATIENCE}
    assert subprocess.run(command, **options).stdout == "hangup.httpserver.server\n"
    (package / "__init__.py").write_text("import missing_here")
    result = subprocess.run(command, **options)
    assert result.returncode == 1
    assert "ModuleNotFoundError: No module named 'missing_here'" in result.stderr


# -- what was there before the classes were swapped


PART = {"Range": "bytes=1-2"}
TEST_OF_A_SUBCLASS = """
import http.server
class Handler(http.server.SimpleHTTPRequestHandler): pass
http.server.test(Handler, port=0, bind="127.0.0.1")
"""
TEST_OF_A_SERVER = """
from http.server import HTTPServer, SimpleHTTPRequestHandler, test
test(SimpleHTTPRequestHandler, HTTPServer, port=0, bind="127.0.0.1", protocol="HTTP/1.1")
"""
THREADING_TCP_SERVER = """
import http.server, socketserver
server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
"""
OWN_THREADING_TCP_SERVER = """
import http.server, socketserver
class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
server = Server(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
"""


def part_of(program: Program, path: str) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{program.port}{path}", headers=PART)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.status, response.read()


@pytest.mark.parametrize(
    ("source", "run"),
    [
        (TEST_OF_A_SUBCLASS, None),
        (TEST_OF_A_SERVER, None),
        ("", ["-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]),
        (THREADING_TCP_SERVER + TELL + FOREVER, None),
        (OWN_THREADING_TCP_SERVER + TELL + FOREVER, None),
    ],
)
def test_whoever_names_the_classes_serves_with_ranges_and_calm_departures(
    start: Any, tmp_path: Any, source: str, run: Any
) -> None:
    (tmp_path / "page.txt").write_text("served" * 100_000)
    program = start(source, run=run, cwd=tmp_path)
    assert part_of(program, "/page.txt") == (206, b"er")
    with Peer(("127.0.0.1", program.port)) as peer:
        peer.get("/page.txt").read(10)
        peer.rst()
    assert part_of(program, "/page.txt") == (206, b"er")
    log = program.stop()
    assert "Traceback" not in log
    assert log.count(" serves ") == 1
    assert "not serve" not in log


def test_the_swap_reaches_what_was_built_on_the_old_classes_and_can_be_undone() -> None:
    import http.server
    import socketserver
    import wsgiref.simple_server
    import xmlrpc.server

    old, handler = http.server.ThreadingHTTPServer, http.server.SimpleHTTPRequestHandler

    class Library(socketserver.ThreadingMixIn, http.server.HTTPServer):
        server_class = old

        def __init__(self, cls: Any = handler, *, other: Any = old) -> None: ...

    def function(cls: Any = http.server.BaseHTTPRequestHandler, *, number: int = 1) -> None: ...

    class Odd(http.server.HTTPServer, handler):  # type: ignore[misc]
        """Whatever that may be: with hangup's classes it has no order of bases."""

    module = types.ModuleType("a_library")
    Library.__module__ = module.__name__
    vars(module).update(Server=old, Library=Library, function=function, http=http, nothing=None)
    sys.modules[module.__name__] = module
    built: list[Any] = [
        Library, xmlrpc.server.SimpleXMLRPCServer, wsgiref.simple_server.WSGIServer,
        wsgiref.simple_server.WSGIRequestHandler, socketserver.ThreadingTCPServer,
        socketserver.UnixStreamServer,
    ]  # fmt: skip
    before = [cls.__mro__ for cls in built]
    undo = swap_classes()
    try:
        for cls in built:
            assert any(base.__module__.startswith("hangup") for base in cls.__mro__), cls
        assert not any(base.__module__.startswith("hangup") for base in socketserver.UDPServer.__mro__)
        assert module.Server is hangup.ThreadingHTTPServer
        assert Library.server_class is hangup.ThreadingHTTPServer
        init = Library.__init__
        assert init.__defaults__ == (hangup.SimpleHTTPRequestHandler,)
        assert init.__kwdefaults__ == {"other": hangup.ThreadingHTTPServer}
        assert function.__defaults__ == (hangup.BaseHTTPRequestHandler,)
        assert hangup.ThreadingHTTPServer in http.server.test.__defaults__  # type: ignore[attr-defined]
        assert http.server.HTTPServer is hangup.HTTPServer
    finally:
        undo()
        del sys.modules[module.__name__]
    assert [cls.__mro__ for cls in built] == before
    assert module.Server is http.server.ThreadingHTTPServer is old
    assert Library.__init__.__defaults__ == (handler,)
    assert function.__defaults__ == (http.server.BaseHTTPRequestHandler,)


# -- children


CHILD = "import http.server as h, os; print({!r}, h.HTTPServer.__module__, flush=True)"
CHILDREN = """
import multiprocessing, os, subprocess, sys

def of_multiprocessing(method):
    import http.server
    print(method, http.server.HTTPServer.__module__, flush=True)

if __name__ == "__main__":
    me, bare = sys.executable, {"PATH": os.environ["PATH"]}
    subprocess.run([me, "child.py", "run"], check=True)
    subprocess.run([os.path.join(os.path.dirname(me), "python"), "child.py", "by another name"])
    os.environ["PATH"] = os.path.dirname(me) + os.pathsep + os.environ["PATH"]
    subprocess.run(["python", "child.py", "by the path"])
    subprocess.run([me.encode(), "child.py", "bytes"], env=bare)
    subprocess.run(f"{me} child.py shell", shell=True, check=True)
    subprocess.run(["sh", "-c", f"{me} child.py sh"], check=True)
    subprocess.run([me, "child.py", "executable"], executable=me.encode(), check=True)
    subprocess.Popen([me, "child.py", "path"], -1, env={**bare, "PYTHONPATH": "elsewhere"}).wait()
    os.spawnv(os.P_WAIT, me, [me, "child.py", "spawnv"])
    os.spawnve(os.P_WAIT, me, [me, "child.py", "spawnve"], bare)
    os.waitpid(os.posix_spawn(me, [me, "child.py", "posix_spawn"], bare), 0)
    subprocess.run([me, "child.py", "again", "grandchild"], check=True)
    for option in "-I", "-E", "-Wignore", "-BS":
        subprocess.run([me, "-X", "dev", option, "child.py", option], check=True)
    subprocess.run([me, "child.py", "-I"], check=True)
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=of_multiprocessing, args=(method,))
        process.start()
        process.join()
    subprocess.run(["sh", "-c", "echo sh PYTHONPATH=$PYTHONPATH HANGUP_RUN=$HANGUP_RUN"])
    print(os.environ.get("HANGUP_RUN"), os.environ.get("PYTHONPATH"), flush=True)
    os.execl(me, me, "child.py", "exec")
"""
CHILD_PROGRAM = """
import http.server, os, subprocess, sys
print(sys.argv[1], http.server.HTTPServer.__module__, os.environ.get("PYTHONPATH"),
      os.environ.get("HANGUP_RUN"), [p for p in sys.path if p.endswith("_child")],
      "sitecustomize" in sys.modules, flush=True)
if sys.argv[2:]:
    subprocess.run([sys.executable, "child.py", *sys.argv[2:]])
"""


def test_children_by_the_same_interpreter_are_on_hangup_and_nothing_else_knows(tmp_path: Any) -> None:
    """Whatever way they are started, and whatever environment they get."""
    (tmp_path / "child.py").write_text(CHILD_PROGRAM)
    (tmp_path / "program.py").write_text(CHILDREN)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment.pop("PYTHONPATH", None)
    result = subprocess.run(
        [sys.executable, "-m", "hangup", "run", "program.py"],
        capture_output=True, text=True, cwd=tmp_path, timeout=6 * PATIENCE, env=environment,
    )  # fmt: skip
    ours = (
        "run", "by another name", "by the path", "bytes", "shell", "sh", "executable", "spawnv",
        "spawnve", "posix_spawn", "again", "grandchild",
    )  # fmt: skip
    plain = [sys.executable, "-c", "import sys; print('sitecustomize' in sys.modules)"]
    customized = subprocess.run(plain, capture_output=True, text=True, env=environment).stdout.strip()
    assert result.stdout.splitlines() == [
        *(f"{name} hangup.httpserver.server None None [] {customized}" for name in ours[:7]),
        f"path hangup.httpserver.server elsewhere None [] {customized}",
        *(f"{name} hangup.httpserver.server None None [] {customized}" for name in ours[7:]),
        f"-I http.server None None [] {customized}",
        f"-E http.server None None [] {customized}",
        f"-Wignore hangup.httpserver.server None None [] {customized}",
        "-BS http.server None None [] False",
        f"-I hangup.httpserver.server None None [] {customized}",
        *(f"{kind} hangup.httpserver.server" for kind in ("fork", "spawn", "forkserver")),
        "sh PYTHONPATH= HANGUP_RUN=",
        "None None",
        f"exec hangup.httpserver.server None None [] {customized}",
    ], result.stderr  # fmt: skip


def test_a_child_has_the_sitecustomize_of_its_environment(tmp_path: Any) -> None:
    (tmp_path / "sitecustomize.py").write_text("from http.server import HTTPServer")
    (tmp_path / "program.py").write_text(
        "import subprocess, sys\n"
        "code = 'import sitecustomize as s; print(s.HTTPServer.__module__, s.__file__)'\n"
        "subprocess.run([sys.executable, '-c', code])"
    )
    result = subprocess.run(
        [sys.executable, "-m", "hangup", "run", "program.py"],
        capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert result.stdout == f"hangup.httpserver.server {tmp_path / 'sitecustomize.py'}\n", result.stderr


def test_another_python_finds_nothing_of_it(tmp_path: Any) -> None:
    """One of another environment, by way of a shell: its classes are its own, and so is its path."""
    (tmp_path / "child.py").write_text(CHILD_PROGRAM)
    venv.create(tmp_path / "other", symlinks=True)
    other = tmp_path / "other" / "bin" / "python"
    (tmp_path / "program.py").write_text(
        "import subprocess, sys\n"
        f"subprocess.run(['{other}', 'child.py', 'direct'])\n"
        f"subprocess.run(f'{{sys.executable}} -V >/dev/null; {other} child.py shell', shell=True)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment.pop("PYTHONPATH", None)
    result = subprocess.run(
        [sys.executable, "-m", "hangup", "run", "program.py"],
        capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE, env=environment,
    )  # fmt: skip
    assert [line.rsplit(" ", 1)[0] for line in result.stdout.splitlines()] == [
        "direct http.server None None []",
        "shell http.server None None []",
    ], result.stderr


RELOADER = """
import os, subprocess, sys
if os.environ.get("CHILD") != "yes":
    sys.exit(subprocess.call([sys.executable, *sys.argv], env={**os.environ, "CHILD": "yes"}))
"""


def test_a_reloaders_child_is_the_one_that_serves(start: Any) -> None:
    program = start(RELOADER + HELLO + TELL + FOREVER, "hello")
    assert "hangup.httpserver.server" in program.classes
    assert program.get() == "hello"
    program.process.send_signal(signal.SIGINT)
    child = int(
        re.search(
            r"(\d+)",
            subprocess.run(  # type: ignore[union-attr]
                ["pgrep", "-P", str(program.process.pid)], capture_output=True, text=True
            ).stdout,
        )[1]
    )  # type: ignore[index]
    os.kill(child, signal.SIGINT)
    log = program.process.communicate(timeout=PATIENCE)[1]
    assert log.count("serves hangup.httpserver.server.ThreadingHTTPServer on 127.0.0.1:") == 1


# -- what is said


LISTENS = {
    "asyncio": """
import asyncio
async def main():
    servers = [await asyncio.start_server(print, "127.0.0.1", 0) for _ in range(2)]
asyncio.run(main())
""",
    "a socket": """
import socket
for _ in range(2):
    sock = socket.create_server(("127.0.0.1", 0))
""",
    "no http": """
import socketserver
class Echo(socketserver.StreamRequestHandler): pass
for _ in range(2):
    for cls in socketserver.ThreadingTCPServer, socketserver.TCPServer:
        with cls(("127.0.0.1", 0), Echo) as server:
            server.timeout = 0
            server.handle_request()
""",
    "escaped": """
import http.server, socketserver
stock = [c for c in socketserver.BaseServer.__subclasses__() if c.__name__ == "TCPServer"][0]
stock = [c for c in stock.__subclasses__() if c.__module__ == "http.server"][0]
class Mine(stock): pass
for _ in range(2):
    Mine(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
""",
    "own loop": """
import http.server
class Mine(http.server.HTTPServer):
    def process_request(self, *args): pass
with Mine(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
    server.timeout = 0
    for _ in range(2):
        server.handle_request()
""",
    "nothing to say": """
import multiprocessing.connection, socketserver, socket, os, tempfile
multiprocessing.connection.Listener(("127.0.0.1", 0))
with socketserver.UDPServer(("127.0.0.1", 0), socketserver.DatagramRequestHandler) as server:
    server.timeout = 0
    server.handle_request()
""",
    "nobody to say it to": """
import http.server, sys
sys.stderr = None
with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
    server.timeout = 0
    server.handle_request()
""",
}
NONE_OF_OURS = "on ADDRESS: it is none of http.server's"
NO_HTTP = "on ADDRESS: __main__.Echo is no handler of HTTP requests"
SAID = {
    "asyncio": [f"does not serve what __main__ listens with through asyncio, {NONE_OF_OURS}"],
    "a socket": [f"does not serve what __main__ listens with, {NONE_OF_OURS}"],
    "no http": [
        f"does not serve socketserver.ThreadingTCPServer {NO_HTTP}",
        f"does not serve hangup.httpserver.server.TCPServer {NO_HTTP}",
    ],
    "escaped": ["does not serve __main__.Mine on ADDRESS: the class is not derived from hangup's"],
    "own loop": ["serves __main__.Mine on ADDRESS, in the standard library's own loop"],
    "nothing to say": [],
    "nobody to say it to": [],
}


@pytest.mark.parametrize("what", LISTENS)
def test_one_line_says_what_is_served_and_what_is_not(tmp_path: Any, what: str) -> None:
    (tmp_path / "program.py").write_text(LISTENS[what])
    result = hangup_run(str(tmp_path / "program.py"))
    assert result.returncode == 0, result.stderr
    said = [
        re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", line.partition(hangup.__version__ + " ")[2])
        for line in result.stderr.splitlines()
        if line.startswith("hangup ")
    ]
    assert said == SAID[what]
    assert result.stdout == ""


def test_installing_and_announcing_in_this_process(request: pytest.FixtureRequest, capfd: Any) -> None:
    """The same, where the coverage of it can be seen; twice is once, and it can be undone."""
    import http.server
    import socket
    import socketserver

    import hangup._cli.run

    request.addfinalizer(hangup._cli.run.uninstall)
    popen, execute, listen = subprocess.Popen.__init__, os.execve, socket.socket.listen
    stock = http.server.HTTPServer
    for _ in range(2):
        hangup._cli.run.install()
    assert http.server.HTTPServer is hangup.HTTPServer
    assert (
        subprocess.check_output([sys.executable, "-c", CHILD.format("x")])
        == b"x hangup.httpserver.server\n"
    )
    with pytest.raises(TypeError):
        subprocess.Popen(nonsense=True)  # type: ignore[call-overload]
    assert os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1]) == 0
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        server.timeout = 0
        server.handle_request()
    with stock(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler):
        pass
    with socket.create_server(("127.0.0.1", 0)):
        pass
    for _ in range(2):
        hangup._cli.run.uninstall()
    assert (subprocess.Popen.__init__, os.execve, socket.socket.listen) == (popen, execute, listen)
    assert http.server.HTTPServer is stock
    assert issubclass(socketserver.ThreadingTCPServer, stock.__bases__[0])
    said = capfd.readouterr().err
    assert re.search("serves hangup.httpserver.server.HTTPServer on 127.0.0.1:", said)
    assert re.search("does not serve http.server.HTTPServer on 127.0.0.1:", said)
    assert re.search("does not serve what .* listens with, on 127.0.0.1:", said)
