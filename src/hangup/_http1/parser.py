"""HTTP/1.1 without I/O: bytes in, events out (RFC 9112).

A :class:`RequestParser` is told the bytes that a client sent and is asked for the requests and the
bodies in them.  It knows neither sockets nor threads nor time; whoever owns the connection owns its
parser.

Heads that are not plain are parsed by llhttp, through httptools, which can't pause between messages and
tells no position.  So one head at a time is looked at: its end is the first CRLF CRLF, which needs no
parser to find.  An idle connection then needs no parser at all, and a pipelined request waits as plain
bytes.  A body with a Content-Length needs counting, not parsing: its bytes pass through as they are.
"""

import re

from ..config import Config, size_limit
from ..exceptions import RequestRejected
from .chunked import Chunks, body_too_long
from .path_host import PathHeads
from .request import CHUNKED, Request
from .request_head import Heads

__all__ = ["RequestParser"]

_HEAD_END = b"\r\n\r\n"
_RAW_HEAD_END = re.compile(rb"\n\r?\n")
# A request line may be preceded by an empty line (RFC 9112 §2.2); this many of them.
_EMPTY_LINES = 2


class RequestParser:
    """The bytes that one client sent, and where in its messages they stand."""

    __slots__ = ("_chunks", "_config", "_heads", "_remaining", "_searched", "body_ended", "buffer")

    def __init__(self, config: Config, heads: Heads | None = None) -> None:
        self._config = config
        self._heads: Heads | PathHeads = heads or Heads(config)
        #: The bytes that have come and have not been asked for. To be looked at, not changed.
        self.buffer = b""
        #: Whether the current request's body has been read to its end.
        self.body_ended = True
        self._searched = 0  # No head ends before this position of the buffer.
        self._remaining = 0  # Bytes of a body with a length that are still to be read.
        self._chunks: Chunks | None = None

    def take_paths(self) -> None:
        """This client's Host may be the path of the socket that it came by."""
        self._heads = PathHeads(self._heads)

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
            return len(buffer) > size_limit(self._config.max_request_line_size)
        if len(buffer[:end].split()) < 3 or _RAW_HEAD_END.search(buffer, end):
            return True
        line = len(buffer) - buffer.rfind(b"\n")  # the last one, which has not ended
        config = self._config
        return line > size_limit(config.max_request_field_size) or len(buffer) - end > size_limit(
            config.max_request_header_size
        )

    # -- requests out

    def next_request(self) -> Request | None:
        """The next request's head, or None if it has not all come.

        The body before it must have been read or discarded.  Raises :exc:`RequestRejected` for bytes
        that can't become a request; nothing that follows them can be trusted then.
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
        if request.length:
            self.begin_body(request)
        return request

    def begin_body(self, request: Request) -> None:
        """What follows is this request's body, whose head has been parsed."""
        length = request.length
        if length > 0:
            limit = self._config.max_request_body_size
            if length > limit and limit:
                raise body_too_long(limit)
            self._remaining = length
            self.body_ended = False
        elif length == CHUNKED:
            self._chunks = Chunks(size_limit(self._config.max_request_body_size))
            self.body_ended = False

    def _next_request_slowly(self) -> Request | None:
        """A head that has not all come, or one that empty lines may precede."""
        buffer = self.buffer
        if buffer.startswith(b"\r\n"):
            stripped = buffer
            for _ in range(_EMPTY_LINES):
                stripped = stripped.removeprefix(b"\r\n")
            if stripped.startswith(b"\r\n"):
                raise RequestRejected(400, "Too many empty lines before a request line")
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

        Raises :exc:`RequestRejected` for malformed chunks.
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
        return chunks.take()

    def _decode(self, chunks: Chunks) -> None:
        buffer = self.buffer
        if buffer and not chunks.complete:
            self.buffer = buffer[chunks.feed(buffer) :]

    def body_at_hand(self, enough: int) -> bool:
        """Whether all of the body has come that is still to be read, or ``enough`` bytes of it.

        Raises :exc:`RequestRejected` for malformed chunks.
        """
        chunks = self._chunks
        if chunks is None:
            return len(self.buffer) >= min(self._remaining, enough)
        self._decode(chunks)
        return chunks.complete or chunks.size >= enough

    @property
    def body_complete(self) -> bool:
        """Whether all of a chunked body has come, if none has been read yet."""
        return self._chunks is None or self._chunks.complete

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
