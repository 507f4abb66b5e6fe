"""Text from the wire, or from a program, made fit for one line: of a log, or of a response's head."""

import re
import unicodedata

__all__ = ["escaped", "one_line", "printable"]

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)}
_ESCAPES[ord("\\")] = "\\\\"
_ESCAPES[ord('"')] = '\\"'
# Everything but HTAB, SP, VCHAR and obs-text may not stand in a status line or a field (RFC 9112 §4).
_NOT_ON_A_LINE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def escaped(text: str) -> str:
    r"""The text as printable ASCII on one line, safe between double quotes.

    Control characters and all that is not ASCII become ``\xhh`` or ``\uhhhh``, as in nginx's and
    Apache's logs: a client can't forge a line, nor speak to the terminal that shows it, and every
    encoding has the characters that are left.
    """
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.translate(_ESCAPES).encode("ascii", "backslashreplace").decode("ascii")


def printable(text: str, keep: str = "") -> str:
    """The text with what can't be printed escaped; letters of all languages stay, and so does ``keep``.

    Escaped are control characters, line separators, what turns the direction of writing, surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        each
        if each.isprintable() or each in keep or unicodedata.category(each) == "Zs"
        else f"\\x{ord(each):02x}"
        if each < "\x80"
        else each.encode("ascii", "backslashreplace").decode("ascii")
        for each in text
    )


def one_line(text: str) -> str:
    """The text for a status line or a field's value: control characters become spaces."""
    return text if text.isprintable() else _NOT_ON_A_LINE.sub(" ", text)
