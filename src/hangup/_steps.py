"""``handle_request()``: a server of ``http.server``'s that serves one request at each call.

The event loop turns in a thread of its own, as for ``serve_forever``: it receives requests, so a
connection that stays silent (browsers open some in advance) keeps nobody waiting, and it notices
disconnects while a handler works.  But connections are accepted only during a call: a program may wait
for its listening socket together with others, by :mod:`select`.  A request that comes between two calls
waits for the next.
"""

import select
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._workers import SerialWorkers

if TYPE_CHECKING:
    from ._connection import Connection
    from .server import Server

__all__ = ["Steps"]

# Seconds that a connection which was waiting to be accepted has to send its request, at the least.
_FIRST_REQUEST = 0.1


class _Task:
    """Something that the event loop's thread runs between two polls."""

    deadline = float("inf")

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self.done = threading.Event()

    def on_ready(self, _flags: int) -> bool:
        self._run()
        self.done.set()
        return False


class Steps:
    """An engine for :meth:`take`, which one thread at a time calls.

    ``engine`` is a serial one, which this starts.
    """

    def __init__(self, engine: "Server", sock: socket.socket) -> None:
        assert isinstance(engine.workers, SerialWorkers)
        self.engine = engine
        self._workers = engine.workers
        self._watch = engine.watch
        self._sock = sock
        self._started: list[threading.Thread] = []
        engine.listen(sock)
        self._watch.suspend_listeners()
        engine.start()

    def take(self, timeout: float | None) -> "Connection | None":
        """Accept connections until a request is at hand; None if none is within ``timeout`` seconds."""
        hurried = timeout is not None and timeout < _FIRST_REQUEST and not self._workers.waiting
        if hurried and select.select([self._sock], [], [], timeout)[0]:
            timeout = _FIRST_REQUEST
        self._run(self._watch.resume_listeners)
        try:
            return self._workers.take(timeout)
        finally:
            self._run(self._watch.suspend_listeners)

    def _run(self, what: Callable[[], object]) -> None:
        task = _Task(what)
        self._watch.look_at(task)
        task.done.wait()

    def serve(self, connection: "Connection") -> None:
        """Run the handler in this thread.  Raises what it raises, if that is no :exc:`Exception`."""
        self.engine.serve_guest(connection)

    def serve_in_thread(self, connection: "Connection", *, daemon: bool) -> None:
        """Run the handler in a thread that keeps the connection, as ``ThreadingMixIn`` has it."""
        connection.one_thread = True
        self._started = [thread for thread in self._started if thread.is_alive()]
        thread = threading.Thread(target=self.serve, args=(connection,), daemon=daemon)
        self._started.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait for the threads."""
        for thread in self._started:
            thread.join()
