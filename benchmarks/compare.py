"""``hangup probe`` against the servers that people use: ``make compare``, or this file alone.

Each server serves the probe's target, clients leave it at every point in every manner, and
``docs/comparison.md`` tells what was found.  One server after the other; it takes ten minutes.  With
``--servers`` only those are probed, and the page goes nowhere but to ``--out``.
"""

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import compare_servers
import wsgi_peers
import wsgi_servers
from compare_findings import Found
from compare_report import report
from compare_servers import HERE, Server
from hangup.probe.exceptions import ProbeError
from hangup.probe.results import Run, load

PAGE = HERE.parent / "docs" / "comparison.md"
#: Seconds that one run may take, and that it has to end when it is asked to.
LONGEST, END = 1200, 20


def options() -> argparse.Namespace:
    known = [each.name for each in compare_servers.servers("")]
    parser = argparse.ArgumentParser(
        description="Clients leave servers at every point.", epilog=f"servers: {','.join(known)}"
    )
    parser.add_argument("--servers", help="these servers: hangup,granian,…")
    parser.add_argument("--keep", metavar="DIR", help="keep what the probe wrote there")
    parser.add_argument(
        "--again", action="store_true", help="write the page from what --keep has, and probe the rest"
    )
    parser.add_argument("--out", metavar="FILE", help=f"the page, instead of docs/{PAGE.name}")
    chosen = parser.parse_args()
    chosen.servers = [each for each in (chosen.servers or "").split(",") if each]
    if unknown := set(chosen.servers) - set(known):
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    if chosen.again and not chosen.keep:
        parser.error("--again needs --keep")
    return chosen


def probe(server: Server, directory: Path) -> Run | str:
    """The run; where there is none, what the probe said."""
    file = directory / f"{server.name}.json"
    command = [sys.executable, "-m", "hangup", "probe", "--app", "--title", server.title]
    command += ["--patience", server.patience] if server.patience else []
    command += ["--json", str(file), *([server.url] if server.url else []), "--", *server.command]
    with open(directory / f"{server.name}.txt", "w+") as output:
        status = finish(subprocess.Popen(command, cwd=HERE, stdout=output, stderr=subprocess.STDOUT))
        output.seek(0)
        said = output.read().strip().splitlines()
    if status:
        return said[-1].removeprefix("Error: ") if said else f"the probe ended with {status}"
    return load(str(file))


def finish(process: subprocess.Popen[bytes]) -> int:
    """Wait for its exit status.

    It is ended gently if it takes too long, or if this program is: then it ends its server, too.
    """
    try:
        return process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        return 1
    finally:
        if process.poll() is None:
            wsgi_servers.stop(process, END)


def kept(server: Server, directory: Path) -> Run | None:
    try:
        return load(str(directory / f"{server.name}.json"))
    except ProbeError:
        return None


def find(server: Server, versions: dict[str, str], directory: Path, *, again: bool) -> Run | str:
    """A server's run, or why there is none; said on the terminal, too."""
    print(f"{server.title:24} ", end="", flush=True)
    began = time.monotonic()
    result: Run | str | None = kept(server, directory) if again else None
    if result is None:
        reason = compare_servers.missing(server, versions)
        reason = reason or compare_servers.make(server, str(directory))
        result = reason or probe(server, directory)
    if isinstance(result, Run):
        counts = ", ".join(f"{number} {verdict}" for verdict, number in result.totals.verdicts.items())
        print(f"{counts}; {time.monotonic() - began:.0f} s", flush=True)
    else:
        print(f"none: {result}", flush=True)
    return result


def compare(chosen: argparse.Namespace, directory: Path) -> str:
    """The page."""
    versions = wsgi_peers.install()
    versions["hangup"] = importlib.metadata.version("hangup")
    found = []
    for server in compare_servers.servers(str(directory)):
        if not chosen.servers or server.name in chosen.servers:
            result = find(server, versions, directory, again=chosen.again)
            found.append(Found(server, compare_servers.version(server, versions), result))
    return report(found)


def main() -> None:
    chosen = options()
    wsgi_servers.stop_when_told()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(chosen.keep or temporary).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        text = compare(chosen, directory)
    page = Path(chosen.out) if chosen.out else None if chosen.servers else PAGE
    if page is None:
        print(text)
    else:
        page.write_text(text, encoding="utf-8")
        print(f"written: {page.name}")


if __name__ == "__main__":
    main()
