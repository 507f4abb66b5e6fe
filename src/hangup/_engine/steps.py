"""``handle_request()``: a server of ``http.server``'s that serves one request at each call.

The event loop turns in a thread of its own, as for ``serve_forever``: it receives requests, so a
connection that stays silent (browsers open some in advance) keeps nobody waiting, and it notices
disconnects while a handler works.  But connections are accepted only during a call: a program may wait
for its listening socket together with others, by :mod:`select`.  A request that comes between two calls
waits for the next.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._system.fork import end_process
from .serial_workers import SerialWorkers

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .engine import Engine

__all__ = ["Steps"]

# Seconds that a connection which was waiting to be accepted has to send its request, at the least.
_FIRST_REQUEST = 0.1
# Seconds that a client has to send another request over the connection that was just served.
_NEXT_REQUEST = 1.0


class _Task:
    """Something that the event loop's thread runs between two polls."""

    deadline = float("inf")

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self.done = threading.Event()

    def on_ready(self, _flags: int) -> bool:
        try:
            self._run()
        finally:
            self.done.set()  # Whatever a hook of the program's raises: somebody waits.
        return False


class Steps:
    """An engine for :meth:`take`, in which one thread at a time is: ``_turn`` guards that.

    ``engine`` is a serial one, which this starts.  Its event loop accepts one connection after another
    during a call, until a request is at hand.  A request that comes between two calls, over a connection
    that was accepted before, makes the listening socket ready: by a connection to it that says nothing,
    for the program may wait for that socket, and knows of no other.

    ``_taking`` is the caller's to write.  The event loop looks at it when a request has come; the
    caller, when it has cleared it, looks whether one has.  Of ``_knocks`` only single operations are
    used.
    """

    def __init__(self, engine: "Engine", sock: socket.socket) -> None:
        assert isinstance(engine.workers, SerialWorkers)
        self.engine = engine
        self._workers = engine.workers
        self._loop = engine.loop
        self._sock = sock
        self._started: list[threading.Thread] = []
        self._turn = threading.Lock()
        self._taking = False
        #: Whether the engine has ended.
        self.closed = False
        # Connections of our own, by their address.
        self._knocks: dict[Any, socket.socket] = {}
        engine.listen(sock, one_at_a_time=True)
        self._loop.listeners.filter(self._is_wanted)
        self._loop.listeners.suspend()
        self._workers.on_waiting = self._request_waits
        # Set when a request has come, or a connection has closed.
        self._news = threading.Event()
        assert engine.loop.on_closed is not None
        self._end_handler: Callable[[Any], None] = engine.loop.on_closed
        engine.loop.on_closed = self._closed
        engine.start()

    def take(self, timeout: float | None) -> "Connection | None":
        """Accept connections until a request is at hand; None if none is within ``timeout`` seconds."""
        began = monotonic()
        if not self._turn.acquire(timeout=-1 if timeout is None else timeout):
            return None
        try:
            return self._take(None if timeout is None else max(0.0, began + timeout - monotonic()))
        finally:
            self._turn.release()

    def take_last(self) -> "Connection | None":
        """After the engine was told to drain: a request that had come by then; None: all are served."""
        self._run(lambda: None)  # What the event loop was about to hand over is there now.
        return self._workers.take(0)

    def _take(self, timeout: float | None) -> "Connection | None":
        if self.closed:
            return None
        self._taking = True
        try:
            if self._knocks:
                self._run(self._answer_knocks)
            if (connection := self._workers.take(0)) is not None:
                return connection
            hurried = timeout is not None and timeout < _FIRST_REQUEST
            if hurried and select.select([self._sock], [], [], timeout)[0]:
                timeout = _FIRST_REQUEST
            self._run(self._loop.listeners.resume)
            return self._workers.take(timeout)
        finally:
            self._end_taking()

    def stay(self, connection: "Connection", timeout: float | None) -> bool:
        """Whether another request comes over this connection, soon, and before any other's.

        ``http.server`` serves a whole connection in one call, however long it is idle.  Clients that
        send one request after another find that here, too.  ``timeout`` is in seconds, if it is less.
        """
        if not connection.is_open or not self._turn.acquire(blocking=False):
            return False  # Somebody else is waiting for a request, whose turn it is.
        self._taking = True
        self._run(self._loop.listeners.resume)
        try:
            limit = _NEXT_REQUEST if timeout is None else min(timeout, _NEXT_REQUEST)
            deadline = monotonic() + limit
            while connection.is_open:
                self._news.clear()
                if self._workers.take_own(connection):
                    return True
                if self._workers.waiting or not self._news.wait(deadline - monotonic()):
                    break
            return False
        finally:
            self._end_taking()
            self._turn.release()

    def _end_taking(self) -> None:
        self._run(self._loop.listeners.suspend)
        self._taking = False
        if self._workers.waiting and not self._knocks and not self.closed:
            self._knock()

    def _answer_knocks(self) -> None:
        """Called by the event loop's thread: what waits is about to be taken.

        Else the listening socket would stay ready, and the next call would wait for a request that does
        not come.  Clients' connections that are accepted on the way have their turn.
        """
        while self._knocks and self._loop.listeners.accept_one():
            pass

    def _closed(self, connection: "Connection") -> None:
        self._end_handler(connection)
        self._news.set()

    def _request_waits(self) -> None:
        """Called by the event loop's thread."""
        self._news.set()
        if self._taking:
            self._loop.listeners.suspend()  # The next connection is for the next call.
        elif not self._knocks:
            self._knock()

    def _knock(self) -> None:
        if self._sock.family not in (socket.AF_INET, socket.AF_INET6):
            return  # Such a connection could not be told from a client's.
        sock = socket.socket(self._sock.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect_ex(self._sock.getsockname())
            self._knocks[sock.getsockname()] = sock
        except OSError:
            sock.close()  # It can't be reached from here: whoever waits for its socket waits on.

    def is_ours(self, address: Any) -> bool:
        """Whether that is the address of a connection that only makes the listening socket ready."""
        return address in self._knocks

    def _is_wanted(self, connection: "Connection") -> bool:
        knock = self._knocks.pop(connection.address, None)
        if knock is not None:
            knock.close()
        return knock is None

    def close(self) -> None:
        """The engine has ended: have a call that waits return."""
        self.closed = True
        self._workers.interrupt()
        while self._knocks:
            self._knocks.popitem()[1].close()

    def _run(self, what: Callable[[], object]) -> None:
        task = _Task(what)
        self._loop.look_at(task)
        if not self._loop.ended:  # In this order, see EventLoop.next.
            task.done.wait()

    def serve(self, connection: "Connection") -> None:
        """Run the handler in this thread.  Raises what it raises, if that is no :exc:`Exception`."""
        self.engine.serve_guest(connection)
        if self._loop.forked:
            end_process()  # A child that a handler has forked serves nothing else.

    def serve_in_thread(self, connection: "Connection", *, daemon: bool) -> None:
        """Run the handler in a thread that keeps the connection, as ``ThreadingMixIn`` has it."""
        connection.one_thread = True
        self._started = [thread for thread in self._started if thread.is_alive()]
        thread = threading.Thread(target=self._serve_in_thread, args=(connection,), daemon=daemon)
        self._started.append(thread)
        thread.start()

    def _serve_in_thread(self, connection: "Connection") -> None:
        with contextlib.suppress(SystemExit):  # It ends its thread, as ever.
            self.serve(connection)

    def join(self) -> None:
        """Wait for the threads that :meth:`serve_in_thread` has started."""
        for thread in self._started:
            thread.join()
