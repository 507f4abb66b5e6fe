"""One handler at a time, in a thread that is not the pool's: ``HTTPServer`` as it is."""

import threading
from collections.abc import Callable, Sequence
from time import monotonic

from .._connection.connection import Connection
from .._connection.state import State
from .event_loop import EventLoop
from .lead import Worker
from .request_queue import is_dead
from .workers import Workers

__all__ = ["SerialWorkers"]

# What may still need the thread that serves.
_UNSERVED = (State.IDLE, State.HANDLED, State.ENDING)


class SerialWorkers(Workers):
    """One handler at a time, in the order of arrival, and in the caller's thread (:meth:`serve`).

    A second thread runs the event loop and only puts requests into the backlog.  ``_arrived`` counts
    what the backlog holds.  ``_drained`` is that thread's to set, once, when all that was accepted has
    been served; ``_drain_awaited`` the caller's, once, before it looks at ``_drained``.  Whoever comes
    second finds what the other has set, and ``_arrived`` wakes a caller that waits by then.
    """

    def __init__(
        self,
        loops: Sequence[EventLoop],
        serve: Callable[[Connection], None],
        _max_threads: int,
        name: str,
    ) -> None:
        super().__init__(loops, serve, 0, name)
        self._arrived = threading.Semaphore(0)
        #: Called by the leading thread when a request waits.
        self.on_waiting: Callable[[], None] = lambda: None
        self._drained = self._drain_awaited = False
        (self._loop,) = loops
        self._loop.on_draining = self._check_drained

    def _promote(self, _me: Worker, connection: Connection, *, counted: bool = False) -> bool:  # noqa: ARG002
        connection.loop.register(connection)
        with self._lock:
            waits = self._wait_locked(connection)
        if waits:
            self.on_waiting()
            self._arrived.release()
        else:
            connection.closing.reject()
        return False

    def _check_drained(self) -> None:
        if self._drained or any(
            connection.state in _UNSERVED and connection not in self.guests
            for connection in self._loop.connections()
        ):
            return
        self._drained = True
        if self._drain_awaited:
            self._arrived.release()

    def serve_until_drained(self) -> None:
        """While the event loop drains: handle all requests that were accepted, and are ready or coming.

        Nobody else would, and their clients would wait for as long as the listening socket is open.
        """
        self._drain_awaited = True  # Before the look, see _check_drained.
        while not self._drained:
            self.serve(None)

    def interrupt(self) -> None:
        """Make a running or the next :meth:`serve` return."""
        self._arrived.release()

    @property
    def waiting(self) -> bool:
        """Whether a request waits."""
        return len(self._backlog) > 0

    def take(self, timeout: float | None) -> Connection | None:
        """The next request; None if none is within ``timeout`` seconds, or after :meth:`interrupt`."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            if not self._arrived.acquire(timeout=left):
                return None
            with self._lock:
                connection = self._backlog.take_first()
            if connection is None:
                return None
            if connection.exchange is None:
                self._serve(connection)  # an errand: it is no request
            elif is_dead(connection):
                connection.closing.drop()
            else:
                return connection

    def take_own(self, connection: Connection) -> bool:
        """Take this connection's request, if it has one that waits."""
        with self._lock:
            if not self._backlog.remove(connection):
                return False
        self._arrived.acquire()  # which counts it, or is about to
        if is_dead(connection):
            connection.closing.drop()
            return False
        return True

    def serve(self, timeout: float | None) -> None:
        """Handle the next request; returns also when none came for ``timeout`` seconds.

        Raises what the handler raised, if it is no :exc:`Exception`.
        """
        connection = self.take(timeout)
        if connection is None:
            return
        self.guests.add(connection)
        try:
            self._serve(connection)
        finally:
            self.remove_guest(connection)
