"""Threads that wait for slow clients are given back when requests wait for a thread.

A handler that reads a long body, or writes a stream, waits for its client with a thread.  Some clients
are slow, and some are slow on purpose: as many of them as there are threads would shut everybody else
out, for hours at the rate that :attr:`Config.min_data_rate` asks for.  So while requests wait for a
thread, clients must be quicker, and the slowest are cut off: one whose body comes too slowly gets 408,
one that reads too slowly is disconnected.  Threads that wait for the next request of an idle connection
go first.  The same goes for connections, while there is no room for another one and none that is idle.
"""

import math
from time import monotonic
from typing import TYPE_CHECKING

from .._connection.waiting import stop_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._connection.connection import Connection
    from .._connection.exchange import Exchange
    from .event_loop import EventLoop

__all__ = ["Pressure"]

# Seconds between two looks, and for how long a client is watched before it is judged.
_INTERVAL = 0.5
_OBSERVED = 2.0
# Seconds for which a connection that found no room counts as waiting: sooner it is tried again.
_RECENT = 0.5


class Pressure:
    """Looks at the clients that are waited for, while requests or connections wait.

    The first event loop does that, for all of them.  ``waiting`` tells how many requests wait
    for a thread.
    """

    def __init__(self, loops: "Sequence[EventLoop]", waiting: "Callable[[], int]") -> None:
        self.deadline = math.inf
        self._loops = loops
        self._waiting = waiting
        self._rate = loops[0].config.min_data_rate_under_load
        # How much had moved when a client was first seen, and when that was.
        self._seen: dict[Exchange, tuple[int, float]] = {}
        loops[0].timers.append(self)
        for loop in loops:
            loop.on_full = self._begin_for_room
        # When a connection was last found to wait for room.
        self._full_at = -math.inf

    def begin(self) -> None:
        """A request waits for a thread."""
        if self.deadline == math.inf:
            self.deadline = monotonic() + _INTERVAL
            self._loops[0].expect(self.deadline)

    def _begin_for_room(self) -> None:
        self._full_at = monotonic()
        self.begin()

    def on_deadline(self) -> bool:
        """Cut off as many slow clients as requests wait, and one if connections do."""
        full = monotonic() - self._full_at < _RECENT
        waiting = self._waiting() + full
        if not waiting:
            self._seen.clear()
            self.deadline = math.inf
            return False
        for connection in [one for loop in self._loops for one in list(loop.waiting)][:waiting]:
            waiting -= 1
            stop_waiting(connection.transport)
        for connection in self._slow(full=full)[:waiting]:
            connection.evict()
        self.deadline = monotonic() + _INTERVAL
        return False

    def _slow(self, *, full: bool) -> "list[Connection]":
        """The connections that are waited for and that are too slow, the slowest first."""
        now = monotonic()
        seen, slow = {}, []
        clients: list[Connection] = [one for loop in self._loops for one in list(loop.held_up)]
        if full:  # Those that hold no thread hold a connection.
            clients += [one for loop in self._loops for one in loop.sending()]
        for connection in clients:
            sending = connection.sending
            exchange = connection.exchange if sending is None else sending.exchange
            if exchange is None:
                continue
            moved = connection.input.bytes_moved(exchange)
            before, since = seen[exchange] = self._seen.get(exchange, (moved, now))
            if now - since < _OBSERVED:
                continue
            rate = (moved - before) / (now - since)
            if rate < self._rate:
                slow.append((rate, connection))
            else:
                seen[exchange] = moved, now  # What was quick once may be slow from here on.
        self._seen = seen
        return [connection for _, connection in sorted(slow, key=lambda pair: pair[0])]
