"""Servers on real traffic, side by side: ``make bench``, or ``python benchmarks/traffic.py [OPTION …]``.

Every request differs, as browsers' do.  The load is wrk's, with ``traffic.lua``; the applications are in
``traffic_apps/``; servers and frameworks are installed into ``.venv-peers`` (see ``peers.txt``), and
hangup runs there too, from the source of this checkout.  Servers take turns, so that a noisy machine is
noisy for all: ratios count, which are made of measurements that follow each other; absolute figures
don't.  ::

    python benchmarks/traffic.py     # everything; writes traffic.md; takes most of an hour
    python benchmarks/traffic.py --apps flask --peers hangup,granian --cores one --via direct
    # this checkout beside others:
    python benchmarks/traffic.py --against before=../other --peers hangup,granian --load json

With any of ``--apps``, ``--load``, ``--connections``, ``--cores``, ``--via``, it measures all that can
be made of them; what is not said is: all applications; json and mix; 32; one, both; direct, nginx.
"""

import argparse
import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

import traffic_loads
import traffic_report
import traffic_servers
import wsgi_peers
import wsgi_servers
from traffic_loads import LOADS, VIAS, Cell, Figures, Scenario, Stand
from traffic_servers import CORES, NGINX, TITLES, Peer

RESULTS = Path(__file__).resolve().with_suffix(".md")
GRANIAN = "granian"


def options() -> argparse.Namespace:
    names = sorted({GRANIAN, *(each.name for each in traffic_servers.ALL)})
    parser = argparse.ArgumentParser(description="Servers on real traffic, side by side.")
    parser.add_argument("--apps", type=among(TITLES), help=",".join(TITLES))
    parser.add_argument("--peers", type=among(names), help=f"{','.join(names)} (granian: both settings)")
    parser.add_argument("--load", type=among(LOADS), help=",".join(LOADS))
    parser.add_argument("--connections", type=numbers, help="8,32,256")
    parser.add_argument(
        "--cores", type=among(CORES), help="one: a core for the server; both: both for all"
    )
    parser.add_argument("--via", type=among(VIAS), help=",".join(VIAS))
    parser.add_argument("--seconds", type=positive, default=1, help="of each measurement (1)")
    parser.add_argument("--rounds", type=positive, default=5, help="whose median counts (5)")
    parser.add_argument(
        "--against",
        type=checkout,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="measure the hangup of another checkout, too; may be repeated",
    )
    parser.add_argument("--output", type=Path, help=f"where to write (a whole run: {RESULTS.name})")
    return parser.parse_args()


def among(known: Collection[str]) -> Callable[[str], list[str]]:
    def listed(text: str) -> list[str]:
        chosen = [each for each in text.split(",") if each]
        if unknown := [each for each in chosen if each not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return chosen

    return listed


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def numbers(text: str) -> list[int]:
    return [positive(each) for each in text.split(",")]


def checkout(text: str) -> Peer:
    name, _, path = text.partition("=")
    root = Path(path).resolve()
    if not (root / "src" / "hangup").is_dir():
        raise argparse.ArgumentTypeError(f"{root} is no checkout of hangup")
    if name in {each.name for each in traffic_servers.ALL}:
        raise argparse.ArgumentTypeError(f"{name} is a server's name")
    return traffic_servers.another(name, root)


def scenarios(chosen: argparse.Namespace) -> list[Scenario]:
    given = (chosen.apps, chosen.load, chosen.cores, chosen.via, chosen.connections)
    if not any(given):
        return traffic_loads.default()
    return traffic_loads.product(
        chosen.apps or [*TITLES],
        chosen.load or ["json", "mix"],
        chosen.cores or [*CORES],
        chosen.via or [*VIAS],
        chosen.connections or [32],
    )


def behind_nginx(chosen: argparse.Namespace) -> bool:
    return any(each.via == "nginx" for each in scenarios(chosen))


def available(chosen: argparse.Namespace) -> tuple[list[Peer], dict[str, str], list[str]]:
    """The servers that there are, versions by distribution, and the titles of those missing."""
    wanted = chosen.peers
    peers = [
        each
        for each in traffic_servers.ALL
        if not wanted or each.name in wanted or (GRANIAN in wanted and each.distribution == GRANIAN)
    ]
    peers[1:1] = chosen.against
    versions = wsgi_peers.install()
    versions["hangup"] = importlib.metadata.version("hangup")
    missing = [each for each in peers if each.distribution and each.distribution not in versions]
    return [each for each in peers if each not in missing], versions, [each.title for each in missing]


def wrk_itself(data: Path) -> Figures | None:
    """What wrk needs for a request, seen on a server that leaves it time."""
    quick = next(each for each in traffic_servers.ALL if each.name == "granian1")
    cell = Cell()
    scenario = Scenario("bare", LOADS["json"], "one", "direct", 32)
    with Stand(scenario, quick, data, cell) as stand:
        print(f"  wrk itself: {stand.measure(2)}", flush=True)
    return cell.rounds[0] if cell.rounds else None


def measure(scenario: Scenario, stands: list[Stand], chosen: argparse.Namespace) -> None:
    """The servers are there together, and each is idle while others are measured.

    So the rounds of one are as near in time to another's as can be.
    """
    for turn in range(chosen.rounds):
        for stand in stands:
            line = stand.measure(chosen.seconds)
            where = f"{turn + 1}/{chosen.rounds} {scenario.app}: {scenario.title}"
            print(f"  {where:44} {stand.peer.name:9} {line}", flush=True)


def report(chosen: argparse.Namespace, data: Path) -> str:
    peers, versions, missing = available(chosen)
    if missing:
        print("  not measured, since they could not be installed:", ", ".join(missing), flush=True)
    traffic_servers.prepared(data)
    alone = wrk_itself(data)
    results = traffic_report.Results(scenarios(chosen), peers)
    for scenario, cells in results.cells.items():
        with ExitStack() as there:
            stands = [Stand(scenario, each, data, cells[each.name]) for each in scenario.for_whom(peers)]
            measure(scenario, [there.enter_context(each) for each in stands], chosen)
    lines = ["# Real traffic", ""]
    lines += traffic_report.conditions(chosen.seconds, chosen.rounds, alone)
    lines += traffic_report.about(peers, versions, missing)
    lines += results.lines()
    lines += ["", "`python benchmarks/traffic.py` measures it on another machine."]
    return "\n".join(lines) + "\n"


def main() -> None:
    chosen = options()
    there = {"wrk": shutil.which("wrk"), "nginx": NGINX or not behind_nginx(chosen)}
    if missing := [name for name, found in there.items() if not found]:
        sys.exit(f"this needs {' and '.join(missing)} (Debian: apt install {' '.join(missing)})")
    wsgi_servers.stop_when_told()
    with tempfile.TemporaryDirectory() as directory:
        text = report(chosen, Path(directory))
    print(text)
    whole = not any(
        (chosen.apps, chosen.peers, chosen.load, chosen.connections, chosen.cores, chosen.via)
    )
    if output := chosen.output or (RESULTS if whole and not chosen.against else None):
        output.write_text(text)


if __name__ == "__main__":
    main()
