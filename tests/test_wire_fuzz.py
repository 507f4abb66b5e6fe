"""Any bytes, split anyhow: what the wire may say of them.

Streams are built by the grammar of RFC 9112, or taken from the corpus, and then damaged.  Five things
hold of each, and ``fuzz_wire.py`` looks for streams of which they don't:

- Only RequestRejected is raised, with a status that is documented.
- How the bytes are split changes nothing: which messages there are, what they say, where they end, what
  has come of an unfinished body, what is left over; or that a message is refused, and with which status.
  Nor does it matter what is asked before: whether the body is at hand, or to have all bytes back.
  Two things are not promised.  A body that is refused in its midst was read up to some place before; how
  far depends on the pieces.  And of a message that exceeds a limit and is malformed too, either is said,
  as a limit may be noticed before or after the damage.
- An accepted request that is written again, plainly, is the same request.
- A reader that knows nothing of the wire finds the same messages, with the same ends and bodies.
- A head that needs no parser (``_plain_heads``) means what llhttp makes of it.

``WIRE_EXAMPLES=20000`` looks at more examples of each.
"""

import dataclasses
import itertools
import os
import random
import re
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hangup import Config, RequestRejected
from hangup._http1.parser import RequestParser
from hangup._http1.request import CHUNKED
from hangup._http1.request_head import Heads
from hangup.wsgi.environ import environ_fields
from test_corpus import MALFORMED, WELL_FORMED
from test_wire import BAD, GOOD

PLAIN = Config()
#: Limits that short streams meet, too.
TIGHT = Config(
    max_request_line_size=64,
    max_request_header_size=256,
    max_request_field_size=64,
    max_request_fields=6,
    max_request_body_size=24,
)
#: For what is written again: a target's host may be one field more than came.
ROOMY = Config(max_request_fields=1000, max_request_header_size=1 << 20)
STATUSES = {400, 413, 414, 417, 431, 501, 505}
OF_LIMITS = {413, 414, 431}
SEEDS = sorted(
    {case.values[0].data for case in MALFORMED + WELL_FORMED}
    | {case[0] for case in [*GOOD.values(), *BAD.values()]}
)

# -- what the wire says


@dataclasses.dataclass
class Message:
    """A request and its body, as the wire or the reference found it."""

    line: tuple[str, str, str]
    items: tuple[tuple[str, str], ...]
    keep_alive: bool
    body: bytes = b""
    #: Where it ends in the stream; None if it has not all come.
    end: int | None = None
    #: All that the wire says of the fields, and of what they mean.
    fields: Any = dataclasses.field(default=None, compare=False, repr=False)
    #: The reference's: whether a server may refuse it.
    optional: bool = dataclasses.field(default=False, compare=False)


@dataclasses.dataclass
class Reading:
    messages: list[Message]
    #: What was refused, at the end of it all.
    status: int | None = None
    #: What was not asked for.
    rest: bytes = b""


def read(pieces: list[bytes], config: Config = PLAIN, heads: Heads | None = None) -> Reading:
    """What a connection would see of these pieces, if it reads all that has come."""
    return _read(pieces, config, heads, read_body)


def read_ahead(pieces: list[bytes], config: Config = PLAIN) -> Reading:
    """The same for one that looks before it reads, and asks for all that one can ask."""
    return _read(pieces, config, None, read_body_ahead)


def _read(pieces: list[bytes], config: Config, heads: Heads | None, body_of: Any) -> Reading:
    parser = RequestParser(config, heads)
    reading = Reading([])
    received = 0
    try:
        for piece in pieces:
            received += len(piece)
            parser.receive(piece)
            while advance(parser, reading.messages, received, body_of):
                pass
        reading.rest = parser.buffer
    except RequestRejected as error:
        refusal = error
    else:
        return reading
    assert refusal.status in STATUSES
    assert refusal.reason.isascii()
    assert refusal.reason.isprintable()
    assert len(refusal.reason) < 400  # 80 of the client's bytes at the most, each as \xff
    reading.status = refusal.status
    return reading


def advance(parser: RequestParser, messages: list[Message], received: int, body_of: Any) -> bool:
    data = body_of(parser, fresh=not messages or not messages[-1].body)
    if messages:
        messages[-1].body += data
    if not parser.body_ended:
        return False
    if messages and messages[-1].end is None:
        messages[-1].end = received - len(parser.buffer)
    request = parser.next_request()
    if request is None:
        return False
    fields = SimpleNamespace(
        items=request.items,
        length=request.length,
        keep_alive=request.keep_alive,
        expects_continue=request.expects_continue,
        upgrade=request.upgrade,
    )
    line = (request.method, request.target, request.protocol)
    messages.append(Message(line, fields.items, fields.keep_alive, fields=fields))
    return True


def read_body(parser: RequestParser, *, fresh: bool) -> bytes:
    return b"".join(iter(parser.read_body, b""))


def read_body_ahead(parser: RequestParser, *, fresh: bool) -> bytes:
    parser.has_raw_head()
    parser.put_back(parser.take_raw())
    ended = parser.body_ended
    at_hand = parser.body_at_hand(8)
    come = parser.body_come
    data = read_body(parser, fresh=fresh)
    assert parser.read_body() == b""
    if fresh:  # None of it had been read.
        assert come == len(data)
        assert at_hand == (parser.body_ended or come >= 8)
    assert parser.body_ended or not ended
    assert not parser.body_remaining or not parser.body_ended
    return data


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(at % (len(data) + 1) for at in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


def bytewise(data: bytes) -> list[bytes]:
    """Single bytes; of a long stream those at its beginning and its end."""
    last = len(data)
    return cut(data, [at for at in range(last) if at < 600 or last - at < 600 or at % 1000 == 0])


# -- what must hold


def check_split(data: bytes, cuts: list[int], config: Config = PLAIN) -> None:
    heads = Heads(config)
    whole = read([data], config, heads)
    for reading in [
        read(cut(data, cuts), config, heads),
        read(bytewise(data), config),
        read_ahead([data], config),
        read_ahead(cut(data, cuts), config),
    ]:
        check_same(whole, reading)


def check_same(one: Reading, other: Reading) -> None:
    assert [(m.line, m.fields, m.end) for m in one.messages] == [
        (m.line, m.fields, m.end) for m in other.messages
    ]
    if one.status is None:
        assert one == other
        return
    assert other.status is not None
    assert one.status == other.status or OF_LIMITS & {one.status, other.status}
    for a, b in zip(one.messages, other.messages, strict=True):
        assert a.body == b.body or (a.end is None and same_beginning(a.body, b.body))


def same_beginning(a: bytes, b: bytes) -> bool:
    return a.startswith(b) or b.startswith(a)


def check_round_trip(data: bytes) -> None:
    for message in read([data]).messages:
        if message.end is None:
            continue
        again = read([written(message)], ROOMY)
        assert again.status is None
        (same,) = again.messages
        assert (same.line, same.fields, same.body) == (message.line, message.fields, message.body)
        assert same.end is not None
        assert again.rest == b""


def written(message: Message) -> bytes:
    lines = [" ".join(message.line), *(f"{name}: {value}" for name, value in message.items), "", ""]
    body = message.body
    if message.fields.length == CHUNKED:
        chunks = [body[at : at + 50] for at in range(0, len(body), 50)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    return "\r\n".join(lines).encode("latin-1") + body


def check_reference(data: bytes) -> None:
    reference = Reference(data)
    told = reference.read()
    reading = read([data])
    refused = reading.status is not None
    for at, expected in enumerate(told):
        if at == len(reading.messages):
            assert refused
            assert expected.optional
            return
        message = reading.messages[at]
        if refused and message.end is None:
            assert expected.optional or expected.end is None
            assert same_beginning(message.body, expected.body)
            assert (message.line, message.items) == (expected.line, expected.items)
            return
        assert message == expected
    assert len(reading.messages) == len(told)
    if reference.refuses:
        assert refused
    elif refused:
        assert reference.at < len(data), "what was refused?"


def check(data: bytes, cuts: list[int]) -> None:
    """All of it."""
    check_plain(data)
    check_split(data, cuts)
    check_split(data, cuts, TIGHT)
    check_round_trip(data)
    check_reference(data)


def check_plain(data: bytes) -> None:
    """Whatever the short way takes for a head means the same to llhttp, if it is none of several."""
    ends = [found.end() for found in re.finditer(b"\r\n\r\n", data)]
    for config in (PLAIN, TIGHT):
        for start, end in itertools.combinations([0, *ends], 2):
            judge_plain(data[start:end], Heads(config))


def judge_plain(head: bytes, heads: Heads) -> bool:
    """Whether the short way takes this head, which then means the same to llhttp and in an environ."""
    plain = heads.parse_plainly(head)
    if plain is None:
        return False
    strict = heads.parse_strictly(head)
    for said in ("head", "method", "target", "protocol", "items", "length", "keep_alive"):
        assert getattr(plain, said) == getattr(strict, said), said
    for said in ("expects_continue", "upgrade", "keeps_plainly"):
        assert getattr(plain, said) == getattr(strict, said), said
    assert plain.cgi == environ_fields(strict.items)
    return True


# -- a second opinion


class Refused(Exception):
    pass


class Incomplete(Exception):
    pass


TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
EXTENSIONS = re.compile(rf"(?:[ \t]*;[ \t]*{TOKEN}(?:[ \t]*=[ \t]*(?:{TOKEN}|{QUOTED}))?)*")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Reference:
    """RFC 9112 read once more, line by line and without haste.

    It judges a head when all of it has come, so it may still wait where the wire has refused.  Where a
    server may choose, it chooses as hangup does:

    - Two empty lines may precede a request line, not more (§2.2).
    - A bare LF ends no line (§2.2), and no line is folded (§5.2); control characters are in no value
      (RFC 9110 §5.5).
    - A target may hold what RFC 3986 leaves out, but for controls, spaces and "#" (§3.2); the absolute
      form has a host and no user information (RFC 9110 §4.2).  A port has five digits at the most.
    - A Content-Length comes once, and never beside a Transfer-Encoding (§6.1, §6.3), of which "chunked"
      is the only one that is known, and not in a list with empty elements.
    - Only 100-continue may be expected (RFC 9110 §10.1.1).

    - White space around ``;`` and ``=`` of chunk extensions is "bad", and parsed (§7.1.1: ``;a = b``).

    ``optional`` are messages that hangup, or llhttp beneath it, may refuse or not:

    - More than 4 KiB of a chunk's line, or 16 KiB of chunk framing.
    - A Content-Length of twenty digits or more, which are zeros then.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.refuses = False
        self.told: list[Message] = []

    def read(self) -> list[Message]:
        try:
            while self.at < len(self.data):
                self.message()
        except Refused:
            self.refuses = True
        except Incomplete:
            pass
        return self.told

    def message(self) -> None:
        for _ in range(2):
            if self.data.startswith(b"\r\n", self.at):
                self.at += 2
        if self.data.startswith(b"\r\n", self.at):
            raise Refused
        if self.data[self.at :] in (b"", b"\r"):
            self.at = len(self.data)
            return
        end = self.data.find(b"\r\n\r\n", self.at)
        if end < 0:
            raise Incomplete
        line, *lines = self.data[self.at : end].decode("latin-1").split("\r\n")
        if len(line) + 2 > 65536 or len("\r\n".join(lines)) > 65536 or len(lines) > 100:
            raise Refused
        method, target, version = request_line(line)
        modern = version != "HTTP/1.0"
        items = [field(text) for text in lines]
        lengths, codings, hosts, options, expected = (
            [value for name, value in items if name.lower() == wanted]
            for wanted in ("content-length", "transfer-encoding", "host", "connection", "expect")
        )
        if len(hosts) > 1 or (modern and not hosts) or not all(map(is_host, hosts)):
            raise Refused
        if modern and {value.lower() for value in expected} - {"100-continue"}:
            raise Refused
        if named := target_host(method, target):
            items = [("Host", named), *((name, v) for name, v in items if name.lower() != "host")]
        tokens = {token.strip(" \t") for value in options for token in value.lower().split(",")}
        keeps = "close" not in tokens and (modern or "keep-alive" in tokens)
        line_told = (method, target, "HTTP/1.1" if modern else "HTTP/1.0")
        message = Message(line_told, tuple(items), keeps)
        if codings and (lengths or not modern or [value.lower() for value in codings] != ["chunked"]):
            raise Refused
        length = body_length(lengths)
        message.optional = any(len(value) >= 20 for value in lengths)
        self.told.append(message)
        self.at = end + 4
        if codings:
            self.chunks(message)
        else:
            self.take(message, length)
        message.end = self.at

    def take(self, message: Message, length: int) -> None:
        piece = self.data[self.at : self.at + length]
        message.body += piece
        self.at += len(piece)
        if len(piece) < length:
            raise Incomplete

    def chunks(self, message: Message) -> None:
        start = self.at
        size = -1
        while size:
            line = self.line()
            match = re.fullmatch(r"([0-9A-Fa-f]+)([ \t]*;.*)?", line)
            if match is None or len(message.body) + (size := int(match[1], 16)) > 1 << 30:
                raise Refused
            if not EXTENSIONS.fullmatch(match[2] or ""):
                raise Refused
            long = len(line) >= 4000 or self.framing(start, message) > 16000
            message.optional = message.optional or long
            self.take(message, size)
            if size and self.line():
                raise Refused
        while line := self.line():
            message.optional = message.optional or self.framing(start, message) > 16000
            field(line)

    def framing(self, start: int, message: Message) -> int:
        return self.at - start - len(message.body)

    def line(self) -> str:
        end = self.data.find(b"\n", self.at) + 1
        if not end:
            raise Incomplete
        line = self.data[self.at : end].decode("latin-1")
        if not line.endswith("\r\n") or "\r" in line[:-2]:
            raise Refused
        self.at = end
        return line[:-2]


def request_line(line: str) -> list[str]:
    words = line.split(" ")
    if (
        len(words) != 3
        or not re.fullmatch(TOKEN, words[0])
        or not re.fullmatch("HTTP/1[.][0-9]", words[2])
    ):
        raise Refused
    if re.search(r"[\x00-\x20\x7f#]", words[1]) or not words[1]:
        raise Refused
    return words


def field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    value = value.strip(" \t")
    if not colon or not re.fullmatch(TOKEN, name) or CONTROL.search(value):
        raise Refused
    return name, value


def body_length(values: list[str]) -> int:
    if not values:
        return 0
    if len(values) > 1 or not re.fullmatch("[0-9]+", values[0]):
        raise Refused
    digits = values[0].lstrip("0")
    if len(digits) > 10 or int(digits or "0") > 1 << 30:
        raise Refused
    return int(digits or "0")


def target_host(method: str, target: str) -> str | None:
    """The host that a target names; None for the origin form and for the asterisk."""
    if method == "CONNECT":
        host, colon, port = target.rpartition(":")
        if host and colon and port and is_host(target):
            return target
        raise Refused
    if target.startswith("/") or (method, target) == ("OPTIONS", "*"):
        return None
    scheme, colon, rest = target.partition("://")
    host = re.split("[/?]", rest, maxsplit=1)[0]
    if not colon or not re.fullmatch("[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise Refused
    if not host or host.startswith(":") or not is_host(host):
        raise Refused
    return host


def is_host(text: str) -> bool:
    match = re.fullmatch(r"(\[.*\]|[^:\[\]]*)(?::([0-9]{0,5}))?", text)
    if match is None or int(match[2] or "0") > 65535:
        return False
    host = match[1]
    if not host.startswith("["):
        return bool(re.fullmatch(r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f][0-9A-Fa-f])*", host))
    if re.fullmatch(r"\[v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\]", host):
        return True
    try:
        socket.inet_pton(socket.AF_INET6, host[1:-1])
    except (OSError, ValueError):
        return False
    return True


# -- streams


def mostly(good: Any, odd: Any, one_in: int = 60) -> Any:
    """One in sixty is odd: a request is made of some thirty such parts."""
    return st.integers(0, one_in - 1).flatmap(lambda number: odd if number == one_in // 2 else good)


def one_of(*values: bytes) -> Any:
    return st.sampled_from(values)


#: What damage puts in, and what atheris may use.
WORDS = [
    *(b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"\n\n", b"\r\n ", b"\r\n\t"),
    *(b" ", b"  ", b"\t", b"\x0b", b"\x0c", b"\x00", b"\x7f", b"\x85", b"\xa0", b"\xff", b"\xb2"),
    *(b":", b" :", b";", b",", b"=", b'"', b"\\", b"#", b"%", b"@", b"/", b"*", b"[", b"]", b"[::1]"),
    *(b"0", b"00", b"0\r\n", b"0\r\n\r\n", b"-1", b"+1", b"0x1", b"1_0", b"10000000000000000"),
    *(b"Host: a\r\n", b"Host:", b"http://a/", b"CONNECT a:1", b"OPTIONS * ", b" HTTP/1.0", b" HTTP/1.1"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"chunked", b"gzip, chunked"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n"),
    *(
        b"Expect: 100-continue\r\n",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n",
    ),
]

METHOD = one_of(b"GET", b"POST", b"OPTIONS", b"HEAD", b"PURGE", b"M-SEARCH", b"!#$%&'*+-.^_`|~1a")
ORIGIN = one_of(b"/", b"/a?b=c", b"//", b"/%zz", b"/\xc3\xa4|\\", b"/http://a")
ABSOLUTE = one_of(
    *(
        b"http://a/",
        b"http://a",
        b"HTTPS://a.b:443?q",
        b"x+y.z-1://[::1]:80/",
        b"http://[v1.a]",
        b"http://a:",
    ),
)
ODD_TARGET = one_of(
    *(b"*", b"", b"a", b"http:", b"http:///", b"http://:80", b"http://a@b/", b"http://a#b", b"urn:a:b"),
    *(b"http://[::1", b"http://[::g]", b"http://[1.2.3.4]/", b"://a", b"http://a:65536", b"/#", b"\xff"),
)
VERSION = mostly(
    one_of(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.7"),
    one_of(
        b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/01.1", b"http/1.1", b"HTTP/1", b"HTTP/1.\xb2", b""
    ),
)
SPACE = mostly(one_of(b" "), one_of(b"  ", b"\t", b"", b"\xa0", b"\x0b"))
END = mostly(one_of(b"\r\n"), one_of(b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n "))
HOST = mostly(
    one_of(b"a", b"", b"a.example:80", b"[::1]", b"[::ffff:1.2.3.4]:1", b"[v7.a:b]", b"a:", b"%41"),
    one_of(
        b"a/b",
        b"a b",
        b"a:b",
        b"[::1",
        b"[:::1]",
        b"a:65536",
        b"a,b",
        b"%4",
        b"a:000080",
        b"\xe4",
        b"[]",
    ),
)
OWS = mostly(
    one_of(b" ", b"", b"\t", b" \t "), one_of(b"\x0b", b"\x0c", b"\x00", b"\xa0", b"\r\n ", b"\r")
)
NAME = mostly(
    one_of(b"X", b"X-Y", b"x_y", b"!", b"Cookie", b"Content-Lengt", b"Transfer-Encoding-"),
    one_of(
        b"",
        b"X ",
        b"X\t",
        b" X",
        b"X(",
        b"\xe4",
        b"X\x00",
        b"Host",
        b"content-length",
        b"transfer-encoding",
    ),
)
VALUE = st.one_of(
    one_of(b"", b"a", b"a b", b"a:b", b"5", b"chunked", b"\xe4", b"a\tb"),
    st.binary(max_size=6),
)
KNOWN = one_of(
    *(
        b"Connection: close",
        b"Connection: x, Close",
        b"Connection: keep-alive",
        b"connection:\tKeep-Alive ,",
    ),
    *(
        b"Connection: upgrade\r\nUpgrade: h2c",
        b"Upgrade: x",
        b"Expect: 100-Continue",
        b"Proxy-Connection: close",
    ),
    *(b"TE: trailers", b"Trailer: X", b"Keep-Alive: 1"),
)
ODD_KNOWN = one_of(
    *(
        b"Expect: tea",
        b"Expect:",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: x",
        b"Transfer-Encoding: chunked",
    ),
    *(
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked\t",
        b"Transfer-Encoding: ,chunked",
    ),
    *(
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: \xe3hunked",
        b"Transfer-Encoding: chunked;a",
    ),
    *(b"Content-Length:", b"Content-Length: +1", b"Content-Length: 1, 1", b"Content-Length: 0x1"),
    *(b"Content-Length: 1 1", b"Content-Length: \xb2", b"Content-Length: 1_0", b"Content-Length: -0"),
    *(b"Content-Length: 18446744073709551616", b"Content-Length: 1073741825", b"Content-Length: 007"),
)
FIELD = st.one_of(
    mostly(KNOWN, ODD_KNOWN, 12),
    st.tuples(NAME, mostly(one_of(b":"), one_of(b"", b" :", b"::")), OWS, VALUE, OWS).map(b"".join),
)
BODY = st.one_of(
    st.binary(max_size=30),
    one_of(
        b"0\r\n\r\n",
        b"\r\n0\r\n\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n0\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"0;a\r\n",
    ),
)
SIZE = mostly(
    one_of("{:x}", "{:X}", "0{:x}"), one_of("{}", "0x{:x}", "+{:x}", "{:x} ", " {:x}", "{:x}h", "")
)
EXTENSION = mostly(
    one_of(b"", b"", b";a", b";a=b", b';a="b;\\""', b";a;b=c", b" ; a", b';\ta = "b" ;c', b"; a=b"),
    one_of(
        b";",
        b";a ",
        b"; ;a",
        b" a",
        b";a b",
        b";a=",
        b';a="',
        b";a=\xff",
        b";\x00",
        b";a\rb",
        b';a="\n"',
        b";;",
        b" ",
    ),
)
TRAILER = st.one_of(FIELD, one_of(b"X: y", b"Content-Length: 5", b"Transfer-Encoding: chunked"))


@st.composite
def chunked(draw: Any) -> bytes:
    chunks = draw(st.lists(BODY, max_size=3))
    parts = []
    for chunk in [*(chunk for chunk in chunks if chunk), b""]:
        size = draw(SIZE).format(len(chunk)).encode()
        parts += [size, draw(EXTENSION), draw(END)]
        if chunk:
            parts += [chunk, draw(END)]
    for trailer in draw(st.lists(TRAILER, max_size=2)):
        parts += [trailer, draw(END)]
    return b"".join([*parts, draw(END)])


@st.composite
def requests(draw: Any) -> bytes:
    method = draw(METHOD)
    target = draw(mostly(st.one_of(ORIGIN, ORIGIN, ABSOLUTE), ODD_TARGET))
    if draw(st.integers(0, 9)) == 7:
        method, target = draw(
            one_of(b"CONNECT a:1", b"CONNECT [::1]:80", b"OPTIONS *", b"CONNECT a")
        ).split()
    fields = draw(st.lists(FIELD, max_size=3))
    body = b""
    framing = draw(st.sampled_from(["none", "length", "chunked", "chunked"]))
    if framing == "length":
        body = draw(BODY)
        fields.append(b"Content-Length:%s%d" % (draw(OWS), len(body)))
    elif framing == "chunked":
        body = draw(chunked())
        fields.append(b"%s: %s" % (draw(one_of(b"Transfer-Encoding", b"TRANSFER-ENCODING")), b"chunKed"))
    for _ in range(draw(mostly(st.just(1), st.sampled_from([0, 2]), 8))):
        host = draw(one_of(b"Host:", b"host:", b"HOST:")) + draw(OWS) + draw(HOST)
        fields.insert(draw(st.integers(0, len(fields))), host)
    parts = [
        draw(mostly(one_of(b"", b"", b"\r\n"), one_of(b"\r\n\r\n", b"\r\n" * 3, b"\n", b"\r"))),
        method,
    ]
    parts += [draw(SPACE), target, draw(SPACE), draw(VERSION), draw(END)]
    for line in fields:
        parts += [line, draw(END)]
    return b"".join([*parts, draw(END), body])


#: A place of damage, what to do there, and with which bytes.
DAMAGE = st.tuples(
    st.sampled_from(["insert", "delete", "replace", "end", "double", "cut", "stretch"]),
    st.integers(0, 1 << 12),
    st.one_of(st.sampled_from(WORDS), st.binary(min_size=1, max_size=1)),
)


def damaged(data: bytes, damages: list[tuple[str, int, bytes]]) -> bytes:
    for kind, where, word in damages:
        at = where % (len(data) + 1)
        if kind == "insert":
            data = data[:at] + word + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + 1 :]
        elif kind == "replace":
            data = data[:at] + word + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "stretch":  # up to some length that is a limit somewhere
            length = (10, 300, 4100, 17000, 66000)[where % 5]
            data = data[:at] + data[at : at + 1] * length + data[at + 1 :]
        else:
            lines = data.split(b"\r\n")
            number = where % len(lines)
            if kind == "double":
                lines.insert(where // 7 % len(lines), lines[number])
                data = b"\r\n".join(lines)
            else:
                end = (b"\n", b"\r", b"\r\r\n", b"")[where // 7 % 4]
                data = end.join([b"\r\n".join(lines[:number]), b"\r\n".join(lines[number:])])
    return data


def without_stretches(damages: list[tuple[str, int, bytes]]) -> list[tuple[str, int, bytes]]:
    """Long streams are slow: few damages of many are stretches, and one stream has one at the most."""
    stretches = [damage for damage in damages if damage[0] == "stretch" and damage[1] % 4 == 0]
    return [damage for damage in damages if damage[0] != "stretch"] + stretches[:1]


#: Not the long ones: stretches make such. By number, as a strategy's repr has what it is sampled from.
SHORT = [data for data in SEEDS if len(data) < 1000]
SEED = st.integers(0, len(SHORT) - 1).map(SHORT.__getitem__)
STREAMS = st.builds(
    damaged,
    st.one_of(
        st.lists(requests(), min_size=1, max_size=3).map(b"".join),
        st.lists(SEED, min_size=1, max_size=3).map(b"".join),
    ),
    st.one_of(st.just([]), st.lists(DAMAGE, max_size=2).map(without_stretches)),
)
CUTS = st.lists(st.integers(0, 1 << 12), max_size=8)
ANYTHING = st.one_of(
    st.binary(max_size=400),
    st.tuples(SEED.map(lambda data: data[:60]), st.binary(max_size=200)).map(b"".join),
)


def looks(share: float = 1.0) -> Any:
    """The settings of a property: its share of the examples."""
    return settings(
        max_examples=int(share * int(os.environ.get("WIRE_EXAMPLES", "500"))),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@looks()
@given(ANYTHING)
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    read([data])
    read(bytewise(data))


@looks()
@given(STREAMS, CUTS)
def test_how_bytes_are_split_never_changes_what_they_say(data: bytes, cuts: list[int]) -> None:
    check_split(data, cuts)


@looks()
@given(STREAMS, CUTS)
def test_nor_does_it_where_limits_are_tight(data: bytes, cuts: list[int]) -> None:
    check_split(data, cuts, TIGHT)


@looks()
@given(STREAMS)
def test_an_accepted_request_written_again_is_the_same_request(data: bytes) -> None:
    check_round_trip(data)


@looks()
@given(STREAMS)
def test_a_reader_that_knows_nothing_of_the_wire_finds_the_same(data: bytes) -> None:
    check_reference(data)


#: As programs send them; each is of the plain kind.
ORDINARY = [
    b"\r\n".join([*lines, b"", b""])
    for lines in [
        [
            b"GET /shop/3?page=2&sort=price HTTP/1.1",
            b"Host: shop.example:8000",
            b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)",
            b"Accept: text/html,application/xhtml+xml,*/*;q=0.8",
            b'sec-ch-ua: "Chromium";v="156", "Not)A;Brand";v="24"',
            b"Referer: http://shop.example:8000/a:%20b",
            b"Cookie: session=a.b-c; theme=dark",
        ],
        [b"GET / HTTP/1.1", b"Host: a", b"User-Agent: curl/8.5.0", b"Accept: */*"],
        [
            b"POST /a HTTP/1.0",
            b"Host: a-b.c:64999",
            b"Connection: keep-alive",
            b"Content-Type: text/plain",
            b"Content-Length: 007",
            b"X-Empty: ",
            b"x-spaces:   two ",
        ],
        [b"DELETE /?a=:b HTTP/1.1", b"host: a", b"connection: close", b"content-length: 0"],
    ]
]


@looks(4)
@given(st.sampled_from(ORDINARY), st.lists(DAMAGE, max_size=3).map(without_stretches))
def test_a_head_that_needs_no_parser_means_what_llhttp_makes_of_it(
    data: bytes, damages: list[tuple[str, int, bytes]]
) -> None:
    check_plain(damaged(data, damages))


@pytest.mark.parametrize("head", ORDINARY)
def test_ordinary_heads_need_no_parser(head: bytes) -> None:
    assert judge_plain(head, Heads(PLAIN))


@pytest.mark.parametrize("seed", range(4))
def test_all_of_it_holds_of_the_corpus(seed: int) -> None:
    chance = random.Random(seed)
    for data in SEEDS[seed::4]:
        check(data, [chance.randrange(1 << 16) for _ in range(4)])


_HOST = b"Host: a\r\n"
_POST = b"POST / HTTP/1.1\r\n" + _HOST
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"

#: What was found, as small as it gets.
FOUND = {
    # RFC 9110 §8.6: no digits may upset the conversion. int() raised ValueError beyond 4300 of them.
    "a length behind more zeros than int() takes": _POST
    + b"Content-Length: %s5\r\n\r\nhello" % (b"0" * 4300),
    # RFC 9112 §9.3: "close" wins, wherever it stands.
    "keep-alive behind close, in HTTP/1.0": b"GET / HTTP/1.0\r\n"
    b"Connection: close\r\nConnection: keep-alive\r\n\r\n",
    # RFC 9112 §5.1: white space behind a value is no part of it. It was an unknown coding (501).
    "a tab behind chunked": _POST + b"Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
    # A line of exactly the limit was refused (414) if its CR came without its LF.
    "a request line as long as the limit": b"GET /%s HTTP/1.1\r\n" % (b"a" * (65536 - 16))
    + _HOST
    + b"\r\n",
    # So was a field.
    "a field as long as the limit": b"GET / HTTP/1.0\r\nX: %s\r\n\r\n" % (b"a" * (65536 - 3)),
    # RFC 9112 §7.1.1: a limit for extensions is right, but not one that depends on what a recv() gets.
    # What outweighed the body was refused unless the body came with it.
    "a long chunk extension before a long chunk": _CHUNKED
    + b"4400;%s\r\n%s\r\n0\r\n\r\n" % (b"a" * 17000, b"b" * 0x4400),
    # Such a line was not seen for one if a read ended within the CRLF before it: it went unrefused then.
    "a long chunk extension behind another chunk": _CHUNKED
    + b"1\r\nx\r\n4400;%s\r\n%s\r\n0\r\n\r\n" % (b"a" * 17000, b"b" * 0x4400),
    # The last chunk's line was found if it came whole, and refused if it came in pieces.
    "a long extension of the last chunk": _CHUNKED + b"0;%s\r\n\r\n" % (b"a" * 4100),
    # It was refused at once if it came whole, and with the end of the message if not.
    "a long extension of the last chunk, and no more": _CHUNKED + b"0;%s\r\n" % (b"a" * 4100),
    "many zeros for the last chunk": _CHUNKED + b"%s\r\n\r\n" % (b"0" * 4100),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once(name: str) -> None:
    data = FOUND[name]
    check(data, [len(data) // 2])
    whole = read([data])
    for at in range(1, 100):
        check_same(whole, read(cut(data, [at])))


#: For each limit, a stream that has so much of what it limits.
LIMITED = {
    "max_request_line_size": lambda size: b"GET /%s HTTP/1.0\r\n\r\n" % (b"a" * (size - 16)),
    "max_request_field_size": lambda size: (
        b"GET / HTTP/1.0\r\nX: %s\r\nY: z\r\n\r\n" % (b"a" * (size - 3))
    ),
    "max_request_header_size": lambda size: (
        b"GET / HTTP/1.0\r\nY: z\r\nX: %s\r\n\r\n" % (b"a" * (size - 9))
    ),
    "max_request_fields": lambda size: b"GET / HTTP/1.0\r\n%s\r\n" % (b"X:\r\n" * size),
    "max_request_body_size": lambda size: (
        b"GET / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size
    ),
    "max_request_body_size, chunked": lambda size: (
        _CHUNKED + b"%x\r\n%s\r\n4\r\nabcd\r\n0\r\n\r\n" % (size - 4, b"a" * (size - 4))
    ),
}


@pytest.mark.parametrize("limited", LIMITED)
def test_a_limit_is_met_at_the_same_byte_however_it_comes(limited: str) -> None:
    # A request line of one byte or two more than its limit was accepted if its head came whole.
    config = Config(**{limited.partition(",")[0]: 256})
    for more in range(-3, 4):
        data = LIMITED[limited](256 + more)
        whole = read([data], config)
        assert (whole.status is None) == (more <= 0)
        for at in range(min(len(data), 400)):
            check_same(whole, read([data[:at], data[at:]], config))
        check_same(whole, read(bytewise(data), config))
