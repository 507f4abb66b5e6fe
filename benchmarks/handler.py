"""http.server's servers side by side: ``make bench``, or ``python benchmarks/handler.py [SECONDS]``.

The server has one core, the load generator (wrk) another.  Servers take turns, so that a noisy machine
is noisy for all; the median of the rounds counts, and the ratio of medians.  Logging goes to /dev/null,
for all alike.  Results go to ``benchmarks/results.md``.
"""

import os
import platform
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

HERE = Path(__file__).resolve().parent
KINDS = {
    "stock": "http.server",
    "hangup": "hangup",
    "adapted": "hangup, stock handler",
}
CONNECTIONS = 32
ROUNDS = 3
#: name: (path, more options for wrk)
LOADS = {
    "hello, keep-alive": ("/", ()),
    "hello, new connections": ("/", ("-H", "Connection: close")),
    "a handler that sleeps 5 ms": ("/5ms", ()),
}
IDLE = 9000


class Service:
    """One server in a process of its own, on one core."""

    def __init__(self, kind: str) -> None:
        command = [sys.executable, str(HERE / "service.py"), kind]
        if shutil.which("taskset"):
            command = ["taskset", "-c", "0", *command]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def status(self, field: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise KeyError(field)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def load(port: int, path: str, options: tuple[str, ...], seconds: int) -> tuple[float, float]:
    """Requests per second, and the 99th percentile of the latency in ms."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", *options]
    if shutil.which("taskset"):
        command = ["taskset", "-c", str((os.cpu_count() or 1) - 1), *command]
    url = f"http://127.0.0.1:{port}{path}"
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    return rate, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def throughput(seconds: int) -> dict[str, dict[str, tuple[float, float]]]:
    results: dict[str, dict[str, list[tuple[float, float]]]] = {
        name: {kind: [] for kind in KINDS} for name in LOADS
    }
    for turn in range(ROUNDS):
        for name, (path, options) in LOADS.items():
            for kind in KINDS:
                with Service(kind) as service:
                    load(service.port, path, options, 1)
                    results[name][kind].append(load(service.port, path, options, seconds))
                rate, _ = results[name][kind][-1]
                print(f"  {turn + 1}/{ROUNDS} {name:28} {KINDS[kind]:22} {rate:9,.0f}/s", flush=True)
    return {
        name: {
            kind: tuple(statistics.median(values) for values in zip(*rounds, strict=True))
            for kind, rounds in kinds.items()
        }
        for name, kinds in results.items()
    }


def idle(kind: str, count: int) -> tuple[float, int]:
    """KB for each idle keep-alive connection, and the threads that they hold."""
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with Service(kind) as service:
        peers = []

        def connect(number: int) -> None:
            for _ in range(number):
                peer = socket.create_connection(("127.0.0.1", service.port))
                peer.sendall(request)
                while not peer.recv(65536).endswith(b"Hello, world!"):
                    pass
                peers.append(peer)

        connect(100)
        memory, threads = service.status("VmRSS"), service.status("Threads")
        connect(count)
        time.sleep(0.2)
        grown = service.status("VmRSS") - memory
        held = service.status("Threads") - threads
        for peer in peers:
            peer.close()
    return grown / count, held


def main() -> None:
    if not shutil.which("wrk"):
        sys.exit("the benchmarks need wrk (Debian: apt install wrk)")
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    results = throughput(seconds)
    conditions = (
        f"CPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores;"
        f" server and wrk ({CONNECTIONS} connections) on a core each;"
        f" medians of {ROUNDS} rounds of {seconds} s"
        " in turns. `make bench` measures it on another machine."
    )
    lines = [
        "# http.server side by side",
        "",
        conditions,
        "",
        "| requests/s (p99 in ms) | " + " | ".join(KINDS.values()) + " | hangup / http.server |",
        "| --- |" + " --- |" * (len(KINDS) + 1),
    ]
    for name, kinds in results.items():
        cells = [f"{rate:,.0f} ({p99:.1f})" for rate, p99 in kinds.values()]
        ratio = kinds["hangup"][0] / kinds["stock"][0]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {ratio:.1f} |")
    ideal = CONNECTIONS / 0.005
    share = results["a handler that sleeps 5 ms"]["hangup"][0] / ideal
    lines += ["", f"Of the ideal {ideal:,.0f}/s that 5 ms allow, hangup reaches {share:.1%}.", ""]
    count = min(IDLE, most - 200)
    for kind in ("hangup", "adapted"):
        memory, threads = idle(kind, count)
        lines.append(
            f"{count:,} idle keep-alive connections ({KINDS[kind]}): {memory:.2f} KB each,"
            f" threads held: {threads}.\n"
        )
    text = "\n".join(lines)
    (HERE / "results.md").write_text(text.rstrip() + "\n")
    print(text)


if __name__ == "__main__":
    main()
