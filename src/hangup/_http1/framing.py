"""How a response is framed: how its client knows the body's end, and whether a request may follow.

Decided here, once, without I/O, for all front ends (RFC 9112 §6 and §9).  The short way of
``wsgi/response.py`` is checked against this by ``tests/test_framing.py``.
"""

from typing import NamedTuple

__all__ = ["BODILESS", "CHUNKED", "NO_BODY", "TUNNEL", "UNTIL_CLOSE", "Framing", "frame_response"]

#: What delimits a body, where it is not a number of bytes.
CHUNKED, UNTIL_CLOSE, NO_BODY, TUNNEL = -2, -3, -4, -5
#: The statuses whose responses end with their header section, whatever it says (RFC 9110 §6.4.1).
BODILESS = frozenset((204, 304))

_NOTHING: tuple[str, ...] = ()
_CODING = ("transfer-encoding",)
_BOTH = ("content-length", "transfer-encoding")


class Framing(NamedTuple):
    """How one response is framed.

    ``body`` is the number of bytes that the body has, :data:`CHUNKED`, :data:`UNTIL_CLOSE`,
    :data:`NO_BODY`, or :data:`TUNNEL`: what follows is no HTTP.  ``persists`` says whether another
    request may follow.  ``body_line`` and ``connection_line`` are to be added to the header section, and
    the fields in ``dropped``, by their names in lower case, are to be left out of it.
    """

    body: int
    persists: bool
    body_line: bytes
    connection_line: bytes
    dropped: tuple[str, ...]


def frame_response(
    method: str,
    protocol: str,
    status: int,
    length: int | None,
    *,
    persists: bool,
    known_length: int | None = None,
    may_chunk: bool = False,
) -> Framing:
    """Frame the final response to a request of that method and protocol.

    ``length`` is what the response says of its body: a number of bytes, :data:`CHUNKED`, or None.
    ``known_length`` is how long the body is, where that is known without its saying so.  ``may_chunk``
    says whether a body of unknown length may be sent in chunks: whoever writes them asks for it.
    ``persists`` says whether client, application and server agree that another request may follow.
    """
    modern = protocol >= "HTTP/1.1"  # as text: "", HTTP/0.9 and HTTP/1.0 come before it
    body_line, dropped = b"", _NOTHING
    if method == "CONNECT":
        persists = False  # What follows is meant for a tunnel, or may be.
    if method == "CONNECT" and status < 300:
        body, dropped = TUNNEL, _BOTH  # RFC 9110 §9.3.6
    elif status in BODILESS:
        body = NO_BODY
        if status == 204 and length is not None:
            dropped = _BOTH  # RFC 9110 §8.6, RFC 9112 §6.1
        elif length == CHUNKED:
            dropped = _CODING  # Python's http.client, for one, would wait for the chunks of a 304.
    elif method == "HEAD":
        body = NO_BODY
        if known_length and length is None:  # An empty body says nothing of what GET would have.
            body_line = b"Content-Length: %d\r\n" % known_length
        elif length == CHUNKED and not modern:
            dropped = _CODING  # RFC 9112 §6.1
    elif length == CHUNKED:
        body = CHUNKED
        if not modern:  # RFC 9112 §6.1: its client knows no chunks.
            body, dropped, persists = UNTIL_CLOSE, _CODING, False
    elif length is not None:
        body = length
    elif known_length is not None:
        body = known_length
        body_line = b"Content-Length: %d\r\n" % known_length
    elif may_chunk and modern:
        body = CHUNKED
        body_line = b"Transfer-Encoding: chunked\r\n"
    else:
        body, persists = UNTIL_CLOSE, False  # RFC 9112 §6.3
    if not persists:
        connection_line = b"Connection: close\r\n"
    else:
        connection_line = b"" if modern else b"Connection: keep-alive\r\n"  # RFC 9112 §9.3
    return Framing(body, persists, body_line, connection_line, dropped)
