"""Lines to a stream that may be slow, full, closed or read by nobody."""

import io
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE, until
from hangup._logging import line_writer as _line_writer
from hangup._logging import repeated as _trouble
from hangup._logging.line_writer import LineWriter
from hangup._logging.repeated import Trouble, described


class Pipe:
    """A pipe whose reader takes its time, as a stream."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.flushed = 0

    def fileno(self) -> int:
        return self.writer

    def flush(self) -> None:
        self.flushed += 1

    def read_in_thread(self) -> None:
        """Read from now on, in small pieces."""
        self.data = bytearray()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while piece := os.read(self.reader, 1000):
            self.data += piece

    def read_to_end(self) -> list[str]:
        """All lines, until the writer's end is closed, which this does."""
        if not hasattr(self, "data"):
            self.read_in_thread()
        os.close(self.writer)
        self.writer = -1
        self._thread.join()
        return self.data.decode().splitlines()

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def idle(writer: LineWriter) -> bool:
    return writer._thread is None


def test_lines_come_out_whole_and_each_threads_in_their_order(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_line_writer, "ROOM", 1 << 30)
    writer = LineWriter(pipe, "the log")
    pipe.read_in_thread()

    def write(name: str) -> None:
        for number in range(200):
            writer.write(f"{name} {number} {'x' * (number * 37 % 5000)}.\n")

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    writer.close(PATIENCE)
    lines = pipe.read_to_end()
    assert all(re.fullmatch(r"[abcd] \d+ x*\.", line) for line in lines)
    for name in "abcd":
        assert [int(line.split()[1]) for line in lines if line[0] == name] == list(range(200))


def test_who_writes_does_not_wait_and_what_is_lost_is_counted(
    pipe: Pipe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_line_writer, "ROOM", 100_000)
    writer = LineWriter(pipe, "the access log")
    for number in range(1000):  # 1 MB, into a pipe of 64 KiB that nobody reads.
        writer.write(f"{number:04} {'x' * 994}\n")
    until(lambda: caplog.messages, "it is said")
    assert caplog.messages == ["the access log failed: nobody reads it, or not fast enough"]
    pipe.read_in_thread()
    until(lambda: idle(writer), "all that waited is written")
    monkeypatch.setattr(_trouble, "INTERVAL", 0.0)
    writer.write("again\n")
    writer.close(PATIENCE)
    *lines, last = pipe.read_to_end()
    assert last == "again"
    numbers = [int(line[:4]) for line in lines]
    assert numbers == sorted(set(numbers))
    assert caplog.messages[1:] == [f"the access log works again; {1000 - len(numbers)} lines are lost"]


def test_a_log_says_in_itself_how_much_of_it_is_lost(
    pipe: Pipe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_line_writer, "ROOM", 10_000)
    writer = LineWriter(pipe, "the error log", is_log=True)
    for _ in range(200):
        writer.write("x" * 999 + "\n")
    pipe.read_in_thread()
    writer.close(PATIENCE)
    writer.write("again\n")
    writer.close(PATIENCE)
    lines = pipe.read_to_end()
    (place,) = (place for place, line in enumerate(lines) if "lost" in line)
    whole = len([line for line in lines if line.startswith("x")])
    assert lines[place] == f"{200 - whole} lines of the error log are lost here"
    assert lines[-1] == "again"
    assert not caplog.records


def test_what_is_to_be_prompt_is_there_when_write_returns_if_there_is_room(pipe: Pipe) -> None:
    writer = LineWriter(pipe, "the log", is_log=True, prompt=True)
    for number in range(100):
        writer.write(f"{number}\n")
        assert idle(writer)
        assert os.read(pipe.reader, 100) == f"{number}\n".encode()
    for number in range(100):  # Not for ever.
        writer.write(f"{number} {'x' * 995}\n")
    writer.write("last\n")
    pipe.read_in_thread()
    writer.close(PATIENCE)
    *lines, last = pipe.read_to_end()
    assert [int(line.split()[0]) for line in lines] == list(range(100))
    assert last == "last"


def test_closing_does_not_wait_for_ever(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    writer = LineWriter(pipe, "the access log")
    for _ in range(200):
        writer.write("x" * 999 + "\n")
    writer.close(0.0)
    assert idle(writer)
    (failed, lost) = caplog.messages
    assert failed.endswith("nobody reads it, or not fast enough")
    assert re.fullmatch(r"the access log has failed; \d+ lines are lost", lost)
    writer.write("late\n")  # There is no room still, and nobody waits.
    until(lambda: idle(writer), "it is dropped")


def test_a_disk_that_has_room_again_gets_lines_again(
    pipe: Pipe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_trouble, "INTERVAL", 0.0)
    full = os.open("/dev/full", os.O_WRONLY)
    disk = os.dup(full)
    try:
        monkeypatch.setattr(pipe, "fileno", lambda: disk)
        writer = LineWriter(pipe, "the access log")
        writer.write("lost\n")
        until(lambda: idle(writer), "it was tried")
        os.dup2(pipe.writer, disk)
        writer.write("written\n")
        writer.close()
    finally:
        os.close(full)
        os.close(disk)
    assert pipe.read_to_end() == ["written"]
    assert caplog.messages == [
        "the access log failed: No space left on device",
        "the access log works again; 1 lines are lost",
    ]


def test_what_a_program_has_printed_comes_first(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream:
        writer = LineWriter(stream, "the access log")
        stream.write("printed\n")
        writer.write("line\n")
        writer.close()
        assert (tmp_path / "out").read_text() == "printed\nline\n"


def test_a_descriptor_that_somebody_has_made_non_blocking(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    writer = LineWriter(pipe, "the log")
    for number in range(200):
        writer.write(f"{number} {'x' * 995}\n")
    pipe.read_in_thread()
    writer.close(PATIENCE)
    assert [int(line.split()[0]) for line in pipe.read_to_end()] == list(range(200))


def test_a_stream_in_memory_is_written_to_at_once() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, "the log")
    writer.write("line\n")
    assert stream.getvalue() == "line\n"
    assert idle(writer)
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, "latin-1")
    LineWriter(text, "the log").write("\xe9 \u2603 \ud800\n")
    assert raw.getvalue() == rb"\xe9 \u2603 \ud800" + b"\n"


def test_a_closed_stream_and_none_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    LineWriter(None, "the log").write("line\n")
    assert not caplog.records
    stream = (tmp_path / "out").open("w")
    writer = LineWriter(stream, "the log")
    stream.close()
    for _ in range(3):
        writer.write("line\n")
    (said,) = caplog.messages
    assert said.startswith("the log failed: ValueError: I/O operation on closed file")


def test_without_a_thread_to_be_had_the_caller_writes(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", start)
    writer = LineWriter(pipe, "the log")
    writer.write("line\n")
    assert idle(writer)
    monkeypatch.undo()
    assert pipe.read_to_end() == ["line"]


def test_ctrl_c_in_a_caller_that_writes_stops_nobody_else() -> None:
    class Stream(io.StringIO):
        interrupted = False

        def flush(self) -> None:
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt

    stream = Stream()
    writer = LineWriter(stream, "the log")
    with pytest.raises(KeyboardInterrupt):
        writer.write("one\n")
    writer.write("two\n")
    assert stream.getvalue() == "one\ntwo\n"


FORKS = """
import os, sys
from hangup._logging.line_writer import LineWriter
writer = LineWriter(sys.stdout, "the log")
writer._lock.acquire()  # As it is when another thread is in the middle of it.
child = os.fork()
if not child:
    writer.write("the child's\\n")
    writer.close()
    os._exit(0)
os.waitpid(child, 0)
writer._lock.release()
writer.write("the parent's\\n")
"""


def test_a_forked_child_writes_its_own_lines_and_no_others() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.stderr == ""
    assert result.stdout == "the child's\nthe parent's\n"  # The last one is written at the exit.


# -- what is said of trouble


def test_trouble_is_said_once_and_then_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble = Trouble("a sink", "records")
    trouble.over()
    for _ in range(3):
        trouble.failed("it is broken")
        trouble.over()  # Too soon: it may fail again at once.
    assert caplog.messages == ["a sink failed: it is broken"]
    monkeypatch.setattr(_trouble, "INTERVAL", 0.0)
    trouble.failed("it is broken")
    assert caplog.messages[1:] == ["a sink still fails: it is broken; 4 records are lost so far"]
    trouble.over()
    trouble.over()
    trouble.end()
    assert caplog.messages[2:] == ["a sink works again; 4 records are lost"]
    assert {one.levelno for one in caplog.records} == {logging.ERROR, logging.WARNING}


def test_an_error_is_one_line_that_says_what_and_where() -> None:
    try:
        raise KeyError("a\nb" + "x" * 1000)
    except KeyError as error:
        text = described(error)
    assert text.startswith(r"KeyError: 'a\nbxxx")
    assert re.search(r"test_line_writer\.py:\d+\)$", text)
    assert len(text) < 400
    assert text.isprintable()
    assert described(OSError(28, "No space left on device", "/var/log/x")) == "No space left on device"
    assert described(ValueError()) == "ValueError"


def test_what_is_written_while_a_test_reads_takes_nothings_place(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Of how the tests capture: between two steps of reading, somebody writes."""
    os.write(2, b"what the test is about\n")
    os.lseek(2, 0, os.SEEK_SET)
    os.write(2, b"late\n")
    assert capfd.readouterr().err == "what the test is about\nlate\n"
    print("and more", file=sys.stderr)
    assert capfd.readouterr().err == "and more\n"
