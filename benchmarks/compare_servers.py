"""The servers that ``compare.py`` probes: how each is started, and what it takes to have it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from wsgi_peers import PYTHON

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
PORT = "{port}"
THREADS = "8"
#: Debian's packages of what is no Python, by the program that they bring.
PACKAGES = {"go": "golang-go", "nginx": "nginx-light"}
#: Seconds that apt-get and Go's compiler may take, each.
PATIENCE = 300


@dataclass(frozen=True, slots=True)
class Server:
    """One of them.  ``distribution`` is what it comes in, and what its version is that of."""

    name: str
    title: str
    distribution: str
    command: list[str]
    #: What is said of it in the page: of what it is told, and of its access log.
    note: str
    #: The URL, where it is not asked over plain HTTP.
    url: str = ""
    #: The program that it needs on the path, or the module that it needs beside hangup.
    program: str = ""
    module: str = ""
    #: Seconds that the probe waits for an answer, if its own are too few for what all do at once.
    patience: str = ""

    @property
    def ours(self) -> bool:
        return self.distribution == "hangup"

    @property
    def shown_command(self) -> str:
        """The command without directories: those are this machine's."""
        words = [word.rsplit("/", 1)[-1] if word.startswith("/") else word for word in self.command]
        return " ".join(["python" if word == Path(sys.executable).name else word for word in words])


def peer(*words: str) -> list[str]:
    return [str(PYTHON), "-m", *words]


def ours(*words: str) -> list[str]:
    return [sys.executable, "-m", *words]


APP = "hangup.probe.target:app"
PEERS_APP = "compare_app:app"
BIND = f"{HOST}:{PORT}"
GUNICORN = ["--threads", THREADS, "--access-logfile", "-", "--no-control-socket", "--bind", BIND]
LOOKAHEAD = "--channel-request-lookahead=5"
SILENT = "no access log, as it comes"
LINE = "an access log, as it comes"
ASKED = "an access log, asked for"


def servers(directory: str) -> list[Server]:
    """All of them.  ``directory`` is where what is made for them lies."""
    waitress = peer("waitress", f"--listen={BIND}")
    granian = ["--interface", "wsgi", "--blocking-threads", THREADS, "--access-log"]
    granian += ["--host", HOST, "--port", PORT]
    uvicorn = ["--host", HOST, "--port", PORT, "compare_asgi:app"]
    serve = ours("hangup", "serve", APP, "--port", PORT)
    tls = ["--certfile", f"{directory}/cert.pem", "--keyfile", f"{directory}/key.pem"]
    worker = ["--worker-class", "hangup.gunicorn.Worker", *GUNICORN, APP]
    return [
        Server("http.server", "http.server", "", ours("hangup.probe.target", "--port", PORT), LINE),
        Server("werkzeug", "Werkzeug", "werkzeug", code("werkzeug"), LINE),
        Server(
            "gunicorn",
            "gunicorn gthread",
            "gunicorn",
            peer("gunicorn", "--worker-class", "gthread", *GUNICORN, PEERS_APP),
            ASKED,
        ),
        Server("waitress", "waitress", "waitress", [*waitress, PEERS_APP], SILENT),
        Server(
            "waitress-lookahead",
            "waitress, looking ahead",
            "waitress",
            [*waitress, LOOKAHEAD, PEERS_APP],
            f"{SILENT}; it can be asked whether the client is there",
        ),
        Server("cheroot", "cheroot", "cheroot", peer("cheroot", "--bind", BIND, PEERS_APP), SILENT),
        Server("granian", "granian", "granian", peer("granian", *granian, PEERS_APP), ASKED),
        Server(
            "uvicorn",
            "uvicorn",
            "uvicorn",
            peer("uvicorn", *uvicorn),
            f"{LINE}; ASGI, with uvloop and httptools: it tells by `http.disconnect`",
        ),
        Server(
            "uvicorn-plain",
            "uvicorn, asyncio and h11",
            "uvicorn",
            peer("uvicorn", "--loop", "asyncio", "--http", "h11", *uvicorn),
            f"{LINE}; ASGI, as uvicorn is without its extras",
        ),
        Server(
            "bjoern",
            "bjoern",
            "bjoern",
            code("bjoern"),
            f"{SILENT}; one thread, which sends streams in turns: the probe waits up to 10 s, not 3",
            patience="10",
        ),
        Server(
            "go",
            "Go net/http",
            "go",
            [f"{directory}/compare_go", PORT],
            f"{SILENT}; it tells by the request's context",
            program="go",
        ),
        Server(
            "nginx",
            "nginx, hangup behind",
            "nginx",
            [sys.executable, str(HERE / "compare_nginx.py"), PORT],
            "an access log, as it comes; as a reverse proxy, `proxy_buffering off`; hangup's log is off",
            program="nginx",
        ),
        Server(
            "hangup-handler",
            "hangup, a handler",
            "hangup",
            ours("hangup.probe.target", "--module", "hangup", "--port", PORT),
            LINE,
        ),
        Server("hangup", "hangup serve", "hangup", serve, LINE),
        Server(
            "hangup-gunicorn",
            "hangup.gunicorn.Worker",
            "hangup",
            ours("gunicorn", *worker),
            f"{ASKED}; in gunicorn",
            module="gunicorn",
        ),
        Server(
            "hangup-tls",
            "hangup serve, TLS",
            "hangup",
            [*serve, *tls],
            LINE,
            url="https://localhost:{port}/",
            program="openssl",
        ),
    ]


def code(kind: str) -> list[str]:
    return [str(PYTHON), "compare_app.py", kind, PORT]


def missing(server: Server, versions: dict[str, str]) -> str:
    """Why it can't be probed here; empty if it can."""
    if server.program and not shutil.which(server.program) and not apt(server.program):
        return f"there is no `{server.program}` here, nor did apt-get bring it"
    if server.module and importlib.util.find_spec(server.module) is None:
        return f"{server.module} is not installed beside hangup"
    if not server.program and server.distribution and server.distribution not in versions:
        return f"{server.distribution} can't be built here"
    return ""


def apt(program: str) -> bool:
    """Whether apt-get could install it: as root, in bounded time."""
    package = PACKAGES.get(program)
    if package is None or os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    print("installing", package, flush=True)
    # RUNLEVEL: what is installed is not to be started, too.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    try:
        subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return False
    return shutil.which(program) is not None


def make(server: Server, directory: str) -> str:
    """Make what its command needs; why it can't be made, or nothing."""
    if server.name == "go":
        command = ["go", "build", "-o", f"{directory}/compare_go", "compare_go.go"]
        environment = {**os.environ, "GOCACHE": f"{directory}/go-cache"}
    elif server.url:
        command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec"]
        command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-keyout", f"{directory}/key.pem", "-out", f"{directory}/cert.pem"]
        environment = dict(os.environ)
    else:
        return ""
    try:
        done = subprocess.run(
            command, cwd=HERE, env=environment, capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return f"`{command[0]}` takes longer than {PATIENCE} s"
    return f"`{command[0]}` fails" if done.returncode else ""


def version(server: Server, versions: dict[str, str]) -> str:
    """The version of what it comes in; of http.server that is Python's."""
    match server.distribution:
        case "go":
            said = subprocess.run(["go", "version"], capture_output=True, text=True, check=False).stdout
        case "nginx":
            said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr
        case "":
            said = sys.version
        case name:
            return versions.get(name, "?")
    found = re.search(r"\d+(\.\d+)+", said)
    return found.group() if found else "?"
