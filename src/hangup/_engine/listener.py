"""A listening socket: when connections are accepted, and when that has to wait.

There is room for a connection if fewer than ``max_connections`` are open, and if the system has a
descriptor to give.  Where there is none, idle connections make room, those first that have been idle for
longest.  If that does not help, accepting pauses, until a connection closes; the kernel's backlog keeps
those that come meanwhile.
"""

import errno
import logging
import math
import socket
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from .._connection.loop import Loop

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .._system.poller import InertPoller, Poller

__all__ = ["ACCEPT_AT_ONCE", "Accept", "Listener", "Listeners"]

_log = logging.getLogger("hangup")

# Connections that are accepted in one go, at the most. Where nothing else is ready it is one, so that a
# quiet server makes no call in vain, and doubles for as long as the listener is ready again within
# ACCEPT_BUSY seconds. Where other connections are, whose requests are served before the next look, who
# has just connected must not wait for one turn of theirs each.
ACCEPT_AT_ONCE = 128
ACCEPT_BUSY = 0.0005
# Seconds that accepting pauses at the most, when there is no room or the system has no descriptor or
# memory left to give; a connection that closes ends the pause sooner. And between two warnings of it.
ACCEPT_PAUSE = 0.1
ACCEPT_WARNING = 10.0
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

#: Takes one connection from a listening socket; returns None if it is not wanted. Raises OSError.
Accept = Callable[[Loop], "Connection | None"]


class Accepting(Protocol):
    """What a listener knows of its event loop: what has room for connections, and takes them."""

    most: int
    opened: int
    gone: int
    draining: bool
    is_crowded: bool
    poller: "Poller | InertPoller"
    paused: "set[Listener]"
    on_full: Callable[[], None]

    def add(self, connection: "Connection") -> None: ...

    def take_in(self, connection: "Connection") -> None: ...

    def make_room(self) -> bool: ...

    def expect(self, deadline: float) -> None: ...

    def least_connected(self) -> Any: ...


class Listener:
    """A listening socket, and how to take connections from it.  The watching thread's alone."""

    def __init__(
        self, sock: socket.socket, accept: Accept, loop: Accepting, most: int = ACCEPT_AT_ONCE
    ) -> None:
        self.sock = sock
        self.deadline = math.inf
        self._accept = accept
        self._loop = loop
        self._at_once = 1
        self._looked_at = 0.0
        self._warned_at = -math.inf
        self._suspended = False
        self._most = most
        #: Whether a connection is one for the server; set before the threads start.
        self.wanted: Callable[[Connection], bool] = lambda _connection: True
        #: How many connections had gone when it paused.
        self.gone_before = 0

    def on_ready(self, _flags: int) -> bool:
        """Accept what has come."""
        now = monotonic()
        busy = now - self._looked_at < ACCEPT_BUSY
        self._looked_at = now
        if self._loop.is_crowded:
            self._at_once = self._most
        else:
            self._at_once = min(self._at_once * 2, self._most) if busy else 1
        self.accept(self._at_once)
        return False

    def accept(self, most: int) -> bool:
        """Accept connections, for as long as there are some, and room for them.

        Returns whether ``most`` were accepted.
        """
        loop = self._loop
        for number in range(most):
            gone = loop.gone
            if loop.opened - gone >= loop.most and not loop.draining:
                if number:
                    return False  # There may be none any more: nobody need go for it.
                if not loop.make_room():
                    self._pause(f"{loop.most} connections are open, and none is idle", gone)
                    return False
            taker = loop.least_connected()
            try:
                connection = self._accept(taker)
            except BlockingIOError:
                self._at_once = 1
                return False
            except OSError as error:
                if error.errno in _EXHAUSTED and not (loop.make_room() and loop.gone > gone):
                    self._pause(error, gone)
                # Anything else befell that one connection, before it was accepted.
                return False
            if connection is None:
                continue
            if not self.wanted(connection):
                connection.closing.close()
            elif taker is loop:
                loop.add(connection)
            else:
                taker.take_in(connection)
        return True

    def _pause(self, why: object, gone: int) -> None:
        """The kernel's backlog keeps the rest, until a connection closes or a descriptor may be free."""
        now = monotonic()
        if now - self._warned_at > ACCEPT_WARNING:
            self._warned_at = now
            _log.warning("accepting pauses: %s", why)
        self._loop.poller.remove(self.sock)
        self.deadline = now + ACCEPT_PAUSE
        self.gone_before = gone
        self._loop.paused.add(self)
        self._loop.expect(self.deadline)
        self._loop.on_full()

    def on_deadline(self) -> bool:
        """The pause is over."""
        self.deadline = math.inf
        self._loop.paused.discard(self)
        if not self._suspended:
            self._loop.poller.add_listener(self.sock)
        return False

    def suspend(self) -> None:
        """Leave what comes to the kernel's backlog."""
        self._suspended = True
        if self not in self._loop.paused:
            self._loop.poller.remove(self.sock)

    def resume(self) -> None:
        """Accept again."""
        if not self._suspended:
            return
        self._suspended = False
        if self not in self._loop.paused:
            self._loop.poller.add_listener(self.sock)
            self.accept(self._most)


class Listeners:
    """The listening sockets of one event loop.  Its thread calls this; before the start, any."""

    def __init__(self) -> None:
        self._all: list[Listener] = []
        #: Their sockets, also when they are let go of: they may be the program's, and open for longer.
        self.sockets: list[socket.socket] = []

    def add(self, listener: Listener) -> None:
        """One more."""
        self._all.append(listener)
        self.sockets.append(listener.sock)

    def __len__(self) -> int:
        return len(self._all)

    def take_all(self) -> list[Listener]:
        """Let go of them."""
        listeners, self._all = self._all, []
        return listeners

    def suspend(self) -> None:
        """Accept nothing until :meth:`resume`."""
        for listener in self._all:
            listener.suspend()

    def resume(self) -> None:
        """Accept again, and at once what has come."""
        for listener in self._all:
            listener.resume()

    def accept_one(self) -> bool:
        """Accept one connection of each; False if there was none."""
        return any([listener.accept(1) for listener in self._all])  # noqa: C419 - each of them

    def filter(self, wanted: Callable[["Connection"], bool]) -> None:
        """Close what is accepted and not ``wanted``.  Before the start."""
        for listener in self._all:
            listener.wanted = wanted
