"""What ``traffic.py`` found, as Markdown."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable

from traffic_loads import BUSY, DISTURBED, Cell, Figures, Scenario
from traffic_servers import HANDLER, NGINX, TITLES, Peer

NONE = "—"
GRANIAN = ("granian1", "granian8")
THREADED = ("gunicorn", "waitress", "cheroot")
Row = tuple[Scenario, dict[str, Cell]]


def median(cell: Cell | None, figure: str) -> float:
    """Of a figure's rounds; 0 if there is none, or one of them had errors."""
    if cell is None or cell.failed or not cell.rounds:
        return 0.0
    return float(statistics.median(getattr(each, figure) for each in cell.counting()))


def disturbed(*cells: Cell | None) -> str:
    """The mark of a figure that was not to be had without other programs."""
    counting = [each for cell in cells if cell for each in cell.counting()]
    return "~" if any(each.disturbed for each in counting) else ""


class Results:
    """The cells, by scenario and server."""

    def __init__(self, scenarios: list[Scenario], peers: list[Peer]) -> None:
        self.peers = peers
        self.cells: dict[Scenario, dict[str, Cell]] = {
            each: {peer.name: Cell() for peer in each.for_whom(peers)} for each in scenarios
        }
        self.notes: dict[str, int] = {}

    def lines(self) -> list[str]:
        lines: list[str] = []
        for app, title in TITLES.items():
            rows = [(each, cells) for each, cells in self.cells.items() if each.app == app]
            real = [row for row in rows if not row[0].load.size]
            fixed = [row for row in rows if row[0].load.size]
            if real:
                lines += ["", f"## {title[0].upper()}{title[1:]}", *self.tables(real)]
            if fixed:
                lines += ["", f"## {title[0].upper()}{title[1:]}, one request again and again"]
                lines += self.tables(fixed)
        notes = [f"- [{number}] {note}" for note, number in self.notes.items()]
        return [*lines, *(["", *notes] if notes else [])]

    def tables(self, rows: list[Row]) -> list[str]:
        shown = [each for each in self.peers if any(each.name in cells for _, cells in rows)]
        return [
            *table("requests/s", shown, rows, self.rate),
            *self.ratios(shown, rows),
            *table("p50 / p99 in ms", shown, rows, latencies),
            *table("µs of the server's CPU per request", shown, rows, cpu),
        ]

    def rate(self, peer: Peer, cell: Cell | None) -> str:
        if cell is None:
            return NONE
        rate = median(cell, "rate")
        marks = [
            self.notes.setdefault(f"{peer.title}: {note}", len(self.notes) + 1) for note in cell.notes
        ]
        shown = f"{disturbed(cell)}{rate:,.0f}" if rate else "no figure"
        return f"{shown} [{','.join(map(str, marks))}]" if marks else shown

    def ratios(self, shown: list[Peer], rows: list[Row]) -> list[str]:
        """Each server's rate by granian's better setting, and hangup's by others'."""
        app = rows[0][0].app
        base, title = (("stock",), "http.server") if app == HANDLER else (GRANIAN, "granian")
        columns: list[tuple[str, Callable[[dict[str, Cell]], str]]] = []
        names = {each.name for each in shown}
        if names & set(base):
            others = [each for each in shown if each.name not in base]
            columns += [(f"{each.title} / {title}", ratio((each.name,), base)) for each in others]
        if names & set(THREADED) and "hangup" in names:
            columns.append(("hangup / best of gthread, waitress, cheroot", ratio(("hangup",), THREADED)))
        # Of several checkouts, each is compared with the first that was given.
        if others := [each for each in shown if each.another]:
            own = [each for each in shown if each.name == "hangup"] + others[1:]
            first = others[0]
            columns += [
                (f"{each.title} / {first.title}", ratio((each.name,), (first.name,))) for each in own
            ]
        if not columns:
            return []
        lines = ["", "| ratio of rates | " + " | ".join(name for name, _ in columns) + " |"]
        lines.append("| --- |" + " ---: |" * len(columns))
        for scenario, cells in rows:
            values = " | ".join(shown(cells) for _, shown in columns)
            lines.append(f"| {scenario.title} | {values} |")
        return lines


def ratio(these: tuple[str, ...], those: tuple[str, ...]) -> Callable[[dict[str, Cell]], str]:
    """The better of these by the better of those: the median of each round's ratio."""

    def shown(cells: dict[str, Cell]) -> str:
        over, under = (
            max((cells.get(name) for name in names), key=lambda cell: median(cell, "rate"))
            for names in (these, those)
        )
        if not (over and under and median(over, "rate") and median(under, "rate")):
            return NONE
        rounds = list(zip(over.rounds, under.rounds, strict=True))
        quiet = [(one, other) for one, other in rounds if not (one.disturbed or other.disturbed)]
        value = statistics.median(one.rate / other.rate for one, other in quiet or rounds)
        return f"{'' if quiet else '~'}{value:.2f}"

    return shown


def table(
    title: str, shown: list[Peer], rows: list[Row], figure: Callable[[Peer, Cell | None], str]
) -> list[str]:
    lines = ["", f"| {title} | " + " | ".join(each.title for each in shown) + " |"]
    lines.append("| --- |" + " ---: |" * len(shown))
    for scenario, cells in rows:
        values = " | ".join(figure(each, cells.get(each.name)) for each in shown)
        lines.append(f"| {scenario.title} | {values} |")
    return lines


def latencies(peer: Peer, cell: Cell | None) -> str:
    p50, p99 = median(cell, "p50"), median(cell, "p99")
    return f"{p50:,.1f} / {p99:,.1f}" if p99 else NONE


def cpu(peer: Peer, cell: Cell | None) -> str:
    value = median(cell, "cpu")
    return f"{value:,.1f}" if value else NONE


def conditions(seconds: int, rounds: int, alone: Figures | None) -> list[str]:
    machine = f"CPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores"
    lines = [
        f"{time.strftime('%Y-%m-%d')}. {machine}; {version('wrk', '-v')}, {version(NGINX, '-v')}.",
        f"Medians of {rounds} rounds of {seconds} s. The servers are there together, each warm for 1 s,",
        "and measured in turns. A ratio is the median of each round's: there they follow each other.",
        "",
        "Requests are as browsers send them, and no two are alike: path, query, cookie, Referer,",
        "request id, and some fourteen fields. *JSON view* is a GET of JSON. The *mix* is 40% of them,",
        "36% pages and their assets (15 of the 36 are conditional, and end in 304), 8% conditional GETs",
        "of JSON (304), 9% JSON of 1 KB and 2% of 64 KB posted, 5% forms posted. The status of every",
        "answer is looked at, and before that a hundred answers whole: no figure with an error.",
        f"~ marks figures beside which other programs took more than {DISTURBED:.0%} of a core.",
        "",
        "*JSON view, 32, direct, one*: 32 connections, without nginx, server and wrk on a core each;",
        "with nginx, it and wrk share one. *both*: all of them on both cores.",
        "No server logs requests, but http.server's handlers, to /dev/null.",
    ]
    if alone:
        able = alone.rate / alone.load
        lines.append(
            f"wrk itself takes {1e6 / able:.1f} µs for a request of the JSON view and its answer: it can"
            f" do {able:,.0f}/s on its core. Where it was busy for more than {BUSY:.0%}, a mark says so."
        )
    return lines


def version(program: str | None, option: str) -> str:
    """As the program says it, or that it is not there."""
    if program is None:
        return "no nginx"
    done = subprocess.run([program, option], check=False, capture_output=True, text=True)
    first = (done.stdout or done.stderr).splitlines()[0]
    return first.removeprefix("nginx version: ").split(" [")[0].split("+")[0]


def about(peers: list[Peer], versions: dict[str, str], missing: list[str]) -> list[str]:
    lines = ["", "Servers:", ""]
    for peer in peers:
        number = versions.get(peer.distribution, "")
        lines.append(f"- {peer.title}{number and ' '}{number}: {peer.note}")
    frameworks = ", ".join(f"{name} {versions[name.lower()]}" for name in ("Flask", "Django"))
    lines.append(f"- frameworks: {frameworks}")
    if missing:
        lines.append(f"- not measured, since it could not be installed: {', '.join(missing)}")
    return lines
