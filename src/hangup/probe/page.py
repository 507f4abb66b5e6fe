"""A run as one HTML page that needs nothing beside it: no script, no network, no font.

What servers and clients said is shown, and never interpreted: all of it goes through :func:`_text`.
"""

import datetime as dt
import html
import importlib.resources
from collections.abc import Iterable

from .points import MANNERS
from .results import Cell, Evidence, Run, Usage, Verdict
from .words import (
    NONE,
    SYMBOLS,
    TITLES,
    counted,
    leads,
    manners_of,
    per_departure,
    plain,
    seconds,
    short,
)

__all__ = ["page"]

#: What a verdict says to who sees it for the first time.
_MEANINGS = {
    Verdict.CLEAN: "The server took it well: all was given back, and the log stayed calm.",
    Verdict.UNSERVED: "A client that had only stopped sending got no answer, though one was due.",
    Verdict.NOISY: "Tracebacks, or many lines, were written to the log about a client that merely left.",
    Verdict.LEAKS: "The server kept something of clients long gone: descriptors, threads, or sockets.",
    Verdict.WEDGED: "Other clients, who had done nothing wrong, had to go without an answer.",
    Verdict.CRASHED: "A process of the server ended.",
    Verdict.SKIPPED: "Not tried; the reason is told.",
}
#: What of a server's processes is shown, as :class:`Usage` calls it, and in words.
_KINDS = {
    "processes": "processes",
    "descriptors": "descriptors",
    "threads": "threads",
    "close_wait": "sockets in CLOSE_WAIT",
    "memory": "memory",
}
#: Seconds worked for nobody that fill a bar at the least: a server's little must not look like much.
_FULL_BAR = 1.0


def _text(text: object) -> str:
    return html.escape(plain(str(text)))


# -- the page


def page(run: Run) -> str:
    """The page, whole."""
    style = importlib.resources.files(__package__).joinpath("page.css").read_text("utf-8")
    rows = _rows(run)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(run.title)}: hangup probe</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<p class="kicker">hangup probe</p>
<h1>{_text(run.title)}</h1>
<p class="target"><code>{_text(run.target)}</code></p>
<p class="lead">{_lead(run)}</p>
{_strip(run)}
</header>
<main>
{_figures(run)}
<section aria-labelledby="matrix">
<h2 id="matrix">Where clients left, and how</h2>
<p class="hint">Each cell opens what was seen in it.</p>
{_matrix(run, rows)}
</section>
{_legend(run)}
{_notes(run)}
</main>
<footer>
<p>{_origin(run)}</p>
</footer>
{"".join(_evidence(cell) for cell in run if not _alike(rows[cell.point]))}</body>
</html>
"""


def _rows(run: Run) -> dict[str, list[Cell]]:
    rows: dict[str, list[Cell]] = {}
    for cell in run:
        rows.setdefault(cell.point, []).append(cell)
    return rows


def _alike(row: list[Cell]) -> bool:
    """Whether a row was skipped as a whole, for one reason: it needs to be told but once."""
    return all(cell.verdict is Verdict.SKIPPED and cell.why == row[0].why for cell in row)


def _lead(run: Run) -> str:
    totals = run.totals
    clean = totals.verdicts.get(Verdict.CLEAN, 0)
    what = f"{counted(totals.departures, 'client')} left, in {counted(totals.cells, 'different way')}."
    if not totals.cells:
        return "Nothing was tried."
    if clean == totals.cells:
        return f"{what} The server took <strong>all of them</strong> well."
    return f"{what} The server took <strong>{clean} of {totals.cells}</strong> well."


def _strip(run: Run) -> str:
    """A bar of all cells that were tried, by verdict."""
    counts = {v: n for v, n in run.totals.verdicts.items() if v is not Verdict.SKIPPED}
    said = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    parts = "".join(
        f'<span class="{verdict}" style="flex-grow:{number}">'
        f'<span class="of">{number}</span> {_verdict(verdict)}</span>'
        for verdict, number in counts.items()
    )
    return f'<div class="strip" role="img" aria-label="{said}">{parts}</div>' if counts else ""


def _verdict(verdict: Verdict) -> str:
    return f'<span class="symbol" aria-hidden="true">{SYMBOLS[verdict]}</span>\u202f{verdict}'


def _figures(run: Run) -> str:
    totals, each = run.totals, per_departure(run)
    figures = [
        ("Clients that left", f"{totals.departures:,}", f"{run.repeat} at once in each cell"),
        ("Tracebacks", _known(totals.tracebacks), ""),
        (
            "Log lines for each",
            "not seen" if each is None else f"{each:.1f}",
            "" if totals.lines is None else f"{totals.lines:,} in all",
        ),
    ]
    if totals.wasted is not None:
        figures.append(("Worked for nobody", seconds(totals.wasted), "behind clients that had gone"))
    return '<dl class="figures">' + "".join(map(_figure, figures)) + "</dl>"


def _known(number: int | None) -> str:
    return "not seen" if number is None else f"{number:,}"


def _figure(figure: tuple[str, str, str]) -> str:
    name, value, more = figure
    return f'<div><dt>{name}</dt><dd>{value}</dd><dd class="more">{more}</dd></div>'


# -- the matrix


def _matrix(run: Run, rows: dict[str, list[Cell]]) -> str:
    manners = manners_of(run)
    manners = [manner for manner in manners if any(cell.manner == manner for cell in run)]
    wasted = {point: _wasted(row) for point, row in rows.items()}
    most = max((value for value in wasted.values() if value is not None), default=None)
    heads = "".join(
        f'<th scope="col">{_text(manner)}<small>{_text(MANNERS.get(manner, ""))}</small></th>'
        for manner in manners
    )
    if most is not None:
        heads += '<th scope="col" class="bars">worked for nobody<small>by fin and rst</small></th>'
    body = "\n".join(
        f"<tr>{_row_head(point)}{_row(row, manners)}{_bar(wasted[point], most)}</tr>"
        for point, row in rows.items()
    )
    return f"""<table class="matrix">
<thead><tr><th scope="col">the client leaves</th>{heads}</tr></thead>
<tbody>
{body}
</tbody>
{_foot(run, len(manners)) if most is not None else ""}</table>"""


def _row_head(point: str) -> str:
    title = f"<small>{_text(TITLES[point])}</small>" if point in TITLES else ""
    return f'<th scope="row">{_text(point)}{title}</th>'


def _row(row: list[Cell], manners: list[str]) -> str:
    if _alike(row):
        why = _text(row[0].why[0] if row[0].why else "")
        return f'<td colspan="{len(manners)}" class="whole">{_verdict(Verdict.SKIPPED)}: {why}</td>'
    cells = {cell.manner: cell for cell in row}
    return "".join(_button(cells.get(manner)) for manner in manners)


def _button(cell: Cell | None) -> str:
    if cell is None:
        return f'<td class="none"><span aria-label="no such cell">{NONE}</span></td>'
    reason = short(cell)
    label = f"{cell.point}, {cell.manner}: {cell.verdict}" + (f", {reason}" if reason else "")
    return (
        f'<td><button type="button" class="cell {cell.verdict}" popovertarget="{_id(cell)}"'
        f' aria-label="{_text(label)}"><span class="manner">{_text(cell.manner)}</span>'
        f'<span class="word">{_verdict(cell.verdict)}</span>'
        f'<span class="reason">{_text(reason)}</span></button></td>'
    )


def _id(cell: Cell) -> str:
    return _text("cell-" + cell.name.replace("/", "-").replace(" ", "-"))


def _wasted(row: list[Cell]) -> float | None:
    known = [cell.evidence.wasted for cell in row if cell.evidence.wasted is not None]
    return sum(known) if known else None


def _bar(value: float | None, most: float | None) -> str:
    if most is None:
        return ""
    if value is None:
        return f'<td class="bars none"><span aria-label="not known">{NONE}</span></td>'
    if not value:
        return '<td class="bars nil"><span class="value">0 s</span></td>'
    share = value / max(most, _FULL_BAR) * 100
    return (
        f'<td class="bars"><span class="track"><span style="width:{share:.1f}%"></span></span>'
        f'<span class="value">{seconds(value)}</span></td>'
    )


def _foot(run: Run, columns: int) -> str:
    total = seconds(run.totals.wasted or 0.0)
    return (
        f'<tfoot><tr><th scope="row" colspan="{columns + 1}">worked for nobody, in all</th>'
        f'<td class="bars"><span class="value">{total}</span></td></tr></tfoot>'
    )


# -- below it


def _legend(run: Run) -> str:
    counts = run.totals.verdicts
    items = "".join(
        f'<div><dt><span class="chip {verdict}">{_verdict(verdict)}</span>'
        f'<span class="of">{counts.get(verdict, 0)}</span></dt><dd>{meaning}</dd></div>'
        for verdict, meaning in _MEANINGS.items()
    )
    return f"""<section aria-labelledby="legend">
<h2 id="legend">What the words mean</h2>
<dl class="legend">{items}</dl>
</section>"""


def _notes(run: Run) -> str:
    if not run.notes:
        return ""
    notes = "".join(f"<li>{_text(note)}</li>" for note in run.notes)
    return f"""<section aria-labelledby="notes">
<h2 id="notes">To be known of this run</h2>
<ul>{notes}</ul>
</section>"""


def _origin(run: Run) -> str:
    when = f"Probed on {_moment(run.began)}, in {seconds(run.seconds)}"
    parts = [f"{when}, by hangup probe {_text(run.version)}."]
    if run.paths:
        paths = ", ".join(f"{_text(use)} <code>{_text(path)}</code>" for use, path in run.paths.items())
        parts.append(f"Paths: {paths}.")
    return " ".join(parts)


def _moment(began: str) -> str:
    try:
        at = dt.datetime.fromisoformat(began)
    except ValueError:
        return _text(began)
    return f'<time datetime="{_text(began)}">{at.day} {at:%B %Y, %H:%M} {at.tzname() or ""}</time>'


# -- the evidence for a cell


def _evidence(cell: Cell) -> str:
    identity = _id(cell)
    return f"""<dialog popover id="{identity}" class="evidence" aria-labelledby="{identity}-title">
<div class="top">
<div>
<h3 id="{identity}-title">{_text(cell.point)}, {_text(cell.manner)}</h3>
<p class="where">{_text(leads(cell))}</p>
</div>
<button type="button" class="close" popovertarget="{identity}" popovertargetaction="hide">Close</button>
</div>
<div class="body">
<p><span class="chip {cell.verdict}">{_verdict(cell.verdict)}</span></p>
{_sentences(cell.why, "why")}
{_seen(cell) if cell.verdict is not Verdict.SKIPPED else ""}</div>
</dialog>
"""


def _sentences(sentences: Iterable[str], style: str) -> str:
    items = "".join(f"<li>{_text(each)}</li>" for each in sentences)
    return f'<ul class="{style}">{items}</ul>' if items else ""


def _seen(cell: Cell) -> str:
    evidence = cell.evidence
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _facts(cell))
    seen = _sentences(evidence.seen, "seen")
    parts = [f'<dl class="facts">{facts}</dl>']
    if seen:
        parts.append(f"<h4>What these clients saw</h4>{seen}")
    if evidence.before is not None and evidence.after is not None:
        parts.append(_usage(evidence.before, evidence.after))
    parts.append(_log(evidence, _id(cell)))
    return "\n".join(parts)


def _facts(cell: Cell) -> list[tuple[str, str]]:
    evidence = cell.evidence
    facts = [
        ("Clients that left", str(cell.departures)),
        ("A healthy client, at once", _answered(evidence.healthy_at_once)),
        ("… and when all was quiet", _answered(evidence.healthy_after)),
        ("Tracebacks", _known(evidence.tracebacks)),
        ("Log lines", _known(evidence.lines)),
    ]
    if evidence.accounted is not None:
        facts.append(("The departure in the log", f"<code>{_text(evidence.accounted)}</code>"))
    if evidence.served is not None:
        facts.append(
            ("Half-closed clients", "all were served" if evidence.served else "were not all served")
        )
    if evidence.began is not None:
        facts.append(("Handlers", _handlers(evidence)))
    if evidence.wasted is not None:
        facts.append(("Worked for nobody", seconds(evidence.wasted)))
    if evidence.restarts:
        facts.append(("Restarts", str(evidence.restarts)))
    return facts


def _answered(value: float | None) -> str:
    return "no answer" if value is None else f"answered in {seconds(value)}"


def _handlers(evidence: Evidence) -> str:
    return f"{evidence.began} began, {evidence.told or 0} told, {evidence.stopped or 0} stopped early"


def _usage(before: Usage, after: Usage) -> str:
    rows = "".join(
        f'<tr><th scope="row">{name}</th>'
        f"{_change(kind, getattr(before, kind), getattr(after, kind))}</tr>"
        for kind, name in _KINDS.items()
    )
    return f"""<h4>What the server held</h4>
<table class="usage">
<thead><tr><td></td><th scope="col">before</th><th scope="col">after</th>
<th scope="col">change</th></tr></thead>
<tbody>{rows}</tbody>
</table>"""


def _change(kind: str, before: int, after: int) -> str:
    def shown(number: int) -> str:
        return f"{number / (1 << 20):.1f} MiB" if kind == "memory" else f"{number:,}"

    change = shown(abs(after - before))
    if after != before and change != shown(0):
        change = ("+" if after > before else "\N{MINUS SIGN}") + change
    return "".join(f"<td>{value}</td>" for value in (shown(before), shown(after), change))


def _log(evidence: Evidence, identity: str) -> str:
    if not evidence.log:
        return "" if evidence.lines is None else '<p class="quiet">The log has no line of it.</p>'
    lines = "\n".join(map(_text, evidence.log))
    return f"""<h4 id="{identity}-log">The log</h4>
<pre tabindex="0" role="region" aria-labelledby="{identity}-log">
{lines}</pre>"""
