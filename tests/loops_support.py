"""Handlers with a loop of their own, in each of the ways in which programs have one."""

import http.server
from typing import Any

from conftest import answer


class Counting:
    """Answers each request with its number and its path, and counts what is called."""

    protocol_version = "HTTP/1.1"
    # Each class has its own, made by `handler`.
    requests: list[str]
    calls: list[str]

    def _answer(self) -> None:
        self.requests.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        body = b"%d %b" % (len(self.requests), self.path.encode())  # type: ignore[attr-defined]
        answer(self, b"" if self.command == "HEAD" else body)  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))  # type: ignore[attr-defined]
        self._answer()

    def log_message(self, *args: Any) -> None:
        pass


def copied(self: Any) -> None:
    """http.server's own, as Django's runserver has it."""
    self.close_connection = True
    self.handle_one_request()
    while not self.close_connection:
        self.handle_one_request()


def inherited(self: Any) -> None:
    super(self.kind, self).handle()


def inherited_in_a_loop(self: Any) -> None:
    self.close_connection = False
    while not self.close_connection:
        super(self.kind, self).handle()


def guarded(self: Any) -> None:
    self.close_connection = False
    while not self.close_connection:
        try:
            self.handle_one_request()
        except ConnectionError:
            return


def by_lines(self: Any) -> None:
    """Reads its request lines by itself."""
    while True:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            return
        getattr(self, "do_" + self.command)()
        self.wfile.flush()
        if self.close_connection:
            return


def one_request(self: Any) -> None:
    """``handle_one_request`` as wsgiref, Django and the program of the first issue have it."""
    self.raw_requestline = self.rfile.readline(65537)
    if not self.raw_requestline:
        self.close_connection = True
        return
    if not self.parse_request():
        return
    getattr(self, "do_" + self.command)()
    self.wfile.flush()


def one_request_by_super(self: Any) -> None:
    super(self.kind, self).handle_one_request()


#: By name: what the class has of its own.
LOOPS: dict[str, dict[str, Any]] = {
    "copied": {"handle": copied},
    "inherited": {"handle": inherited},
    "inherited in a loop": {"handle": inherited_in_a_loop},
    "guarded": {"handle": guarded},
    "request lines": {"handle": by_lines},
    "own request": {"handle_one_request": one_request},
    "own request, copied loop": {"handle": copied, "handle_one_request": one_request},
    "own request by super": {"handle_one_request": one_request_by_super},
}


def handler(base: Any, /, **own: Any) -> Any:
    """A class of such handlers."""
    cls: Any = type("H", (Counting, base), own)
    cls.kind, cls.requests, cls.calls = cls, [], []
    return cls


class Reference(http.server.ThreadingHTTPServer):
    """The standard library's server, which ends soon."""

    def serve_forever(self, poll_interval: float = 0.01) -> None:
        super().serve_forever(poll_interval)
