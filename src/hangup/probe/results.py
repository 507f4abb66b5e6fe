"""What a run of the probe found: one :class:`Cell` for each point and manner, and all of it as JSON.

Everything else reads these: the screen, the page, the comparison, and whoever keeps ``--json`` files.
"""

import dataclasses
import enum
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from .exceptions import ProbeError

__all__ = ["Cell", "Evidence", "Fault", "Run", "Totals", "Usage", "Verdict", "load"]

FORMAT = 1


class Verdict(enum.StrEnum):
    """What a server is to be blamed for in a cell, from nothing to the worst."""

    SKIPPED = "skipped"
    CLEAN = "clean"
    UNSERVED = "unserved"
    NOISY = "noisy"
    LEAKS = "leaks"
    WEDGED = "wedged"
    CRASHED = "crashed"


class Fault(enum.StrEnum):
    """What ``--fail-on`` can name.  ``WASTED`` alone leaves a cell clean: it is a cost, and no error."""

    TRACEBACK = "traceback"
    NOISE = "noise"
    LEAK = "leak"
    WEDGED = "wedged"
    CRASHED = "crashed"
    UNSERVED = "unserved"
    WASTED = "wasted"


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a process tree holds; ``memory`` in bytes, resident."""

    processes: int
    descriptors: int
    threads: int
    memory: int
    close_wait: int


@dataclasses.dataclass(slots=True)
class Evidence:
    """What was seen in a cell.  None is what could not be seen."""

    #: Seconds that a healthy client waited for its answer right behind the departures, and when all was
    #: quiet again; None if no answer came.
    healthy_at_once: float | None = None
    healthy_after: float | None = None
    #: Of the log: tracebacks, lines over and above those of healthy requests, and the lines themselves.
    tracebacks: int | None = None
    lines: int | None = None
    log: list[str] = dataclasses.field(default_factory=list)
    #: A line that says that a client left: 499, or in words.
    accounted: str | None = None
    #: Before, and when all was quiet again.
    before: Usage | None = None
    after: Usage | None = None
    #: How often a process ended, or the server was started again.
    restarts: int | None = None
    #: With the ready-made target: how many handlers began for who left, were told so, and stopped early,
    #: and the seconds that they worked for nobody.
    began: int | None = None
    told: int | None = None
    stopped: int | None = None
    wasted: float | None = None
    #: Whether each half-closed client got all that was due; None where nothing was.
    served: bool | None = None
    #: What each half-closed or silent client saw, in words.
    seen: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class Cell:
    """How a server took it that clients left at one point, in one manner."""

    point: str
    manner: str
    verdict: Verdict
    #: Each a sentence: the verdict's reasons, worst first, or why the cell was skipped.
    why: list[str] = dataclasses.field(default_factory=list)
    faults: list[Fault] = dataclasses.field(default_factory=list)
    #: How many clients left.
    departures: int = 0
    evidence: Evidence = dataclasses.field(default_factory=Evidence)
    #: What the server kept of them, and of as many in the trials that confirmed it, by name.
    leaked: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """``point/manner``, as ``--only`` takes it."""
        return f"{self.point}/{self.manner}"


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the cells of a run that were not skipped; None where nothing could be counted."""

    cells: int
    departures: int
    tracebacks: int | None
    lines: int | None
    wasted: float | None
    verdicts: dict[Verdict, int]


@dataclasses.dataclass(slots=True)
class Run:
    """One run against one server."""

    #: What to call the server, and where it was: a URL, or the command.
    title: str
    target: str
    #: When it began (ISO 8601), how many seconds it took, and how many clients left in each cell.
    began: str
    seconds: float
    repeat: int
    cells: list[Cell] = dataclasses.field(default_factory=list)
    #: What was asked for, by its use: plain, slow, large, stream, upload.
    paths: dict[str, str] = dataclasses.field(default_factory=dict)
    #: What the reader should know of this run, in sentences.
    notes: list[str] = dataclasses.field(default_factory=list)
    #: The probe's.
    version: str = ""

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    def cell(self, point: str, manner: str) -> Cell | None:
        """The cell, if the run has it."""
        return next((c for c in self.cells if (c.point, c.manner) == (point, manner)), None)

    @property
    def tried(self) -> list[Cell]:
        """The cells that were not skipped."""
        return [cell for cell in self.cells if cell.verdict is not Verdict.SKIPPED]

    @property
    def totals(self) -> Totals:
        """Their sums."""
        tried = self.tried
        evidence = [cell.evidence for cell in tried]
        counts = [cell.verdict for cell in self.cells]
        return Totals(
            cells=len(tried),
            departures=sum(cell.departures for cell in tried),
            tracebacks=_sum(each.tracebacks for each in evidence),
            lines=_sum(each.lines for each in evidence),
            wasted=_sum(each.wasted for each in evidence),
            verdicts={verdict: counts.count(verdict) for verdict in Verdict if verdict in counts},
        )

    def to_json(self) -> str:
        """The whole run, for a file."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The run that :meth:`to_json` wrote.  Raises ValueError for any other text."""
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise ValueError("another version of hangup wrote it")
            cells = [_cell(each) for each in data.pop("cells")]
            return cls(cells=cells, **data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is no report of hangup probe ({error})") from None


def load(path: str) -> Run:
    """The run that was kept in a file.  Raises :exc:`ProbeError` if there is none in it."""
    try:
        return Run.from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ProbeError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ProbeError(f"{path} is not what --json writes: {error}") from None


def _cell(data: dict[str, Any]) -> Cell:
    evidence = data.pop("evidence")
    for key in ("before", "after"):
        if evidence[key] is not None:
            evidence[key] = Usage(**evidence[key])
    return Cell(
        **{
            **data,
            "verdict": Verdict(data["verdict"]),
            "faults": [Fault(each) for each in data["faults"]],
            "evidence": Evidence(**evidence),
        }
    )


def _sum(values: Iterator[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
