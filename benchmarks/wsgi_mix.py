"""The mixed load of ``wsgi.py``: ``python wsgi_mix.py PORT SECONDS`` prints its figures as JSON.

Each of 32 connections asks again as soon as it has its answer.  Every tenth request is for ``/slow``,
which sleeps 50 ms, the others for ``/quick``.  Only the quick ones' latencies are told.  One thread and
epoll, since threads would wait for one another, and their waiting would be taken for the server's.
"""

import gc
import json
import select
import socket
import sys
import time
from dataclasses import dataclass

HOST = "127.0.0.1"
CONNECTIONS = 32
EVERY = 10
REQUESTS = {
    path: f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() for path in ("/quick", "/slow")
}
END = b"Hello, world!"


@dataclass(slots=True)
class Peer:
    """A connection, and the request that it waits for."""

    sock: socket.socket
    quick: bool = True
    since: float = 0.0
    got: bytes = b""


class Mix:
    """All the connections, and what they have seen."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.epoll = select.epoll()
        self.peers: dict[int, Peer] = {}
        self.asked = self.answered = self.wrong = self.lost = 0
        self.quick: list[float] = []

    def connect(self) -> None:
        sock = socket.create_connection((HOST, self.port), 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.epoll.register(sock, select.EPOLLIN)
        peer = self.peers[sock.fileno()] = Peer(sock)
        self.ask(peer)

    def ask(self, peer: Peer) -> None:
        self.asked += 1
        peer.quick = self.asked % EVERY != 0
        peer.got = b""
        peer.since = time.perf_counter()
        peer.sock.send(REQUESTS["/quick" if peer.quick else "/slow"])

    def receive(self, peer: Peer) -> None:
        data = peer.sock.recv(65536)
        now = time.perf_counter()
        if not data:
            raise ConnectionResetError
        peer.got += data
        if not peer.got.endswith(END):
            return
        self.answered += 1
        if not peer.got.startswith(b"HTTP/1.1 200 "):
            self.wrong += 1
        if peer.quick:
            self.quick.append(now - peer.since)
        self.ask(peer)

    def lose(self, number: int) -> None:
        """The server has closed it."""
        self.lost += 1
        self.peers.pop(number).sock.close()
        self.connect()

    def run(self, seconds: float) -> float:
        """Make requests for so long, and tell how long it was."""
        start = time.perf_counter()
        for _ in range(CONNECTIONS):
            self.connect()
        while (passed := time.perf_counter() - start) < seconds:
            for number, _ in self.epoll.poll(0.1):
                try:
                    self.receive(self.peers[number])
                except ConnectionError:
                    self.lose(number)
        return passed

    def figures(self, passed: float) -> dict[str, float | str]:
        """Those that wait at the end count too, with the time that they have waited so far."""
        now = time.perf_counter()
        waiting = [now - each.since for each in self.peers.values() if each.quick]
        late = sum(each > 1 for each in waiting)
        latencies = sorted(self.quick + waiting)
        troubles = {
            "wrong answers": self.wrong,
            "connections lost": self.lost,
            "unanswered for 1 s at the end": late,
        }
        return {
            "rate": self.answered / passed,
            "p99": latencies[int(len(latencies) * 0.99)] * 1000,
            "trouble": "; ".join(f"{name}: {count}" for name, count in troubles.items() if count),
        }


if __name__ == "__main__":
    gc.disable()
    mix = Mix(int(sys.argv[1]))
    print(json.dumps(mix.figures(mix.run(float(sys.argv[2])))))
