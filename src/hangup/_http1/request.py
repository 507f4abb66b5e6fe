"""A request's head, as its readers know it (RFC 9112 §2 to §5)."""

from collections.abc import Iterable

from .field_names import TOKEN

__all__ = ["CHUNKED", "Request", "unfinished", "unparsed"]

#: The ``Request.length`` of a chunked body.
CHUNKED = -1
# Of a request line that is no request's, so much is kept.
_LONG = 2048
# Behind an answer to these comes no body, or no request.
_ODD_METHODS = ("HEAD", "CONNECT")


class Request:
    """A request's head.  ``head`` is the head as it was sent.

    ``cgi`` is its fields as an environ has them (RFC 3875 §4.1.18), by the parser that makes it on its
    way; None where nobody has made it.  ``length`` is the body's length in bytes, 0 for none, or
    :data:`CHUNKED`; ``keep_alive`` is what the client asked for or the version implies (RFC 9112 §9.3).
    """

    __slots__ = (
        "_items",
        "cgi",
        "expects_continue",
        "head",
        "keep_alive",
        "length",
        "method",
        "protocol",
        "target",
        "upgrade",
    )

    def __init__(
        self,
        head: bytes,
        method: str,
        target: str,
        protocol: str,
        items: tuple[tuple[str, str], ...] | None = (),
        cgi: dict[str, str] | None = None,
        length: int = 0,
        keep_alive: bool = False,  # noqa: FBT001, FBT002 - keywords take longer
        *,
        expects_continue: bool = False,
        upgrade: bool = False,
    ) -> None:
        self.head = head
        self.method = method
        self.target = target
        self.protocol = protocol
        self._items = items
        self.cgi = cgi
        self.length = length
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.upgrade = upgrade

    @property
    def items(self) -> tuple[tuple[str, str], ...]:
        """The fields in their order, as latin-1 text, names as they were sent.

        Of a plain head they are found when somebody asks: its lines have been looked at.
        """
        items = self._items
        if items is None:
            lines = self.head.decode("ascii").split("\r\n")
            pairs = [line.split(":", 1) for line in lines[1:-2]]
            self._items = items = tuple([(name, value.strip()) for name, value in pairs])
        return items

    @property
    def keeps_plainly(self) -> bool:
        """Whether its answer need not say that the connection stays, and may have a body."""
        return (
            self.keep_alive
            and not self.expects_continue
            and self.protocol == "HTTP/1.1"
            and self.method not in _ODD_METHODS
        )

    def with_items(self, items: Iterable[tuple[str, str]], head: bytes | None = None) -> "Request":
        """The same request with other fields; what they say of its body and connection stays."""
        return Request(
            self.head if head is None else head,
            self.method,
            self.target,
            self.protocol,
            tuple(items),
            None,
            self.length,
            self.keep_alive,
            expects_continue=self.expects_continue,
            upgrade=self.upgrade,
        )


def unparsed(head: bytes, method: str = "", target: str = "", protocol: str = "") -> Request:
    """A request of which only so much is known, for its record."""
    return Request(head, method, target, protocol)


def unfinished(received: bytes) -> Request:
    """A request that has not all come, or that is refused: its line, as far as it came, for its record.

    What is no request line is the target alone, without a method.
    """
    line = received.lstrip(b"\r\n")[:_LONG].partition(b"\n")[0].removesuffix(b"\r").decode("latin-1")
    words = line.split(" ", 2)
    if not TOKEN.fullmatch(words[0]):
        return Request(received, "", line, "")
    method, target, protocol = [*words, "", ""][:3]
    return Request(received, method, target, protocol)
