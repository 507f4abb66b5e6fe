"""The faces of a connection: file-like objects that behave as io's own."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hangup._connection.streams import RequestStream, ResponseStream


def stream_of(pieces: list[bytes]) -> RequestStream:
    left = [piece for piece in pieces if piece]
    return RequestStream(lambda: left.pop(0) if left else b"")


@given(
    pieces=st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\x00", b"\n")), max_size=8),
    calls=st.lists(
        st.tuples(st.sampled_from(["read", "readline", "readinto"]), st.integers(-1, 12)),
        max_size=8,
    ),
)
def test_reading_is_as_a_buffered_reader_of_the_same_bytes(
    pieces: list[bytes], calls: list[tuple[str, int]]
) -> None:
    ours, theirs = stream_of(pieces), io.BufferedReader(io.BytesIO(b"".join(pieces)))  # type: ignore[arg-type]
    for name, size in calls:
        if name == "readinto":
            mine, other = bytearray(max(0, size)), bytearray(max(0, size))
            assert ours.readinto(mine) == theirs.readinto(other)
            assert mine == other
        else:
            assert getattr(ours, name)(size) == getattr(theirs, name)(size)
    assert ours.read() == theirs.read()


def test_read1_and_peek_wait_once_at_most() -> None:
    stream = stream_of([b"ab", b"cd"])
    assert stream.peek() == b"ab"
    assert stream.read1(1) == b"a"
    assert stream.read1() == b"b"
    assert stream.read1(0) == b""
    buffer = bytearray(8)
    assert stream.readinto1(buffer) == 2
    assert stream.read1() == b""
    assert stream.peek() == b""


def test_lines_and_text() -> None:
    stream = stream_of([b"one\ntw", b"o\nthr", b"ee"])
    assert list(stream) == [b"one\n", b"two\n", b"three"]
    assert stream.readline(0) == b""
    text = io.TextIOWrapper(stream_of([b"\xc3", b"\xa4\n"]), encoding="utf-8")
    assert text.readline() == "ä\n"


def test_a_closed_stream_refuses() -> None:
    stream = stream_of([b"x"])
    assert stream.readable()
    stream.close()
    for call in (stream.read, stream.read1, stream.readline, stream.peek):
        with pytest.raises(ValueError, match="closed"):
            call()


class Sink:
    def __init__(self) -> None:
        self.sent = b""
        self.flushed = 0
        self.hung_up = False
        self.output = self.closing = self

    def send(self, data: Any) -> None:
        self.sent += data

    def flush(self) -> None:
        self.flushed += 1

    def hang_up_after_answer(self) -> None:
        self.hung_up = True


def test_writing() -> None:
    sink = Sink()
    stream = ResponseStream(sink, None)  # type: ignore[arg-type]
    assert stream.writable()
    assert stream.write(b"a") == 1
    assert stream.write(memoryview(b"bc")) == 2
    assert stream.write(bytearray(b"d")) == 1
    stream.writelines([b"e", b"f"])
    stream.flush()
    assert sink.sent == b"abcdef"
    assert not sink.hung_up
    stream.close()
    assert sink.hung_up
    stream.flush()  # a departed client's stream is closed, then flushed: that is no error
    with pytest.raises(ValueError, match="closed"):
        stream.write(b"g")


def test_a_stream_that_nobody_holds_says_nothing_of_the_connection() -> None:
    sink = Sink()
    stream = ResponseStream(sink, None)  # type: ignore[arg-type]
    del stream
    assert not sink.hung_up
