"""Answers to bytes: an application's status and fields become a head, or an error that says why not."""

import re

from .cache import Remembered
from .field_names import field_names
from .framing import BODILESS

__all__ = ["ResponseHead", "field_line"]

_STATUS = re.compile(r"([2-5]\d\d)( [^\x00-\x08\x0a-\x1f\x7f]*)?")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
# RFC 9110 §7.6.1 and PEP 3333, "Other HTTP Features": the server's business.
_HOP_BY_HOP = frozenset(
    ("keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
_SPECIAL = _HOP_BY_HOP | {"content-length", "connection", "date", "server"}


def _status_line(status: str) -> tuple[int, str]:
    """The code and the first line that a status amounts to."""
    if not isinstance(status, str):
        raise TypeError(f"a status is a str, not {status!r}")
    match = _STATUS.fullmatch(status)
    if match is None:
        raise ValueError(f"a status looks like '200 OK', not like {status!r}")
    return int(match[1]), f"HTTP/1.1 {status if match[2] else status + ' '}\r\n"


_status_lines = Remembered(_status_line, 256)


class ResponseHead:
    """A status and its fields, checked and serialised; nobody changes it.

    ``prefix`` is everything but what the server adds: Date, the connection's fate, a length that only
    the body tells.  ``length`` is the application's Content-Length, or None.

    Raises :exc:`TypeError` and :exc:`ValueError` for what can't be one: a CR or LF in it, say, would
    split the answer (CWE-113).
    """

    __slots__ = (
        "bodiless",
        "closes",
        "dated",
        "fields",
        "given",
        "is_plain",
        "length",
        "prefix",
        "status",
        "upgrades",
    )

    def __init__(self, status: str, fields: list[tuple[str, str]], server: str) -> None:
        self.status, line = _status_lines[status]
        if type(fields) is not list:
            raise TypeError(f"header fields come in a list (PEP 3333), not as {type(fields).__name__}")
        self.fields = tuple(fields)
        #: What it was made of; the list is not the application's, which may change its own.
        self.given = status, list(fields)
        #: RFC 9110 §6.4.1: these have no body, whatever the application sends.
        self.bodiless = self.status in BODILESS
        self.length: int | None = None
        self.closes = self.dated = self.upgrades = False
        lines = [line]
        for field in self.fields:
            if type(field) is not tuple or len(field) != 2:
                raise TypeError(f"a header field is a tuple of name and value, not {field!r}")
            name, value = field
            lower = field_names[name]
            if type(value) is not str or not value.isprintable():
                _check_value(name, value)
            if lower in _SPECIAL:
                if lower == "server":
                    server = ""
                elif not self._notes(lower, value):
                    continue
            lines.append(f"{name}: {value}\r\n")
        if self.upgrades:
            lines.append("Connection: Upgrade\r\n")  # RFC 9110 §7.8
        lines.append(server)
        self.prefix = "".join(lines).encode("latin-1")
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
            return True
        if name == "connection":
            # It may ask that no request follows. All else about connections is the server's.
            self.closes = "close" in [token.strip(" \t") for token in value.lower().split(",")]
            return False
        if name == "upgrade" and self.status == 426:
            self.upgrades = True  # RFC 9110 §15.5.22: it must be there.
            return True
        if name in _HOP_BY_HOP:
            raise ValueError(f"{name} is for the server to say, not for an application (PEP 3333)")
        self.dated = True
        return True


def field_line(name: str, value: str) -> bytes:
    """One header field.  Raises :exc:`ValueError` for what can't be one."""
    if field_names[name]:
        _check_value(name, value)
    return f"{name}: {value}\r\n".encode("latin-1")


def _check_value(name: str, value: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"a header field's value is a str, not {value!r}")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"not a header field's value (RFC 9110 §5.5): {name}: {value!r}")
