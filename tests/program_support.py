"""Servers as programs in processes of their own, for tests that fork, stop, or end them."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import IO, Any

from conftest import PATIENCE, Peer

#: What each program begins with.  ``say`` takes no lock, so that children may call it.
HEAD = """
import os, signal, sys, threading, time
import hangup
def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())
"""


class Talking:
    """A process whose output a thread reads line by line; ``_news`` guards ``said``, all of it."""

    def _listen_to(self, output: IO[str] | None) -> None:
        assert output is not None
        self.said = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(output,))
        self._reader.start()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            with self._news:
                self.said += line
                self._news.notify_all()

    def wait_for(self, pattern: str, count: int = 1) -> list[Any]:
        """What the pattern finds, when it is found ``count`` times."""
        found: list[Any] = []

        def there() -> bool:
            found[:] = re.findall(pattern, self.said)
            return len(found) >= count

        with self._news:
            assert self._news.wait_for(there, 2 * PATIENCE), f"no {pattern} in {self.said}"
        return found


class Program(Talking):
    """A Python program, what it says on stdout line by line, and the children that it tells of.

    It says ``port N`` where it listens, and ``child N`` of each child.  At the end its group is killed:
    whoever lives on would keep its output open.
    """

    def __init__(self, source: str, *args: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            args or [sys.executable, "-W", "ignore", "-c", HEAD + source],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._listen_to(self.process.stdout)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.wait_for(r"(?:port |127\.0\.0\.1:)(\d+)")[0])

    def connect(self) -> Peer:
        return Peer(self.address)

    def get(self, path: str = "/") -> str:
        with self.connect() as peer:
            return peer.get(path, "Connection: close").response()[1].decode()

    def children(self, count: int = 1) -> list[int]:
        return [int(pid) for pid in self.wait_for(r"child (\d+)\n", count)]

    def tell(self, line: str = "") -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(2 * PATIENCE)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._reader.join(PATIENCE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


def can_bind(address: tuple[str, int]) -> bool:
    """Whether nobody listens there any more."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
            sock.listen()
        except OSError:
            return False
        return True


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie; its threads may end after the first one has."""
    try:
        if len(os.listdir(f"/proc/{pid}/task")) > 1:
            return True
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_dead(pid: int) -> bool:
    """Whether nothing of a process runs any more."""
    return not is_alive(pid)
