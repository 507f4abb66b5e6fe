"""The server that is probed: a command that the probe starts and watches, or one that runs elsewhere."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from .exceptions import ProbeError
from .log import Log
from .results import Usage
from .usage import Census, age, available, runs

__all__ = ["PORT", "Command", "Subject", "wait_for_command"]

#: What stands for the port in a command.
PORT = "{port}"
_END = 5.0
# Seconds for which a process must have been there to be one of the server's own, whose end is a crash:
# not one that it has started for a moment.
_ESTABLISHED = 1.0


class Subject:
    """A server that runs already: nothing but its answers is known of it."""

    def usage(self) -> Usage | None:
        """What its processes hold; None if that can't be seen."""
        return None

    def lost(self) -> str | None:
        """What has become of a process that ended since the last :meth:`settled`; None if none did."""
        return None

    def settled(self) -> None:
        """Take those processes for the server's own that are there now."""

    def restart(self) -> bool:
        """Start it again; False where that is not the probe's to do."""
        return False

    def last_words(self) -> str:
        """The last line that it said."""
        return ""

    def stop(self) -> None:
        """End it."""


class Command(Subject):
    """A server that is a command.

    It runs in a session of its own, so that all that it starts can be ended with it.  Only the probe's
    main thread calls its methods; what it says goes to ``log``, from threads that end with it.
    """

    def __init__(self, command: list[str], port: int, log: Log) -> None:
        self.command = [word.replace(PORT, str(port)) for word in command]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it.  Raises :exc:`ProbeError` if it can't be."""
        with _unbroken():
            self._start()

    def _start(self) -> None:
        # Unbuffered: what a program in Python says is to be there when it says it.
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        except OSError as error:
            raise ProbeError(f"{self.command[0]} can't be started: {error.strerror}") from None
        assert self._process.stdout is not None
        self._began = self._log.position()
        self._reader = self._log.follow(self._process.stdout)
        self._known: frozenset[tuple[int, int]] = frozenset()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it has not been started"
        return self._process

    @property
    def ended(self) -> str | None:
        """How the command itself has ended; None if it runs."""
        status = self._running.poll()
        if status is None:
            return None
        if status < 0:
            try:
                return f"was ended by {signal.Signals(-status).name}"
            except ValueError:
                return f"was ended by signal {-status}"
        return f"exited with status {status}"

    def last_words(self) -> str:
        """The last line that it said."""
        self._reader.join(1.0 if self.ended else 0.0)
        lines = [line for line in self._log.since(self._began) if line.strip()]
        return lines[-1].strip() if lines else ""

    def usage(self) -> Usage | None:
        """What the command's processes hold now."""
        return Census(self._running.pid).usage() if available() else None

    def settled(self) -> None:
        """Take those processes for the server's own that are there now, and were a moment ago."""
        members = Census(self._running.pid).members
        self._known = frozenset(each for each in members if age(each[1]) >= _ESTABLISHED)

    def lost(self) -> str | None:
        """Which process of the server has ended, and how, if that can be known."""
        if (how := self.ended) is not None:
            return f"the command {how}"
        gone = sorted(pid for pid, began in self._known if not runs(pid, began))
        return f"process {', '.join(map(str, gone))} ended" if gone else None

    def restart(self) -> bool:
        """End what is left of it, and start it again."""
        self.stop()
        self.start()
        return True

    def stop(self) -> None:
        """End it: SIGTERM to all of its session, and SIGKILL to what is there after 5 s."""
        process = self._process
        if process is None:
            return
        with _unbroken():
            _signal(process, signal.SIGTERM)
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                pass
            _signal(process, signal.SIGKILL)
            process.wait()
            self._reader.join(_END)
            self._process = None


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


@contextlib.contextmanager
def _unbroken() -> Iterator[None]:
    """Put off what Ctrl-C and SIGTERM do until the end of the block: no process is to be lost in it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def keep(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = [(each, signal.signal(each, keep)) for each in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for each, handler in before:
            signal.signal(each, handler)
        for number in came:
            signal.raise_signal(number)


def wait_for_command(command: Command, answers: Callable[[], bool], limit: float) -> None:
    """Wait until a command answers.  Raises :exc:`ProbeError` if it ends first, or does not in time."""
    end = time.monotonic() + limit
    while not answers():
        if (how := command.ended) is not None:
            said = command.last_words()
            raise ProbeError(f"the command {how} before it answered" + (f": {said}" if said else ""))
        if time.monotonic() > end:
            raise ProbeError(f"the command did not answer within {limit:g} s (--start-timeout)")
        time.sleep(0.02)
