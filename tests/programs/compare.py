"""Programs for ``http.server``, run by ``python`` and by ``hangup run``: ``make programs``.

Each runs in a folder of its own, is asked the same things twice, and what its clients saw is compared.
Then the test suites (``suites.py``), and ``docs/programs.md``, unless only some are chosen.  The exit
status is 0 if nothing differs but what ``differences.py`` lists, with the reasons, and what is better.
"""

import argparse
import importlib.metadata
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import clients
import exchanges
import suites
from catalog import PROGRAMS, Change, Program, lay
from differences import compare
from exchanges import HOST, PATIENCE, Exchange, Site, ask, until
from page import ProgramFound, SuiteFound, report

from process import NotServing, Process, free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "programs.md"
#: Seconds that a program may take to serve what was changed.
RELOAD = 30.0


def asked(program: Program, site: Site, folder: Path) -> dict[str, Callable[[], Any]]:
    """What is asked of it, by name."""
    read, upload = program.read, program.upload
    checks: dict[str, Callable[[], Any]] = {
        "GET": lambda: ask(site, read),
        "HEAD": lambda: ask(site, replace(read, method="HEAD")),
        "not found": lambda: ask(site, Exchange(path=program.missing)),
        "unknown method": lambda: ask(site, replace(read, method="ABSENT")),
        "keep-alive": lambda: exchanges.kept(site, read),
        "Range": lambda: ask(site, replace(read, fields={"Range": "bytes=2-5"})),
        "parallel": lambda: exchanges.parallel(site, read),
    }
    if upload:
        checks |= {
            "upload": lambda: ask(site, upload),
            "keep-alive, uploads": lambda: exchanges.kept(site, upload),
            "chunked upload": lambda: exchanges.chunked(site, upload),
            "Expect: 100-continue": lambda: exchanges.expecting(site, upload),
        }
    checks["curl"] = lambda: exchanges.curl(site, read, upload)
    checks["requests, urllib3"] = lambda: exchanges.libraries(site, read)
    if program.client:
        client = program.client
        checks["its client"] = lambda: client(site, folder)
    return checks


def attempt(check: Callable[[], Any]) -> Any:
    """What it returns, or how it fails: that can be the same under both."""
    try:
        return check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def disconnected(program: Program, site: Site, process: Process) -> dict[str, Any]:
    """Clients disconnect at every point; then it has to serve as before, and be idle."""
    process.settle()
    before = process.tracebacks()
    exchanges.disconnects(site, program.read, program.upload)
    after = ask(site, program.read)
    process.settle()
    return {
        "after disconnects": after["status"] if isinstance(after, dict) else after,
        "idle after disconnects": not process.busy(),
        "tracebacks of disconnects": process.tracebacks() - before,
    }


def changed(change: Change, site: Site, folder: Path) -> bool:
    """Whether what was changed is served."""
    file = folder / change.file
    file.write_text(file.read_text().replace(change.old, change.new))
    wanted = change.new.split()[-1].strip('"')

    def shows() -> bool:
        page = ask(site, Exchange(path=change.path))
        return isinstance(page, dict) and f"ersion {wanted}" in page["body"]

    return until(shows, RELOAD, 0.25)


def stopped(process: Process, number: signal.Signals, found: dict[str, Any]) -> None:
    """Stop it beside a client that is still connected."""
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    with closing(HTTPConnection(HOST, process.port, timeout=PATIENCE)) as idle:
        idle.connect()
        began, before = time.monotonic(), process.tracebacks()
        status, left = process.stop(number)
    found[name] = {"exit status": status, "children left": left}
    found[f"{name}, seconds"] = round(time.monotonic() - began, 2)
    found[f"{name}, tracebacks"] = process.tracebacks() - before


def first_run(
    program: Program, process: Process, site: Site, folder: Path, found: dict[str, Any]
) -> None:
    """All that it is asked; then it is stopped by Ctrl-C."""
    if not until(lambda: program.ready in str(ask(site, program.read)), RELOAD):
        raise NotServing(f"{program.ready!r} is not in its page")
    for name, check in asked(program, site, folder).items():
        found[name] = attempt(check)
    found["hangup's server"] = process.on_epoll()
    found["hangup's handler"] = attempt(lambda: exchanges.two_hosts(site, program.read.path))
    found |= disconnected(program, site, process)
    if program.change:
        change = program.change
        found["reload"] = attempt(lambda: changed(change, site, folder))
        found["hangup's server after the reload"] = process.on_epoll()
    stopped(process, signal.SIGINT, found)


def second_run(program: Program, process: Process, site: Site, found: dict[str, Any]) -> None:
    """It serves on the same port at once; then it is stopped by SIGTERM."""
    response = ask(site, program.read)
    found["restart"] = response["status"] if isinstance(response, dict) else response
    stopped(process, signal.SIGTERM, found)


def observe(program: Program, folder: Path, *, hangup: bool, keep: Path) -> dict[str, Any]:
    """All that its clients see of it.  Raises :exc:`NotServing`."""
    lay(program, folder)
    port = free_port()
    site = Site(port, (*program.volatile, str(folder)))
    words = [word.format(port=port, folder=folder) for word in program.command]
    found: dict[str, Any] = {}
    try:
        for run in (1, 2):
            process = Process(words, folder, port, hangup=hangup)
            try:
                if run == 1:
                    first_run(program, process, site, folder, found)
                else:
                    second_run(program, process, site, found)
            finally:
                process.end()
    finally:
        name = f"{program.name}.{'hangup' if hangup else 'python'}"
        (keep / f"{name}.json").write_text(clients.shown(found))
        if (output := folder / "output.txt").exists():
            (keep / f"{name}.output.txt").write_bytes(output.read_bytes())
    return found


def version(program: Program) -> str:
    if not program.distribution:
        return sys.version.split()[0]
    return importlib.metadata.version(program.distribution)


def programs(chosen: list[str], keep: Path) -> list[ProgramFound]:
    """Each program under the plain interpreter, and under hangup; said on the terminal, too."""
    found = []
    for program in PROGRAMS:
        if chosen and not any(word in program.title for word in chosen):
            continue
        print(f"{program.title:42}", end="", flush=True)
        began = time.monotonic()
        results = []
        try:
            for hangup in (False, True):
                with tempfile.TemporaryDirectory(prefix="program-") as folder:
                    results.append(observe(program, Path(folder), hangup=hangup, keep=keep))
            plain, ours = results
            each = ProgramFound(
                program.title, version(program), plain, ours, compare(program.title, plain, ours)
            )
            checks, worse, meant = each.counts
            print(f"{checks} checks, {worse} differ, {meant} by design; hangup's: {each.serves}", end="")
            print(f"; {time.monotonic() - began:.0f} s")
        except (NotServing, OSError, importlib.metadata.PackageNotFoundError) as error:
            each = ProgramFound(program.title, "", failed=f"{type(error).__name__}: {error}")
            print(each.failed)
        for difference in each.differences:
            print(f"    {difference.verdict.value}: {difference}", flush=True)
        found.append(each)
    return found


def test_suites(chosen: list[str], keep: Path) -> list[SuiteFound]:
    found = []
    for suite in suites.SUITES:
        if chosen and not any(word in suite.title for word in chosen):
            continue
        print(f"{suite.title:42}", end="", flush=True)
        try:
            each = SuiteFound(suite.title, suite.version, *suites.both(suite, keep))
            print(" | ".join(each.row().split(" | ")[2:]), flush=True)
        except (suites.NoSuite, importlib.metadata.PackageNotFoundError) as error:
            each = SuiteFound(suite.title, "", failed=str(error))
            print(each.failed, flush=True)
        found.append(each)
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Programs and test suites on http.server, and on hangup."
    )
    parser.add_argument(
        "--programs", metavar="NAMES", help="these alone, by parts of their names: flask,hg"
    )
    parser.add_argument("--suites", metavar="NAMES", help="these alone: prometheus,litmus")
    parser.add_argument("--keep", metavar="DIR", help="keep what was seen, and what was printed, there")
    parser.add_argument("--out", metavar="FILE", help=f"the page, instead of docs/{PAGE.name}")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("stopped"))
    some = [word for word in (chosen.programs or "").split(",") if word]
    some_suites = [word for word in (chosen.suites or "").split(",") if word]
    with tempfile.TemporaryDirectory() as temporary:
        keep = Path(chosen.keep or temporary).resolve()
        keep.mkdir(parents=True, exist_ok=True)
        asked_for_programs = some or not some_suites
        found = programs(some, keep) if asked_for_programs else []
        suites_found = test_suites(some_suites, keep) if some_suites or not some else []
    page = Path(chosen.out) if chosen.out else None if some or some_suites else PAGE
    if page:
        page.write_text(report(found, suites_found), encoding="utf-8")
        print(f"written: {page.name}")
    bad = [each.title for each in (*found, *suites_found) if each.bad]
    print(f"{len(found) + len(suites_found) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
