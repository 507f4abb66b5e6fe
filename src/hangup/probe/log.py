"""What a server says while it is probed: its output, files that it writes, and what is in them."""

import json
import os
import re
import threading
import time
from collections.abc import Iterable
from typing import IO, Any

from .exceptions import ProbeError
from .target import EVENT

__all__ = ["Log", "accounts_for_departure", "tracebacks"]

#: How an uncaught error begins, in the languages that servers are written in.
_TRACEBACKS = re.compile(
    r"Traceback \(most recent call last\)"  # Python
    r"|^(?:http: )?panic(?: serving|:)"  # Go
    r"|^thread '.*' (?:\(\d+\) )?panicked at"  # Rust
    r"|^Exception in thread|^\S*(?:Exception|Error): .*\n\s+at "  # Java
    r"|^(?:Uncaught |Unhandled |unhandled|node:events)"  # Node
    r"|Segmentation fault|core dumped|Fatal Python error",
    re.MULTILINE,
)
#: Lines that say that a client has left, of this and other servers.
_ACCOUNTS = re.compile(
    r"(?:^|[\s\"'=|])499(?:[\s\"'|,]|$)|\bleft (?:while|in|before)\b"
    r"|client (?:prematurely )?closed|client (?:has )?(?:disconnected|left|gone)"
    r"|ClientDisconnect|closed (?:the )?connection|Connection reset by peer|Broken ?[Pp]ipe|hung up",
    re.IGNORECASE,
)
_LONGEST = 500


def tracebacks(lines: list[str]) -> int:
    """How many uncaught errors these lines tell of."""
    return len(_TRACEBACKS.findall("\n".join(lines)))


def accounts_for_departure(lines: list[str]) -> str | None:
    """The line that says best that a client has left; None if none does."""
    found = [line for line in lines if _ACCOUNTS.search(line)]
    return next((line for line in found if re.search(r"\b499\b", line)), found[0] if found else None)


class Log:
    """Lines in the order in which they came, and the target's events apart.

    Several threads read what a command says, and add it; the probe reads.  ``_news`` guards all.
    """

    def __init__(self, files: Iterable[str] = ()) -> None:
        self.events: list[dict[str, Any]] = []
        #: Whether there is anything that could be read.
        self.readable = False
        self._lines: list[str] = []
        self._last = time.monotonic()
        self._news = threading.Condition()
        self._files: list[tuple[IO[bytes], bytearray]] = []
        for path in files:
            try:
                file = open(path, "rb")  # noqa: SIM115 - it is read until the end of the run
            except OSError as error:
                self.close()
                raise ProbeError(f"--log {path} can't be read: {error.strerror}") from None
            file.seek(0, os.SEEK_END)
            self._files.append((file, bytearray()))
            self.readable = True

    def close(self) -> None:
        """Close the files."""
        for file, _ in self._files:
            file.close()

    def follow(self, stream: IO[bytes]) -> threading.Thread:
        """Add what comes from a stream, until its end, in a thread of its own."""
        self.readable = True
        thread = threading.Thread(target=self._follow, args=(stream,), daemon=True)
        thread.start()
        return thread

    def _follow(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self.add(line)

    def add(self, line: bytes) -> None:
        """Add a line."""
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        at = text.find(EVENT)
        event = _event(text[at + len(EVENT) :]) if at >= 0 else None
        with self._news:
            self._last = time.monotonic()
            if event is not None:
                self.events.append(event)
                text = text[:at]
                if not text:
                    self._news.notify_all()
                    return
            self._lines.append(text[:_LONGEST])
            self._news.notify_all()

    def _read_files(self) -> None:
        for file, rest in self._files:
            rest += file.read()
            *lines, last = bytes(rest).split(b"\n")
            rest[:] = last
            for line in lines:
                self.add(line)

    def position(self) -> int:
        """Where it stands now, for :meth:`since`."""
        self._read_files()
        with self._news:
            return len(self._lines)

    def since(self, position: int) -> list[str]:
        """The lines that came behind a position."""
        self._read_files()
        with self._news:
            return self._lines[position:]

    def wait_quiet(self, seconds: float, limit: float) -> None:
        """Wait until nothing has come for so long from now on, ``limit`` seconds at the most."""
        start = time.monotonic()
        end = start + limit
        while (now := time.monotonic()) < end:
            self._read_files()
            with self._news:
                rest = max(start, self._last) + seconds - now
                if rest <= 0:
                    return
                self._news.wait(0.02 if self._files else min(rest, end - now))

    def wait_for_events(self, kind: str, marks: Iterable[str], limit: float) -> bool:
        """Wait until there is an event of that kind for each mark; False if not, in so many seconds."""
        wanted = set(marks)

        def there() -> bool:
            return wanted <= {event.get("mark") for event in self.events if event.get("event") == kind}

        end = time.monotonic() + limit
        while True:
            self._read_files()
            with self._news:
                left = end - time.monotonic()
                if there() or left <= 0:
                    return there()
                self._news.wait(min(left, 0.02) if self._files else left)

    def events_of(self, mark: str) -> list[dict[str, Any]]:
        """What the target told of the requests with that mark."""
        with self._news:
            return [event for event in self.events if event.get("mark") == mark]


def _event(text: str) -> dict[str, Any] | None:
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("at"), float) else None
