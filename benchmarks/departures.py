"""From a client's close() to its handler's waking: ``make bench``.

Many handlers wait for their clients at once (``client.wait()``); clients leave one after the other, by
FIN or RST, and new ones take their places.  The clock is the system's monotonic one, the same in both
processes.  Once the server does nothing else, once a handler beside the others computes in pure Python
all the time and so wants the interpreter lock.  Results go to ``benchmarks/departures.md``.
"""

import os
import platform
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import hangup

HERE = Path(__file__).resolve().parent
WAITING = 500
DEPARTURES = 2000
#: Seconds between two departures.
PACE = 0.004
PATIENCE = 30.0
_ABORT = struct.pack("ii", 1, 0)


class Waiting(hangup.BaseHTTPRequestHandler):
    """The service: waits until its client leaves, and tells when that was."""

    def do_GET(self) -> None:
        if self.path == "/busy":
            while not self.client.disconnected:
                sum(range(1000))
            return
        tell(f"began {self.path[1:]}")
        self.client.wait()
        tell(f"woke {self.path[1:]} {time.monotonic()}")

    def log_message(self, *args: Any) -> None:
        pass


def tell(line: str) -> None:
    os.write(1, (line + "\n").encode())


def serve() -> None:
    with hangup.ThreadingHTTPServer(("127.0.0.1", 0), Waiting) as server:
        tell(f"port {server.server_port}")
        server.serve_forever()


class Service:
    """The server's process, and what it has told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[1])
        self.began = 0
        self.woke: dict[int, float] = {}
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            what, *words = line.split()
            with self._news:
                if what == "began":
                    self.began += 1
                else:
                    self.woke[int(words[0])] = float(words[1])
                self._news.notify_all()

    def wait_for(self, count: int, *, awake: bool) -> None:
        """Until so many handlers have begun, or have woken."""
        with self._news:
            reached = self._news.wait_for(
                lambda: (len(self.woke) if awake else self.began) >= count, PATIENCE
            )
        if not reached:
            sys.exit("a handler was not told in time that its client had left")

    def connect(self, path: str) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self._reader.join()
        self.process.communicate()


def measure(manner: str, *, busy: bool) -> list[float]:
    """The latency of each departure, in seconds, in order of size."""
    left = {}
    with Service() as service:
        clients = [service.connect(f"/{number}") for number in range(WAITING)]
        service.wait_for(WAITING, awake=False)
        beside = service.connect("/busy") if busy else None
        for number in range(DEPARTURES):
            due = time.monotonic() + PACE
            client = clients[number]
            if manner == "RST":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            left[number] = time.monotonic()
            client.close()
            clients.append(service.connect(f"/{number + WAITING}"))
            service.wait_for(number + WAITING + 1, awake=False)
            time.sleep(max(0.0, due - time.monotonic()))
        service.wait_for(DEPARTURES, awake=True)
        latencies = sorted(service.woke[number] - left[number] for number in left)
        for client in clients[DEPARTURES:]:
            client.close()
        if beside is not None:
            beside.close()
    return latencies


def main() -> None:
    conditions = (
        f"CPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores;"
        f" {WAITING} handlers in `client.wait()` at all times, {DEPARTURES} departures,"
        f" one each {PACE * 1000:g} ms or more. `make bench` measures it on another machine."
    )
    lines = [
        "# From close() to the handler's waking",
        "",
        conditions,
        "",
        "| the client leaves by | beside the waiting handlers | median | p99 | longest |",
        "| --- | --- | --- | --- | --- |",
    ]
    for busy in (False, True):
        for manner in ("FIN", "RST"):
            latencies = measure(manner, busy=busy)
            p99 = latencies[int(len(latencies) * 0.99)]
            figures = (statistics.median(latencies), p99, latencies[-1])
            beside = "one computes in pure Python" if busy else "nothing"
            cells = " | ".join(f"{value * 1000:.2f} ms" for value in figures)
            lines.append(f"| {manner} | {beside} | {cells} |")
            print(lines[-1], flush=True)
    (HERE / "departures.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main()
