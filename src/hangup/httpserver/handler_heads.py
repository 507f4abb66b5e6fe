"""A handler's status and fields to bytes, or an error that says why not.

Handlers say the same again and again, so what status lines amount to is remembered.
"""

import functools
import re
from typing import Any

from .._http1.escape import one_line

__all__ = [
    "announced_length",
    "as_latin1",
    "check_field",
    "server_and_date",
    "status_line",
]

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,18}")


@functools.lru_cache(maxsize=64)
def status_line(protocol: str, code: int, message: str) -> bytes:
    """The first line of an answer.

    Raises :exc:`ValueError` for a status without three digits, and for control characters, of which CR
    and LF would split the answer.  A reason phrase is for people, who may write with characters that it
    can't have (RFC 9112 §4): for those stands a question mark.
    """
    if not 100 <= int(code) <= 999:
        raise ValueError(f"a status has three digits (RFC 9110 §15): {code!r}")
    line = f"{protocol} {int(code)} {message}"
    if _CONTROL.search(line):
        raise ValueError(f"a status line can't contain control characters: {line!r}")
    return line.encode("latin-1", "replace") + b"\r\n"


@functools.lru_cache(maxsize=8)
def server_and_date(server: str, date: str) -> bytes:
    """The two fields that every answer has, errors too: no text of a program's may prevent them."""
    return f"Server: {as_latin1(server)}\r\nDate: {as_latin1(date)}\r\n".encode("latin-1")


def as_latin1(text: str) -> str:
    """A field's value of the server's own, replaced where it can't be sent."""
    return one_line(text).encode("latin-1", "replace").decode("latin-1")


def check_field(text: str) -> None:
    """Raise :exc:`ValueError` for a header field with control characters (RFC 9110 §5.5)."""
    if _CONTROL.search(text):
        raise ValueError(f"a header field can't contain control characters: {text!r}")


def announced_length(value: Any) -> int | None:
    """What a Content-Length says; None if it is none (RFC 9110 §8.6)."""
    text = str(value).strip(" \t")
    return int(text) if _LENGTH.fullmatch(text) else None
