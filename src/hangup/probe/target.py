"""The ready-made target: it serves all that the probe asks for, and tells what became of its work.

As a WSGI application, under any server::

    gunicorn hangup.probe.target:app
    hangup serve hangup.probe.target:app

and as a handler of ``http.server``, or of any module with its names::

    python -m hangup.probe.target --module http.server --port 8000

``/slow`` works for 0.6 s, ``/large`` answers with 16 MiB, ``/stream`` sends 30 blocks, one each 50 ms,
and ``/upload`` reads a body.  Each handler that begins, is told that its client has left, and ends, says
so in a line on standard error, which the probe reads.  It is told where the server tells: by
``hangup.client`` in the environment or a handler's ``client``, or by ``waitress.client_disconnected``.
"""

import argparse
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

__all__ = ["EVENT", "PATHS", "app", "make_handler"]

#: What the paths are for, by their uses.
PATHS = {
    "plain": "/",
    "slow": "/slow",
    "large": "/large",
    "stream": "/stream",
    "upload": "/upload",
}
#: How a line begins that is for the probe.
EVENT = "hangup-probe "

_WORK = 0.6
_LARGE = bytes(16 * 1024 * 1024)
_BLOCKS, _EACH = 30, 0.05
_BLOCK = b"data: " + b"x" * 1000 + b"\n\n"
_TICK = 0.02


class _Work:
    """What one handler does, as it is told to the probe."""

    def __init__(self, path: str, query: str, client: Any, asked: Callable[[], bool] | None) -> None:
        self._about = {"path": path, "mark": parse_qs(query).get("probe", [""])[0]}
        self._client = client
        self._asked = asked
        self._told = False
        self._tell("began")

    def _tell(self, event: str, **more: Any) -> None:
        line = EVENT + json.dumps({"event": event, "at": time.time(), **self._about, **more}) + "\n"
        os.write(2, line.encode())  # In one piece: other threads and processes tell, too.

    def pause(self, seconds: float) -> bool:
        """Work for so long, or until the server says that the client has left: True then."""
        left = self._wait(seconds)
        if left and not self._told:
            self._told = True
            self._tell("told")
        return left

    def _wait(self, seconds: float) -> bool:
        if self._client is not None:
            return bool(self._client.wait(seconds))
        if self._asked is None:
            time.sleep(seconds)
            return False
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            if self._asked():
                return True
            time.sleep(min(_TICK, rest))
        return False

    def end(self, *, stopped: bool) -> None:
        self._tell("ended", stopped=stopped)

    def stream(self) -> Iterator[bytes]:
        """A client that has said that it sends no more may still read: only writing tells that."""
        stopped = True
        try:
            for _ in range(_BLOCKS):
                if self.pause(_EACH):
                    time.sleep(_EACH)
                yield _BLOCK
            stopped = False
        finally:
            self.end(stopped=stopped)

    def body(self, read: Callable[[], int]) -> tuple[int, bytes]:
        """The status and the body of what is no stream; ``read`` reads the request's body."""
        stopped = True
        try:
            match self._about["path"]:
                case "/":
                    answer = 200, b"hello\n"
                case "/slow":
                    if self.pause(_WORK):
                        return 200, b"done, early\n"
                    answer = 200, b"done\n"
                case "/large":
                    answer = 200, _LARGE
                case "/upload":
                    answer = 200, b"%d bytes\n" % read()
                case _:
                    answer = 404, b"no such path\n"
            stopped = False
            return answer
        finally:
            self.end(stopped=stopped)


def app(environ: dict[str, Any], start_response: Any) -> Any:
    """A WSGI application (PEP 3333)."""
    path = environ.get("PATH_INFO") or "/"
    client = environ.get("hangup.client")
    work = _Work(
        path, environ.get("QUERY_STRING", ""), client, environ.get("waitress.client_disconnected")
    )
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return work.stream()

    status, body = work.body(lambda: _read_all(environ))
    reason = "200 OK" if status == 200 else "404 Not Found"
    start_response(reason, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _read_all(environ: dict[str, Any]) -> int:
    """Read the body; how many bytes it had.  Without a length, where the server knows its end."""
    length = environ.get("CONTENT_LENGTH")
    if length:
        return len(environ["wsgi.input"].read(int(length)))
    # gunicorn, waitress and others end their input; what does not say so may never end.
    return len(environ["wsgi.input"].read()) if "HTTP_TRANSFER_ENCODING" in environ else 0


def make_handler(module: Any) -> Any:
    """A handler made of ``module.BaseHTTPRequestHandler``."""

    class Handler(module.BaseHTTPRequestHandler):  # type: ignore[misc]
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802 - http.server's name
            path, _, query = self.path.partition("?")
            work = _Work(path, query, getattr(self, "client", None), None)
            if path == "/stream":
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for block in work.stream():
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
                self.wfile.write(b"0\r\n\r\n")
                return
            status, body = work.body(self._read_all)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def _read_all(self) -> int:
            length = self.headers.get("Content-Length")
            if length is not None:
                return len(self.rfile.read(int(length)))
            if module.__name__ != "http.server":
                return len(self.rfile.read())  # hangup's ends where the body does.
            total = 0
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                total += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return total

    return Handler


def main() -> None:
    """Serve the handler by a module's ThreadingHTTPServer, until terminated."""
    parser = argparse.ArgumentParser(prog="python -m hangup.probe.target", description=main.__doc__)
    parser.add_argument("--module", default="http.server", help="http.server, hangup, …")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    chosen = parser.parse_args()
    module = importlib.import_module(chosen.module)
    with module.ThreadingHTTPServer((chosen.host, chosen.port), make_handler(module)) as server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
