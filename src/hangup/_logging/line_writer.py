"""Lines to a stream that may be slow, full, closed or read by nobody, without anybody waiting for it.

A thread that writes to a pipe which nobody reads waits for ever; soon all threads would.  So whoever has
a line leaves it here, and one thread writes what there is: many lines in one go while there are many.
"""

import atexit
import math
import os
import select
import sys
import threading
import weakref
from time import monotonic
from typing import Any

from .._system.threads import new_thread
from .repeated import Trouble

__all__ = ["PATIENCE", "ROOM", "LineWriter", "stderr_writer", "write_text"]

#: Characters that may wait to be written: ten thousand lines. What comes then is dropped, and counted.
ROOM = 1 << 20
#: Seconds that whoever closes a writer waits until all is written.
PATIENCE = 1.0
# What is written at once: a pipe takes that much without blocking where a poll has said that there is
# room, and no other process's line comes between (POSIX write(), PIPE_BUF).
_PIECE = min(select.PIPE_BUF, 4096)
# Seconds in which lines gather after a write, so that the next one carries them all: a line that comes
# alone is written at once, and under load a thread wakes a hundred times a second, not for each line.
_GATHER = 0.01
# Seconds after which a thread that waits for a reader looks whether its stream is still the same, and
# whether it may wait still.
_LOOK = 0.5
_NOBODY_READS = "nobody reads it, or not fast enough"


class LineWriter:
    """Writes lines to a text stream.  It is a file, as far as :class:`logging.StreamHandler` needs one.

    ``what`` is what people call these lines; ``is_log`` says that there is nowhere to complain of them,
    for it is the log itself: how many are lost is said in it, where they are missing.

    Any thread calls ``write``, which does not wait: a thread runs while there is something to write.  To
    a stream without a descriptor, in memory say, the caller writes itself; and, if the lines are to be
    ``prompt``, wherever there is room at once: they are few, or the last word of a program that is
    killed the next moment.  ``_lock`` guards ``_texts``,
    ``_size``, ``_lost`` and ``_thread``; nothing is called while it is held.
    """

    def __init__(self, stream: Any, what: str, *, is_log: bool = False, prompt: bool = False) -> None:
        self.stream = stream
        self._prompt = prompt
        self._what = what
        self._is_log = is_log
        # Until when the thread may wait for a reader; set once, before the event.
        self._until = math.inf
        self._hurry = threading.Event()
        self._forget()
        _writers.add(self)

    def _forget(self) -> None:
        """Begin anew, also in a forked child: there is no thread, and the lines are its parent's."""
        self._lock = threading.Lock()
        self._trouble = Trouble(self._what, "lines")
        self._texts: list[str] = []
        self._size = self._lost = 0
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Have ``text`` written, which ends with a line's end."""
        with self._lock:
            if self._size >= ROOM:
                self._lost += 1
                return
            self._texts.append(text)
            self._size += len(text)
            if self._thread is not None:
                return
            thread = new_thread(self._run, "hangup-log")
            self._thread = thread
        try:
            if not _has_descriptor(self.stream):
                self._run()
            elif not (self._prompt and self._write_at_once()):
                thread.start()
        except RuntimeError:  # There is no room for a thread, or the interpreter ends.
            self._run()

    def flush(self) -> None:
        """Nothing: the thread knows when."""

    def close(self, patience: float = PATIENCE) -> None:
        """Wait until all is written, for ``patience`` seconds at the most.

        What comes after that is written if there is room for it at once.
        """
        self._until = monotonic() + patience
        self._hurry.set()
        thread = self._thread
        if thread is not None and thread.is_alive():
            thread.join(patience + _LOOK)
        if self._thread is None:
            self._trouble.end()

    def _write_at_once(self) -> bool:
        """Write what waits, if that is little and doesn't block; True if nothing waits any more."""
        try:
            if not _has_room(self.stream.fileno(), 0.0):
                return False
        except (OSError, ValueError):
            return False  # It has been closed: the thread will find out, and say so.
        with self._lock:
            if self._lost or self._size > _PIECE // 4:  # In bytes it may be four times as much.
                return False
            texts, self._texts, self._size = self._texts, [], 0
        try:
            self._write(texts)
        except BaseException:  # Ctrl-C
            self._thread = None
            raise
        with self._lock:
            if self._texts:
                return False
            self._thread = None
            return True

    # -- one thread

    def _run(self) -> None:
        try:
            while texts := self._take():
                self._write(texts)
                if threading.current_thread() is self._thread:
                    self._hurry.wait(_GATHER)
        except BaseException:  # Ctrl-C, in a main thread that writes for itself.
            self._thread = None
            raise

    def _take(self) -> list[str]:
        """What waits.  If nothing does, this thread is done, and the next line has its own."""
        with self._lock:
            texts, self._texts, self._size = self._texts, [], 0
            if not texts:
                self._thread = None
            elif self._lost and self._is_log:
                texts.insert(0, f"{self._lost} lines of {self._what} are lost here\n")
                self._lost = 0
            return texts

    def _write(self, texts: list[str]) -> None:
        text = "".join(texts)
        try:
            if _has_descriptor(self.stream):
                encoding = getattr(self.stream, "encoding", None) or "utf-8"
                lost = self._write_bytes(text.encode(encoding, "backslashreplace"))
            else:
                lost = 0
                write_text(self.stream, text)
        except Exception as error:
            self._failed(error, text.count("\n"))
        else:
            if lost:
                self._failed(_NOBODY_READS, lost)
            elif not self._tell_lost():
                self._trouble.over()

    def _write_bytes(self, data: bytes) -> int:
        """Write to the descriptor, piece by piece; returns how many lines were lost.

        Not through the stream's own buffer: it would keep what could not be written, and whoever is
        blocked in it can't be ended (the interpreter aborts).
        """
        begin = 0
        while begin < len(data):
            end = begin + _PIECE
            if end < len(data):
                end = data.rfind(b"\n", begin, end) + 1 or end
            # Asked again: somebody may have closed it, and the number is another's.
            fd = self.stream.fileno()
            if not self._wait_for_room(fd):
                return data.count(b"\n", begin)
            try:
                if not begin:
                    self.stream.flush()  # What the program has printed comes first.
                begin += os.write(fd, data[begin:end])
            except BlockingIOError:
                pass  # Somebody has made it non-blocking, and somebody else has filled it.
        return 0

    def _wait_for_room(self, fd: int) -> bool:
        """Until something can be written, but not for long after :meth:`close`."""
        while True:
            left = self._until - monotonic()
            if _has_room(fd, max(0.0, min(left, _LOOK))):
                return True
            if left <= 0:
                return False
            self._tell_lost()

    def _tell_lost(self) -> bool:
        """Whether lines were dropped.  This thread says so: whoever logs may have to wait."""
        with self._lock:
            lost = 0 if self._is_log else self._lost
            if lost:
                self._lost = 0
        if lost:
            self._failed(_NOBODY_READS, lost)
        return bool(lost)

    def _failed(self, why: BaseException | str, count: int) -> None:
        if self._is_log:
            with self._lock:
                self._lost += count
        else:
            self._trouble.failed(why, count)


def _has_room(fd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(1000 * timeout))


def _has_descriptor(stream: Any) -> bool:
    try:
        return int(stream.fileno()) >= 0
    except (AttributeError, OSError, ValueError):
        return False


_writers: "weakref.WeakSet[LineWriter]" = weakref.WeakSet()
_latest: list[LineWriter] = []


def stderr_writer() -> LineWriter:
    """What writes to ``sys.stderr``, whatever that is at this moment."""
    if not _latest or _latest[0].stream is not sys.stderr:
        _latest[:] = [LineWriter(sys.stderr, "the log", is_log=True, prompt=True)]
    return _latest[0]


def write_text(stream: Any, text: str) -> None:
    """Write and flush; what the stream's encoding doesn't have is escaped."""
    if stream is None:
        return  # A program without a console has none.
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
    stream.flush()


def _forget_all() -> None:
    for writer in list(_writers):
        writer._forget()  # noqa: SLF001


def _close_all() -> None:
    for writer in list(_writers):
        writer.close()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_close_all)
