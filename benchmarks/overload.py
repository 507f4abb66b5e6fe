"""Goodput under overload, WSGI servers side by side: ``python benchmarks/overload.py [--seconds N]``.

Twice as many clients arrive as the server's threads can serve, and each leaves after a second.  What
counts is the complete answers that came in time, as a share of what the threads could do; and how long
the next client waits when the arrivals have stopped.  Servers take turns, each in a process of its own.
The whole benchmark's results go to ``benchmarks/overload.md``; with ``--servers`` they are just printed.
"""

import argparse
import http.client
import importlib.metadata
import json
import sys
import time
from pathlib import Path

import overload_servers
import wsgi_loads
import wsgi_peers
import wsgi_servers
from overload_app import BODY, COUNT, HEALTHY
from overload_report import SKIPPED, Result, Results, report
from overload_servers import THREADS, Load
from overload_storm import HEALTHY_PATIENCE, Figures
from wsgi_servers import HOST, LOAD_CORE, SERVER_CORE, NoServer, Running, Server

RESULTS = Path(__file__).resolve().with_suffix(".md")
STORM = Path(__file__).resolve().with_name("overload_storm.py")
SECONDS = 15
#: Seconds that the count may take, while the server works on what it has queued, and between two looks.
COUNTING, LOOK = 60.0, 0.5


def options() -> argparse.Namespace:
    known = ",".join(each.name for each in overload_servers.ALL)
    parser = argparse.ArgumentParser(
        description="WSGI servers under overload.", epilog=f"servers: {known}"
    )
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"of each storm ({SECONDS})")
    parser.add_argument("--servers", help="these servers: hangup,granian,…")
    chosen = parser.parse_args()
    if chosen.seconds <= SKIPPED:
        parser.error(f"the first {SKIPPED} s don't count, so it takes more")
    chosen.servers = [each for each in (chosen.servers or "").split(",") if each]
    if unknown := set(chosen.servers) - set(known.split(",")):
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    return chosen


def measure(server: Server, load: Load, seconds: int) -> Result:
    """A storm on a new server; :exc:`NoServer` if it doesn't answer before, or if the storm fails."""
    with Running(server, THREADS, SERVER_CORE) as running:
        wsgi_loads.check(running.port, f"{HEALTHY}?{load.sleep}", BODY, None)
        numbers = (running.port, seconds, load.rate, load.sleep)
        command = wsgi_servers.on_cores(LOAD_CORE, [sys.executable, str(STORM), *map(str, numbers)])
        done = wsgi_loads.finish(command, seconds + int(HEALTHY_PATIENCE))
        if done.returncode:
            raise NoServer((done.stderr.strip().splitlines() or ["the storm failed"])[-1])
        figures = Figures(**json.loads(done.stdout))
        if sum(figures.outcomes.values()) != load.rate * seconds:
            raise NoServer(f"the storm has lost count of its clients: {figures.outcomes}")
        return Result(figures, begun(running.port))


def begun(port: int) -> int | None:
    """How many of the storm's requests a handler has begun, as soon as no more begin."""
    deadline = time.monotonic() + COUNTING
    count = None
    while (left := deadline - time.monotonic()) > 0:
        before, count = count, ask_count(port, left)
        if count is not None and count == before:
            return count
        time.sleep(LOOK)
    return None


def ask_count(port: int, timeout: float) -> int | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", COUNT, headers={"Connection": "close"})
        response = connection.getresponse()
        return int(response.read()) if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def storms(load: Load, servers: list[Server], seconds: int) -> Results:
    """The load on those of the servers that it is for."""
    results: Results = {}
    for server in servers:
        if load.only and server.name not in load.only:
            continue
        try:
            result = results[server.title] = measure(server, load, seconds)
            line = result.progress()
        except NoServer as error:
            results[server.title] = str(error)
            line = f"fails: {error}"
        print(f"  {load.sleep:g} s {server.name:15} {line}", flush=True)
    return results


def main() -> None:
    chosen = options()
    wsgi_servers.stop_when_told()
    servers = [
        each for each in overload_servers.ALL if not chosen.servers or each.name in chosen.servers
    ]
    versions = wsgi_peers.install(with_optional=False)
    versions["hangup"] = importlib.metadata.version("hangup")
    found = {load: storms(load, servers, chosen.seconds) for load in overload_servers.LOADS}
    text = report(chosen.seconds, servers, versions, found)
    print(text)
    if not chosen.servers:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
