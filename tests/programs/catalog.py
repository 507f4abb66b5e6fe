"""The programs, as data: what each is started with, what it is asked, and what a change of it is."""

import http.server
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clients
from exchanges import HOST, Exchange, Site

HERE = Path(__file__).resolve().parent
SITES = HERE / "sites"
BIN = Path(sys.executable).parent
#: Every file has this time of last change, so that Last-Modified and ETag are the same.
CHANGED = 1_700_000_000
TEXT = {"Content-Type": "text/plain"}


GET = Exchange()


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a file, and where it shows."""

    file: str
    old: str
    new: str
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Program:
    """``command`` follows ``python`` or ``hangup run``; ``{port}`` and ``{folder}`` stand in it."""

    title: str
    #: What its version is that of; "" where it is Python's own.
    distribution: str
    command: list[str]
    #: What lies in its folder: a folder of sites/, or single files.
    files: tuple[str, ...] = ()
    read: Exchange = GET
    upload: Exchange | None = None
    client: Callable[[Site, Path], Any] | None = None
    #: Called with its folder before it starts.
    prepare: Callable[[Path], object] | None = None
    #: The change that it has to notice, if it does.
    change: Change | None = None
    #: What differs from run to run in its responses.
    volatile: tuple[str, ...] = field(default=())
    #: What its page has when it is complete, if it listens before that.
    ready: str = ""
    #: Where it is asked for what is not there.
    missing: str = "/no/such/page"

    @property
    def name(self) -> str:
        return re.sub(r"[^\w.]+", "-", self.title)


def echo(path: str = "/echo") -> Exchange:
    return Exchange("POST", path, TEXT, b"a body, " * 500)


def lay(program: Program, folder: Path) -> None:
    """Its files in ``folder``, all of the same age."""
    for name in program.files:
        source = SITES / name
        if source.is_dir():
            shutil.copytree(source, folder, dirs_exist_ok=True)
        else:
            shutil.copy(source, folder)
    if "files" in program.files:
        (folder / "large.bin").write_bytes(bytes(range(256)) * 4000)
    if program.prepare:
        program.prepare(folder)
    for path in sorted(folder.rglob("*")):
        if ".git" not in path.parts and ".hg" not in path.parts:
            os.utime(path, (CHANGED, CHANGED), follow_symlinks=False)


def quiet(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=60)


def git_repository(folder: Path) -> None:
    work, bare = folder / "work", folder / "repository"
    work.mkdir()
    shutil.copy(SITES / "files" / "letters.txt", work)
    quiet("git", "init", "-q", "-b", "main", cwd=work)
    quiet("git", "add", ".", cwd=work)
    me = ["-c", "user.name=A", "-c", "user.email=a@example.invalid"]
    quiet("git", *me, "commit", "-qm", "first", "--date=2026-01-02T03:04:05Z", cwd=work)
    quiet("git", "clone", "-q", "--bare", "work", str(bare), cwd=folder)
    quiet("git", "config", "http.receivepack", "true", cwd=bare)


def hg_repository(folder: Path) -> None:
    repository = folder / "repository"
    repository.mkdir()
    shutil.copy(SITES / "files" / "letters.txt", repository)
    hg = str(BIN / "hg")
    quiet(hg, "init", cwd=repository)
    quiet(hg, "commit", "-A", "-q", "-m", "first", "-u", "A", "-d", "2026-01-02", cwd=repository)
    (repository / ".hg" / "hgrc").write_text("[web]\npush_ssl = no\nallow_push = *\n")


def without_watchdog(folder: Path) -> None:
    """Werkzeug's reloader then looks at files by itself, as it does where watchdog is not installed."""
    (folder / "watchdog.py").write_text('raise ImportError("not here")\n')


def pelican_site(folder: Path) -> None:
    (folder / "output").mkdir()


MODULE = "-m"
FILE = Exchange(path="/letters.txt")
DJANGO = ["manage.py", "runserver", f"{HOST}:{{port}}"]
FLASK = [MODULE, "flask", "--app", "flask_app", "run", "--port", "{port}"]
DAV = [MODULE, "wsgidav.server.server_cli", "--host", HOST, "--port", "{port}", "--root", "{folder}"]
HTTP_SERVER = [MODULE, "http.server", "{port}", "--bind", HOST]
FLASK_CHANGE = Change("flask_app.py", 'VERSION = "one"', 'VERSION = "two"')

PROGRAMS = (
    Program("http.server", "", HTTP_SERVER, ("files",), FILE, echo(), clients.files),
    Program(
        "http.server, HTTP/1.1",
        "",
        [*HTTP_SERVER, "--protocol", "HTTP/1.1"],
        ("files",),
        FILE,
        echo(),
        clients.files,
    ),
    *(
        [
            Program(
                "http.server --cgi", "", [*HTTP_SERVER, "--cgi"], ("files",), FILE, echo(), clients.cgi
            )
        ]
        if hasattr(http.server, "CGIHTTPRequestHandler")
        else []
    ),
    Program(
        "pydoc", "", [MODULE, "pydoc", "-n", HOST, "-p", "{port}"], (), Exchange(path="/textwrap.html")
    ),
    Program(
        "wsgiref",
        "",
        ["wsgiref_server.py", "{port}"],
        ("wsgiref_server.py", "counting.py"),
        upload=echo(),
        client=clients.counted,
    ),
    Program(
        "wsgiref, ThreadingMixIn, validator",
        "",
        ["wsgiref_threads.py", "{port}"],
        ("wsgiref_threads.py", "counting.py"),
        upload=echo(),
        client=clients.counted,
    ),
    Program(
        "xmlrpc.server",
        "",
        ["xmlrpc_server.py", "{port}", "simple"],
        ("xmlrpc_server.py",),
        client=clients.xml_rpc,
        upload=echo("/RPC2"),
    ),
    Program(
        "xmlrpc.server, ThreadingMixIn",
        "",
        ["xmlrpc_server.py", "{port}", "threads"],
        ("xmlrpc_server.py",),
        client=clients.xml_rpc,
        upload=echo("/RPC2"),
    ),
    Program(
        "DocXMLRPCServer",
        "",
        ["xmlrpc_server.py", "{port}", "doc"],
        ("xmlrpc_server.py",),
        client=clients.xml_rpc,
        upload=echo("/RPC2"),
    ),
    Program(
        "uploadserver",
        "uploadserver",
        [MODULE, "uploadserver", "{port}", "--bind", HOST],
        ("files",),
        FILE,
        echo("/nowhere"),
        clients.upload_files,
    ),
    Program(
        "RangeHTTPServer",
        "rangehttpserver",
        [MODULE, "RangeHTTPServer", "{port}", "--bind", HOST],
        ("files",),
        FILE,
        echo(),
        clients.files,
    ),
    Program(
        "mkdocs serve",
        "mkdocs",
        [MODULE, "mkdocs", "serve", "--dev-addr", f"{HOST}:{{port}}"],
        ("mkdocs",),
        client=clients.live_reload,
        upload=echo(),
        change=Change("docs/index.md", "Version one", "Version two"),
        volatile=(r"livereload\(\d+, \d+", r"Build Date UTC : .*", r"/livereload/\d+"),
    ),
    Program(
        "pelican --listen",
        "pelican",
        [MODULE, "pelican", "--listen", "--autoreload", "--bind", HOST, "--port", "{port}"],
        ("pelican",),
        prepare=pelican_site,
        client=clients.counted,
        upload=echo(),
        ready="An article",
        volatile=(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",),
        change=Change("content/article.md", "Version one", "Version two"),
    ),
    Program(
        "bottle",
        "bottle",
        ["bottle_app.py", "{port}"],
        ("bottle_app.py",),
        upload=echo(),
        client=clients.web_framework,
    ),
    Program(
        "bottle, reloader",
        "bottle",
        ["bottle_app.py", "{port}", "--reload"],
        ("bottle_app.py",),
        upload=echo(),
        client=clients.web_framework,
        change=Change("bottle_app.py", 'VERSION = "one"', 'VERSION = "two"'),
    ),
    Program(
        "Django runserver --noreload",
        "django",
        [*DJANGO, "--noreload"],
        ("manage.py", "files"),
        upload=echo(),
        client=clients.web_framework,
        volatile=(r"/tmp/\S*",),
    ),
    Program(
        "Django runserver --nothreading",
        "django",
        [*DJANGO, "--noreload", "--nothreading"],
        ("manage.py", "files"),
        upload=echo(),
        client=clients.web_framework,
        volatile=(r"/tmp/\S*",),
    ),
    Program(
        "Django runserver",
        "django",
        DJANGO,
        ("manage.py", "files"),
        upload=echo(),
        client=clients.web_framework,
        change=Change("manage.py", 'VERSION = "one"', 'VERSION = "two"'),
        volatile=(r"/tmp/\S*",),
    ),
    Program("flask run", "flask", FLASK, ("flask_app.py",), upload=echo(), client=clients.web_framework),
    Program(
        "flask run --without-threads",
        "flask",
        [*FLASK, "--without-threads"],
        ("flask_app.py",),
        upload=echo(),
        client=clients.web_framework,
    ),
    Program(
        "flask run --debug",
        "flask",
        [*FLASK, "--debug"],
        ("flask_app.py",),
        prepare=without_watchdog,
        upload=echo(),
        client=clients.web_framework,
        change=FLASK_CHANGE,
    ),
    Program(
        "moto_server",
        "moto",
        [MODULE, "moto.server", "--host", HOST, "--port", "{port}"],
        ("files",),
        Exchange(path="/moto-api/"),
        client=clients.bucket,
        volatile=(r"<(RequestId|RequestID)>\w+",),
    ),
    Program(
        "klaus",
        "klaus",
        [str(BIN / "klaus"), "--host", HOST, "--port", "{port}", "--smarthttp", "{folder}/repository"],
        prepare=git_repository,
        client=clients.git,
        volatile=(
            r"\d+ (seconds|minutes|hours|days|weeks|months|years)( ago)?",
            r"a (second|minute|moment) ago",
            r"just now|now",
            r"[0-9a-f]{7,40}",
        ),
    ),
    Program(
        "hg serve",
        "mercurial",
        [
            str(BIN / "hg"),
            "serve",
            "--address",
            HOST,
            "--port",
            "{port}",
            "-R",
            "repository",
            "--accesslog",
            "-",
            "--errorlog",
            "-",
        ],
        prepare=hg_repository,
        client=clients.mercurial,
        upload=echo("/?cmd=unbundle"),
        volatile=(r'W/"\d+"', r"[0-9a-f]{12,40}", r"\w+, \d+ \w+ \d+ [0-9:]+ \+0000"),
    ),
    Program(
        "radicale",
        "radicale",
        [
            MODULE,
            "radicale",
            "--server-hosts",
            f"{HOST}:{{port}}",
            "--auth-type",
            "none",
            "--storage-filesystem-folder",
            "{folder}/storage",
        ],
        read=Exchange(path="/.web/"),
        client=clients.calendar,
        volatile=(
            r"\w{8}-\w{4}-\w{4}-\w{4}-\w{12}",
            r'"[0-9a-f]{32,64}"',
            r"getlastmodified>[^<]*",
            r"&quot;[0-9a-f]{32,64}&quot;",
            r"http://radicale.org/ns/sync/[0-9a-f]+",
        ),
    ),
    Program(
        "prometheus_client",
        "prometheus_client",
        ["prometheus_metrics.py", "{port}"],
        ("prometheus_metrics.py",),
        Exchange(path="/metrics"),
        echo("/metrics"),
        clients.metrics,
        volatile=(r"requests_created \S+",),
    ),
    Program(
        "jsonrpclib-pelix",
        "jsonrpclib-pelix",
        ["jsonrpc_server.py", "{port}"],
        ("jsonrpc_server.py",),
        client=clients.json_rpc,
        upload=echo(),
        volatile=(r"ref: \w+",),
    ),
    Program(
        "jsonrpclib-pelix, pool",
        "jsonrpclib-pelix",
        ["jsonrpc_server.py", "{port}", "pool"],
        ("jsonrpc_server.py",),
        client=clients.json_rpc,
        upload=echo(),
        volatile=(r"ref: \w+",),
    ),
    Program(
        "pypi-server",
        "pypiserver",
        [
            MODULE,
            "pypiserver",
            "run",
            "-i",
            HOST,
            "-p",
            "{port}",
            "--server",
            "wsgiref",
            "-a",
            ".",
            "-P",
            ".",
            "{folder}",
        ],
        ("files",),
        client=clients.packages,
        upload=echo(),
    ),
    Program(
        "wsgidav, ext-wsgiutils",
        "wsgidav",
        [*DAV, "--auth", "anonymous", "--server", "ext-wsgiutils"],
        ("files",),
        FILE,
        Exchange("PUT", "/put.txt", TEXT, b"put" * 1000),
        clients.web_dav,
        volatile=(r"\d+-\d{10}-\d+", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?"),
    ),
    Program(
        "wsgidav, wsgiref",
        "wsgidav",
        [*DAV, "--auth", "anonymous", "--server", "wsgiref"],
        ("files",),
        FILE,
        Exchange("PUT", "/put.txt", TEXT, b"put" * 1000),
        clients.web_dav,
        volatile=(r"\d+-\d{10}-\d+", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?"),
    ),
)
