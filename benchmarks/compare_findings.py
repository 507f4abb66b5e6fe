"""What ``compare.py`` found in a run: figures of it, and sentences about it, all of them computed."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from compare_servers import Server
from hangup.probe.results import Cell, Fault, Run, Verdict
from hangup.probe.words import NONE, per_departure, seconds

LEAVING = ("fin", "rst")
#: Points at which there is a request to account for.
REQUESTS = ("upload", "upload-chunked", "waiting", "pipelined", "answer-head", "body", "stream")
VERDICTS = {
    Verdict.NOISY: "Noisy",
    Verdict.UNSERVED: "Half-closed clients not served",
    Verdict.LEAKS: "Kept what it should have given back",
    Verdict.WEDGED: "Others had no answer, or not in time",
    Verdict.CRASHED: "A process ended",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A server, its version, and its run or why there is none."""

    server: Server
    version: str
    result: Run | str

    @property
    def run(self) -> Run:
        assert isinstance(self.result, Run)
        return self.result


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    part: int
    whole: int

    def __str__(self) -> str:
        return f"{self.part} of {self.whole}" if self.whole else NONE


def cells(run: Run, points: Iterable[str], manners: Iterable[str] = LEAVING) -> list[Cell]:
    return [cell for cell in run.tried if cell.point in points and cell.manner in manners]


def told(run: Run) -> Share:
    """Handlers that were told while they worked, of those whose client left then."""
    of = [cell.evidence for cell in cells(run, ["waiting"])]
    return Share(sum(each.told or 0 for each in of), sum(each.began or 0 for each in of))


def stopped(run: Run) -> Share:
    """Streams that ended early, of those whose client left."""
    of = [cell.evidence for cell in cells(run, ["stream"])]
    return Share(sum(each.stopped or 0 for each in of), sum(each.began or 0 for each in of))


def wasted(run: Run, point: str) -> float | None:
    """Seconds worked for nobody at a point, for each client that left there."""
    of = cells(run, [point])
    departures = sum(cell.departures for cell in of)
    return sum(cell.evidence.wasted or 0.0 for cell in of) / departures if departures else None


def served(run: Run) -> Share:
    """Cells in which half-closed clients got what they were due."""
    due = [cell.evidence.served for cell in run.tried if cell.evidence.served is not None]
    return Share(sum(due), len(due))


def accounted(run: Run) -> Share:
    """Cells in which a line says that a client left, and is no part of a traceback."""
    of = cells(run, REQUESTS)
    quiet = [cell for cell in of if cell.evidence.accounted and not cell.evidence.tracebacks]
    return Share(len(quiet), len(of))


def slowest(run: Run) -> float | None:
    """The longest that a healthy client waited right behind departures."""
    waits = [cell.evidence.healthy_at_once for cell in run.tried]
    return max((each for each in waits if each is not None), default=None)


def places(of: Iterable[Cell]) -> str:
    """``waiting (fin, rst), stream (rst)``."""
    manners: dict[str, list[str]] = {}
    for cell in of:
        manners.setdefault(cell.point, []).append(cell.manner)
    return ", ".join(f"{point} ({', '.join(those)})" for point, those in manners.items())


# -- a paragraph for each


def paragraph(found: Found) -> str:
    """All that is to be said of a server."""
    run = found.run
    parts = (verdicts(run), errors(run), knowing(run), halves(run), accounts(run), healthy(run))
    return " ".join(part for part in parts if part)


def verdicts(run: Run) -> str:
    clean = sum(cell.verdict is Verdict.CLEAN for cell in run.tried)
    if clean == len(run.tried):
        return f"All {clean} cells are clean."
    said = [f"{clean} of {len(run.tried)} cells are clean."]
    for verdict, words in VERDICTS.items():
        if of := [cell for cell in run.tried if cell.verdict is verdict]:
            said.append(f"{words}: {places(of)}.")
    return " ".join(said)


def errors(run: Run) -> str:
    """Which uncaught errors there were, by their last lines."""
    number = run.totals.tracebacks
    if not number:
        return "" if number is None else "No traceback."
    kinds: dict[str, None] = {}
    for cell in run.tried:
        for line in cell.evidence.log if cell.evidence.tracebacks else ():
            if match := re.match(r"([A-Za-z_][\w.]*(?:Error|Exception|Disconnected))\b(?=:|$)", line):
                kinds[match.group(1)] = None
    named = f" ({', '.join(f'`{kind}`' for kind in kinds)})" if kinds else ""
    return f"{number} tracebacks of {run.totals.departures} departures{named}."


def knowing(run: Run) -> str:
    share, streams, wait = told(run), stopped(run), wasted(run, "waiting")
    if not share.whole or wait is None:
        return ""
    if share.part:
        knew = f"Handlers at work were told in {share} cases,"
    else:
        knew = f"None of {share.whole} handlers at work was told,"
    said = f"{knew} and worked on for {seconds(wait)} each, on average."
    stream = wasted(run, "stream")
    if stream is not None:
        said += f" Of streams, {streams} ended early; they went on for {seconds(stream)} each."
    return said


def halves(run: Run) -> str:
    share = served(run)
    if share.part == share.whole:
        return f"Half-closed clients got what they were due in all {share.whole} cells."
    left_out = [cell for cell in run.tried if cell.evidence.served is False]
    points = ", ".join(cell.point for cell in left_out)
    return f"Half-closed clients got what they were due in {share} cells; not in {points}."


def accounts(run: Run) -> str:
    share = accounted(run)
    if not share.part:
        return f"No line of its log says that a client left, in {share.whole} cells."
    of = [cell for cell in cells(run, REQUESTS) if not cell.evidence.tracebacks]
    lines = [cell.evidence.accounted for cell in of if cell.evidence.accounted]
    number = sum(bool(re.search(r"\b499\b", line)) for line in lines)
    how = "with 499" if number == len(lines) else f"with 499 in {number}, else in words"
    how = how if number else "in words"
    return f"A line of its log says that a client left in {share} cells, {how}."


def healthy(run: Run) -> str:
    longest = slowest(run)
    if longest is None:
        return ""
    return f"A healthy client right behind them waited {seconds(longest)} at the most."


# -- where others do better


@dataclass(frozen=True, slots=True)
class Figure:
    """Something in which less is better, and by how much before it counts."""

    words: str
    value: Callable[[Run], float | None]
    least: float
    shown: Callable[[float], str]


def _number(value: float) -> str:
    return f"{value:g}"


def not_served(run: Run) -> float | None:
    share = served(run)
    return float(share.whole - share.part)


def not_accounted(run: Run) -> float | None:
    share = accounted(run)
    return float(share.whole - share.part)


def not_told(run: Run) -> float | None:
    share = told(run)
    return float(share.whole - share.part)


def tracebacks(run: Run) -> float | None:
    return run.totals.tracebacks


FIGURES = (
    Figure("Fewer tracebacks", tracebacks, 1, _number),
    Figure("Fewer log lines for each departure", per_departure, 0.05, "{:.2f}".format),
    Figure("Fewer seconds worked for nobody in all", lambda run: run.totals.wasted, 0.05, seconds),
    Figure("A handler at work ends sooner", lambda run: wasted(run, "waiting"), 0.01, seconds),
    Figure("A stream ends sooner", lambda run: wasted(run, "stream"), 0.01, seconds),
    Figure(
        "A long answer, left in its midst, ends sooner", lambda run: wasted(run, "body"), 0.01, seconds
    ),
    Figure("Fewer handlers at work that were not told", not_told, 1, _number),
    Figure("Fewer cells in which half-closed clients were not served", not_served, 1, _number),
    Figure("Fewer cells in which no line says that a client left", not_accounted, 1, _number),
    Figure("A healthy client right behind them waits less", slowest, 0.05, seconds),
)


def better(found: list[Found]) -> list[str]:
    """Each figure and each cell in which any other server does better than any door of hangup's."""
    ours = [each for each in found if each.server.ours and not each.server.url]
    others = [each for each in found if not each.server.ours]
    if not ours or not others:
        return []
    return [
        *filter(None, (better_figure(figure, ours, others) for figure in FIGURES)),
        *better_cells(ours, others),
    ]


def better_figure(figure: Figure, ours: list[Found], others: list[Found]) -> str:
    values = {each.server.title: value for each in ours if (value := figure.value(each.run)) is not None}
    worst = max(values.values(), default=0.0)
    ahead = {
        each.server.title: value
        for each in others
        if (value := figure.value(each.run)) is not None and value <= worst - figure.least
    }
    if not ahead:
        return ""
    return f"{figure.words}: {_listed(figure, ahead)}. Ours: {_listed(figure, values)}."


def _listed(figure: Figure, values: dict[str, float]) -> str:
    ordered = sorted(values.items(), key=lambda each: each[1])
    return "; ".join(f"{title} {figure.shown(value)}" for title, value in ordered)


def better_cells(ours: list[Found], others: list[Found]) -> list[str]:
    """Cells in which a door of hangup's is not clean, and another server is."""
    lines = []
    for door in ours:
        for cell in door.run.tried:
            if cell.verdict is Verdict.CLEAN and Fault.WASTED not in cell.faults:
                continue
            rivals = [each.server.title for each in others if is_better(cell, each.run)]
            if rivals:
                what = (
                    cell.verdict if cell.verdict is not Verdict.CLEAN else "clean, with seconds wasted"
                )
                lines.append(
                    f"{door.server.title} is {what} in {cell.name}; clean: {', '.join(rivals)}."
                )
    return lines


def is_better(cell: Cell, run: Run) -> bool:
    other = run.cell(cell.point, cell.manner)
    return other is not None and other.verdict is Verdict.CLEAN and Fault.WASTED not in other.faults
