"""Two runs or more side by side: on a terminal, and as Markdown for documentation."""

import re
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .points import pairs
from .results import Cell, Run, Verdict
from .screen import word
from .words import NONE, counted, per_departure, plain, seconds, short

__all__ = ["compare_as_markdown", "compare_on_screen"]

_Place = tuple[str, str]
#: What a Markdown table would take for its own.
_MARKUP = re.compile(r"([\\`*_\[\]<>|~#&])")


def compare_on_screen(runs: list[Run], console: Console) -> None:
    """Print the cells in which the runs differ, or that are not clean, and the totals."""
    places = _places(runs)
    telling = [place for place in places if _tells(runs, place)]
    console.print()
    if telling:
        console.print(_cells_table(runs, telling))
    if alike := len(places) - len(telling):
        more = " more" if telling else ""
        console.print(Text(f"{counted(alike, 'cell')}{more}: clean in all runs.", "dim"))
    console.print()
    console.print(_totals_table(runs))


def compare_as_markdown(runs: list[Run]) -> str:
    """Two tables in GitHub's Markdown: all cells that any run tried, and the totals."""
    titles = [_escaped(run.title) for run in runs]
    cells = [
        [
            f"{_escaped(point)}, {_escaped(manner)}",
            *(_short_words(run.cell(point, manner)) for run in runs),
        ]
        for point, manner in _places(runs)
    ]
    totals = [[name, *(_escaped(value(run)) for run in runs)] for name, value in _totals(runs).items()]
    return "\n\n".join(
        [_markdown(["clients leave", *titles], cells), _markdown(["in all", *titles], totals, ":")]
    )


# -- cells


def _places(runs: list[Run]) -> list[_Place]:
    """The cells that any run tried, in the order of the points; what is unknown comes last."""
    tried = dict.fromkeys((cell.point, cell.manner) for run in runs for cell in run.tried)
    known = [(point.name, manner.value) for point, manner in pairs()]
    return [place for place in known if place in tried] + [
        place for place in tried if place not in known
    ]


def _tells(runs: list[Run], place: _Place) -> bool:
    """Whether a row says more than that all is well, with all servers alike."""
    cells = [run.cell(*place) for run in runs]
    return any(cell is None or cell.verdict is not Verdict.CLEAN or short(cell) for cell in cells)


def _cells_table(runs: list[Run], places: list[_Place]) -> Table:
    table = _table("", runs)
    for point, manner in places:
        table.add_row(Text(plain(f"{point}/{manner}")), *(word(run.cell(point, manner)) for run in runs))
    return table


def _short_words(cell: Cell | None) -> str:
    if cell is None or cell.verdict is Verdict.SKIPPED:
        return NONE
    reason = short(cell)
    return f"{cell.verdict.value}, {_escaped(reason)}" if reason else cell.verdict.value


# -- totals


def _totals(runs: list[Run]) -> dict[str, Callable[[Run], str]]:
    """What is summed up of each run: the figures, then the verdicts that any run has."""
    found = {verdict for run in runs for verdict in run.totals.verdicts}
    return {
        "departures": lambda run: f"{run.totals.departures:,}",
        "tracebacks": lambda run: _number(run.totals.tracebacks),
        "log lines for each departure": _lines,
        "worked for nobody": lambda run: (
            NONE if run.totals.wasted is None else seconds(run.totals.wasted)
        ),
        **{f"cells {verdict.value}": _cells_with(verdict) for verdict in Verdict if verdict in found},
    }


def _cells_with(verdict: Verdict) -> Callable[[Run], str]:
    return lambda run: str(run.totals.verdicts.get(verdict, 0))


def _number(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def _lines(run: Run) -> str:
    lines = per_departure(run)
    return NONE if lines is None else f"{lines:.1f}"


def _totals_table(runs: list[Run]) -> Table:
    table = _table("", runs)
    for name, value in _totals(runs).items():
        table.add_row(Text(name), *(Text(value(run)) for run in runs))
    return table


# -- tables


def _table(corner: str, runs: list[Run]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(corner, overflow="fold")
    for run in runs:
        table.add_column(Text(plain(run.title)), overflow="fold")
    return table


def _markdown(head: list[str], rows: list[list[str]], right: str = "") -> str:
    """``right`` is ``:`` for columns of figures, which align there."""
    rule = ["---", *(f"---{right}" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(plain(text).split()))
