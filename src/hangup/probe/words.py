"""The words and signs for what was found, as the screen, the page and the comparison have them."""

from collections.abc import Iterable

from .points import MANNERS, POINTS
from .results import Cell, Fault, Run, Verdict

__all__ = [
    "NONE", "SYMBOLS", "TITLES",
    "counted", "leads", "manners_of", "per_departure", "plain", "seconds", "short",
]  # fmt: skip

#: Where there is no such cell, or no such figure.
NONE = "\N{EN DASH}"
#: Verdicts are told apart without their colours, too.
SYMBOLS = {
    Verdict.CLEAN: "\N{CHECK MARK}",
    Verdict.UNSERVED: "\N{EMPTY SET}",
    Verdict.NOISY: "!",
    Verdict.LEAKS: "+",
    Verdict.WEDGED: "\N{DOUBLE VERTICAL LINE}",
    Verdict.CRASHED: "\N{MULTIPLICATION SIGN}",
    Verdict.SKIPPED: "\N{WHITE CIRCLE}",
}
#: Points in words, by name.
TITLES = {point.name: point.title for point in POINTS}
#: Where the pictures of the first 32 control characters begin in Unicode.
_PICTURES = 0x2400


def plain(text: str) -> str:
    """The text, with all that a terminal or a browser might obey made visible instead."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else _picture(ord(letter)) for letter in text
    )


def _picture(code: int) -> str:
    return chr(_PICTURES + code) if code < 0x20 else f"<U+{code:04X}>"


def seconds(value: float) -> str:
    """A duration, with as many digits as matter."""
    if 0 < value < 0.001:
        return "under 1 ms"
    if value < 0.0995:
        return f"{value * 1000:.0f} ms" if value else "0 s"
    if value < 59.95:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def counted(number: int, what: str) -> str:
    """``3 tracebacks``, ``1 traceback``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def short(cell: Cell) -> str:
    """A cell's reason in two or three words; empty where the verdict says all."""
    evidence = cell.evidence
    match cell.verdict:
        case Verdict.NOISY if evidence.tracebacks:
            return counted(evidence.tracebacks, "traceback")
        case Verdict.NOISY:
            return counted(evidence.lines or 0, "log line")
        case Verdict.LEAKS:
            return ", ".join(
                f"+{number} {name.removeprefix('sockets in ')}" for name, number in cell.leaked.items()
            )
        case Verdict.WEDGED:
            return "no answer" if evidence.healthy_after is None else "held up"
        case Verdict.CRASHED:
            return "process ended"
        case Verdict.UNSERVED:
            return "not answered"
        case Verdict.CLEAN if Fault.WASTED in cell.faults and evidence.wasted:
            return f"{seconds(evidence.wasted)} wasted"
    return ""


def leads(cell: Cell) -> str:
    """Where and how clients left in this cell, in words."""
    return f"{TITLES.get(cell.point, cell.point)}; {MANNERS.get(cell.manner, cell.manner)}"


def manners_of(cells: Iterable[Cell]) -> list[str]:
    """The columns for these cells: all manners that there are, and such as another version had."""
    return [*MANNERS, *sorted({cell.manner for cell in cells} - set(MANNERS))]


def per_departure(run: Run) -> float | None:
    """Lines of the log for each client that left; None if the log was not seen."""
    totals = run.totals
    return totals.lines / totals.departures if totals.lines is not None and totals.departures else None
