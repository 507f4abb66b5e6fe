"""What a request's fields are called in an environ (RFC 3875 §4.1.18; PEP 3333)."""

__all__ = ["SINGLE", "cgi_key"]

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
