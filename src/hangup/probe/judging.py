"""From what was seen to a verdict, with its reasons."""

import dataclasses

from .points import Point
from .results import Cell, Evidence, Fault, Verdict
from .trial import Sight

__all__ = ["Leak", "growth", "judge"]

#: What a fault makes of a cell, worst first.
_VERDICTS = {
    Fault.CRASHED: Verdict.CRASHED,
    Fault.WEDGED: Verdict.WEDGED,
    Fault.LEAK: Verdict.LEAKS,
    Fault.TRACEBACK: Verdict.NOISY,
    Fault.NOISE: Verdict.NOISY,
    Fault.UNSERVED: Verdict.UNSERVED,
}
#: Seconds worked for nobody that are no waste: a server may take as long to notice.
_NOTICED = 0.1
_PLURALS = {"traceback": "tracebacks", "line of log": "lines of log"}


def growth(evidence: Evidence) -> dict[str, int]:
    """By how much a server's processes hold more than before, of what they should have given back."""
    before, after = evidence.before, evidence.after
    if before is None or after is None or after.processes != before.processes:
        return {}
    grown = {
        "descriptors": after.descriptors - before.descriptors,
        "threads": after.threads - before.threads,
        "sockets in CLOSE_WAIT": after.close_wait - before.close_wait,
    }
    return {name: number for name, number in grown.items() if number > 0}


@dataclasses.dataclass(slots=True)
class Leak:
    """What a server was found to keep, by name, of how many clients that left."""

    kept: dict[str, int] = dataclasses.field(default_factory=dict)
    departures: int = 0


def judge(point: Point, manner: str, sight: Sight, leak: Leak, lines_each: float) -> Cell:
    """A cell's verdict."""
    cell = Cell(point.name, manner, Verdict.CLEAN, departures=sight.departures, evidence=sight.evidence)
    evidence = sight.evidence
    found: dict[Fault, str] = {}
    if sight.lost is not None:
        found[Fault.CRASHED] = sight.lost
    elif evidence.healthy_after is None:
        found[Fault.WEDGED] = "behind the departures a healthy client had no answer"
    elif sight.held_up:
        held = (
            "while a silent client was there" if manner == "silence" else "right behind the departures"
        )
        found[Fault.WEDGED] = f"{held}, a healthy client had no answer; later it had one"
    elif leak.kept:
        cell.leaked = leak.kept
        found[Fault.LEAK] = "; ".join(
            f"{name}: {number} more after {_departures(leak.departures)}"
            for name, number in leak.kept.items()
        )
    if evidence.tracebacks:
        found[Fault.TRACEBACK] = _counted(evidence.tracebacks, "traceback", cell.departures)
    elif evidence.lines and evidence.lines > _lines_allowed(point, cell.departures, lines_each):
        found[Fault.NOISE] = _counted(evidence.lines, "line of log", cell.departures)
    if evidence.served is False and not {Fault.CRASHED, Fault.WEDGED} & set(found):
        found[Fault.UNSERVED] = "a half-closed client did not get what it was due"
    ranked = [fault for fault in _VERDICTS if fault in found]
    if ranked:
        cell.verdict = _VERDICTS[ranked[0]]
        cell.why = [found[fault][0].upper() + found[fault][1:] for fault in ranked]
    cell.faults = ranked
    if evidence.wasted and evidence.wasted > _NOTICED * max(1, cell.departures):
        cell.faults.append(Fault.WASTED)
    return cell


def _lines_allowed(point: Point, departures: int, lines_each: float) -> float:
    """As many lines as a log has for such requests, and one more for each client that left."""
    return departures * (max(1, point.requests) * max(1.0, lines_each) + 1)


def _counted(number: int, what: str, departures: int) -> str:
    things = what if number == 1 else _PLURALS[what]
    return f"{number} {things} for {_departures(departures)}"


def _departures(number: int) -> str:
    return f"{number} departure{'' if number == 1 else 's'}"
