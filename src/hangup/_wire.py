"""HTTP/1.1 without I/O: bytes in, events out (RFC 9112).

A :class:`Wire` is told the bytes that a client sent and is asked for the requests and the bodies in
them.  It knows neither sockets nor threads nor time; whoever owns the connection owns its wire.

The bytes are parsed by llhttp, through httptools.  Three facts shape this module:

- httptools can't pause between messages, and tells no position.  So it is never given more than one
  head at a time: the end of a head is the first CRLF CRLF, which needs no parser to find.  An idle
  connection then needs no parser at all, and a pipelined request waits as plain bytes.
- A body with a Content-Length needs counting, not parsing: its bytes pass through as they are.
- A chunked body is fed to llhttp in pieces that end wherever a line could be the last chunk's.  When it
  was, trailer fields follow, of which llhttp refuses some that are to be dropped (RFC 9110 §6.5.1).  So
  they are judged here, by their grammar, and where they end, the next request begins.
"""

import re

import httptools

from ._heads import CHUNKED, Heads, Request
from .config import Config
from .exceptions import BadRequest

__all__ = ["Wire"]

_HEAD_END = b"\r\n\r\n"
_RAW_HEAD_END = re.compile(rb"\n\r?\n")
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
# Bytes of chunk framing (sizes, extensions, trailers) that may come for a body, over and above those
# that each chunk may have, and as many as the body itself: an endless chunk extension may not.
_FRAMING_ALLOWANCE = 16 * 1024
_CHUNK_ALLOWANCE = 16
# What may be the last chunk's line, behind what ends a line; and the beginning of such a one.
_LAST_CHUNK = re.compile(rb"(?<=\r\n)0+(?:;[^\r\n]*)?\r\n")
_LAST_CHUNK_BEGINS = re.compile(rb"\r\n(?:0+(?:;[^\r\n]*)?\r?)?")
_LONGEST_LINE = 4096
# What may be a chunk's line, or the rest of one, without its LF.
_CHUNK_LINE = re.compile(rb"(?:\A\n?|(?<=\r\n)(?=[0-9A-Fa-f]))[^\r\n]*\r(?=\n)")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n")
# A request line may be preceded by an empty line (RFC 9112 §2.2); this many of them.
_EMPTY_LINES = 2


class _Chunks:
    """llhttp's callbacks for a chunked body, and what it does not do: the end."""

    __slots__ = ("_at_header", "_framing", "_parser", "_tail", "_trailers", "complete", "data", "size")

    def __init__(self) -> None:
        #: What has been decoded and not been taken.
        self.data: list[bytes] = []
        #: The body's length, as far as it has come.
        self.size = 0
        self.complete = False
        self._framing = 0
        self._at_header = False  # Was a chunk's line the last that was parsed?
        self._tail = b"\r\n"  # The end of what was fed, if a last chunk's line may have begun in it.
        self._trailers: bytes | None = None  # An unfinished trailer line; None before the last chunk.
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)

    def on_chunk_header(self) -> None:
        self._at_header = True
        self._framing -= _CHUNK_ALLOWANCE

    def on_body(self, data: bytes) -> None:
        self._at_header = False
        self.data.append(data)
        self.size += len(data)
        self._framing -= 2 * len(data)

    def feed(self, data: bytes) -> int:
        """Decode ``data`` up to the message's end; return how many bytes belong to the message."""
        if self._trailers is not None:
            return self._read_trailers(data)
        before = len(self._tail)
        window = self._tail + data
        fed = 0
        for match in _LAST_CHUNK.finditer(window):
            end = match.end() - before
            self._parse(data[fed:end])
            fed = end
            if self._at_header:
                if match.end() - match.start() >= _LONGEST_LINE:
                    continue  # As if it had come in pieces: it is refused where the message ends.
                self._trailers = b""
                return fed + self._read_trailers(data[fed:])
        self._parse(data[fed:])
        line = window[max(0, window.rfind(b"\r\n")) :]
        if len(line) <= _LONGEST_LINE and _LAST_CHUNK_BEGINS.fullmatch(line):
            self._tail = line
        else:
            self._tail = b"\r" if window.endswith(b"\r") else b""
        return len(data)

    def _parse(self, piece: bytes) -> None:
        """Feed llhttp.  Framing outweighs the body where a line ends, if at all.

        So where it might, that is asked at each line's end: the verdict must not depend on which bytes
        one read gave.
        """
        fed = 0
        if self._framing + len(piece) > _FRAMING_ALLOWANCE:
            for match in _CHUNK_LINE.finditer(piece):
                self._feed_parser(piece[fed : match.end()])
                fed = match.end()
        self._feed_parser(piece[fed:])

    def _feed_parser(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError:
            raise BadRequest(400, "Malformed chunk in the request's body") from None
        self._count(len(piece))

    def on_message_complete(self) -> None:
        # The last chunk's line was longer than any that is looked for. This ends the parsing.
        raise BadRequest(400, "Malformed end of a chunked body")

    def _read_trailers(self, data: bytes) -> int:
        """Judge the trailer fields, and drop them; return how many bytes belong to the message."""
        assert self._trailers is not None
        rest = self._trailers + data
        while end := rest.find(b"\n") + 1:
            line, rest = rest[:end], rest[end:]
            if line == b"\r\n":
                self.complete = True
                break
            if not _TRAILER.fullmatch(line):
                raise BadRequest(400, "Malformed trailer field")
        else:
            self._trailers, rest = rest, b""
        self._count(len(data) - len(rest))
        return len(data) - len(rest)

    def _count(self, framing: int) -> None:
        self._framing += framing
        if self._framing > _FRAMING_ALLOWANCE:
            raise BadRequest(400, "Chunk framing outweighs the request's body")


class Wire:
    """The bytes that one client sent, and where in its messages they stand."""

    __slots__ = ("_chunks", "_config", "_heads", "_remaining", "_searched", "body_ended", "buffer")

    def __init__(self, config: Config, heads: Heads | None = None) -> None:
        self._config = config
        self._heads = heads or Heads(config)
        #: The bytes that have come and have not been asked for. To be looked at, not changed.
        self.buffer = b""
        #: Whether the current request's body has been read to its end.
        self.body_ended = True
        self._searched = 0  # No head ends before this position of the buffer.
        self._remaining = 0  # Bytes of a body with a length that are still to be read.
        self._chunks: _Chunks | None = None

    # -- bytes in

    def receive(self, data: bytes) -> None:
        """These bytes came from the client."""
        self.buffer = self.buffer + data if self.buffer else data

    def take_raw(self) -> bytes:
        """All bytes that have not been asked for; from here on they are the caller's."""
        data, self.buffer = self.buffer, b""
        self._searched = 0
        return data

    def put_back(self, data: bytes) -> None:
        """These bytes were taken too early: they come before what is buffered."""
        self.buffer = data + self.buffer

    def has_raw_head(self) -> bool:
        """Whether a handler that parses for itself would find a head, or an error, without waiting.

        Lenient on purpose: the verdict is that handler's.  Lines may end in LF; a request line with
        fewer than three words has no fields behind it (HTTP/0.9), or is an error.
        """
        buffer = self.buffer
        end = buffer.find(b"\n")
        if end < 0:
            return len(buffer) > self._config.max_request_line
        if len(buffer[:end].split()) < 3 or _RAW_HEAD_END.search(buffer, end):
            return True
        return len(buffer) - end > self._config.max_head

    # -- requests out

    def next_request(self) -> Request | None:
        """The next request's head, or None if it has not all come.

        The body before it must have been read or discarded.  Raises :exc:`BadRequest` for bytes that
        can't become a request; nothing that follows them can be trusted then.
        """
        buffer = self.buffer
        end = buffer.find(_HEAD_END, self._searched)
        if end < 0 or buffer[0] <= 0x0D:  # CR and LF: an empty line comes first
            return self._next_request_slowly()
        end += 4
        head = buffer[:end]
        self.buffer = buffer[end:]
        self._searched = 0
        request = self._heads.parse(head)
        length = request.fields.length
        if length > 0:
            if length > self._config.max_body:
                raise _too_long(self._config.max_body)
            self._remaining = length
            self.body_ended = False
        elif length == CHUNKED:
            self._chunks = _Chunks()
            self.body_ended = False
        return request

    def _next_request_slowly(self) -> Request | None:
        """A head that has not all come, or one that empty lines may precede."""
        buffer = self.buffer
        if buffer.startswith(b"\r\n"):
            stripped = buffer
            for _ in range(_EMPTY_LINES):
                stripped = stripped.removeprefix(b"\r\n")
            if stripped.startswith(b"\r\n"):
                raise BadRequest(400, "Too many empty lines before a request line")
            if stripped in (b"", b"\r"):
                return None
            self.buffer = stripped
            return self.next_request()
        if buffer == b"\r":
            return None
        if not buffer:
            return None
        self._heads.check_beginning(buffer, self._searched)
        self._searched = max(0, len(buffer) - 3)
        return None

    # -- bodies out

    @property
    def body_remaining(self) -> int:
        """How many bytes of the body are to come at least; chunked bodies don't tell."""
        return self._remaining

    def read_body(self) -> bytes:
        """What has come of the body; ``b""`` at its end or when more must be received first.

        Raises :exc:`BadRequest` for malformed chunks.
        """
        buffer = self.buffer
        if self._remaining:
            data = buffer[: self._remaining]
            self._remaining -= len(data)
            self.body_ended = self._remaining == 0
            self.buffer = buffer[len(data) :]
            return data
        chunks = self._chunks
        if chunks is None:
            return b""
        self._decode(chunks)
        if chunks.complete:
            self._chunks = None
            self.body_ended = True
        data = b"".join(chunks.data)
        chunks.data.clear()
        return data

    def _decode(self, chunks: _Chunks) -> None:
        buffer = self.buffer
        if buffer and not chunks.complete:
            fed = chunks.feed(buffer)
            if chunks.size > self._config.max_body:
                raise _too_long(self._config.max_body)
            self.buffer = buffer[fed:]

    def body_at_hand(self, enough: int) -> bool:
        """Whether all of the body has come that is still to be read, or ``enough`` bytes of it.

        Raises :exc:`BadRequest` for malformed chunks.
        """
        chunks = self._chunks
        if chunks is None:
            return len(self.buffer) >= min(self._remaining, enough)
        self._decode(chunks)
        return chunks.complete or chunks.size >= enough

    @property
    def body_come(self) -> int:
        """How many bytes of the body have come, if none has been read yet."""
        chunks = self._chunks
        return min(len(self.buffer), self._remaining) if chunks is None else chunks.size

    def forget_body(self) -> None:
        """What follows belongs to another protocol (101, CONNECT): it is no body."""
        self._remaining = 0
        self._chunks = None
        self.body_ended = True


def _too_long(limit: int) -> BadRequest:
    return BadRequest(413, f"Content Too Large (more than {limit} bytes)")
