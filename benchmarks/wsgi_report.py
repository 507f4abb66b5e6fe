"""What ``wsgi.py`` found, as Markdown."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import wsgi_loads
import wsgi_servers
from wsgi_loads import CONNECTIONS, FEW, MANY, Figures, Load
from wsgi_memory import Growth
from wsgi_servers import Server

NONE = "—"


@dataclass(slots=True)
class Cell:
    """One server under one load: what each round found, and what is to be said about it."""

    rounds: list[Figures] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(each.rate for each in self.rounds) if self.rounds else 0

    @property
    def p99(self) -> float:
        return statistics.median(each.p99 for each in self.rounds) if self.rounds else float("inf")

    @property
    def said(self) -> list[str]:
        """The notes, and what went wrong while it was measured."""
        troubles = [each.trouble for each in self.rounds if each.trouble]
        if not troubles:
            return self.notes
        return [*self.notes, f"{troubles[0]} (in {len(troubles)} of {len(self.rounds)} rounds)"]

    def note(self, text: str) -> None:
        if text and text not in self.notes:
            self.notes.append(text)


class Results:
    """The cells, by load and server; the first server is the one that others are compared with."""

    def __init__(self, loads: list[Load], servers: list[Server]) -> None:
        self.loads, self.servers = loads, servers
        self.cells = {
            load.name: {
                server.name: Cell() for server in servers if not load.only or server.name in load.only
            }
            for load in loads
        }
        self.notes: dict[str, int] = {}

    def table(self, title: str, figure: Callable[[Load, Server], str]) -> list[str]:
        """A row for each load, a column for each server."""
        rows = [
            f"| {load.title} | " + " | ".join(figure(load, server) for server in self.servers) + " |"
            for load in self.loads
        ]
        names = " | ".join(server.title for server in self.servers)
        return ["", f"| {title} | {names} |", "| --- |" + " ---: |" * len(self.servers), *rows]

    def rate(self, load: Load, server: Server) -> str:
        cell = self.cells[load.name].get(server.name)
        if cell is None:
            return NONE
        shown = f"{cell.rate:,.0f}" if cell.rounds else "fails"
        marks = [str(self._mark(f"{server.title}: {note}")) for note in cell.said]
        return f"{shown} [{','.join(marks)}]" if marks else shown

    def _mark(self, note: str) -> int:
        return self.notes.setdefault(note, len(self.notes) + 1)

    def p99(self, load: Load, server: Server) -> str:
        cell = self.cells[load.name].get(server.name)
        return NONE if cell is None or cell.p99 == float("inf") else f"{cell.p99:,.1f}"

    def ratio(self, load: Load, server: Server) -> str:
        cells = self.cells[load.name]
        ours, cell = cells.get("hangup"), cells.get(server.name)
        return f"{ours.rate / cell.rate:.2f}" if ours and cell and cell.rate else NONE

    def lines(self) -> list[str]:
        tables = self.table("requests/s", self.rate)
        if "hangup" in {server.name for server in self.servers}:
            tables += self.table("hangup / it", self.ratio)
        tables += self.table("p99 in ms", self.p99)
        notes = [f"- [{number}] {note}" for note, number in self.notes.items()]
        return [*tables, *(["", *notes] if notes else [])]


def conditions(seconds: int, rounds: int) -> list[str]:
    machine = f"CPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores"
    ideal = CONNECTIONS / 0.005
    return [
        "A microbenchmark: each load is one request, sent again and again, as no browser does. What",
        "people send is measured in [real traffic](traffic.md).",
        "",
        f"{time.strftime('%Y-%m-%d')}. {machine}.",
        f"Medians of {rounds} rounds of {seconds} s; servers in turns, each new, and warm for 1 s.",
        f"wrk with one thread and {CONNECTIONS} connections where nothing else is said.",
        "Server and load on a core each (`taskset`), or both on both.",
        "",
        "All serve the same application, and none logs requests:",
        "wsgiref, Werkzeug and uWSGI would, and are told not to.",
        f"Who has a fixed number of threads has {FEW}, and {MANY} where handlers sleep (5 ms, the mix).",
        f"5 ms and {CONNECTIONS} connections allow {ideal:,.0f}/s.",
        "In the mix one request in ten sleeps 50 ms; its p99 is that of the other nine.",
    ]


def about_servers(servers: list[Server], versions: dict[str, str], missing: list[str]) -> list[str]:
    lines = ["", "Servers:", ""]
    for server in servers:
        version = f" {versions[server.distribution]}" if server.distribution else ""
        lines.append(f"- {server.title}{version}" + (f": {server.note}" if server.note else ""))
    if missing:
        lines.append(f"- not measured, since it could not be built here: {', '.join(missing)}")
    return lines


def about_memory(growths: list[Growth] | str) -> list[str]:
    title = [
        "",
        "Memory of hangup, one connection, resident MB (VmRSS), and the most there was (VmHWM):",
    ]
    if isinstance(growths, str):
        return [*title, "", f"failed: {growths}"]
    rows = [
        f"| {each.title} | {each.before['VmRSS']:.1f} | {each.after['VmRSS']:.1f}"
        f" | {each.grown('VmRSS'):+.1f} | {each.before['VmHWM']:.1f} | {each.after['VmHWM']:.1f}"
        f" | {each.grown('VmHWM'):+.1f} | {each.seconds:.1f} |"
        for each in growths
    ]
    head = "| | VmRSS before | after | growth | VmHWM before | after | growth | seconds |"
    return [*title, "", head, "| --- |" + " ---: |" * 7, *rows]


def names() -> str:
    """What ``--only`` and ``--servers`` know."""
    loads = ",".join(load.name for load in wsgi_loads.ALL)
    servers = ",".join(server.name for server in wsgi_servers.ALL)
    return f"loads: {loads},memory; servers: {servers}"
