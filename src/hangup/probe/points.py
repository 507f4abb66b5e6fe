"""The moments at which a client leaves, and how it leaves."""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from .paths import Paths
from .visitor import Visitor

__all__ = ["MANNERS", "POINTS", "Due", "Manner", "Point", "pairs"]

BODY = b"x" * 65536
#: Of each announced body, the part that is sent.
SENT = 20_000


class Manner(enum.StrEnum):
    """How a client leaves."""

    FIN = "fin"
    RST = "rst"
    HALF_CLOSE = "half-close"
    SILENCE = "silence"


MANNERS: dict[str, str] = {
    Manner.FIN: "it closes its socket",
    Manner.RST: "it resets the connection",
    Manner.HALF_CLOSE: "it says that it will send no more, and reads on",
    Manner.SILENCE: "it does nothing any more, and closes later",
}


class Due(enum.Enum):
    """What a half-closed client has a right to."""

    NOTHING = enum.auto()  # It has asked for nothing whole.
    ONE = enum.auto()
    TWO = enum.auto()


def _leave(visitor: Visitor, manner: Manner) -> None:
    match manner:
        case Manner.FIN:
            visitor.close()
        case Manner.RST:
            visitor.reset()
        case Manner.HALF_CLOSE:
            visitor.half_close()


def _say_goodbye(visitor: Visitor, manner: Manner) -> None:
    visitor.say_goodbye()


def _drop(visitor: Visitor, manner: Manner) -> None:
    visitor.drop()


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of a request.

    ``arrive`` brings a client there, and returns when it is.  ``path`` is what it asks for, by its use:
    a target that has no such path has no such point.
    """

    name: str
    title: str
    arrive: Callable[[Visitor, Paths], None]
    path: str = "plain"
    due: Due = Due.NOTHING
    #: Does a handler work meanwhile, which has to begin before the client leaves?
    works: bool = False
    #: How many requests there are, whole or in part.
    requests: int = 1
    tls: bool = False
    manners: tuple[Manner, ...] = tuple(Manner)
    leave: Callable[[Visitor, Manner], None] = _leave


def _connect(visitor: Visitor, paths: Paths) -> None:
    visitor.connect()


def _request_line(visitor: Visitor, paths: Paths) -> None:
    visitor.connect()
    visitor.send(b"GET " + paths.of("plain").encode()[:1])


def _head(visitor: Visitor, paths: Paths) -> None:
    visitor.connect()
    visitor.send(visitor.head("GET", paths.of("plain"))[:-2] + b"X-Unfinished: ye")


def _upload(visitor: Visitor, paths: Paths) -> None:
    visitor.connect()
    visitor.send(visitor.head("POST", paths.of("upload"), f"Content-Length: {len(BODY)}"))
    visitor.send(BODY[:SENT])


def _upload_chunked(visitor: Visitor, paths: Paths) -> None:
    visitor.connect()
    visitor.send(visitor.head("POST", paths.of("upload"), "Transfer-Encoding: chunked"))
    visitor.send(b"%x\r\n%s\r\n" % (SENT, BODY[:SENT]) + b"%x\r\nxx" % len(BODY))


def _waiting(visitor: Visitor, paths: Paths) -> None:
    visitor.connect()
    visitor.send(visitor.head("GET", paths.of("slow")))


def _pipelined(visitor: Visitor, paths: Paths) -> None:
    visitor.connect()
    head = visitor.head("GET", paths.of("slow"))
    visitor.send(head + visitor.head("GET", paths.of("plain")))


def _answer_head(visitor: Visitor, paths: Paths) -> None:
    visitor.connect(small=True)
    visitor.send(visitor.head("GET", paths.of("large")))
    visitor.read_head()


def _body(visitor: Visitor, paths: Paths) -> None:
    _answer_head(visitor, paths)
    visitor.read_some(100_000)


def _stream(visitor: Visitor, paths: Paths) -> None:
    visitor.connect(small=True)
    visitor.send(visitor.head("GET", paths.of("stream")))
    visitor.read_head()
    visitor.read_some(1)


def _idle(visitor: Visitor, paths: Paths) -> None:
    visitor.connect()
    visitor.send(visitor.head("GET", paths.of("plain")))
    visitor.read_answer()


def _handshake(visitor: Visitor, paths: Paths) -> None:
    visitor.connect(shake=False)
    visitor.send_raw(visitor.hello()[:100])


UPLOAD, SLOW, LARGE, STREAM = "upload", "slow", "large", "stream"

POINTS = (
    Point("connect", "after connecting", _connect, requests=0),
    Point("request-line", "in the request line", _request_line),
    Point("head", "in the head", _head),
    Point("upload", "in an upload, with a length", _upload, UPLOAD),
    Point("upload-chunked", "in an upload, chunked", _upload_chunked, UPLOAD),
    Point("waiting", "while the handler works", _waiting, SLOW, Due.ONE, works=True),
    Point("pipelined", "while it works, another request behind", _pipelined, SLOW, Due.TWO, True, 2),
    Point("answer-head", "behind the answer's head", _answer_head, LARGE, Due.ONE),
    Point("body", "in the answer's body", _body, LARGE, Due.ONE),
    Point("stream", "in a stream", _stream, STREAM, Due.ONE),
    Point("idle", "between requests, kept alive", _idle),
    Point("handshake", "in the TLS handshake", _handshake, requests=0, tls=True),
    Point(
        "goodbye",
        "TLS: close_notify alone, reading on",
        _waiting,
        SLOW,
        Due.ONE,
        works=True,
        tls=True,
        manners=(Manner.HALF_CLOSE,),
        leave=_say_goodbye,
    ),
    Point(
        "truncation",
        "TLS: FIN without close_notify",
        _waiting,
        SLOW,
        works=True,
        tls=True,
        manners=(Manner.FIN,),
        leave=_drop,
    ),
)


def pairs() -> list[tuple[Point, Manner]]:
    """All cells, in their order."""
    return [(point, manner) for point in POINTS for manner in point.manners]
