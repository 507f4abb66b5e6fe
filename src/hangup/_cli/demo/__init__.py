"""``hangup demo``: the crash, and what becomes of it, measured while you watch.

The same service runs on the standard library's server, on hangup, and on hangup with its one sleep
replaced by ``hangup.sleep``, each in a process of its own.  Each gets one client that waits and one
that leaves.  Nothing here is told from memory: the logs are
what the two processes wrote, and each figure is counted or timed in this run.
"""

import json
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import click

__all__ = ["run_demo"]

#: Seconds after which the leaving client leaves.
_PATIENCE = 0.4
#: Seconds that a process is given to start, or to write down what it has to say: many on a busy machine.
_GRACE = 20.0
_NARROW = 100


@dataclass
class _Side:
    """One server's half of the demonstration."""

    name: str
    title: str
    process: subprocess.Popen[str] = field(init=False)
    readers: list[threading.Thread] = field(default_factory=list)
    port: int = 0
    log: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    disconnected_at: float = 0.0
    answer: str = ""
    news: threading.Condition = field(default_factory=threading.Condition)

    def start(self, work: float) -> None:
        """Start the process, and read what it says as it says it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hangup._cli.demo.service", self.name, str(work)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.readers = [
            threading.Thread(target=read, daemon=True) for read in (self._read_events, self._read_log)
        ]
        for reader in self.readers:
            reader.start()
        self.port = self.wait_for("listening")["port"]

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.news:
                self.events.append(json.loads(line))
                self.news.notify_all()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.news:
                self.log.append(line.rstrip("\n"))
                self.news.notify_all()

    def wait_for(self, what: str, **also: Any) -> dict[str, Any]:
        """The event of that name.  Raises ClickException if it does not come."""

        def found() -> dict[str, Any] | None:
            wanted = {"event": what, **also}.items()
            return next((e for e in self.events if wanted <= e.items()), None)

        with self.news:
            event = self.news.wait_for(found, _GRACE)
        if event is None:
            raise click.ClickException(f"the {self.title} side said nothing of {what!r}")
        return event

    def stop(self) -> None:
        """End the process, and read to the end what it said."""
        self.process.terminate()
        with self.process:
            for reader in self.readers:
                reader.join(_GRACE)

    # -- what was measured

    @property
    def departure_lines(self) -> list[str]:
        """What the log says of the client that left; what the service itself prints apart."""
        own = ("query: ", "success prod query: ")
        return [line for line in self.log if "/hello1" not in line and not line.startswith(own)]

    @property
    def tracebacks(self) -> int:
        return sum("Traceback (most recent call last)" in line for line in self.log)

    @property
    def died(self) -> int:
        return sum(event["event"] == "died" for event in self.events)

    @property
    def knew_after(self) -> float:
        """Seconds from the client's leaving to the moment when the server knew."""
        event = next(e for e in self.events if e["event"] == "knew")
        return max(0.0, float(event["at"]) - self.disconnected_at)

    @property
    def free_after(self) -> float:
        """Seconds from the client's leaving to the end of the handler that worked for it."""
        event = next(e for e in self.events if e["event"] == "free" and e["path"] == "/hello2")
        return max(0.0, float(event["at"]) - self.disconnected_at)

    @property
    def answered(self) -> bool:
        return self.answer.startswith("<html>/hello1<br>") and self.answer.endswith("</html>")

    @property
    def clean(self) -> bool:
        return self.answered and not self.tracebacks and not self.died and len(self.departure_lines) == 1


class _Curl:
    """A client that is a person's: curl, ended by Ctrl-C."""

    def __init__(self, port: int, path: str) -> None:
        self._process = subprocess.Popen(
            ["curl", "-s", f"http://127.0.0.1:{port}{path}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def leave(self) -> float:
        """Press Ctrl-C; return when that was."""
        at = time.time()
        self._process.send_signal(signal.SIGINT)
        self._process.communicate()
        return at

    def answer(self) -> str:
        return self._process.communicate()[0]


class _BuiltInClient:
    """The same, where there is no curl."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())

    def leave(self) -> float:
        at = time.time()
        self._socket.close()
        return at

    def answer(self) -> str:
        with self._socket, self._socket.makefile("rb") as answer:
            return answer.read().partition(b"\r\n\r\n")[2].decode()


def run_demo(work: float) -> bool:
    """Run the services and show what they did; True if hangup's sides are clean.

    ``work`` is how long the service works for each request, in seconds.
    """
    _hear_ctrl_c()
    client = _Curl if shutil.which("curl") else _BuiltInClient
    sides = [
        _Side("stock", "http.server"),
        _Side("hangup", "hangup"),
        _Side("sleep", "hangup.sleep"),
    ]
    named = "curl" if client is _Curl else "built-in clients (curl is not installed)"
    click.echo(f"A service that works {work:g} s for each request: on http.server, on hangup, and on")
    click.echo("hangup with hangup.sleep in place of time.sleep; all at once.")
    click.echo(f"/hello1 waits for its answer; /hello2 leaves after {_PATIENCE:g} s ({named}).")
    try:
        for side in sides:
            side.start(work)
        waiting = [client(side.port, "/hello1") for side in sides]
        leaving = [client(side.port, "/hello2") for side in sides]
        for side in sides:
            side.wait_for("began", path="/hello2")
        threading.Event().wait(_PATIENCE)
        for side, one in zip(sides, leaving, strict=True):
            side.disconnected_at = one.leave()
        for side, one in zip(sides, waiting, strict=True):
            side.answer = one.answer()
            side.wait_for("knew")
            side.wait_for("free", path="/hello2")
            side.wait_for("closed", number=2)
    finally:
        for side in sides:
            if hasattr(side, "process"):
                side.stop()
    _show_logs(sides)
    _show_table(sides)
    return all(side.clean for side in sides[1:])


def _hear_ctrl_c() -> None:
    """A shell starts background jobs with SIGINT ignored, and curl would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _show_logs(sides: list[_Side]) -> None:
    """The long log on the left, the short ones on the right; all in a row in a narrow terminal."""
    width = shutil.get_terminal_size((120, 40)).columns
    if width < _NARROW:
        for line in _logs(sides, width):
            click.echo(line)
        return
    column = (width - 3) // 2
    left, right = _logs(sides[:1], column), _logs(sides[1:], column)
    click.echo()
    del left[0], right[0]
    for index in range(max(len(left), len(right))):
        cells = [lines[index] if index < len(lines) else "" for lines in (left, right)]
        filling = " " * (column - len(click.unstyle(cells[0])))
        click.echo(f"{cells[0]}{filling} │ {cells[1]}")


def _logs(sides: list[_Side], width: int) -> list[str]:
    lines = []
    for side in sides:
        lines += ["", click.style(f"{side.title}'s log", bold=True), "─" * width]
        lines += [_paint(line, side) for line in _fold(side.log, width)]
    return lines


def _fold(lines: list[str], width: int) -> list[str]:
    return [
        piece for line in lines for piece in textwrap.wrap(line, width, subsequent_indent="  ") or [""]
    ]


def _paint(text: str, side: _Side) -> str:
    if side.tracebacks and ("Error" in text or "Traceback" in text or "Exception" in text):
        return click.style(text, fg="red")
    if " 499 " in text:
        return click.style(text, fg="green")
    return text


def _show_table(sides: list[_Side]) -> None:
    def row(name: str, *values: str) -> None:
        click.echo(f"{name:36}" + "".join(f"{value:>14}" for value in values))

    click.echo()
    titles = "".join(f"{side.title:>14}" for side in sides)
    click.secho(f"{'measured in this run':36}{titles}", bold=True)
    row("answers served to who waited", *("1 of 1" if s.answered else "0 of 1" for s in sides))
    row("tracebacks", *(str(s.tracebacks) for s in sides))
    row("handler threads that died", *(str(s.died) for s in sides))
    row("log lines for the departure", *(str(len(s.departure_lines)) for s in sides))
    row("after Ctrl-C, the server knew in", *(_seconds(s.knew_after) for s in sides))
    row("  and its thread was free in", *(_seconds(s.free_after) for s in sides))


def _seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value:.2f} s"
