"""The short way from a request head's bytes to a :class:`Request`: for the heads that nearly all are.

Browsers, libraries and proxies write heads in one plain manner: printable ASCII, no name twice, a path
for a target.  Such a head takes one check of all its bytes, one cut into lines, and for each line a cut
and a look for its name, where a parser would call back.  A head of which one thing is different, however
harmless, is not judged here: :func:`plain_request` returns None, and llhttp is asked
(``request_head``).  So this could be wrong only by accepting, and a test holds each head that it
accepts against llhttp.
"""

import re

from .field_names import TOKEN, cgi_key
from .request import Request

__all__ = ["plain_request"]

_VISIBLE = bytes(range(0x20, 0x7F))
#: What is left of a head without its visible characters, by its number of lines.
_LINE_ENDS = [b"\r\n" * count for count in range(130)]
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
#: Connection fields, by version, and whether the connection stays; None: no such field.
_STAYS = {
    "HTTP/1.1": {None: True, "keep-alive": True, "Keep-Alive": True, "close": False},
    "HTTP/1.0": {None: False, "keep-alive": True, "Keep-Alive": True, "close": False},
}
_is_plain_host = re.compile(
    r"[A-Za-z0-9.\-]+(?::(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?"
).fullmatch
_MANY_DIGITS = 16
# Fields that say more than an environ does: who meets one takes the long way.
_SPEAKING = frozenset(("EXPECT", "UPGRADE"))
#: How many names are remembered, and up to which length: nobody means a longer one, and it would stay.
REMEMBERED = 1024
_LONG_NAME = 64


#: :func:`cgi_key` by the LF before a name and the name as it was sent, of plain fields that have come.
#: All threads share it.  Of these only single operations are used, each atomic, and each entry is right
#: for ever.
_keys: dict[str, str] = {}


def _learn(begin: str) -> str:
    """The key of a field that is not known yet.

    Of one that means no more than it says: raises :exc:`KeyError` for all others, for what an environ
    leaves out, for what is no token, and without the LF.
    """
    name = begin[1:]
    if begin[:1] != "\n" or not TOKEN.fullmatch(name) or name.upper() in _SPEAKING:
        raise KeyError(begin)
    key = cgi_key(name)
    if not key:
        raise KeyError(begin)
    if len(name) <= _LONG_NAME:
        if len(_keys) >= REMEMBERED:
            _keys.clear()
        _keys[begin] = key
    return key


def plain_request(head: bytes, max_line: int, max_request_fields: int) -> Request | None:
    """The request that a head says; None if it is not plain, or not one head alone.

    ``head`` ends in CRLF CRLF.  ``max_line`` and ``max_request_fields`` are the server's limits; what
    exceeds one is not judged here either.

    Its control characters are CR and LF in turn.  It is cut at each CR, so a line that begins with its
    LF is one that the CRLF before it ended; all others begin like no name that is known.
    """
    rest = head.translate(None, _VISIBLE)
    count = len(rest) // 2
    if count > max_request_fields + 2 or count >= len(_LINE_ENDS) or rest != _LINE_ENDS[count]:
        return None
    lines = head.decode("ascii").split("\r")
    cgi = {}
    keys = _keys
    try:
        method, target, version = lines[0].split(" ")
        for line in lines[1:-2]:
            name, value = line.split(":", 1)
            try:
                key = keys[name]
            except KeyError:
                key = _learn(name)
            cgi[key] = value.strip()  # There is no white space but spaces.
        keep_alive = _STAYS[version][cgi.get("HTTP_CONNECTION")]
    except (KeyError, ValueError):
        return None
    if (
        len(cgi) != count - 2  # a name that came twice
        or method not in _METHODS
        or target[:1] != "/"
        or "#" in target
        or len(lines[0]) + 2 > max_line
        or not _is_plain_host(cgi.get("HTTP_HOST", ""))
    ):
        return None
    length = 0
    if "CONTENT_LENGTH" in cgi:
        digits = cgi["CONTENT_LENGTH"]
        if not digits.isdigit() or len(digits) > _MANY_DIGITS:
            return None
        length = int(digits)
    return Request(head, method, target, version, None, cgi, length, keep_alive)
