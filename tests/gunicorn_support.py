"""gunicorn as a process: its own workers, and hangup's, with the same settings."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import PATIENCE, Peer
from program_support import Talking

HANGUP = "hangup.gunicorn.Worker"

#: What is served unless a test says otherwise.
HELLO = """
import os, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/left":
        environ["wsgi.errors"].write("begins\\n")
        environ["hangup.client"].wait(30)
        environ["wsgi.errors"].write("the client left\\n")
    if path == "/fail":
        raise ZeroDivisionError("mine")
    text = {
        "/pid": str(os.getpid()),
        "/scheme": environ["wsgi.url_scheme"],
        "/mount": environ["SCRIPT_NAME"] + "|" + path,
        "/multi": str(environ["wsgi.multiprocess"]),
    }.get(path, "ok")
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Mark", "yes")])
    return [text.encode()]
"""


class Gunicorn(Talking):
    """gunicorn in processes of its own; its log is read line by line.

    ``app`` is the source of a module ``hello``, whose ``app`` it serves; ``conf`` that of its
    ``gunicorn.conf.py``.
    """

    def __init__(
        self,
        directory: Path,
        *args: str,
        app: str = HELLO,
        conf: str = "",
        worker: str = HANGUP,
        bind: str = "127.0.0.1:0",
        **environment: str,
    ) -> None:
        (directory / "hello.py").write_text(app)
        if conf:
            (directory / "gunicorn.conf.py").write_text(conf)
        command = [
            sys.executable, "-m", "gunicorn", "--no-control-socket", "-k", worker,
            "-b", bind, *args, "hello:app",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._listen_to(self.process.stderr)

    def ready(self, workers: int = 1) -> "Gunicorn":
        self.wait_for(r"Booting worker with pid: (\d+)", workers)
        return self

    @property
    def address(self) -> Any:
        (where,) = self.wait_for(r"Listening at: ([^ ,]+)")[:1]
        if where.startswith("unix:"):
            return where.removeprefix("unix:")
        host, _, port = where.removeprefix("http://").removeprefix("https://").rpartition(":")
        return host, int(port)

    def get(self, path: str = "/", *fields: str) -> tuple[int, str]:
        with Peer(self.address) as peer:
            response, body = peer.get(path, "Connection: close", *fields).response()
            return response.status, body.decode()

    def ask(self, request: bytes) -> bytes:
        """All that comes back for these bytes, up to the end of the connection."""
        with Peer(self.address) as peer:
            return peer.send(request).read_to_end()

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(3 * PATIENCE)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reader.join()
            assert self.process.stderr is not None
            self.process.stderr.close()
