"""What header fields are called: in lower case, and in an environ (RFC 3875 §4.1.18; PEP 3333)."""

import re

from .cache import Remembered

__all__ = ["SINGLE", "TOKEN", "cgi_key", "field_names"]

#: A name, or a method (RFC 9110 §5.6.2).
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: Fields that have names of their own in CGI, and one value.
SINGLE = frozenset(("CONTENT_TYPE", "CONTENT_LENGTH"))
# HTTP_PROXY is a setting to the libraries of a program that is run with this environment: "httpoxy",
# CVE-2016-5385.  Transfer-Encoding says how the body was sent, which is decoded here: whoever decodes it
# removes the field (RFC 9112 §7.1.3), or the application decodes once more.
_NEVER = frozenset(("PROXY", "TRANSFER_ENCODING"))


def cgi_key(name: str, *, underscores: bool = False) -> str:
    """What a field is called in an environ; ``""`` for one that is left out.

    A name with an underscore is left out, since it would pass for another's, with a dash; unless it is
    asked for.
    """
    if "_" in name:
        # Never a name of CGI's own: `Content_Length` says nothing of the body.
        return "HTTP_" + name.upper().replace("-", "_") if underscores else ""
    key = name.upper().replace("-", "_")
    if key in _NEVER:
        return ""
    return key if key in SINGLE else "HTTP_" + key


def _lower(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a header field's name is a str, not {name!r}")
    if not TOKEN.fullmatch(name):
        raise ValueError(f"a header field's name is a token (RFC 9110 §5.1): {name!r}")
    return name.lower()


#: Names of fields in lower case, by what a program writes.  Raises :exc:`ValueError` for what is no
#: token, :exc:`TypeError` for what is no text.
field_names = Remembered(_lower, 256)
