"""Answers to bytes: an application's status and fields become a head, or an error that says why not.

An application answers with few different heads: the same status and fields come again and again.  What
they amount to is remembered, for the latest :data:`REMEMBERED` of them; Date alone is added each time.
"""

import re
from collections.abc import Sequence

__all__ = ["AnswerHead", "answer_head", "field_line"]

#: How many heads are remembered: some 256 KiB at the most.
REMEMBERED = 256

_STATUS = re.compile(r"([2-5]\d\d)( [^\x00-\x08\x0a-\x1f\x7f]*)?")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
# RFC 9110 §7.6.1 and PEP 3333, "Other HTTP Features": the server's business.
_HOP_BY_HOP = frozenset(
    ("keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)


class AnswerHead:
    """A status and its fields, checked and serialised; nobody changes it.

    ``prefix`` is everything but what differs from answer to answer: Date, the connection's fate, a
    length that only the body tells.  ``length`` is the application's Content-Length, or None.
    """

    __slots__ = (
        "bodiless",
        "closes",
        "dated",
        "fields",
        "is_plain",
        "length",
        "prefix",
        "status",
        "upgrades",
    )

    def __init__(self, status: str, fields: Sequence[tuple[str, str]], server: bytes) -> None:
        match = _STATUS.fullmatch(_native(status, "a status"))
        if match is None:
            raise ValueError(f"a status looks like '200 OK', not like {status!r}")
        self.status = int(match[1])
        self.fields = tuple(fields)
        #: RFC 9110 §6.4.1: these have no body, whatever the application sends.
        self.bodiless = self.status in (204, 304)
        self.length: int | None = None
        self.closes = self.dated = self.upgrades = False
        lines = [f"HTTP/1.1 {status if match[2] else status + ' '}\r\n".encode("latin-1")]
        named = False
        for field in fields:
            if type(field) is not tuple or len(field) != 2:
                raise TypeError(f"a header field is a tuple of name and value, not {field!r}")
            name, value = _native(field[0], "a field's name"), _native(field[1], "a field's value")
            if self._notes(name.lower(), value):
                lines.append(field_line(name, value))
                named = named or name.lower() == "server"
        if self.upgrades:
            lines.append(b"Connection: Upgrade\r\n")  # RFC 9110 §7.8
        if not named:
            lines.append(server)
        self.prefix = b"".join(lines)
        #: Whether nothing is to be thought of but Date.
        self.is_plain = not (self.bodiless or self.closes or self.dated)

    def _notes(self, name: str, value: str) -> bool:
        """Whether this field is to be sent."""
        if name == "content-length":
            if not _LENGTH.fullmatch(value):
                raise ValueError(f"a Content-Length is a number of bytes, not {value!r}")
            if self.length is not None:
                if self.length != int(value):
                    raise ValueError("two Content-Lengths that differ")
                return False
            self.length = int(value)
            return self.status != 204  # RFC 9110 §8.6
        if name == "connection":
            # It may ask that no request follows. All else about connections is the server's.
            self.closes = "close" in [token.strip(" \t") for token in value.lower().split(",")]
            return False
        if name == "upgrade" and self.status == 426:
            self.upgrades = True  # RFC 9110 §15.5.22: it must be there.
            return True
        if name in _HOP_BY_HOP:
            raise ValueError(f"{name} is for the server to say, not for an application (PEP 3333)")
        if name == "date":
            self.dated = True
        return True


def field_line(name: str, value: str) -> bytes:
    """One header field.  Raises :exc:`ValueError` for what can't be one."""
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError(f"not a header field (RFC 9110 §5): {name!r}: {value!r}")
    return f"{name}: {value}\r\n".encode("latin-1")


def _native(text: str, what: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{what} is a str, not {text!r}")
    return text


_Known = dict[tuple[str, tuple[tuple[str, str], ...]], AnswerHead]


def answer_head(known: _Known, status: str, fields: list[tuple[str, str]], server: bytes) -> AnswerHead:
    """The head of an answer, remembered in ``known``.

    Raises :exc:`TypeError` and :exc:`ValueError` for what can't be one: a CR or LF in it, say, would
    split the answer (CWE-113).
    """
    if type(fields) is not list:
        raise TypeError(f"header fields come in a list (PEP 3333), not as {type(fields).__name__}")
    head = AnswerHead(status, fields, server)
    if len(known) >= REMEMBERED:
        known.clear()
    if len(head.prefix) < 1024:
        known[status, head.fields] = head
    return head
