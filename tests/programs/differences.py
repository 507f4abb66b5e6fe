"""Which differences between the plain interpreter and ``hangup run`` are meant, and why."""

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

#: What a client sees of a server that did not respond.
NOTHING = ("no response", "closed without a response", "CannotSendRequest")
#: Counted, where less is better.
COUNTS = ("tracebacks of disconnects", "Ctrl-C, tracebacks", "SIGTERM, tracebacks")
#: Facts about the run under hangup, which have no counterpart.
FACTS = ("hangup's server", "hangup's handler", "hangup's server after the reload")
SECONDS = ("Ctrl-C, seconds", "SIGTERM, seconds")
#: Seconds that ending may take longer than under the plain interpreter.
LONGER = 2.0


class Verdict(Enum):
    BETTER = "better"
    MEANT = "meant"
    WORSE = "worse"


@dataclass(frozen=True, slots=True)
class Difference:
    """``where`` in the results ``one`` became ``other``; ``reason`` says why, if that is known."""

    where: str
    one: str
    other: str
    verdict: Verdict
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.one!r} became {self.other!r}"


FILES = "hangup's file handler has entity tags and ranges (RFC 9110 §8.8, §14)"
UNREAD = "what a handler leaves unread of a body is discarded, not taken for the next request"
NO_LENGTH = "a 204 has no Content-Length (RFC 9110 §8.6)"
#: By the program's title and the place, both as fnmatch has them; the first that fits.
MEANT: tuple[tuple[str, str, str], ...] = (
    *(
        (program, place, FILES)
        for program in ("http.server*", "uploadserver", "RangeHTTPServer", "pelican*")
        for place in ("*.accept-ranges", "*.etag", "Range.*")
    ),
    ("wsgidav*", "*uploads[[]*[]].fields.content-length", NO_LENGTH),
    ("wsgidav*", "chunked upload.fields.content-length", NO_LENGTH),
    ("hg serve", "keep-alive, uploads*", UNREAD),
)


def leaves(one: Any, other: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """The places where two results differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from leaves(one.get(key), other.get(key), f"{where}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from leaves(first, second, f"{where}[{number}]")
    elif one != other:
        yield where, one, other


def is_better(where: str, one: Any, other: Any) -> bool:
    """Whether hangup's is better beyond doubt."""
    if where in COUNTS:
        return bool(other < one)
    if where in SECONDS:
        return bool(other < one + LONGER)
    if where.endswith(".cut off"):
        return bool(one)
    if where.endswith("exit status"):
        return isinstance(one, str) and isinstance(other, int)
    if where == "idle after disconnects":
        return bool(other)
    return one in NOTHING and other not in NOTHING


def common(one: str, other: str) -> int:
    """How many characters are the same at the beginning of both."""
    pairs = zip(one, other, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def part(value: Any, start: int) -> str:
    return str(value)[start : start + 60]


def compare(title: str, plain: dict[str, Any], ours: dict[str, Any]) -> list[Difference]:
    """What differs between a program's two runs."""
    found = []
    for name in {**plain, **ours}:
        if name in FACTS:
            continue
        for where, one, other in leaves(plain.get(name), ours.get(name), name):
            start = max(0, common(str(one), str(other)) - 20)
            verdict, reason = Verdict.WORSE, ""
            if is_better(where, one, other):
                verdict = Verdict.BETTER
            elif reasons := [
                why
                for program, place, why in MEANT
                if fnmatch.fnmatchcase(title, program) and fnmatch.fnmatchcase(where, place)
            ]:
                verdict, reason = Verdict.MEANT, reasons[0]
            found.append(Difference(where, part(one, start), part(other, start), verdict, reason))
    return found
