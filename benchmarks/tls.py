"""Hello over TLS, hangup beside gunicorn's gthread and cheroot: ``tls.py [ROUNDS]``.

The same application, certificate and key; wrk with one thread and 32 connections; server and load on a
core each.  hangup has its own 64 threads, the others have 8.  Medians, servers in turns.
"""

import datetime as dt
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wsgi_peers
from slow_clients import certificate, free_port

HERE = Path(__file__).resolve().parent
SECONDS = 3
APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
"""
CHEROOT = """
import sys
from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server
from app import app

server = Server(("127.0.0.1", int(sys.argv[1])), app, numthreads=8, request_queue_size=1024)
server.keep_alive_conn_limit = 1024
server.ssl_adapter = BuiltinSSLAdapter(sys.argv[2], sys.argv[3])
server.start()
"""


def commands(port: int, cert: str, key: str) -> dict[str, list[str]]:
    files = ["--certfile", cert, "--keyfile", key]
    peer = str(wsgi_peers.PYTHON)
    return {
        "hangup": [
            *(sys.executable, "-m", "hangup", "serve", "app:app", "--port", str(port)),
            *("--access-log", "off", *files),
        ],
        "hangup.gunicorn.Worker": [
            *(sys.executable, "-m", "gunicorn", "-k", "hangup.gunicorn.Worker", "--no-control-socket"),
            *("-b", f"127.0.0.1:{port}", *files, "app:app"),
        ],
        "gunicorn gthread": [
            *(peer, "-m", "gunicorn", "-k", "gthread", "--threads", "8"),
            *("-b", f"127.0.0.1:{port}", *files, "app:app"),
        ],
        "cheroot": [peer, "cheroot_server.py", str(port), cert, key],
    }


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def load(port: int, *options: str) -> float:
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c32", f"-d{SECONDS}", *options]
    done = subprocess.run(
        [*command, f"https://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
    )
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found, done.stdout
    for trouble in re.findall(r"(?:Socket errors|Non-2xx).*", done.stdout):
        print("  trouble:", trouble, flush=True)
    return float(found[1])


def measure(name: str, directory: str, files: tuple[str, str]) -> tuple[float, float]:
    port = free_port()
    server = subprocess.Popen(
        ["taskset", "-c", "0", *commands(port, *files)[name]],
        cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 20
        while not listens(port):
            assert time.monotonic() < until, f"{name} does not listen"
            time.sleep(0.1)
        time.sleep(0.5)
        return load(port), load(port, "-H", "Connection: close")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    versions = wsgi_peers.install(with_optional=False)
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "app.py").write_text(APP)
        (Path(directory) / "cheroot_server.py").write_text(CHEROOT)
        files = certificate(directory)
        for _ in range(rounds):
            for name in commands(0, *files):
                found.setdefault(name, []).append(measure(name, directory, files))
                print(name, *(f"{each:,.0f}" for each in found[name][-1]), flush=True)
    medians = {
        name: [statistics.median(each) for each in zip(*runs, strict=True)]
        for name, runs in found.items()
    }
    ours = medians["hangup"]
    rows = [
        f"| {name} {versions.get(name.split()[0], '')} | {kept:,.0f} | {ours[0] / kept:.2f}"
        f" | {fresh:,.0f} | {ours[1] / fresh:.2f} |"
        for name, (kept, fresh) in medians.items()
    ]
    lines = [
        "# Hello over TLS",
        "",
        (
            f"{dt.datetime.now(dt.UTC):%Y-%m-%d}. CPython {platform.python_version()}, 2 cores,"
            f" {rounds} rounds of {SECONDS} s; ECDSA P-256."
        ),
        "",
        (__doc__ or "").partition("\n\n")[2].strip(),
        "",
        "| requests/s | keep-alive | hangup / it | new connections | hangup / it |",
        "| --- | ---: | ---: | ---: | ---: |",
        *rows,
        "",
    ]
    (HERE / "tls.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
