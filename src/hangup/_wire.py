"""HTTP/1.1 without I/O: bytes in, events out (RFC 9112).

A :class:`Wire` is told the bytes that a client sent and is asked for the requests and the bodies in
them.  It knows neither sockets nor threads nor time; whoever owns the connection owns its wire.

The bytes are parsed by llhttp, through httptools.  Four facts shape this module:

- httptools can't pause between messages, and tells no position.  So it is never given more than one
  head at a time: the end of a head is the first CRLF CRLF, which needs no parser to find.  An idle
  connection then needs no parser at all, and a pipelined request waits as plain bytes.
- A body with a Content-Length needs counting, not parsing: its bytes pass through as they are.
- A chunked body ends in CRLF CRLF too, so it is fed to llhttp in pieces that end at each of those:
  where the message ends, a piece ends, and what follows is the next request.
- llhttp knows a fixed list of methods, and refuses some targets that clients do send.  So the request
  line is judged here, by its grammar, and llhttp parses the fields, behind a line that it likes.

A client repeats its header fields from request to request: the same Host, User-Agent, Accept, cookies
(HPACK, RFC 7541, rests on that).  So what a block of fields says is remembered for the latest
:data:`FIELDS_REMEMBERED` blocks.  A head with one field is parsed in 1.6 µs then instead of 2.9, one
with fourteen, as browsers send them, in 1.9 instead of 7.4.
"""

import functools
import re
from typing import NamedTuple

import httptools

from .config import Config
from .exceptions import BadRequest

__all__ = ["CHUNKED", "Request", "Wire", "plain_answer"]

#: The ``Request.length`` of a chunked body.
CHUNKED = -1

_HEAD_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%s) ([^\x00-\x20\x7f]+) HTTP/(\d)\.(\d)" % _TOKEN)
_REQUEST_LINE_BEGINS = re.compile(rb"%s(?: [^\x00-\x20\x7f]*(?: [^\x00-\x20\x7f]*)?)?" % _TOKEN)
_VERSION = re.compile(r"HTTP/\d\.\d")
_RAW_HEAD_END = re.compile(rb"\n\r?\n")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n|\Z)")
# RFC 3986 §3.2.2, loosely: a registered name, an address, or a bracketed IPv6 one; then a port.
_HOST = re.compile(r"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-f:.vV]+\])(?::[0-9]*)?")
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_PLAIN_LINE = b"GET / HTTP/1.1"
#: How many blocks of header fields are remembered, and from which length on a head's are not: at the
#: most some 2 MiB, which a client that never repeats itself can only turn over.
FIELDS_REMEMBERED = 512
_LONG_BLOCK = 2048
# Bytes of chunk framing (sizes, extensions, trailers) that may come for a body, over and above as
# many as the body itself has: one-byte chunks pass, an endless chunk extension does not.
_FRAMING_ALLOWANCE = 16 * 1024
# A request line may be preceded by an empty line (RFC 9112 §2.2); this many bytes of them.
_EMPTY_LINES = 4


class Fields(NamedTuple):
    """What a block of header fields says.

    ``items`` are the fields in their order, names as they were sent, as latin-1 text.  ``length`` is
    the body's length in bytes, 0 for none, or :data:`CHUNKED`; ``keep_alive`` is what the client
    asked for or the version implies (RFC 9112 §9.3).
    """

    items: tuple[tuple[str, str], ...]
    length: int
    keep_alive: bool
    expects_continue: bool
    upgrade: bool


class Request(NamedTuple):
    """A request's head; ``head`` is the head as it was sent.

    A named tuple: on every request's way, and a frozen dataclass costs five times as much.
    """

    head: bytes
    method: str
    target: str
    protocol: str
    fields: Fields


class _Head:
    """llhttp's callbacks for a head."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[tuple[str, str]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves the white space behind a value, which is not part of it (RFC 9112 §5.1).
        self.items.append((name.decode("latin-1"), value.decode("latin-1").rstrip(" \t")))


class _Chunks:
    """llhttp's callbacks for a chunked body, and what counts its framing."""

    __slots__ = ("complete", "data", "framing", "parser", "tail")

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.complete = False
        self.framing = 0
        self.tail = b""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(_CHUNKED_HEAD)

    def on_body(self, data: bytes) -> None:
        self.data.append(data)
        self.framing -= 2 * len(data)

    def on_message_complete(self) -> None:
        self.complete = True

    def feed(self, data: bytes) -> int:
        """Decode ``data`` up to the message's end; return how many bytes belong to the message."""
        tail = self.tail
        window = tail + data
        fed = 0
        cut = window.find(_HEAD_END)
        while not self.complete and fed < len(data):
            end = cut + len(_HEAD_END) - len(tail) if cut >= 0 else len(data)
            if end > fed:
                if self._parse(data[fed:end]) and cut < 0:
                    raise BadRequest(400, "Malformed end of a chunked body")
                fed = end
            cut = window.find(_HEAD_END, cut + 1) if cut >= 0 else -1
        self.tail = window[-3:]
        return fed

    def _parse(self, piece: bytes) -> bool:
        self.framing += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserError:
            raise BadRequest(400, "Malformed chunk in the request's body") from None
        if self.framing > _FRAMING_ALLOWANCE:
            raise BadRequest(400, "Chunk framing outweighs the request's body")
        return self.complete


class Wire:
    """The bytes that one client sent, and where in its messages they stand."""

    __slots__ = ("_chunks", "_config", "_remaining", "_searched", "body_ended", "buffer")

    def __init__(self, config: Config) -> None:
        self._config = config
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
        return self._parse_head(head)

    def _next_request_slowly(self) -> Request | None:
        """A head that has not all come, or one that empty lines may precede."""
        buffer = self.buffer
        if buffer[:1] in (b"\r", b"\n"):
            stripped = buffer.lstrip(b"\r\n")
            if len(buffer) - len(stripped) > _EMPTY_LINES:
                raise BadRequest(400, "Too many empty lines before a request line")
            if not stripped:
                return None
            self.buffer = buffer = stripped
            return self.next_request()
        if not buffer:
            return None
        self._check_beginning(buffer)
        self._searched = max(0, len(buffer) - 3)
        return None

    def _check_beginning(self, buffer: bytes) -> None:
        """Refuse at once what can't become a head, and what is too long to be one."""
        line_end = buffer.find(b"\r\n")
        if line_end < 0:
            self._check_sizes(len(buffer) + 2, 0)
            if not _REQUEST_LINE_BEGINS.fullmatch(buffer.removesuffix(b"\r")):
                raise BadRequest(400, f"Bad request syntax ({_shown(buffer)})")
        else:
            self._check_sizes(line_end + 2, len(buffer) - line_end - 2)
            if line_end >= self._searched - 1:
                _split_request_line(buffer[:line_end])
        # A head whose lines end in bare LF would never meet its CRLF CRLF.
        fresh = buffer[max(0, self._searched - 1) :]
        if _BARE_LF.search(fresh, 1) or _BARE_CR.search(fresh):
            raise BadRequest(400, "Lines of a head end in CRLF")

    def _check_sizes(self, line: int, fields: int) -> None:
        if line > self._config.max_request_line:
            raise BadRequest(414, "Request-URI Too Long")
        if fields > self._config.max_head + len(_HEAD_END):
            raise BadRequest(431, "Request Header Fields Too Large")

    def _parse_head(self, head: bytes) -> Request:
        line_end = head.index(b"\r\n")
        config = self._config
        if len(head) > config.max_head or line_end > config.max_request_line:
            self._check_sizes(line_end + 2, len(head) - line_end - 2)
        match = _REQUEST_LINE.match(head, 0, line_end)
        if match is None or match.end() != line_end:
            raise _bad_request_line(head[:line_end].decode("latin-1"))
        method, target, protocol = match[0].decode("latin-1").split(" ")
        if protocol != "HTTP/1.1" and protocol != "HTTP/1.0":
            protocol = _known_version(protocol)
        parse = _remembered_fields if len(head) < _LONG_BLOCK else _parse_fields
        fields = parse(head[line_end:], protocol == "HTTP/1.1")
        if len(fields.items) > config.max_fields:
            raise BadRequest(431, "Too many headers")
        if fields.length > 0:
            self._remaining = fields.length
            self.body_ended = False
        elif fields.length == CHUNKED:
            self._chunks = _Chunks()
            self.body_ended = False
        return Request(head, method, target, protocol, fields)

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
        if chunks is None or not buffer:
            return b""
        fed = chunks.feed(buffer)
        self.buffer = buffer[fed:]
        if chunks.complete:
            self._chunks = None
            self.body_ended = True
        data = b"".join(chunks.data)
        chunks.data.clear()
        return data

    def forget_body(self) -> None:
        """What follows belongs to another protocol (101, CONNECT): it is no body."""
        self._remaining = 0
        self._chunks = None
        self.body_ended = True


def _parse_block(block: bytes) -> tuple[tuple[str, str], ...]:
    if _BARE_LF.search(block) or _BARE_CR.search(block):
        raise BadRequest(400, "Lines of a head end in CRLF")  # llhttp has not always thought so
    sink = _Head()
    try:
        httptools.HttpRequestParser(sink).feed_data(_PLAIN_LINE + block)
    except httptools.HttpParserUpgrade:
        pass  # An upgrade is the handler's to accept; the head itself is sound.
    except httptools.HttpParserError as error:
        status = 501 if "invalid `Transfer-Encoding`" in str(error) else 400
        raise BadRequest(status, f"Bad request fields ({error})") from None
    return tuple(sink.items)


def _parse_fields(block: bytes, modern: bool) -> Fields:  # noqa: FBT001
    """What a block of fields says, from the CRLF of the request line on.

    ``modern`` says that the request is HTTP/1.1.
    """
    items = _parse_block(block)
    keep_alive = modern
    length = hosts = 0
    expects_continue = upgrade = False
    for name, value in items:
        name = name.lower()
        if name == "host":
            hosts += 1
            if not _HOST.fullmatch(value):
                raise BadRequest(400, "Bad Host field")
        elif name == "connection":
            tokens = [token.strip(" \t") for token in value.lower().split(",")]
            if "close" in tokens:
                keep_alive = False
            elif "keep-alive" in tokens and not modern:
                keep_alive = True
            upgrade = upgrade or "upgrade" in tokens
        elif name == "content-length":
            length = int(value)
        elif name == "transfer-encoding":
            if value.lower() != "chunked" or not modern or length == CHUNKED:
                raise _bad_transfer_encoding(value, modern=modern)
            length = CHUNKED
        elif name == "expect" and modern:
            if value.lower() != "100-continue":
                raise BadRequest(417, "Expectation Failed")
            expects_continue = True
    if hosts != 1 and (modern or hosts):
        raise BadRequest(400, "A request has exactly one Host field")
    return Fields(items, length, keep_alive, expects_continue, upgrade)


_remembered_fields = functools.lru_cache(maxsize=FIELDS_REMEMBERED)(_parse_fields)


def _split_request_line(line: bytes) -> tuple[str, str, str]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _bad_request_line(line.decode("latin-1"))
    method, target = match[1].decode(), match[2].decode("latin-1")
    return method, target, _known_version(f"HTTP/{match[3].decode()}.{match[4].decode()}")


def _known_version(protocol: str) -> str:
    """``HTTP/1.x`` as this server speaks it (RFC 9110 §2.5: a higher minor version is 1.1)."""
    if not _VERSION.fullmatch(protocol):
        raise BadRequest(400, f"Bad request version ({_shown(protocol)})")
    if protocol[5] != "1":
        raise BadRequest(505, f"Invalid HTTP version ({protocol[5:]})")
    return "HTTP/1.0" if protocol == "HTTP/1.0" else "HTTP/1.1"


def _bad_request_line(line: str) -> BadRequest:
    words = line.split(" ")
    if len(words) == 3 and words[2].isprintable() and not _VERSION.fullmatch(words[2]):
        return BadRequest(400, f"Bad request version ({_shown(words[2])})")
    return BadRequest(400, f"Bad request syntax ({_shown(line)})")


def _bad_transfer_encoding(value: str, *, modern: bool) -> BadRequest:
    if not modern:
        return BadRequest(400, "Transfer-Encoding in an HTTP/1.0 request")
    codings = [coding.strip(" \t") for coding in value.lower().split(",")]
    if codings[-1] == "chunked" and codings.count("chunked") == 1 and len(codings) > 1:
        return BadRequest(501, "Unsupported transfer coding")
    return BadRequest(400, "Bad Transfer-Encoding field")


def _shown(text: str | bytes) -> str:
    """A client's own bytes, short and harmless enough to be sent back in a reason phrase."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def plain_answer(status: int, reason: str) -> tuple[bytes, bytes]:
    """Head and body of a complete answer in plain text, after which the connection closes."""
    body = f"{status} {reason}\n".encode("latin-1", "replace")
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1", "replace"), body
