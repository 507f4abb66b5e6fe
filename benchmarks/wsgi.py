"""WSGI servers side by side: ``make bench``, or ``python benchmarks/wsgi.py [SECONDS]``.

Servers take turns, each in a process of its own, so that a noisy machine is noisy for all; the median of
the rounds counts, and the ratio of medians.  Before it is measured, each must answer rightly.  The whole
benchmark's results go to ``benchmarks/wsgi.md``; with ``--only`` or ``--servers`` they are just printed.
"""

import argparse
import importlib.metadata
import shutil
import sys
from pathlib import Path

import wsgi_loads
import wsgi_memory
import wsgi_peers
import wsgi_servers
from wsgi_loads import Load
from wsgi_memory import Growth
from wsgi_report import Cell, Results, about_memory, about_servers, conditions, names
from wsgi_servers import NoServer, Running, Server

RESULTS = Path(__file__).resolve().with_suffix(".md")
ROUNDS = 3
WARM_UP = 1
MEMORY = "memory"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="WSGI servers side by side.", epilog=names())
    parser.add_argument("seconds", nargs="?", type=int, default=3, help="of each measurement (3)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"whose median counts ({ROUNDS})")
    parser.add_argument("--only", type=listed, help="these loads: hello,5ms,…")
    parser.add_argument("--servers", type=listed, help="these servers: hangup,granian,…")
    chosen = parser.parse_args()
    if chosen.seconds < 1 or chosen.rounds < 1:
        parser.error("it takes a second, and a round, at least")
    known = {*(load.name for load in wsgi_loads.ALL), MEMORY}
    if unknown := set(chosen.only or ()) - known:
        parser.error(f"no such load: {', '.join(sorted(unknown))}")
    if unknown := set(chosen.servers or ()) - {server.name for server in wsgi_servers.ALL}:
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    return chosen


def listed(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def available(chosen: list[Server]) -> tuple[list[Server], dict[str, str], list[str]]:
    """Those of the servers that there are, versions by distribution, and the titles of those missing."""
    peers = {server.distribution for server in chosen} - {None, "hangup"}
    versions = wsgi_peers.install() if peers else {}
    versions["hangup"] = importlib.metadata.version("hangup")
    missing = [each for each in chosen if each.distribution and each.distribution not in versions]
    return [each for each in chosen if each not in missing], versions, [each.title for each in missing]


def measure(server: Server, load: Load, seconds: int, cell: Cell) -> str:
    """One round of one cell, and its line of progress."""
    try:
        with Running(server, load.threads, load.cores[0], keep=load.keep) as running:
            cell.note(load.check(running.port))
            load.run(running.port, WARM_UP)
            figures = load.run(running.port, seconds)
    except NoServer as error:
        cell.note(f"fails: {error}")
        return f"fails: {error}"
    cell.rounds.append(figures)
    return f"{figures.rate:9,.0f}/s {figures.p99:9.1f} ms  {figures.trouble}".rstrip()


def throughput(results: Results, seconds: int, rounds: int) -> None:
    for turn in range(rounds):
        for load in results.loads:
            for server in results.servers:
                cell = results.cells[load.name].get(server.name)
                if cell is not None:
                    line = measure(server, load, seconds, cell)
                    print(f"  {turn + 1}/{rounds} {load.name:10} {server.name:8} {line}", flush=True)


def memory(server: Server) -> list[Growth] | str:
    try:
        growths = wsgi_memory.measure(server)
    except (NoServer, OSError) as error:
        print(f"  {MEMORY} fails: {error}", flush=True)
        return str(error)
    for each in growths:
        grown = f"VmRSS {each.grown('VmRSS'):+.1f} MB, VmHWM {each.grown('VmHWM'):+.1f} MB"
        print(f"  {MEMORY} {each.title}: {grown} in {each.seconds:.1f} s", flush=True)
    return growths


def report(chosen: argparse.Namespace) -> str:
    loads = [load for load in wsgi_loads.ALL if not chosen.only or load.name in chosen.only]
    wanted = [each for each in wsgi_servers.ALL if not chosen.servers or each.name in chosen.servers]
    servers, versions, missing = available(wanted)
    if missing:
        print("  not measured:", ", ".join(missing), flush=True)
    results = Results(loads, servers)
    throughput(results, chosen.seconds, chosen.rounds)
    lines = ["# WSGI servers side by side", "", *conditions(chosen.seconds, chosen.rounds)]
    lines += about_servers(servers, versions, missing)
    if loads:
        lines += results.lines()
    if (not chosen.only or MEMORY in chosen.only) and servers and servers[0].name == "hangup":
        lines += about_memory(memory(servers[0]))
    lines += ["", "`make bench` measures it on another machine."]
    return "\n".join(lines) + "\n"


def main() -> None:
    chosen = options()
    if not shutil.which("wrk"):
        sys.exit("the benchmarks need wrk (Debian: apt install wrk)")
    wsgi_servers.stop_when_told()
    text = report(chosen)
    print(text)
    if not chosen.only and not chosen.servers:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
