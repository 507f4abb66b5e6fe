"""The run on a terminal: a table that fills, and the report in the end."""

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .points import Manner, Point
from .results import Cell, Run, Verdict
from .words import NONE, counted, leads, manners_of, per_departure, plain, seconds, short

__all__ = ["Screen", "report", "word"]

_STYLES = {
    Verdict.CLEAN: "green",
    Verdict.UNSERVED: "blue",
    Verdict.NOISY: "yellow",
    Verdict.LEAKS: "dark_orange",
    Verdict.WEDGED: "magenta",
    Verdict.CRASHED: "bold red",
    Verdict.SKIPPED: "dim",
}
#: Columns that a table needs to have a cell's verdict and reason in one line.
_WIDE = 112
_REDRAWN = 8  # Times per second: enough for an eye.


def word(cell: Cell | None, between: str | None = " ") -> Text:
    """A cell as a table has it, with ``between`` before its reason; None: without the reason."""
    if cell is None:
        return Text(NONE, "dim")
    text = Text(cell.verdict.value, _STYLES[cell.verdict])
    if between is not None and short(cell):
        text.append(f"{between}{short(cell)}", "not bold")
    return text


# -- while it runs


class Screen:
    """What is to be seen while a run lasts; nothing where nobody sees it, as in a pipe or a file.

    The thread that probes calls all of it; rich's own only reads, to draw the clock.
    """

    def __init__(self, title: str, total: int, console: Console | None = None) -> None:
        """``total`` is how many cells there will be."""
        self._console = console or Console()
        self._cells: list[Cell] = []
        self._title = Text(plain(title), "bold")
        self._progress = Progress(
            BarColumn(28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
        )
        self._task = self._progress.add_task("", total=total)
        self._live = Live(
            console=self._console,
            get_renderable=self._drawn,
            transient=True,
            refresh_per_second=_REDRAWN,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, point: Point, manner: Manner) -> None:
        """Say which cell is tried now."""
        self._progress.update(self._task, description=f"{point.name}, {manner.value}")

    def finished(self, cell: Cell) -> None:
        """Show what was found in a cell."""
        self._cells.append(cell)
        self._progress.update(self._task, advance=1)

    def _drawn(self) -> RenderableType:
        # Without room beside a verdict, its reason has to wait: the table must not grow too high.
        between = " " if self._console.width >= _WIDE else None
        return Group(self._title, self._progress, "", _table(list(self._cells), between))


# -- in the end


def report(run: Run, console: Console) -> None:
    """Print what was found."""
    console.print()
    console.print(Text(plain(run.title), "bold"))
    if run.target != run.title:
        console.print(Text(plain(run.target), "dim"))
    console.print()
    if run.tried:
        console.print(_table(run.tried, " " if console.width >= _WIDE else "\n"))
    console.print()
    blamed = [cell for cell in run.tried if cell.verdict is not Verdict.CLEAN]
    for cell in blamed:
        _block(cell, console)
    if blamed:
        console.print()
    _skipped(run, console)
    for note in run.notes:
        console.print(Text(plain(note), "dim"))
    console.print(_totals(run))


def _table(cells: list[Cell], between: str | None) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    found = {(cell.point, cell.manner): cell for cell in cells}
    manners = manners_of(cells)
    for manner in manners:
        table.add_column(Text(plain(manner)), min_width=10)
    for point in dict.fromkeys(cell.point for cell in cells):
        words = [word(found.get((point, manner)), between) for manner in manners]
        table.add_row(Text(plain(point)), *words)
    return table


def _block(cell: Cell, console: Console) -> None:
    verdict = Text(cell.verdict.value, _STYLES[cell.verdict])
    console.print(Text.assemble((plain(cell.name), "bold"), "  ", verdict, "  ", (leads(cell), "dim")))
    for reason in [*cell.why, *cell.evidence.seen]:
        for line in Text(plain(reason)).wrap(console, console.width - 2):
            console.print(Text("  ").append_text(line))


def _skipped(run: Run, console: Console) -> None:
    """One line for each reason, and what it kept out: points, or cells where others were tried."""
    tried = {cell.point for cell in run.tried}
    reasons: dict[str, dict[str, None]] = {}
    for cell in run:
        if cell.verdict is Verdict.SKIPPED:
            kept_out = reasons.setdefault("; ".join(cell.why), {})
            kept_out[cell.name if cell.point in tried else cell.point] = None
    for reason, names in reasons.items():
        console.print(Text(f"Skipped: {plain(', '.join(names))} ({plain(reason)})", "dim"))


def _totals(run: Run) -> Text:
    totals, lines = run.totals, per_departure(run)
    parts = [f"{counted(totals.departures, 'departure')} in {counted(totals.cells, 'cell')}"]
    if totals.tracebacks is not None:
        parts.append(counted(totals.tracebacks, "traceback"))
    if lines is not None:
        parts.append(f"{lines:.1f} log lines for each departure")
    if totals.wasted is not None:
        parts.append(f"{seconds(totals.wasted)} worked for nobody")
    text = Text(f"{', '.join(parts)}; in {seconds(run.seconds)}.\n")
    tried = [(v, n) for v, n in totals.verdicts.items() if v is not Verdict.SKIPPED]
    text.append(
        Text(", ").join(Text(f"{number} {verdict}", _STYLES[verdict]) for verdict, number in tried)
    )
    return text
