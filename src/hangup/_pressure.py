"""Threads that wait for slow clients are given back when requests wait for a thread.

A handler that reads a long body, or writes a stream, waits for its client with a thread.  Some clients
are slow, and some are slow on purpose: as many of them as there are threads would shut everybody else
out, for hours at the rate that :attr:`Config.min_rate` asks for.  So while requests wait for a thread,
clients must be quicker, and the slowest are cut off: one whose body comes too slowly gets 408, one
that reads too slowly is disconnected.  Threads that wait for the next request of an idle connection go
first.
"""

import math
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._connection import Connection
    from ._exchange import Exchange
    from ._watch import Watch

__all__ = ["Pressure"]

# Seconds between two looks, and for how long a client is watched before it is judged.
_INTERVAL = 0.5
_OBSERVED = 2.0


class Pressure:
    """Looks at the clients that threads wait for, while requests wait.  The event loop's.

    ``waiting`` tells how many requests wait for a thread.
    """

    def __init__(self, watch: "Watch", waiting: "Callable[[], int]") -> None:
        self.deadline = math.inf
        self._watch = watch
        self._waiting = waiting
        self._rate = watch.config.min_rate_under_load
        # How much had moved when a client was first seen, and when that was.
        self._seen: dict[Exchange, tuple[int, float]] = {}
        watch.timers.append(self)

    def begin(self) -> None:
        """A request waits for a thread."""
        if self.deadline == math.inf:
            self.deadline = monotonic() + _INTERVAL
            self._watch.expect(self.deadline)

    def on_deadline(self) -> bool:
        """Cut off as many slow clients as requests wait."""
        waiting = self._waiting()
        if not waiting:
            self._seen.clear()
            self.deadline = math.inf
            return False
        for connection in list(self._watch.waiting)[:waiting]:
            waiting -= 1
            connection.stop_waiting()
        for connection in self._slow()[:waiting]:
            connection.evict()
        self.deadline = monotonic() + _INTERVAL
        return False

    def _slow(self) -> "list[Connection]":
        """The connections that threads wait for and that are too slow, the slowest first."""
        now = monotonic()
        seen, slow = {}, []
        for connection in list(self._watch.held_up):
            exchange = connection.exchange
            if exchange is None:
                continue
            moved = connection.bytes_moved(exchange)
            before, since = seen[exchange] = self._seen.get(exchange, (moved, now))
            if now - since >= _OBSERVED and (rate := (moved - before) / (now - since)) < self._rate:
                slow.append((rate, connection))
        self._seen = seen
        return [connection for _, connection in sorted(slow, key=lambda pair: pair[0])]
