"""Who leads what: an event loop with its baton, and a thread with its own things."""

import threading
from typing import TYPE_CHECKING

from .event_loop import EventLoop

if TYPE_CHECKING:
    from .._connection.connection import Connection

__all__ = ["Lead", "Worker"]


class Lead:
    """What a leader leads: an event loop, and the baton.

    ``table`` holds the baton while the leader is inside a handler, under the leader's name: the leader
    takes up its own alone, for by then there may lie another's.  Whoever takes it leads; that is one
    atomic operation.  The watchdog takes it with the pool's lock held, so that whoever misses its baton
    and then takes the lock sees the watchdog's work done.  ``turn`` is the leader's to write;
    ``turn_seen`` and ``stuck_since``, since when the leader has been inside the same handler, are the
    watchdog's.
    """

    __slots__ = ("loop", "stuck_since", "table", "turn", "turn_seen")

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.table: dict[Worker, None] = {}
        self.turn = self.turn_seen = 0
        self.stuck_since = 0.0


class Worker:
    """A thread's own things: what it leads or is to lead, what it handles, and what it sleeps on.

    ``lead`` is set by whoever wakes it, or starts it, before that.
    """

    __slots__ = ("connection", "lead", "thread", "wakeup")

    def __init__(self, lead: Lead) -> None:
        self.lead = lead
        self.connection: Connection | None = None
        self.wakeup = threading.Lock()
        self.wakeup.acquire()
        self.thread: threading.Thread
