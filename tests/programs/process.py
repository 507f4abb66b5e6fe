"""A program as a process: started in a folder of its own, asked, stopped, and nothing of it left."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import proc
from exchanges import HOST, until

#: Seconds that a program may take to listen, and to end when it is told to.
START, END = 30.0, 10.0


class NotServing(Exception):
    """The program does not start; the text is the last that it said."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Process:
    """``python …`` or ``hangup run …``, in a process group of its own."""

    def __init__(self, words: list[str], folder: Path, port: int, *, hangup: bool) -> None:
        self.port = port
        self._path = folder / "output.txt"
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(folder),
        }
        with open(self._path, "ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *(("-m", "hangup", "run") if hangup else ()), *words],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if not until(self._ready, START):
            self.end()
            raise NotServing("it does not listen")
        if self._process.poll() is not None:
            last = self.output().strip().splitlines() or ["without a word"]
            self.end()
            raise NotServing(f"it ended at once: {last[-1]}")

    def _ready(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), 1).close()
        except OSError:
            return self._process.poll() is not None
        return True

    def output(self) -> str:
        return self._path.read_text(errors="replace")

    def tracebacks(self) -> int:
        return len(re.findall(r"^\W*(?:\w+:\w+:)?Traceback \(most recent", self.output(), re.MULTILINE))

    def settle(self) -> None:
        """Wait until it prints nothing more, 5 s at most."""
        end, size = time.monotonic() + 5, -1
        while time.monotonic() < end and size != (size := self._path.stat().st_size):
            time.sleep(0.3)

    def busy(self) -> bool:
        """Whether it computes while nobody asks it anything."""
        before = proc.cpu_seconds(self._process.pid)
        time.sleep(0.5)
        return proc.cpu_seconds(self._process.pid) - before > 0.3

    def on_epoll(self) -> bool:
        return proc.on_epoll(self._process.pid, self.port)

    def stop(self, number: signal.Signals) -> tuple[int | str, bool]:
        """Its exit status, as a shell has it, and whether a child outlived it.

        Ctrl-C goes to all of its group, as from a terminal, and SIGTERM to it alone.
        """
        if number == signal.SIGINT:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)
        try:
            status = self._process.wait(END)
        except subprocess.TimeoutExpired:
            return f"did not end in {END:.0f} s", False
        alone = until(lambda: not proc.members(self._process.pid), 3)
        return (128 - status if status < 0 else status), not alone

    def end(self) -> None:
        """Kill what is left of its group."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
