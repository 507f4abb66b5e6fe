"""The server's own answers, and the date that every answer has."""

import functools
import time

from .escape import one_line

__all__ = ["http_date", "plain_response"]

# A reason phrase is for people, and clients limit the length of a line; the body has all of it.
_LONG_PHRASE = 200
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@functools.lru_cache(maxsize=2)
def http_date(second: int) -> str:
    """The Date of a whole second (RFC 9110 §5.6.7); formatting it costs more than all else in a head."""
    at = time.gmtime(second)
    return (
        f"{_WEEKDAYS[at.tm_wday]}, {at.tm_mday:02} {_MONTHS[at.tm_mon - 1]}"
        f" {at.tm_year} {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} GMT"
    )


def plain_response(status: int, reason: str, *fields: str) -> tuple[bytes, bytes]:
    """Head and body of a complete answer in plain text, after which the connection closes.

    Whatever is in ``reason`` and ``fields``, it is one answer: control characters become spaces.
    """
    reason = one_line(reason)
    body = f"{status} {reason}\n".encode("latin-1", "replace")
    lines = (
        f"HTTP/1.1 {status} {reason[:_LONG_PHRASE]}",
        f"Date: {http_date(int(time.time()))}",  # RFC 9110 §6.6.1
        "Content-Type: text/plain; charset=iso-8859-1",
        f"Content-Length: {len(body)}",
        *map(one_line, fields),
        "Connection: close\r\n\r\n",
    )
    return "\r\n".join(lines).encode("latin-1", "replace"), body
