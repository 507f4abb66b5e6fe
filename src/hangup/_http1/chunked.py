"""Chunked bodies (RFC 9112 §7.1): bytes in, the body out.

Not by llhttp, which neither pauses nor tells a position: to know where a message ends, its framing had
to be read a second time in any case.  Read once, 64 KiB take 7 µs instead of 600.

A line of framing is judged when it is whole: how the bytes are split can change nothing.
"""

import re

from ..exceptions import RequestRejected

__all__ = ["Chunks", "body_too_long"]

# Bytes of chunk framing (sizes, extensions, trailers) that may come for a body, over and above those
# that each chunk may have, and as many as the body itself: an endless chunk extension may not.
_FRAMING_ALLOWANCE = 16 * 1024
_CHUNK_ALLOWANCE = 16
_LONGEST_LINE = 4096

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
# A size of 64 bits at the most, and extensions, of which none is known. White space around `;` and `=`
# is bad, and must be read over all the same (RFC 9112 §7.1.1). Possessive: a long one is matched once.
_BWS = rb"[ \t]*+"
_CHUNK_LINE = re.compile(
    rb"0*([0-9A-Fa-f]{1,16})(?:%(s)s;%(s)s%(t)s++(?:%(s)s=%(s)s(?:%(t)s++|%(q)s))?)*+\r\n"
    % {b"s": _BWS, b"t": _TOKEN, b"q": _QUOTED}
)
_TRAILER = re.compile(rb"%s+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n" % _TOKEN)


class Chunks:
    """One chunked body, up to ``limit`` bytes of it."""

    __slots__ = ("_framing", "_in_trailers", "_left", "_limit", "_line", "complete", "data", "size")

    def __init__(self, limit: int) -> None:
        #: What has been decoded and not been taken.
        self.data: list[bytes] = []
        #: The body's length, as far as it has come.
        self.size = 0
        self.complete = False
        self._limit = limit
        self._framing = 0
        self._left = 0  # Bytes of a chunk that are to come, the CRLF behind it included.
        self._line = b""  # An unfinished line.
        self._in_trailers = False

    def feed(self, data: bytes) -> int:
        """Decode ``data`` up to the message's end; return how many bytes belong to the message."""
        before = len(self._line)
        window = self._line + data if before else data
        at = 0
        while not self.complete:
            if self._left:
                at = self._read_chunk(window, at)
                if self._left:
                    break
            end = window.find(b"\n", at) + 1
            longest = _FRAMING_ALLOWANCE if self._in_trailers else _LONGEST_LINE
            if (end or len(window) + 1) - at > longest:
                raise RequestRejected(400, "A line of chunk framing is too long")
            if not end:
                break
            self._read_line(window[at:end])
            at = end
        self._line = b"" if self.complete else window[at:]
        return at - before if self.complete else len(data)

    def take(self) -> bytes:
        """What has been decoded since the last call."""
        data = b"".join(self.data)
        self.data.clear()
        return data

    def _read_chunk(self, window: bytes, at: int) -> int:
        """Read on in a chunk, and in its CRLF; return where that ends."""
        left = self._left
        if left > 2:
            piece = window[at : at + left - 2]
            self.data.append(piece)
            length = len(piece)
            self.size += length
            self._framing -= length  # As much framing as body is always allowed.
            left -= length
            at += length
        if left <= 2:
            piece = window[at : at + left]
            if not b"\r\n"[2 - left :].startswith(piece):
                raise RequestRejected(400, "Malformed chunk in the request's body")
            left -= len(piece)
            at += len(piece)
        self._left = left
        return at

    def _read_line(self, line: bytes) -> None:
        if self._in_trailers:
            self._count(len(line))
            # Dropped: what they mean would have to be known (RFC 9110 §6.5.1).
            if line == b"\r\n":
                self.complete = True
            elif not _TRAILER.fullmatch(line):
                raise RequestRejected(400, "Malformed trailer field")
            return
        self._count(len(line) + 2 - _CHUNK_ALLOWANCE)
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RequestRejected(400, "Malformed chunk in the request's body")
        size = int(match[1], 16)
        if self.size + size > self._limit:
            raise body_too_long(self._limit)
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True

    def _count(self, framing: int) -> None:
        self._framing += framing
        if self._framing > _FRAMING_ALLOWANCE:
            raise RequestRejected(400, "Chunk framing outweighs the request's body")


def body_too_long(limit: int) -> RequestRejected:
    """What is said of a body that has, or announces, more bytes than ``limit``."""
    return RequestRejected(413, f"Content Too Large (more than {limit} bytes)")
