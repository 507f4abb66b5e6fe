"""What ``overload.py`` found, as Markdown."""

import os
import platform
import time
from dataclasses import dataclass

from overload_servers import OVERLOAD, THREADS, Load
from overload_storm import ERROR, GOOD, HEALTHY_PATIENCE, LEFT, LOST, PATIENCE, Figures
from wsgi_report import NONE, about_servers
from wsgi_servers import Server

#: Seconds at a storm's beginning that don't count: while its queue is short, any server is in time.
SKIPPED = 2


@dataclass(frozen=True, slots=True)
class Result:
    """One server's storm; ``begun`` is how many of its requests a handler began, None if unknown."""

    figures: Figures
    begun: int | None

    @property
    def goodput(self) -> float:
        """Good answers a second, without the beginning."""
        counted = self.figures.each_second[SKIPPED:]
        return sum(counted) / len(counted)

    @property
    def for_nobody(self) -> int | None:
        """How many requests a handler began whose client did not get the answer in time."""
        return None if self.begun is None else self.begun - self.count(GOOD)

    def count(self, outcome: str) -> int:
        return self.figures.outcomes.get(outcome, 0)

    def progress(self) -> str:
        seconds = " ".join(map(str, self.figures.each_second))
        late = f"arrivals at most {self.figures.late * 1000:.1f} ms late"
        return f"{self.goodput:5.1f}/s ({seconds}), {late}"


#: By title; where there is no result, what went wrong.
Results = dict[str, Result | str]


def conditions(seconds: int) -> list[str]:
    machine = f"CPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores"
    return [
        f"{time.strftime('%Y-%m-%d')}. {machine}.",
        f"Each server has {THREADS} threads; the handler sleeps.",
        f"For {seconds} s there arrive {OVERLOAD} times as many clients as the threads can serve,",
        "at fixed times whatever becomes of those before, each on a new connection.",
        f"Who has not had the whole answer after {PATIENCE:g} s leaves.",
        "Servers in turns, each new; server and load on a core each (`taskset`).",
        "",
        f"Goodput: whole answers in time, a second, without the first {SKIPPED} s,",
        "when any server's queue is still short.",
        f"Handlers end {THREADS} at a time, so it may be off by so many answers in all, upwards too.",
        "Median: how long the good answers took, those of the beginning too.",
        "Next client: it comes when the arrivals stop, and does not leave; how long until its answer.",
        "For nobody: what handlers began, but whose client did not get the answer in time.",
        "",
        "Bounded: as many requests may wait as 8 threads serve in half a second, some 40, if each takes",
        "0.1 s. If each takes 0.4 s, those wait for two seconds.",
    ]


def shown(value: float | None, otherwise: str = NONE) -> str:
    return otherwise if value is None else f"{value:.2f}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return ["", lines[0], "| --- |" + " ---: |" * (len(head) - 1), *lines[1:]]


def goodputs(load: Load, results: Results) -> list[str]:
    ours = results.get("hangup")
    head = ["", "goodput/s", "of capacity", "hangup / it", "median, s", "next client, s"]
    rows = []
    for title, result in results.items():
        if isinstance(result, str):
            rows.append([title, "fails", *[NONE] * (len(head) - 2)])
            continue
        comparable = isinstance(ours, Result) and result.goodput
        rows.append(
            [
                title,
                f"{result.goodput:.1f}",
                f"{result.goodput / load.capacity:.0%}",
                f"{ours.goodput / result.goodput:.2f}" if comparable else NONE,
                shown(result.figures.median),
                shown(result.figures.healthy, f"none in {HEALTHY_PATIENCE:g}"),
            ]
        )
    return table(head, rows)


def accounts(results: Results) -> list[str]:
    """What became of every client, and what the handlers did."""
    outcomes = (GOOD, ERROR, LEFT, LOST)
    rows = []
    for title, result in results.items():
        if isinstance(result, Result):
            arrived = sum(result.figures.outcomes.values())
            counts = [arrived, *map(result.count, outcomes), result.begun, result.for_nobody]
            rows.append([title, *(NONE if each is None else f"{each:,}" for each in counts)])
    return table(["clients", "arrived", *outcomes, "handlers begun", "for nobody"], rows)


def notes(results: Results) -> list[str]:
    """What the errors and losses were, and who failed."""
    lines = []
    for title, result in results.items():
        if isinstance(result, str):
            lines.append(f"- {title}: {result}")
        elif result.figures.details:
            details = [f"{what}: {count:,}" for what, count in result.figures.details.items()]
            lines.append(f"- {title}: {'; '.join(details)}")
    return ["", *lines] if lines else []


def section(load: Load, results: Results) -> list[str]:
    title = f"## A handler of {load.sleep:g} s: {load.capacity:g}/s can be served, {load.rate}/s arrive"
    late = max((each.figures.late for each in results.values() if isinstance(each, Result)), default=0)
    kept = f"The latest arrival of all was {late * 1000:.0f} ms behind its time."
    return ["", title, *goodputs(load, results), *accounts(results), *notes(results), "", kept]


def report(
    seconds: int, servers: list[Server], versions: dict[str, str], found: dict[Load, Results]
) -> str:
    lines = ["# Goodput under overload", "", *conditions(seconds)]
    lines += about_servers(servers, versions, [])
    for load, results in found.items():
        lines += section(load, results)
    lines += ["", "`python benchmarks/overload.py` measures it on another machine."]
    return "\n".join(lines) + "\n"
