"""The storm of ``overload.py``: ``python overload_storm.py PORT SECONDS RATE SLEEP`` tells its figures.

Open loop: RATE clients come in a second, at fixed times, whatever became of those before, and each has a
connection of its own.  It leaves when its patience ends.  When the arrivals stop, one client more comes,
with more patience, and comes again if it is turned away.  One thread and a selector, since threads would
wait for one another, and their waiting would be taken for the server's.
"""

import dataclasses
import gc
import json
import re
import selectors
import socket
import statistics
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass

from overload_app import BODY, HEALTHY, STORM

HOST = "127.0.0.1"
#: Seconds after which a client leaves without its whole answer.
PATIENCE = 1.0
#: Seconds that the client after the storm waits in all, and between two tries.
HEALTHY_PATIENCE, AGAIN = 30.0, 0.1
#: What becomes of a client.
GOOD, ERROR, LEFT, LOST = "good", "error status", "left", "refused or reset"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the storm's clients."""

    #: All of them, by what became of them.
    outcomes: dict[str, int]
    #: What the errors and losses were, and how often: ``503``, ``ConnectionResetError``.
    details: dict[str, int]
    #: Good answers in each second of the storm; those that came after it are not among them.
    each_second: list[int]
    #: Seconds that a good answer took, at the median; None if there was none.
    median: float | None
    #: Seconds until the client after the storm had its answer; None if it got none.
    healthy: float | None
    #: Seconds by which the latest client came too late: whether the storm itself kept time.
    late: float


@dataclass(eq=False, slots=True)
class Client:
    """One that has come: when, when it leaves, and what it has got so far."""

    sock: socket.socket
    path: str
    came: float
    leaves: float
    asked: bool = False
    got: bytes = b""


class Storm:
    """All the clients, and what they have seen."""

    def __init__(self, port: int, seconds: int, rate: int, sleep: str) -> None:
        self.port = port
        self.sleep = sleep
        self.selector = selectors.DefaultSelector()
        self.start = time.perf_counter()
        self.end = self.start + seconds
        #: When who comes, in this order.
        self.arrivals = deque((self.start + number / rate, STORM) for number in range(rate * seconds))
        self.arrivals.append((self.end, HEALTHY))
        #: Those that are there, in the order of their leaving, which is that of their coming.
        self.clients: dict[Client, None] = {}
        self.outcomes: Counter[str] = Counter()
        self.details: Counter[str] = Counter()
        self.each_second = [0] * seconds
        self.times: list[float] = []
        self.healthy: float | None = None
        self.late = 0.0

    def run(self) -> Figures:
        while self.arrivals or self.clients:
            for key, _ in self.selector.select(self.until_next()):
                self.advance(key.data)
            now = time.perf_counter()
            while self.arrivals and self.arrivals[0][0] <= now:
                self.come(*self.arrivals.popleft())
            while self.clients and (client := next(iter(self.clients))).leaves <= now:
                self.finish(client, LEFT, "" if client.asked else "never connected")
        return Figures(
            dict(self.outcomes),
            dict(self.details),
            self.each_second,
            statistics.median(self.times) if self.times else None,
            self.healthy,
            self.late,
        )

    def until_next(self) -> float:
        """Seconds until somebody comes or leaves."""
        times = [due for due, _ in self.arrivals][:1] + [each.leaves for each in self.clients][:1]
        return max(0.0, min(times) - time.perf_counter())

    def come(self, due: float, path: str) -> None:
        now = time.perf_counter()
        sock = socket.socket()
        sock.setblocking(False)
        if path == STORM:
            self.late = max(self.late, now - due)
            client = Client(sock, path, now, now + PATIENCE)
        else:
            client = Client(sock, path, now, self.end + HEALTHY_PATIENCE)
        self.clients[client] = None
        self.selector.register(sock, selectors.EVENT_WRITE, client)
        sock.connect_ex((HOST, self.port))  # Its error, if there is one, is asked for when it's known.

    def advance(self, client: Client) -> None:
        """It is connected, or something has come."""
        try:
            if client.asked:
                self.receive(client)
            else:
                self.ask(client)
        except OSError as error:
            self.finish(client, LOST, type(error).__name__)

    def ask(self, client: Client) -> None:
        if error := client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "connect")  # Which makes it a ConnectionRefusedError, say.
        head = f"GET {client.path}?{self.sleep} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        client.sock.send(head.encode())
        client.asked = True
        self.selector.modify(client.sock, selectors.EVENT_READ, client)

    def receive(self, client: Client) -> None:
        data = client.sock.recv(65536)
        client.got += data
        head, end, body = client.got.partition(b"\r\n\r\n")
        if end and not head.startswith(b"HTTP/1.1 200 "):
            self.finish(client, ERROR, head.split(b"\r\n")[0].decode("latin-1"))
        elif end and (length := LENGTH.search(head)) and len(body) >= int(length[1]):
            right = body == BODY
            self.finish(client, GOOD if right else ERROR, "" if right else "another answer")
        elif not data:
            self.finish(client, LOST, "closed before the answer's end")

    def finish(self, client: Client, outcome: str, detail: str = "") -> None:
        del self.clients[client]
        self.selector.unregister(client.sock)
        client.sock.close()
        now = time.perf_counter()
        if client.path == HEALTHY:
            self.finish_healthy(outcome, now)
            return
        if outcome == GOOD and now > client.leaves:
            outcome = LEFT  # It looked at the clock too late.
        self.outcomes[outcome] += 1
        if detail:
            self.details[detail] += 1
        if outcome == GOOD:
            self.times.append(now - client.came)
            if now < self.end:
                self.each_second[int(now - self.start)] += 1

    def finish_healthy(self, outcome: str, now: float) -> None:
        if outcome == GOOD:
            self.healthy = now - self.end
        elif now + AGAIN < self.end + HEALTHY_PATIENCE:
            self.arrivals.append((now + AGAIN, HEALTHY))


if __name__ == "__main__":
    gc.disable()
    storm = Storm(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    print(json.dumps(dataclasses.asdict(storm.run())))
