"""The threads: leader and followers (POSA2, "Leader/Followers").

One thread leads: it keeps the watch.  When a request is at hand, the leader runs its handler itself;
no queue lies between, no second thread wants the interpreter lock, and the request's bytes are warm.

Leadership is a *baton*.  While handlers don't block, the leader lays it on the table, runs the handler,
and takes it up again.  If the handler blocks, or computes for too long, the pacer takes the baton from
the table and gives it to a follower, and the first thread finds, afterwards, that it leads no more.
When handlers have blocked of late, the leader gives the baton to a follower before it calls the handler
(``_handover``).

So one thread always keeps the watch.  When all permitted handlers run, the leader runs none: it goes
on polling, and lets requests wait in the backlog for whoever is done first.
"""

import logging
import os
import threading
from collections.abc import Callable
from time import monotonic, process_time
from typing import TYPE_CHECKING

from ._backlog import Backlog, is_dead
from ._connection import Connection
from ._fork import end_process
from ._handover import HAS_LOCK, QUICK, Handover, is_runnable
from ._pacer import LONG_TICK, TICK
from ._pressure import Pressure
from ._watch import Watch

if TYPE_CHECKING:
    from ._exchange import Exchange

__all__ = ["Worker", "Workers"]

_log = logging.getLogger("hangup")

# Seconds for which a handler that computes may keep the lead. Meanwhile nobody accepts, reads, or sees
# who disconnects.
_PATIENCE = 0.012
# A process that runs for less than this share of a tick is one whose handler blocks.
_BUSY_SHARE = 0.5
# Threads beyond those that are permitted, for what is no handler: TLS handshakes must not wait for slow
# handlers. They compute, so more of them than there are cores would be of no use.
_ERRANDS = os.cpu_count() or 1
# Seconds that a thread which is inside no handler is given to end.
_ENDING = 1.0


class Worker:
    """A thread's own things: the lock that it sleeps on while it follows, and what it handles."""

    __slots__ = ("connection", "thread", "wakeup")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.wakeup = threading.Lock()
        self.wakeup.acquire()
        self.thread: threading.Thread


class Workers:
    """The pool for handlers that may run side by side.

    ``_lock`` guards ``_followers``, ``_busy``, ``_backlog``, ``_threads`` and ``_stopped``.
    ``_table`` holds the baton while the leader is inside a handler, under the leader's name: the
    leader takes up its own alone, for by then there may lie another's.  Whoever takes it leads; that
    is one atomic operation.  The pacer takes it with ``_lock`` held, so that whoever misses its baton
    and then takes the lock sees the pacer's work done.  ``_turn`` is the leader's to write.
    ``_turn_seen``, ``_held_seen``, ``_looked_at``, ``_had_run`` and ``_stuck_since`` are the pacer's.
    Of ``guests``, which any thread may enter, only single operations are used, each atomic.
    """

    def __init__(
        self, watch: Watch, serve: Callable[[Connection], None], max_threads: int, name: str
    ) -> None:
        self._watch = watch
        watch.on_left = self._client_left
        self._serve = serve
        self._max_threads = max_threads
        self._name = name
        self._max_queue = watch.config.max_queue
        self._idle_timeout = watch.config.thread_idle_timeout
        self._lock = threading.Lock()
        self._followers: list[Worker] = []
        self._threads: set[Worker] = set()
        self._busy = 0
        self._backlog = Backlog(watch.config.long_wait)
        # Ours to tell of requests that wait; the rest is the event loop's.
        self._pressure = Pressure(watch, lambda: len(self._backlog))
        self._started = 0
        self._stopped = False
        self._table: dict[Worker, None] = {}
        self._turn = 0
        self._turn_seen = 0
        self._handover = Handover()
        # When the pacer last looked, how much the process had run by then, and since when the leader has
        # been inside the same handler.
        self._looked_at = self._had_run = self._stuck_since = 0.0
        #: Connections that are handled by threads which are not ours.
        self.guests: set[Connection] = set()
        self._held_seen: set[Exchange] = set()

    # -- from outside

    def start(self) -> None:
        """Start the first leader.  Raises :exc:`RuntimeError` if no thread can be had."""
        with self._lock:
            if not self._new_thread_locked():
                raise RuntimeError("can't start the thread that keeps the watch")

    def stop(self) -> None:
        """No thread follows any more: each ends when it has nothing to do."""
        with self._lock:
            self._stopped = True
            followers, self._followers = self._followers, []
        for worker in followers:
            worker.wakeup.release()

    def join(self, timeout: float | None = None) -> None:
        """After the watch was told to drain: wait for the threads to end, ``timeout`` s at the most."""
        deadline = None if timeout is None else monotonic() + timeout
        while (worker := self._any_other()) is not None:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return
            worker.thread.join(left)

    def _any_other(self) -> Worker | None:
        """A thread of the pool's, started, that is not the caller."""
        with self._lock:
            here = threading.current_thread()
            return next((worker for worker in self._threads if worker.thread is not here), None)

    def connections(self) -> list[Connection]:
        """Those that are handled, or wait for it."""
        handled = [worker.connection for worker in list(self._threads)]
        found = [*(one for one in handled if one is not None), *self.guests.copy(), *self._backlog]
        # One may stand there twice for a moment: with the thread that has just given it away, too.
        return list(dict.fromkeys(found))

    def after_fork(self) -> None:
        """In a forked child, which has one thread at most: it ends behind the handler that forked."""
        self._lock = threading.Lock()
        self._backlog = Backlog(self._watch.config.long_wait)
        self._followers = []
        self._table.clear()
        self._threads.clear()
        self.guests.clear()
        self._stopped = True

    def join_idle(self) -> None:
        """After :meth:`stop`: wait for the threads that are not inside a handler."""
        with self._lock:
            workers = list(self._threads)
        for worker in workers:
            if worker.connection is None and worker.thread is not threading.current_thread():
                worker.thread.join(_ENDING)
        with self._lock:
            while (connection := self._backlog.take()) is not None:
                connection.close_at_the_end()

    @property
    def thread_count(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def look(self) -> float:
        """The pacer's look; returns when to look again, in seconds, or 0 if there was nothing to see.

        A handler that is inside the same turn, or holds the same head, as a tick ago is slow: its
        thread loses the lead if it blocks, its head goes out.
        """
        busy = self._look_at_leader()
        held = set()
        for connection in [worker.connection for worker in list(self._threads)] + list(self.guests):
            if connection is not None and connection.holds_back and connection.exchange is not None:
                held.add(connection.exchange)
                if connection.exchange in self._held_seen:
                    connection.send_held()
        self._held_seen = held
        if not busy and not held:
            return 0.0
        # Each look interrupts a handler that computes, and costs it some 50 µs.
        return TICK if held or not self._handover.is_undisturbed else LONG_TICK

    def _look_at_leader(self) -> bool:
        looked_at, had_run = self._looked_at, self._had_run
        self._looked_at, self._had_run = now, run = monotonic(), process_time()
        turn = self._turn
        if turn != self._turn_seen:
            self._turn_seen = turn
            self._stuck_since = now
            return True
        inside = list(self._table)
        if not inside:
            return False
        idle = run - had_run < (now - looked_at) * _BUSY_SHARE
        if not HAS_LOCK or now - self._stuck_since > _PATIENCE:
            self._take_over()
        elif idle and not is_runnable(inside[0].thread.native_id) and self._take_over():
            self._handover.note_blocked()
        return True

    # -- the threads

    def _run(self, me: Worker) -> None:
        try:
            while True:
                connection = self._lead(me)
                while connection is not None:
                    self._handle(me, connection, 1)
                    connection = self._next_waiting()
                if not self._follow(me):
                    return
        finally:
            with self._lock:
                self._threads.discard(me)
            if self._watch.forked:
                end_process()

    def _lead(self, me: Worker) -> Connection | None:
        """Keep the watch until the lead is lost.

        Returns the request that this thread is to run as an ordinary worker, or None if it has run
        it already.
        """
        watch = self._watch
        table = self._table
        pacer = watch.pacer
        handover = self._handover
        while True:
            connection = watch.next()
            if connection is None:
                self.stop()
                return None
            # What comes without a request is not quick: a TLS handshake, or a program's cleaning up.
            if (
                (handover.keeps_lead or handover.tries())
                and self._busy < self._max_threads
                and connection.exchange is not None
                and not connection.one_thread  # which will wait for its next request
            ):
                table[me] = None
                self._turn += 1
                if pacer.asleep:
                    pacer.nudge()
                self._handle(me, connection, 0)
                try:
                    del table[me]
                except KeyError:
                    if self._lost_the_lead(me):
                        return self._next_waiting()
            elif self._promote(me, connection):
                return connection

    def _lost_the_lead(self, me: Worker) -> bool:
        """The baton was gone; False if the pacer could not give it away and has laid it back."""
        with self._lock:
            if me not in self._table:
                return True
            del self._table[me]
            return False

    def _promote(self, me: Worker, connection: Connection) -> bool:
        """Give the lead away, to run the handler; False if the request must wait instead."""
        self._watch.register(connection)
        with self._lock:
            room = self._max_threads + (_ERRANDS if connection.exchange is None else 0)
            is_full = self._busy >= room
            if not is_full and self._new_leader_locked():
                return True
            waits = is_full and self._wait_locked(connection)
        if is_full:
            if not waits:
                connection.turn_away()
            return False
        # No thread can be had. Better a watch that pauses than a request that is lost.
        self._handle(me, connection, 0)
        return False

    def _wait_locked(self, connection: Connection) -> bool:
        """Have a request, or an errand, wait for a thread; False if too many requests do."""
        if len(self._backlog) >= self._max_queue and connection.exchange is not None:
            return False
        self._backlog.put(connection)
        self._pressure.begin()
        return True

    def _take_over(self) -> bool:
        """Give a follower the lead of a leader that is inside a handler; False if that can't be."""
        with self._lock:
            try:
                leader, _ = self._table.popitem()
            except KeyError:
                return False  # The leader came back just now.
            if (connection := leader.connection) is not None:
                self._watch.register(connection)
            if not self._new_leader_locked():
                self._table[leader] = None
                return False
        return True

    def _new_leader_locked(self) -> bool:
        """Give the lead to another thread, and count the one that had it among the busy.

        In this order: the new leader looks at ``_busy`` at once, and without the lock.
        """
        self._busy += 1
        if self._followers:
            self._followers.pop().wakeup.release()
        elif not self._new_thread_locked():
            self._busy -= 1
            return False
        return True

    def _new_thread_locked(self) -> bool:
        self._started += 1
        worker = Worker()
        name = f"{self._name}-{self._started}"
        worker.thread = threading.Thread(target=self._run, args=(worker,), name=name, daemon=True)
        self._threads.add(worker)
        try:
            worker.thread.start()
        except RuntimeError as error:
            self._threads.discard(worker)
            _log.warning("no new thread: %s", error)
            return False
        return True

    def _handle(self, me: Worker, connection: Connection, counted: int) -> None:
        """Run a handler, in a thread that is ``counted`` among the busy once, or not."""
        me.connection = connection
        exchange = connection.exchange
        alone = self._busy == counted
        handover = self._handover
        begun = None if handover.is_calm else handover.begin()
        try:
            self._serve(connection)
        except SystemExit:
            pass  # A handler that ends its thread ends its request; threads are the server's.
        except BaseException:
            _log.exception("a handler raised what is no Exception")
        if exchange is not None and exchange.ended_at:
            took = exchange.ended_at - exchange.started_at
            if took >= QUICK or not handover.is_calm:
                handover.note(took, begun, alone=alone and self._busy == counted)
        me.connection = None

    def _next_waiting(self) -> Connection | None:
        """After a handler: the next request that waits; with none, this thread is free."""
        while True:
            with self._lock:
                # More are busy than are permitted? Then one has run an errand, and takes no request.
                over = self._busy > self._max_threads
                connection = self._backlog.take(errands_alone=over)
                if connection is None:
                    self._busy -= 1
                    return None
            if not is_dead(connection):
                return connection
            connection.drop()

    def _client_left(self, connection: Connection) -> None:
        """Under overload a request may wait for long: drop it now, with what it holds."""
        with self._lock:
            if not is_dead(connection) or not self._backlog.remove(connection):
                return
        connection.tell_unstarted()
        connection.retire()

    def _follow(self, me: Worker) -> bool:
        """Sleep until this thread is to lead; False if it is to end."""
        with self._lock:
            if self._stopped:
                return False
            self._followers.append(me)
        if not me.wakeup.acquire(timeout=self._idle_timeout):
            with self._lock:
                if me in self._followers:
                    self._followers.remove(me)
                    return False
            me.wakeup.acquire()
        return not self._stopped
