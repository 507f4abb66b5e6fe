"""A request's head: what its bytes say, and which bytes can't be one (RFC 9112 §2 to §5).

Nearly all heads are plain, and are read by ``plain_request``.  The others, and those that must be
refused, are llhttp's to parse.  It knows a fixed list of methods, and refuses some targets that clients
do send, so the request line is judged here, by its grammar, and llhttp gets a line that it likes.
"""

import ipaddress
import re

import httptools

from ..config import Config, size_limit
from ..exceptions import RequestRejected
from .plain_request import plain_request
from .request import CHUNKED, Request

__all__ = ["Heads"]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# A fragment is a browser's own business, and never sent (RFC 9112 §3.2). Bytes that RFC 3986 leaves out
# and browsers send nevertheless, `|` or raw UTF-8, pass: nobody takes them for anything else.
_TARGET = rb"[^\x00-\x20\x7f#]"
_REQUEST_LINE = re.compile(rb"(%s) (%s+) HTTP/(\d)\.(\d)" % (_TOKEN, _TARGET))
# How an unfinished one may go on: from its beginning, and in its method, target or version.
_IN_VERSION = rb"[^\x00-\x20\x7f]*"
_IN_TARGET = rb"%s*(?: %s)?" % (_TARGET, _IN_VERSION)
_REQUEST_LINE_BEGINS = re.compile(rb"%s(?: %s)?" % (_TOKEN, _IN_TARGET))
_FROM_METHOD = re.compile(rb"(?:%s)?(?: %s)?" % (_TOKEN, _IN_TARGET))
_FROM_TARGET = re.compile(_IN_TARGET)
_FROM_VERSION = re.compile(_IN_VERSION)
_VERSION = re.compile(r"HTTP/\d\.\d")
# White space behind a value (RFC 9112 §5.1), but not a line of nothing else.
_TABS_BEHIND = re.compile(rb"(?<=[^\s])[ \t]+(?=\r\n)")
_TRANSFER_ENCODING = re.compile(rb"(?i)\ntransfer-encoding:[ \t]*([^\r\n]*)")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n|\Z)")
# RFC 3986 §3.2.2: a registered name or an address, or a bracketed one; then a port.
_HOST = re.compile(
    r"(?:(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*"
    r"|\[(?:([0-9A-Fa-f:.]+)|v[0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+)\])"
    r"(?::([0-9]{0,5}))?"
)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://([^/?]*)(?:[/?].*)?")
_PLAIN_LINE = b"GET / HTTP/1.1"
_HEAD_END = b"\r\n\r\n"


class _Sink:
    """llhttp's callbacks for header fields."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[tuple[str, str]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves the white space behind a value, which is not part of it (RFC 9112 §5.1).
        self.items.append((name.decode("latin-1"), value.decode("latin-1").rstrip(" \t")))


class Heads:
    """The heads that one server accepts.

    Used by every thread that owns a connection; nobody changes it.
    """

    def __init__(self, config: Config) -> None:
        self._max_line = size_limit(config.max_request_line_size)
        self._max_head = size_limit(config.max_request_header_size)
        self._max_field = size_limit(config.max_request_field_size)
        self._max_fields = size_limit(config.max_request_fields)
        self._small = min(self._max_head, self._max_field)

    def parse(self, head: bytes) -> Request:
        """The request that a head says, from its first byte to its CRLF CRLF.

        Raises :exc:`~hangup.RequestRejected` if it can't be one.
        """
        return self.parse_plainly(head) or self.parse_strictly(head)

    def parse_plainly(self, data: bytes) -> Request | None:
        """The request, if these bytes are one whole head, of the plain kind; else None."""
        if len(data) <= self._small and data.endswith(_HEAD_END):
            return plain_request(data, self._max_line, self._max_fields)
        return None

    def parse_strictly(self, head: bytes) -> Request:
        """:meth:`parse`, by llhttp, and by all the rules on top of it."""
        line_end = head.index(b"\r\n")
        if len(head) > self._small or line_end + 2 > self._max_line:
            self._check_sizes(line_end + 2, len(head) - line_end - 2)
            self._check_fields(head, line_end + 2)
        match = _REQUEST_LINE.match(head, 0, line_end)
        if match is None or match.end() != line_end:
            raise _bad_request_line(head[:line_end].decode("latin-1"))
        method, target, protocol = match[0].decode("latin-1").split(" ")
        if protocol != "HTTP/1.1" and protocol != "HTTP/1.0":
            protocol = _known_version(protocol)
        authority = _authority(method, target) if target[0] != "/" or method == "CONNECT" else None
        request = _judged(head, (method, target, protocol), _parse_block(head[line_end:]))
        if len(request.items) > self._max_fields:
            raise RequestRejected(431, "Too many headers")
        return request if authority is None else _with_host(request, authority)

    def check_beginning(self, buffer: bytes, searched: int) -> None:
        """Refuse at once what can't become a head, and what is too long to be one.

        ``buffer`` is what has come of it, of which ``searched`` bytes were looked at before.
        """
        line_end = buffer.find(b"\n") - 1  # One byte is found much faster than two.
        if line_end < 0:
            end = len(buffer) - buffer.endswith(b"\r")
            self._check_sizes(end + 2, 0)
            # Only what is new is matched: a line that comes byte by byte costs no more than one that
            # comes at once.
            if not _grammar_from(buffer, searched).fullmatch(buffer, searched, end):
                raise RequestRejected(400, f"Bad request syntax ({_shown(buffer)})")
        else:
            self._check_sizes(line_end + 2, len(buffer) - line_end - 2)
            field = buffer.rfind(b"\n", line_end + 2, searched) + 1  # Those before it are known.
            self._check_fields(buffer.removesuffix(b"\r"), field or line_end + 2)
            if line_end >= searched - 1:
                _check_request_line(buffer[:line_end])
        # A head whose lines end in bare LF would never meet its CRLF CRLF.
        fresh = buffer[max(0, searched - 1) :]
        if _BARE_LF.search(fresh, 1) or _BARE_CR.search(fresh):
            raise RequestRejected(400, "Lines of a head end in CRLF")

    def _check_sizes(self, line: int, fields: int) -> None:
        if line > self._max_line:
            raise RequestRejected(414, "Request-URI Too Long")
        if fields > self._max_head + len(b"\r\n\r\n"):
            raise RequestRejected(431, "Request Header Fields Too Large")

    def _check_fields(self, head: bytes, start: int) -> None:
        limit = self._max_field
        if len(head) - start > limit and max(map(len, head[start:].split(b"\r\n"))) > limit:
            raise RequestRejected(431, "Request Header Field Too Large")


def _parse_block(block: bytes) -> list[tuple[str, str]]:
    if _BARE_LF.search(block) or _BARE_CR.search(block):
        raise RequestRejected(400, "Lines of a head end in CRLF")  # llhttp has not always thought so
    if b"\t\r\n" in block:
        block = _TABS_BEHIND.sub(b"", block)  # llhttp would take it for a part of a coding's name
    sink = _Sink()
    try:
        httptools.HttpRequestParser(sink).feed_data(_PLAIN_LINE + block)
    except httptools.HttpParserUpgrade:
        pass  # An upgrade is the handler's to accept; the head itself is sound.
    except httptools.HttpParserError as error:
        if "invalid `Transfer-Encoding`" in str(error):
            values = [value.decode("latin-1") for value in _TRANSFER_ENCODING.findall(block)]
            raise _bad_transfer_encoding(values) from None
        raise RequestRejected(400, f"Bad request fields ({error})") from None
    return sink.items


def _judged(head: bytes, line: tuple[str, str, str], items: list[tuple[str, str]]) -> Request:
    """The request that a line and its fields make, if they make one."""
    method, target, protocol = line
    keep_alive = modern = protocol == "HTTP/1.1"
    length = hosts = 0
    codings: list[str] = []
    closes = expects_continue = upgrade = False
    for name, value in items:
        name = name.lower()
        if name == "host":
            hosts += 1
            if not _is_host(value):
                raise RequestRejected(400, "Bad Host field")
        elif name == "connection":
            tokens = [token.strip(" \t") for token in value.lower().split(",")]
            closes = closes or "close" in tokens
            if "keep-alive" in tokens:
                keep_alive = True
            upgrade = upgrade or "upgrade" in tokens
        elif name == "content-length":
            length = int(value.lstrip("0") or 0)  # int() takes so many digits and no more
        elif name == "transfer-encoding":
            codings.append(value)
            length = CHUNKED
        elif name == "expect" and modern:
            if value.lower() != "100-continue":
                raise RequestRejected(417, "Expectation Failed")
            expects_continue = True
    if codings:
        if not modern:
            raise RequestRejected(400, "Transfer-Encoding in an HTTP/1.0 request")
        if len(codings) > 1 or codings[0].lower() != "chunked":
            raise _bad_transfer_encoding(codings)
    if hosts != 1 and (modern or hosts):
        raise RequestRejected(400, "A request has exactly one Host field")
    return Request(
        head,
        method,
        target,
        protocol,
        tuple(items),
        length=length,
        keep_alive=keep_alive and not closes,
        expects_continue=expects_continue,
        upgrade=upgrade,
    )


def _grammar_from(line: bytes, position: int) -> re.Pattern[bytes]:
    """How an unfinished request line may go on that was sound up to ``position``."""
    if not position:
        return _REQUEST_LINE_BEGINS
    method_end = line.find(b" ", 0, position)
    if method_end < 0:
        return _FROM_METHOD
    return _FROM_TARGET if line.find(b" ", method_end + 1, position) < 0 else _FROM_VERSION


def _check_request_line(line: bytes) -> None:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _bad_request_line(line.decode("latin-1"))
    method, target = match[1].decode(), match[2].decode("latin-1")
    _known_version(f"HTTP/{match[3].decode()}.{match[4].decode()}")
    if target[0] != "/" or method == "CONNECT":
        _authority(method, target)


def _authority(method: str, target: str) -> str | None:
    """The host that a target names, which is no path (RFC 9112 §3.2); None for ``*``.

    absolute-form, with a host and without user information (RFC 9110 §4.2); authority-form with a port,
    for CONNECT alone (§9.3.6); asterisk-form, for OPTIONS alone.
    """
    if method == "CONNECT":
        if _is_host(target) and not target.startswith(":") and target.rpartition(":")[2].isdigit():
            return target
    elif target == "*":
        if method == "OPTIONS":
            return None
    elif (match := _ABSOLUTE.fullmatch(target)) is not None:
        host = match[1]
        if _is_host(host) and not host.startswith(":") and host:
            return host
    raise RequestRejected(400, f"Bad request target ({_shown(target)})")


def _is_host(text: str) -> bool:
    """Whether this may be a Host field's value: a host, and perhaps a port (RFC 9110 §7.2)."""
    match = _HOST.fullmatch(text)
    if match is None or int(match[2] or 0) > 65535:
        return False
    if match[1] is None:
        return True
    try:
        ipaddress.IPv6Address(match[1])
    except ValueError:
        return False
    return True


def _with_host(request: Request, authority: str) -> Request:
    """A target that names its host overrides the Host field (RFC 9112 §3.2.2)."""
    others = (item for item in request.items if item[0].lower() != "host")
    return request.with_items([("Host", authority), *others])


def _known_version(protocol: str) -> str:
    """``HTTP/1.x`` as this server speaks it (RFC 9110 §2.5: a higher minor version is 1.1)."""
    if not _VERSION.fullmatch(protocol):
        raise RequestRejected(400, f"Bad request version ({_shown(protocol)})")
    if protocol[5] != "1":
        raise RequestRejected(505, f"Invalid HTTP version ({protocol[5:]})")
    return "HTTP/1.0" if protocol == "HTTP/1.0" else "HTTP/1.1"


def _bad_request_line(line: str) -> RequestRejected:
    words = line.split(" ")
    if len(words) == 3 and words[2].isprintable() and not _VERSION.fullmatch(words[2]):
        return RequestRejected(400, f"Bad request version ({_shown(words[2])})")
    return RequestRejected(400, f"Bad request syntax ({_shown(line)})")


def _bad_transfer_encoding(values: list[str]) -> RequestRejected:
    """Why these Transfer-Encoding fields, which are not one ``chunked``, are refused.

    Several fields are one list (RFC 9110 §5.3).  A body whose last coding is not chunked has no length
    (RFC 9112 §6.3): 400.  A coding before it that is not known is another matter (§6.1): 501.  But
    ``identity``, which was one until RFC 7230, and an empty field are there to be read in two ways.
    """
    codings = [coding.strip(" \t") for coding in ",".join(values).lower().split(",")]
    blank = any(not value.strip(" \t") for value in values)
    if blank or codings[-1] != "chunked" or codings.count("chunked") > 1 or "identity" in codings:
        return RequestRejected(400, "Bad Transfer-Encoding field")
    return RequestRejected(501, "Unsupported transfer coding")


def _shown(text: str | bytes) -> str:
    """A client's own bytes, short and harmless enough to be sent back in a reason phrase."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return ascii(text if len(text) <= 80 else text[:77] + "...")
