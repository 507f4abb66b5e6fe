"""The event loop: what the leading thread does while it leads.

It polls, accepts, receives heads, notices departures, keeps the deadlines, and hands out one
connection at a time that has a request at hand.  It never runs a handler.
"""

import logging
import math
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Event, Lock, current_thread, main_thread
from time import monotonic
from typing import Any, Protocol

from .._connection.connection import Connection
from .._connection.link import Link
from .._connection.loop import Loop
from .._connection.sinks import Sinks
from .._connection.state import State
from .._connection.waiting import stop_waiting
from .._http1.request_head import Heads
from .._system.fork import PrivateSocket
from .._system.poller import READABLE, InertPoller, Poller, is_established
from ..config import Config
from .listener import ACCEPT_AT_ONCE, Accept, Listener, Listeners
from .room import close_some, room_for_connections

__all__ = ["Accept", "EventLoop"]

_log = logging.getLogger("hangup")

# And at the very end, lest what the kernel has accepted in the server's name be reset.
ACCEPT_LAST = 4096


class _Timed(Protocol):
    """What has a deadline."""

    deadline: float

    def on_deadline(self) -> bool: ...


class _Watched(_Timed, Protocol):
    """What the event loop knows of an entry: a connection, or a listener."""

    def on_ready(self, flags: int) -> bool: ...


class _Waker:
    """The poller's own descriptor."""

    deadline = math.inf

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    def on_ready(self, _flags: int) -> bool:
        self._poller.woken()
        return False

    def on_deadline(self) -> bool:
        return False


class _Newcomer:
    """A connection that another event loop has accepted."""

    deadline = math.inf

    def __init__(self, loop: "EventLoop", connection: Connection) -> None:
        self._loop = loop
        self.connection = connection

    def on_ready(self, _flags: int) -> bool:
        self._loop.add(self.connection)
        return False

    def on_deadline(self) -> bool:
        return False


class EventLoop(Loop):
    """Connections of one server, and what is to be seen of them: all, where there is but one event loop.

    ``next``, ``add`` and ``hand_out`` are the leading thread's, one at a time, and so are ``_ready``,
    ``_at_hand``, ``next_sweep`` and every idle connection.  All else may be called by any thread.  Of
    ``_ready``, any thread may add to the end, which is one atomic operation.

    A new connection is registered with the poller when it first has to wait: for its request, for a
    thread, for a slow handler, for its next request.  Until then the leader is busy with it, and would
    not look at the poller anyhow; most that carry one request never need it, which saves them a
    quarter of their system calls.

    ``lock`` guards the hand-over of connections: their ``state``, ``pending`` and ``watched``, and that
    they are still open; that one leaves ``waiting`` or ``held_up``, whose other operations are single
    ones, each atomic; and ``draining``, which is set once, so that nobody parks a connection behind
    the last look at those that are idle.  ``_entries`` is a dict of which only single operations are
    used, each atomic.  ``_expecting`` is set by any thread, and cleared by the leader before it looks
    at all deadlines.  ``_stopped`` and ``ended`` are set once, and the poller closes after that; the
    rest is set before the threads start.
    """

    def __init__(self, config: Config, poller: Poller, sinks: Sinks) -> None:
        self.config = config
        self.heads = Heads(config)
        self.poller = poller
        self.rearm = poller.rearm
        self.lock = Lock()
        #: Does a FIN alone say nothing? (``Config.half_close``)
        self.ignores_fin = config.half_close == "ignore"
        self.draining = False
        #: Until when a connection that is idle while the server drains may send one more request: its
        #: last answer did not say that it would close.
        self.drained_at = 0.0
        #: Do the listeners close when it drains? What waits there is accepted first.
        self.closes_listeners = False
        self.sinks = sinks
        self.on_closed: Callable[[Any], None] | None = None
        #: Called when a client leaves whose request may still wait for a thread.
        self.on_left: Callable[[Connection], None] = lambda _connection: None
        #: Called by the leader before each look at the poller while it drains, and when it has ended.
        self.on_draining: Callable[[], None] = lambda: None
        #: Called when accepting pauses, since there is no room.
        self.on_full: Callable[[], None] = lambda: None
        self._entries: dict[int, _Watched] = {poller.wake_fd: _Waker(poller)}
        self.listeners = Listeners()
        #: Set by the leader when it has let go of them.
        self.accepts_no_more = Event()
        self._ready: deque[tuple[_Watched, int]] = deque()
        self._at_hand: deque[Connection] = deque()
        self.next_sweep = math.inf
        self._stopped = False
        self._expecting = False
        #: Connections whose threads wait for their next request; and for their clients, to send or read.
        self.waiting: dict[Connection, None] = {}
        self.held_up: dict[Any, None] = {}
        #: What has a deadline, and no descriptor. Set before the threads start.
        self.timers: list[_Timed] = []
        #: Bytes of responses that are held for clients which read slowly. ``lock`` guards it.
        self.held_bytes = 0
        #: How many of them there may be. Set before the threads start.
        self.most_held = config.max_held_output
        #: How many connections may be open; how many were opened, which the thread that accepts counts,
        #: with ``lock`` where there are several event loops; and how many are gone, which ``lock``
        #: guards.
        self.most = config.max_connections or room_for_connections()
        self.opened = self.gone = 0
        #: The server's event loops, where it has several. Set before the threads start.
        self._all: Sequence[EventLoop] = (self,)
        #: Whether the latest look found more than one entry ready. The leader's.
        self.is_crowded = False
        #: Listeners that wait for room. The leader's.
        self.paused: set[Listener] = set()
        #: Nobody watches any more: a connection that is done closes at once.
        self.ended = False
        #: Whether this process has forked since it serves; whether it is such a child (_system.fork).
        self.has_children = self.forked = False

    # -- the leading thread

    def next(self) -> Connection | None:
        """Wait until a connection has a request at hand; None when the event loop has ended."""
        ready = self._ready
        at_hand = self._at_hand
        while True:
            while ready:
                entry, flags = ready.popleft()
                try:
                    if entry.on_ready(flags):
                        return entry  # type: ignore[return-value]
                except BaseException:
                    self._contain(entry)
            if at_hand:
                return at_hand.popleft()
            if self._stopped or (self.draining and not self._drain()):
                self.ended = True
                # Who asks for something from now on finds that this has ended; what was asked before is
                # still done: somebody waits for it.
                for entry, flags in list(ready):
                    if not isinstance(entry, (Connection, Listener)):
                        try:
                            entry.on_ready(flags)
                        except BaseException:
                            self._contain(entry)
                self.accepts_no_more.set()  # It was stopped, it may be.
                self.on_draining()
                return None
            self._poll()

    @staticmethod
    def _contain(entry: _Timed) -> None:
        """A defect of ours, or of a hook's, in an exception handler.

        It costs that client its connection, and nobody else; least of all does it end the event loop.
        """
        _log.exception("while watching %r", entry)
        if isinstance(entry, Connection):
            entry.closing.close()

    def _poll(self) -> None:
        timeout = None
        if self.paused:
            self._resume()
        if self._expecting or self.next_sweep != math.inf:
            timeout = self.next_sweep - monotonic()
            if self._expecting or timeout <= 0:
                self._expecting = False
                timeout = max(0.0, self._sweep() - monotonic())
            if timeout == math.inf:
                timeout = None
        entries = self._entries
        ready = self._ready
        if ready or self._at_hand:
            return  # What was done on the way here has left something to do: nobody would tell of it.
        found = self.poller.wait(timeout)
        self.is_crowded = len(found) > 1
        for descriptor, flags in found:
            entry = entries.get(descriptor)
            if entry is not None:
                ready.append((entry, flags))

    def _resume(self) -> None:
        """End the pauses of accepting, if a connection has closed since they began."""
        for listener in list(self.paused):
            if self.gone > listener.gone_before and self.opened - self.gone < self.most:
                listener.on_deadline()

    def _sweep(self) -> float:
        """Call on those whose deadline has passed; return when to do so again."""
        # Before the look: a thread that parks a connection meanwhile, which this look has passed, is to
        # find that nothing is expected, and say so (expect).
        self.next_sweep = math.inf
        now = monotonic()
        nearest = math.inf
        for entry in [*self._entries.values(), *self.timers]:
            if entry.deadline <= now:
                try:
                    if entry.on_deadline():
                        self._at_hand.append(entry)  # type: ignore[arg-type]
                except BaseException:
                    self._contain(entry)
            # Also one that has just been given another deadline.
            if now < entry.deadline < nearest:
                nearest = entry.deadline
        self.next_sweep = nearest
        return nearest

    def add(self, connection: Connection) -> None:
        """A new connection.  Often its first request is there already."""
        try:
            if is_established(connection.sock) and connection.on_ready(READABLE):
                self._at_hand.append(connection)
                return
            self.register(connection)
            if not connection.watched:
                connection.closing.close()
                return
        except BaseException:
            self._contain(connection)
        if connection.deadline < self.next_sweep:
            self.next_sweep = connection.deadline

    def share(self, loops: "Sequence[EventLoop]") -> None:
        """This is one of several, among which connections are shared out.  Before the start."""
        self._all = loops
        self.most = max(1, self.most // len(loops))
        self.most_held //= len(loops)

    def note_opened(self) -> None:
        """One more connection is made, by the thread that accepts, or by another event loop's."""
        if len(self._all) > 1:
            with self.lock:
                self.opened += 1
        else:
            self.opened += 1

    def least_connected(self) -> "EventLoop":
        """The event loop that is to have the next connection: this one, unless another has fewer by two.

        While it drains, this one: others may have ended.
        """
        if not self.draining:
            own = self.opened - self.gone
            for loop in self._all:
                if loop.opened - loop.gone + 1 < own:
                    return loop
        return self

    def take_in(self, connection: Connection) -> None:
        """A new connection that another event loop has accepted for this one."""
        self._ready.append((_Newcomer(self, connection), 0))
        self.poller.wake()

    def _newcomers(self) -> list[Connection]:
        """Those that other event loops have accepted, and this one has not looked at yet."""
        return [entry.connection for entry, _ in self._ready if isinstance(entry, _Newcomer)]

    def make_room(self) -> bool:
        """Close some connections that nobody works for; True if it helps."""
        close_some(self.connections())
        return self.opened - self.gone < self.most

    def sending(self) -> list[Connection]:
        """Those that the end of a response is sent to, by the event loop."""
        return [one for one in self.connections() if one.state is State.SENDING]

    def connections(self) -> list[Connection]:
        """Those that are watched.  Any thread: others come and go meanwhile."""
        return [entry for entry in list(self._entries.values()) if isinstance(entry, Connection)]

    def hand_out(self, connection: Any) -> None:
        """Have ``next`` return this connection, which needs a thread."""
        self._ready.append((connection, 0))

    def listen(self, sock: socket.socket, accept: Accept, *, one_at_a_time: bool = False) -> None:
        """Accept connections.  Before the first ``next``."""
        listener = Listener(sock, accept, self, 1 if one_at_a_time else ACCEPT_AT_ONCE)
        self.listeners.add(listener)
        self._entries[sock.fileno()] = listener
        self.poller.add_listener(sock)

    def _drain(self) -> bool:
        """Once: stop accepting and close what is idle.  True while connections are in use."""
        listeners = self.listeners.take_all()
        for listener in listeners:
            self._entries.pop(listener.sock.fileno(), None)
            self.poller.remove(listener.sock)
            if self.closes_listeners:
                # At once, and here: a client that connects now is refused, and not kept waiting.
                listener.accept(ACCEPT_LAST)
                listener.sock.close()
        self.paused.clear()
        self.accepts_no_more.set()
        if listeners:
            for entry in list(self._entries.values()):
                if isinstance(entry, Connection) and entry.state is State.IDLE:
                    if entry.arrival.coming is not None:
                        pass  # A request that was accepted, and has its own deadline.
                    elif self.drained_at:
                        entry.deadline = min(entry.deadline, self.drained_at)
                    else:
                        entry.closing.close_gently()
            self._expecting = True
        if not self._at_hand:
            self.on_draining()
        return len(self._entries) > 1 or bool(self._at_hand)

    # -- any thread

    def look_at(self, connection: Any) -> None:
        """Bytes have come for a connection that was parked, of which the poller will not tell."""
        self._ready.append((connection, READABLE))
        self.poller.wake()

    def register(self, connection: Connection) -> None:
        """Watch a connection from now on, if it is not watched yet."""
        if not connection.watched:
            with self.lock:
                if not connection.watched:
                    self.register_locked(connection)

    def register_locked(self, connection: Any) -> bool:
        """:meth:`register`, of one that is not watched; False if it can't be."""
        if connection.state is State.CLOSED or self.ended:
            return False
        fd = connection.sock.fileno()
        self._entries[fd] = connection
        try:
            self.poller.add(connection.sock)
        except OSError as error:  # The system has no more to give (epoll_ctl: ENOSPC, ENOMEM).
            del self._entries[fd]
            _log.warning("a connection can't be watched: %s", error)
            return False
        connection.watched = True
        return True

    def expect(self, deadline: float) -> None:
        """A deadline was set.

        ``next_sweep`` is the leader's to write: it looks at all deadlines anew, and finds this one.
        """
        if deadline < self.next_sweep:
            self._expecting = True
            self.poller.wake()

    def forget(self, connection: Link) -> bool:
        """The connection closes; False if it has closed before."""
        with self.lock:
            if connection.state is State.CLOSED:
                return False
            connection.state = State.CLOSED
            self.gone += 1
            watched, connection.watched = connection.watched, False
            if watched:
                self._entries.pop(connection.sock.fileno(), None)
        if watched:
            self.poller.remove(connection.sock)
        return True

    def end_handler(self, connection: Link) -> None:
        """No request follows on this connection: its handler ends, in the calling thread.

        In the main thread, what is no :exc:`Exception` is raised.
        """
        if self.on_closed is not None:
            try:
                self.on_closed(connection)
            except Exception:
                _log.debug("while a connection closed", exc_info=True)
            except BaseException:  # SystemExit, say: it must not keep the connection open.
                if current_thread() is main_thread():
                    raise  # Ctrl-C, or sys.exit(), in a server whose handlers run there.
                _log.exception("while a connection closed")

    def closed(self, connection: Link) -> None:
        """The connection has closed."""
        self.end_handler(connection)
        if self.draining or self.paused:
            self.poller.wake()

    def drain(self, patience: float = 0.0) -> None:
        """Accept nothing more, close what is idle, and end when the last request has ended.

        A connection that is idle has ``patience`` seconds to send one more request, which is answered.
        """
        with self.lock:
            if patience and not self.draining:
                self.drained_at = monotonic() + patience
            self.draining = True
        # Who enters itself after this look finds `draining` set.
        for connection in list(self.waiting):
            stop_waiting(connection.transport)
        self.poller.wake()

    def stop(self) -> None:
        """End now; connections in use stay with those who use them."""
        self._stopped = True
        self.poller.wake()

    def after_fork(self, own: Connection | None, others: Iterable[Connection]) -> None:
        """In a forked child: close what is the parent's, which is all but ``own``."""
        self.lock = Lock()
        self.forked = self.ended = self.draining = self._stopped = True
        self.drained_at = 0.0
        self.has_children = False  # What it closes goes on being its parent's.
        self.sinks = Sinks()
        entries, self._entries = self._entries, {}
        for sock in self.listeners.sockets:
            PrivateSocket(sock).after_fork_in_child()
        connections = [entry for entry in entries.values() if isinstance(entry, Connection)]
        for connection in {*connections, *self._at_hand, *self._newcomers(), *others}:
            if connection is not own:
                connection.sock.close_descriptor()
        self._at_hand.clear()
        self._ready.clear()
        self.waiting.clear()
        self.poller.close()
        self.poller = InertPoller()
        self.rearm = None
        if own is not None:
            own.watched = False
            # It ends with the request at hand.
            own.keep_open = False
            own.one_thread = True
            own.after_fork()

    def close(self) -> None:
        """Close what is left, after the event loop has ended."""
        with self.lock:
            self.ended = True
        for connection in [*self._at_hand, *self._newcomers()]:
            connection.closing.close_at_the_end()
        self._at_hand.clear()
        for entry in list(self._entries.values()):
            if isinstance(entry, Connection) and entry.state is not State.HANDLED:
                entry.closing.close_at_the_end()
        self.poller.close()
