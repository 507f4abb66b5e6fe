"""The servers of ``traffic.py``, what starts each, and nginx before them."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nginx_command import nginx_command
from traffic_apps import answers
from wsgi_peers import PYTHON
from wsgi_servers import BOTH, HOST, LOAD_CORE, NoServer, Running, Server

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
#: Threads of those that have a fixed number.
THREADS = 8
#: The applications, as the servers know them.
APPS = {
    "bare": "traffic_apps.bare:app",
    "flask": "traffic_apps.flasksite:app",
    "django": "traffic_apps.djangosite.wsgi:application",
    "handler": "traffic_apps/handler.py",
}
#: What each is called in the tables.
TITLES = {
    "bare": "bare WSGI",
    "flask": "Flask",
    "django": "Django",
    "handler": "an http.server handler",
}
HANDLER = "handler"


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a server is to serve, and for what."""

    app: str
    port: int
    connections: int
    nginx: bool
    #: Whether answers have no length.
    streaming: bool

    @property
    def target(self) -> str:
        return APPS[self.app]


@dataclass(frozen=True, slots=True)
class Peer:
    """One server; ``command`` starts it.

    All run on the Python of ``.venv-peers``, hangup from its source.
    """

    name: str
    title: str
    distribution: str
    command: Callable[[Setting], list[str]]
    note: str = ""
    apps: tuple[str, ...] = ("bare", "flask", "django")
    #: The checkout whose hangup it is.
    source: Path | None = None
    #: How nginx speaks to it.
    upstream: str = "http"

    @property
    def another(self) -> bool:
        """Whether it is another checkout's hangup."""
        return self.source not in (None, ROOT)

    def started(
        self, app: str, cores: str, connections: int, data: Path, *, nginx: bool, streaming: bool
    ) -> Running:
        def command(port: int, threads: int) -> list[str]:
            return self.command(Setting(app, port, connections, nginx, streaming))

        environment = {"TRAFFIC_DATA": str(data), "PYTHONPATH": ""}
        if self.source:
            environment["PYTHONPATH"] = str(self.source / "src")
        server = Server(self.name, self.title, self.distribution, command)
        return Running(server, THREADS, cores, environment=environment)


def hangup(setting: Setting) -> list[str]:
    if setting.app == HANDLER:
        return handler("hangup")(setting)
    options = ["--access-log", "off", setting.target, "--port", str(setting.port)]
    return [str(PYTHON), "-m", "hangup", "serve", *options]


def handler(kind: str) -> Callable[[Setting], list[str]]:
    return lambda setting: [str(PYTHON), setting.target, kind, str(setting.port)]


def from_code(kind: str) -> Callable[[Setting], list[str]]:
    """See ``wsgi_serve.py``."""
    start = [str(PYTHON), "wsgi_serve.py", kind]
    return lambda setting: [*start, str(setting.port), str(THREADS), setting.target]


def granian(threads: int) -> Callable[[Setting], list[str]]:
    options = ["--interface", "wsgi", "--workers", "1", "--blocking-threads", str(threads)]
    start = [str(PYTHON), "-m", "granian", *options, "--no-log", "--host", HOST, "--port"]
    return lambda setting: [*start, str(setting.port), setting.target]


def gunicorn(setting: Setting) -> list[str]:
    options = ["--worker-class", "gthread", "--workers", "1", "--threads", str(THREADS)]
    listen = ["--bind", f"{HOST}:{setting.port}", "--no-control-socket"]
    return [str(PYTHON), "-m", "gunicorn", *options, *listen, setting.target]


def uwsgi(setting: Setting) -> list[str]:
    """Its own HTTP with keep-alive holds a thread for each connection, so it is given as many.

    It ends no answer that has no length: after a stream, it has to close.
    """
    address = f"{HOST}:{setting.port}"
    threads = THREADS
    if setting.nginx:
        listen = ["--socket", address]
    elif setting.streaming:
        listen = ["--http-socket", address, "--add-header", "Connection: close"]
    else:
        listen = ["--http11-socket", address]
        threads = max(THREADS, setting.connections)
    listen += ["--listen", "1024"]
    options = ["--processes", "1", "--threads", str(threads), "--enable-threads", "--need-app"]
    silent = ["--disable-logging", "--die-on-term", "--module", setting.target]
    return [str(PYTHON.with_name("uwsgi")), *listen, *options, *silent]


CHEROOT = f"{THREADS} threads; 1,024 connections in its backlog and kept, instead of 5 and 10"
UWSGI = (
    f"1 process; direct `--http11-socket` and a thread for each connection, behind nginx `uwsgi_pass`"
    f" and {THREADS} threads; the stream by `--http-socket`"
)
STOCK = "its ThreadingHTTPServer, with 1,024 connections in its backlog instead of 5"
ADAPTED = "the standard library's handler, unmodified, on hangup's server"
WITH_HANDLERS = ("bare", "flask", "django", HANDLER)

ALL = (
    Peer("hangup", "hangup", "hangup", hangup, "as it is", WITH_HANDLERS, ROOT),
    Peer("adapted", "hangup, stock handler", "hangup", handler("adapted"), ADAPTED, (HANDLER,), ROOT),
    Peer("granian1", "granian, 1", "granian", granian(1), "1 worker, 1 blocking thread"),
    Peer("granian8", "granian, 8", "granian", granian(8), "1 worker, 8 blocking threads"),
    Peer("gunicorn", "gunicorn gthread", "gunicorn", gunicorn, f"1 worker, {THREADS} threads"),
    Peer("waitress", "waitress", "waitress", from_code("waitress"), f"{THREADS} threads"),
    Peer("cheroot", "cheroot", "cheroot", from_code("cheroot"), CHEROOT),
    Peer("uwsgi", "uWSGI", "uwsgi", uwsgi, UWSGI, upstream="uwsgi"),
    Peer("bjoern", "bjoern", "bjoern", from_code("bjoern"), "one thread"),
    Peer("stock", "http.server", "", handler("stock"), STOCK, (HANDLER,)),
)


def another(name: str, root: Path) -> Peer:
    """The hangup of another checkout."""
    return Peer(name, name, "hangup", hangup, "hangup of another checkout", WITH_HANDLERS, root)


#: Debian's is not where everybody looks for programs.
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
HTTP = """\
    access_log off;
    keepalive_requests 100000000;
    upstream application {{
        server {host}:{behind};
        keepalive 256;
        keepalive_requests 100000000;
    }}
    server {{
        listen {host}:{port} backlog=1024;
        location / {{
            {location}
        }}
    }}"""
LOCATIONS = {
    "http": """\
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;""",
    "uwsgi": """\
            uwsgi_pass application;
            uwsgi_param QUERY_STRING $query_string;
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_param CONTENT_TYPE $content_type;
            uwsgi_param CONTENT_LENGTH $content_length;
            uwsgi_param REQUEST_URI $request_uri;
            uwsgi_param PATH_INFO $document_uri;
            uwsgi_param SERVER_PROTOCOL $server_protocol;
            uwsgi_param REQUEST_SCHEME $scheme;
            uwsgi_param REMOTE_ADDR $remote_addr;
            uwsgi_param SERVER_PORT $server_port;
            uwsgi_param SERVER_NAME $server_name;""",
}


@contextmanager
def nginx(behind: int, upstream: str, cores: str) -> Iterator[Running]:
    """A reverse proxy, as one deploys it: connections to the server are kept."""
    with tempfile.TemporaryDirectory() as directory:

        def command(port: int, threads: int) -> list[str]:
            http = HTTP.format(host=HOST, port=port, behind=behind, location=LOCATIONS[upstream].strip())
            program = NGINX or "nginx"
            return nginx_command(directory, http, program=program, events="worker_connections 4096;")

        with Running(Server("nginx", "nginx", None, command), 0, cores) as running:
            yield running


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that listens, and nginx before it if it is to be there."""

    server: Running
    proxy: Running | None

    @property
    def port(self) -> int:
        return (self.proxy or self.server).port

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU: the server's, and nginx's."""
        return self.server.cpu(), self.proxy.cpu() if self.proxy else 0.0


@contextmanager
def serving(
    peer: Peer,
    app: str,
    cores: tuple[str, str],
    connections: int,
    data: Path,
    *,
    via: str,
    streaming: bool = False,
) -> Iterator[Serving]:
    """``cores`` are the server's and the load's; nginx works beside the load."""
    nginx_before = via == "nginx"
    with peer.started(
        app, cores[0], connections, data, nginx=nginx_before, streaming=streaming
    ) as server:
        if not nginx_before:
            yield Serving(server, None)
            return
        with nginx(server.port, peer.upstream, cores[1]) as proxy:
            yield Serving(server, proxy)


#: Where server and load run: on a core each, or both on both.
CORES = {"one": ("0", LOAD_CORE), "both": (BOTH, BOTH)}


def prepared(data: Path) -> None:
    """The files that the applications need."""
    answers.write_assets(data / "static")
    environment = {"TRAFFIC_DATA": str(data), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [str(PYTHON), "-m", "traffic_apps.djangosite.prepare"],
        cwd=HERE,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise NoServer(f"Django's database could not be made: {done.stderr}")
