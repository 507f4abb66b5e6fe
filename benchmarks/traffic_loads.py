"""The loads of ``traffic.py``, where each is put, and what wrk found."""

import functools
import json
import os
import resource
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import traffic_check
from traffic_servers import CORES, HANDLER, Peer, Serving, serving
from wsgi_servers import NoServer, on_cores

WARM_UP = 1
#: Seconds that a run may take beyond its time.
PATIENCE = 20
#: As many requests are looked at before a server is measured: the mix comes round after a hundred.
LOOKED_AT = 100
#: Of the mix's answers, so many are to be 304.
UNMODIFIED = 0.23
#: In the mix, the share of each kind is what it is to be after so many requests.
ENOUGH = 1000
#: Above that share of its core's time, what is measured is the load.
BUSY = 0.9
#: Where other programs, or the host's other guests, took more than that share of a core, a round is
#: disturbed: it counts only if there is no other.
DISTURBED = 0.1

FRAMEWORKS = ("bare", "flask", "django")
#: Every run's requests differ from every other's.
SEEDS = count(1)


@dataclass(frozen=True, slots=True)
class Load:
    """A load; those that have a ``size`` send one request again and again, and get so many bytes."""

    name: str
    title: str
    kind: str = ""
    close: bool = False
    size: int = 0
    apps: tuple[str, ...] = ("bare", "flask", "django", HANDLER)
    #: Whom it is for (none: all).
    only: tuple[str, ...] = ()


BIG = ("hangup", "granian1", "granian8", "uwsgi")
ALL = (
    Load("json", "JSON view", "json"),
    Load("mix", "mix", "mix"),
    Load("json-new", "JSON view, new connections", "json", close=True, apps=(HANDLER,)),
    Load("mix-new", "mix, new connections", "mix", close=True, apps=(HANDLER,)),
    Load("megabyte", "1 MB down", size=1_000_000, apps=("bare",), only=BIG),
    Load("stream", "a stream of 100 chunks", size=100_000, apps=("bare",), only=BIG),
    Load("hello", "hello (a microbenchmark)", size=13, apps=("bare",)),
)
LOADS = {each.name: each for each in ALL}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load on one application, from where to where."""

    app: str
    load: Load
    cores: str
    via: str
    connections: int

    @property
    def title(self) -> str:
        return f"{self.load.title}, {self.connections}, {self.via}, {self.cores}"

    def for_whom(self, peers: list[Peer]) -> list[Peer]:
        only = self.load.only
        return [
            each
            for each in peers
            if self.app in each.apps and (not only or each.name in only or each.another)
        ]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one measurement found: requests/s, ms, and µs of the server's CPU per request."""

    rate: float
    p50: float
    p99: float
    cpu: float
    #: Shares of a core's time: what wrk and nginx took, and what programs that don't belong here took.
    load: float
    others: float = 0.0
    slowest: float = 0.0

    @property
    def disturbed(self) -> bool:
        return self.others > DISTURBED


@dataclass(slots=True)
class Cell:
    """One server in one scenario."""

    rounds: list[Figures] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: bool = False

    def counting(self) -> list[Figures]:
        """The rounds that nothing disturbed, or all if there are none."""
        return [each for each in self.rounds if not each.disturbed] or self.rounds

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def default() -> list[Scenario]:
    """What a whole run measures."""
    found = []
    for app in FRAMEWORKS:
        for name in ("json", "mix"):
            found += [Scenario(app, LOADS[name], cores, via, 32) for via in VIAS for cores in CORES]
        for connections in (8, 256):
            found += [Scenario(app, LOADS["json"], cores, "direct", connections) for cores in CORES]
    for name in ("json", "mix", "json-new", "mix-new"):
        found.append(Scenario(HANDLER, LOADS[name], "one", "direct", 32))
    for name in ("megabyte", "stream", "hello"):
        found.append(Scenario("bare", LOADS[name], "one", "direct", 32))
    return found


VIAS = ("direct", "nginx")


def product(
    apps: list[str], loads: list[str], cores: list[str], vias: list[str], connections: list[int]
) -> list[Scenario]:
    """All that can be made of these; behind nginx every connection to the server is kept."""
    return [
        Scenario(app, LOADS[load], core, via, number)
        for app in apps
        for load in loads
        if app in LOADS[load].apps
        for via in vias
        if not (LOADS[load].close and via == "nginx")
        for number in connections
        for core in cores
    ]


@functools.cache
def requests(load: str) -> list[traffic_check.Request]:
    return traffic_check.caught(load, LOOKED_AT)


class Stand:
    """One server in one scenario, for as long as the block lasts: there, looked at, and warm."""

    def __init__(self, scenario: Scenario, peer: Peer, data: Path, cell: Cell) -> None:
        self.scenario = scenario
        self.peer = peer
        self.cell = cell
        self._data = data
        self._open = ExitStack()
        self._at: Serving | None = None
        self._closing = False

    def __enter__(self) -> Self:
        try:
            self._start()
        except NoServer as error:
            self._fail(error)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _start(self) -> None:
        scenario, load = self.scenario, self.scenario.load
        where = (scenario.app, CORES[scenario.cores], scenario.connections, self._data)
        to_serve = serving(self.peer, *where, via=scenario.via, streaming=load.name == "stream")
        at = self._open.enter_context(to_serve)
        if load.size:
            self._closing = traffic_check.check_fixed(at.port, load.name)
        else:
            traffic_check.check_requests(at.port, requests(load.kind))
        if self._closing:
            self.cell.note("ends its answer by closing: each has a new connection")
        run(at, scenario, WARM_UP, ends_by_closing=self._closing)
        self._at = at

    def _fail(self, error: NoServer) -> None:
        self._at = None
        self._open.close()
        self.cell.failed = True
        self.cell.note(f"no figure: {error}")

    def measure(self, seconds: int) -> str:
        """One round, and its line of progress."""
        if self._at is None:
            return "no figure"
        try:
            figures = run(self._at, self.scenario, seconds, ends_by_closing=self._closing)
        except NoServer as error:
            self._fail(error)
            return f"no figure: {error}"
        self.cell.rounds.append(figures)
        if figures.load > BUSY and self.scenario.cores == "one":
            who = "wrk and nginx" if self.scenario.via == "nginx" else "wrk"
            self.cell.note(f"{who} had no time left: the server could do more")
        return (
            f"{figures.rate:9,.0f}/s  p50 {figures.p50:7.2f} ms  p99 {figures.p99:8.2f} ms"
            f"  slowest {figures.slowest:6,.0f} ms"
            f"  {figures.cpu:6.1f} µs  load {figures.load:.0%}"
            f"{f'  others {figures.others:.0%}' if figures.disturbed else ''}"
        )


def run(at: Serving, scenario: Scenario, seconds: int, *, ends_by_closing: bool) -> Figures:
    load = scenario.load
    command = traffic_check.wrk(
        at.port,
        load.kind or load.name,
        seconds,
        scenario.connections,
        close=load.close,
        seed=next(SEEDS),
    )
    at_first = at.cpu()
    used, everybodys = children(), everybody()
    try:
        done = subprocess.run(
            on_cores(CORES[scenario.cores][1], command),
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds + PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise NoServer("wrk did not end") from None
    server, proxy = (now - then for now, then in zip(at.cpu(), at_first, strict=True))
    wrk, everybodys = children() - used, everybody() - everybodys
    line = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode or not line.startswith("{"):
        raise NoServer(f"wrk said: {(done.stderr or line).strip()}")
    found = json.loads(line)
    if trouble := troubles(load, found, ends_by_closing=ends_by_closing):
        raise NoServer(trouble)
    return Figures(
        rate=found["requests"] / found["seconds"],
        p50=found["p50"],
        p99=found["p99"],
        slowest=found["slowest"],
        cpu=server / found["requests"] * 1e6,
        load=(wrk + proxy) / found["seconds"],
        others=max(0.0, everybodys - server - wrk - proxy) / found["seconds"],
    )


def children() -> float:
    """Seconds of CPU of the programs that have ended: of wrk, if nothing else ends meanwhile."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def everybody() -> float:
    """Seconds of CPU of all processes, and those that the host gave to others (proc(5), stat)."""
    user, nice, system, _, _, _, _, steal, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")


def troubles(load: Load, found: dict[str, Any], *, ends_by_closing: bool) -> str:
    """What went wrong, or an empty string: with an error there is no figure."""
    requests = found["requests"]
    if not requests:
        return "no answer"
    counts = {
        f"answers with {found['example']}": found["other"],
        "statuses from 400 on": found["status"],
        "empty answers": found["empty"],
        "time-outs": found["timeout"],
        "connections refused": found["connect"],
        "errors of reading": 0 if ends_by_closing else found["read"],
        "errors of writing": found["write"],
    }
    wrong = [f"{number:,} {name}" for name, number in counts.items() if number]
    if load.size and found["bytes"] < requests * load.size:
        wrong.append(f"{found['bytes']:,} bytes for {requests:,} answers")
    expected = UNMODIFIED if load.kind == "mix" else 0.0
    share = found["unmodified"] / requests
    if abs(share - expected) > (0.05 if expected else 0) and requests > ENOUGH:
        wrong.append(f"{share:.1%} of the answers were 304")
    return "; ".join(wrong)
