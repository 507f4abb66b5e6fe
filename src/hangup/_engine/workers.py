"""The threads: leader and followers (POSA2, "Leader/Followers").

One thread leads: it runs the event loop.  When a request is at hand, the leader runs its handler itself;
no queue lies between, no second thread wants the interpreter lock, and the request's bytes are warm.

Leadership is a *baton*.  While handlers don't block, the leader lays it on the table, runs the handler,
and takes it up again.  If the handler blocks, or computes for too long, the watchdog takes the baton
from the table and gives it to a follower, and the first thread finds, afterwards, that it leads no more.
When handlers have blocked of late, the leader gives the baton to a follower before it calls the handler
(``handover``).

So one thread always runs the event loop.  When all permitted handlers run, the leader runs none: it goes
on polling, and lets requests wait in the backlog for whoever is done first.

Where Python has no interpreter lock, there are several event loops, each with connections and a leader
of its own, so that requests are received, parsed and handled on several cores.  All else they share.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from time import monotonic, process_time
from typing import TYPE_CHECKING

from .._connection.connection import Connection
from .._system.fork import end_process
from .._system.threads import new_thread
from .event_loop import EventLoop
from .handover import HAS_LOCK, QUICK, Handover, is_runnable
from .lead import Lead, Worker
from .pressure import Pressure
from .request_queue import Backlog, is_dead
from .watchdog import LONG_TICK, TICK

if TYPE_CHECKING:
    from .._connection.exchange import Exchange

__all__ = ["Workers"]

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


class Workers:
    """The pool for handlers that may run side by side.

    ``_lock`` guards ``_followers``, ``_busy``, ``_led``, ``_backlog``, ``_threads`` and ``_stopped``.
    ``_busy`` counts the handlers that run without the lead; where there are several leaders, those that
    run with it, too.  ``_led`` counts the event loops that have not ended.  ``_held_seen``,
    ``_looked_at`` and ``_had_run`` are the watchdog's.  Of ``guests``, which any thread may enter, only
    single operations are used, each atomic.
    """

    def __init__(
        self,
        loops: Sequence[EventLoop],
        serve: Callable[[Connection], None],
        max_threads: int,
        name: str,
    ) -> None:
        self._leads = [Lead(loop) for loop in loops]
        self._several = len(loops) > 1
        for loop in loops:
            loop.on_left = self._client_left
        self._serve = serve
        self._max_threads = max_threads
        self._name = name
        self._config = config = loops[0].config
        self._max_queue = config.max_queue
        self._idle_timeout = config.thread_idle_timeout
        self._lock = threading.Lock()
        self._followers: list[Worker] = []
        self._threads: set[Worker] = set()
        self._busy = 0
        self._backlog = Backlog(config.lifo_threshold)
        # Ours to tell of requests that wait; the rest is the event loop's.
        self._pressure = Pressure(loops, lambda: len(self._backlog))
        self._started = 0
        self._stopped = False
        self._led = len(loops)
        self._handover = Handover()
        # When the watchdog last looked, and how much the process had run by then.
        self._looked_at = self._had_run = 0.0
        #: Connections that are handled by threads which are not ours.
        self.guests: set[Connection] = set()
        self._held_seen: set[Exchange] = set()

    # -- from outside

    def start(self) -> None:
        """Start the first leaders.  Raises :exc:`RuntimeError` if no thread can be had."""
        with self._lock:
            for lead in self._leads:
                if not self._new_thread_locked(lead):
                    raise RuntimeError("can't start the thread that runs the event loop")

    def stop(self) -> None:
        """No thread follows any more: each ends when it has nothing to do."""
        with self._lock:
            self._stopped = True
            followers, self._followers = self._followers, []
        for worker in followers:
            worker.wakeup.release()

    def join(self, timeout: float | None = None) -> None:
        """After the loop was told to drain: wait for the threads to end, ``timeout`` s at the most."""
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

    def remove_guest(self, guest: Connection) -> None:
        """A thread that is not the pool's has handled this connection, which had entered ``guests``."""
        self.guests.discard(guest)
        if guest.loop.draining:
            guest.loop.poller.wake()  # It may have been the last one that was waited for.

    def after_fork(self) -> None:
        """In a forked child, which has one thread at most: it ends behind the handler that forked."""
        self._lock = threading.Lock()
        self._backlog = Backlog(self._config.lifo_threshold)
        self._followers = []
        for lead in self._leads:
            lead.table.clear()
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
                connection.closing.close_at_the_end()

    @property
    def thread_count(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def look(self) -> float:
        """The watchdog's look; returns when to look again, in seconds, or 0 if there was nothing to see.

        A handler that is inside the same turn, or holds the same head, as a tick ago is slow: its
        thread loses the lead if it blocks, its head goes out.
        """
        busy = self._look_at_leaders()
        held = set()
        for connection in [worker.connection for worker in list(self._threads)] + list(self.guests):
            if (
                connection is not None
                and connection.output.holds_back
                and connection.exchange is not None
            ):
                held.add(connection.exchange)
                if connection.exchange in self._held_seen:
                    connection.output.send_held()
        self._held_seen = held
        if not busy and not held:
            return 0.0
        # Each look interrupts a handler that computes, and costs it some 50 µs.
        return TICK if held or not self._handover.is_undisturbed else LONG_TICK

    def _look_at_leaders(self) -> bool:
        looked_at, had_run = self._looked_at, self._had_run
        self._looked_at, self._had_run = now, run = monotonic(), process_time()
        # Without an interpreter lock, what the process has run says nothing of one handler.
        idle = not HAS_LOCK or run - had_run < (now - looked_at) * _BUSY_SHARE
        # Each of them is to be looked at.
        return any([self._look_at_leader(lead, now, idle=idle) for lead in self._leads])  # noqa: C419

    def _look_at_leader(self, lead: Lead, now: float, *, idle: bool) -> bool:
        turn = lead.turn
        if turn != lead.turn_seen:
            lead.turn_seen = turn
            lead.stuck_since = now
            return True
        inside = list(lead.table)
        if not inside:
            return False
        if now - lead.stuck_since > _PATIENCE:
            self._take_over(lead)
        elif idle and not is_runnable(inside[0].thread.native_id) and self._take_over(lead):
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
            if me.lead.loop.forked:
                end_process()

    def _lead(self, me: Worker) -> Connection | None:
        """Run the event loop until the lead is lost.

        Returns the request that this thread is to run as an ordinary worker, or None if it has run
        it already.
        """
        lead = me.lead
        loop, table = lead.loop, lead.table
        watchdog = loop.watchdog
        handover = self._handover
        several = self._several
        waited: Connection | None = None
        while True:
            connection = waited or loop.next()
            if connection is None:
                self._ended()
                return None
            counted = waited is not None
            waited = None
            # What comes without a request is not quick: a TLS handshake, or a program's cleaning up.
            if (
                (handover.keeps_lead or handover.tries())
                and (counted or self._busy < self._max_threads)
                and connection.exchange is not None
                and not connection.one_thread  # which will wait for its next request
                and (not several or counted or self._enter())
            ):
                table[me] = None
                lead.turn += 1
                if watchdog.asleep:
                    watchdog.nudge()
                self._handle(me, connection, several)
                try:
                    del table[me]
                except KeyError:
                    if self._lost_the_lead(me):
                        return self._next_waiting()
                if several:
                    waited = self._next_waiting()
            elif self._promote(me, connection, counted=counted):
                return connection

    def _ended(self) -> None:
        """An event loop has ended; with the last of them, nobody leads any more."""
        with self._lock:
            self._led -= 1
            last = self._led == 0
        if last:
            self.stop()

    def _enter(self) -> bool:
        """Of several leaders, one is about to run a handler with the lead; False if it may not."""
        with self._lock:
            if self._busy >= self._max_threads:
                return False
            self._busy += 1
            return True

    def _lost_the_lead(self, me: Worker) -> bool:
        """The baton was gone; False if the watchdog could not give it away and has laid it back."""
        with self._lock:
            if me not in me.lead.table:
                return True
            del me.lead.table[me]
            return False

    def _promote(self, me: Worker, connection: Connection, *, counted: bool = False) -> bool:
        """Give the lead away, to run the handler; False if the request must wait instead.

        ``counted`` says that it counts among the busy already: it has waited.
        """
        connection.loop.register(connection)
        with self._lock:
            self._busy -= counted
            room = self._max_threads + (_ERRANDS if connection.exchange is None else 0)
            is_full = self._busy >= room
            if not is_full and self._new_leader_locked(me.lead):
                return True
            waits = is_full and self._wait_locked(connection)
        if is_full:
            if not waits:
                connection.closing.reject()
            return False
        # No thread can be had. Better an event loop that pauses than a request that is lost.
        self._handle(me, connection, 0)
        return False

    def _wait_locked(self, connection: Connection) -> bool:
        """Have a request, or an errand, wait for a thread; False if too many requests do."""
        if len(self._backlog) >= self._max_queue and connection.exchange is not None:
            return False
        self._backlog.put(connection)
        self._pressure.begin()
        return True

    def _take_over(self, lead: Lead) -> bool:
        """Give a follower the lead of a leader that is inside a handler; False if that can't be."""
        with self._lock:
            try:
                leader, _ = lead.table.popitem()
            except KeyError:
                return False  # The leader came back just now.
            if (connection := leader.connection) is not None:
                connection.loop.register(connection)
            if not self._new_leader_locked(lead, counted=self._several):
                lead.table[leader] = None
                return False
        return True

    def _new_leader_locked(self, lead: Lead, *, counted: bool = False) -> bool:
        """Give the lead to another thread, and count the one that had it among the busy, if it is not.

        In this order: the new leader looks at ``_busy`` at once, and without the lock.
        """
        self._busy += not counted
        if self._followers:
            follower = self._followers.pop()
            follower.lead = lead
            follower.wakeup.release()
        elif not self._new_thread_locked(lead):
            self._busy -= not counted
            return False
        return True

    def _new_thread_locked(self, lead: Lead) -> bool:
        self._started += 1
        worker = Worker(lead)
        name = f"{self._name}-{self._started}"
        worker.thread = new_thread(self._run, name, worker)
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
            connection.closing.drop()

    def _client_left(self, connection: Connection) -> None:
        """Under overload a request may wait for long: drop it now, with what it holds."""
        with self._lock:
            if not is_dead(connection) or not self._backlog.remove(connection):
                return
        connection.delivery.tell_unstarted()
        connection.closing.retire()

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
