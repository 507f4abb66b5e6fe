"""Which connections have something to read, and which clients have left.

All kernel facts about readiness stand here, once.

*Edges.*  A connection is registered once, for its whole life, and nothing is armed again for a
request: that is what makes a request cost no system call here.  The price is a rule: a new event
comes only with new bytes, so whoever reads must go on until the buffer is drained.  A read that
returns less than was asked for has drained it; bytes that arrive later give a new edge.  But epoll
looks at the socket once more before it reports: of bytes that somebody has read by then nothing is told.
So whoever reads what another is to handle must see to it that the other learns of it.

*Departures.*  On Linux FIN and half-close look alike until a byte is written: ``EPOLLRDHUP``, and
``SO_ERROR`` is 0.  RDHUP is its own event and fires behind unread or pipelined bytes too, where
``MSG_PEEK`` would see the bytes alone; so "readable" never means "gone".  RST gives ``EPOLLHUP`` and
``EPOLLERR``.

*When.*  The kernel knows when the last byte came and when the last acknowledgement did, and a FIN
carries one: :func:`fin_after_data`.  So it does not matter how late FIN is noticed.

*Whose.*  ``wait``, ``woken`` and ``add_listener`` are called by the thread that runs the event loop, one
at a time; the others may be called by any thread.
"""

import os
import select
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

__all__ = [
    "EOF",
    "GONE",
    "READABLE",
    "EpollPoller",
    "InertPoller",
    "KqueuePoller",
    "PollPoller",
    "Poller",
    "Waker",
    "bytes_queued",
    "fin_after_data",
    "is_acknowledged",
    "is_established",
    "new_poller",
    "wait_for",
]

try:
    import fcntl
    import termios
except ImportError:  # pragma: no cover - Windows
    _TIOCOUTQ = None
else:
    _TIOCOUTQ = getattr(termios, "TIOCOUTQ", None)

# The numbers of epoll, whose events are then passed on untouched.
READABLE = 0x001
EOF = 0x2000  # EPOLLRDHUP: the client sent FIN
GONE = 0x008 | 0x010  # EPOLLERR | EPOLLHUP


class Poller(Protocol):
    """What the event loop needs of the operating system."""

    #: The descriptor that is readable after :meth:`wake`.
    wake_fd: int
    #: ``(timeout in seconds or None) -> [(descriptor, READABLE | EOF | GONE), …]``
    wait: Callable[[float | None], list[tuple[int, int]]]
    #: Tell, or no longer, when there is room to send on a connection that was added: by edges, as an
    #: event that is none of the flags here. None where that can't be asked.
    output: Callable[[socket.socket, bool], None] | None
    #: Tell that a connection's buffer is drained, or None where that needs no telling.
    rearm: Callable[[socket.socket], None] | None

    def add(self, sock: socket.socket) -> None:
        """Watch a connection, by edges."""

    def add_listener(self, sock: socket.socket) -> None:
        """Watch a listening socket, by level."""

    def remove(self, sock: socket.socket) -> None:
        """Stop watching; before the socket is closed, so that its number can be used again."""

    def wake(self) -> None:
        """Make a running or the next ``wait`` return."""

    def woken(self) -> None:
        """Take note of a wake-up that ``wait`` has reported."""

    def close(self) -> None:
        """Give back the descriptors."""


class Waker:
    """A socket pair: the wake-up that every system has."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self.wake_fd = self._reader.fileno()

    @property
    def signal_fd(self) -> int:
        """Whatever is written here wakes, too: for :func:`signal.set_wakeup_fd`."""
        return self._writer.fileno()

    def wake(self) -> None:
        try:
            self._writer.send(b"\0")
        except (BlockingIOError, OSError):
            pass  # Full, so a wake-up is under way already; or closed, so nobody waits.

    def woken(self) -> None:
        try:
            while self._reader.recv(4096):
                pass
        except (BlockingIOError, OSError):
            pass

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class InertPoller:
    """Watches nothing: what a forked child has in its parent's poller's place."""

    def __init__(self) -> None:
        self.wake_fd = -1
        self.wait: Callable[[float | None], list[tuple[int, int]]] = lambda _timeout: []
        self.output: Callable[[socket.socket, bool], None] | None = None
        self.rearm: Callable[[socket.socket], None] | None = None

    def add(self, sock: socket.socket) -> None: ...

    def add_listener(self, sock: socket.socket) -> None: ...

    def remove(self, sock: socket.socket) -> None: ...

    def wake(self) -> None: ...

    def woken(self) -> None: ...

    def close(self) -> None: ...


class EpollPoller(Waker):
    """Linux."""

    rearm = None

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._epoll.register(self.wake_fd, select.EPOLLIN)
        self.wait: Callable[[float | None], list[tuple[int, int]]] = self._epoll.poll

    def add(self, sock: socket.socket) -> None:
        self._epoll.register(sock, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def add_listener(self, sock: socket.socket) -> None:
        # Where processes share a listener, one connection need not wake them all.
        self._epoll.register(sock, select.EPOLLIN | getattr(select, "EPOLLEXCLUSIVE", 0))

    def output(self, sock: socket.socket, wanted: bool) -> None:  # noqa: FBT001
        room = select.EPOLLOUT if wanted else 0
        try:
            self._epoll.modify(sock, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET | room)
        except (OSError, ValueError):
            pass  # The connection, or the poller, is closed.

    def remove(self, sock: socket.socket) -> None:
        # Closing alone is not enough: a child that was forked in between keeps the connection
        # registered, and its events would come under a number that is somebody else's by then.
        try:
            self._epoll.unregister(sock)
        except (OSError, ValueError):
            pass  # Never added, or the poller is closed.

    def close(self) -> None:
        self._epoll.close()
        super().close()


class KqueuePoller(Waker):
    """BSD and macOS.  ``EV_CLEAR`` is the edge; ``EV_EOF`` tells FIN, with an error in ``fflags``."""

    rearm = None
    output = None

    def __init__(self) -> None:
        super().__init__()
        self._select: Any = select
        self._kqueue = self._select.kqueue()
        self._change(self.wake_fd, self._select.KQ_EV_ADD)

    def _change(self, fd: int, flags: int) -> None:
        event = self._select.kevent(fd, self._select.KQ_FILTER_READ, flags)
        self._kqueue.control([event], 0, 0)

    def add(self, sock: socket.socket) -> None:
        self._change(sock.fileno(), self._select.KQ_EV_ADD | self._select.KQ_EV_CLEAR)

    def add_listener(self, sock: socket.socket) -> None:
        self._change(sock.fileno(), self._select.KQ_EV_ADD)

    def remove(self, sock: socket.socket) -> None:
        try:
            self._change(sock.fileno(), self._select.KQ_EV_DELETE)
        except (OSError, ValueError):
            pass

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        events = []
        for event in self._kqueue.control(None, 256, timeout):
            flags = READABLE
            if event.flags & self._select.KQ_EV_EOF:
                flags |= GONE if event.fflags else EOF
            events.append((event.ident, flags))
        return events

    def close(self) -> None:
        self._kqueue.close()
        super().close()


class PollPoller(Waker):
    """The portable fallback: poll(2) and a look at one byte.

    poll tells levels, so a connection that was reported is muted until :meth:`rearm` says that it
    has been drained; in between only errors and hang-ups are seen.  Its blind spot follows: a FIN
    behind bytes that nobody has read yet is noticed when they have been read.
    """

    output = None

    def __init__(self) -> None:
        super().__init__()
        self._poll = select.poll()
        self._poll.register(self.wake_fd, select.POLLIN)
        self._sockets: dict[int, socket.socket] = {}
        # What is asked for, in order, applied by the watching thread: (sock, descriptor, events).
        # A descriptor's number can come again, so "remove" must not overtake, nor be overtaken.
        self._changes: deque[tuple[socket.socket, int, str]] = deque()

    def _change(self, sock: socket.socket, what: str) -> None:
        self._changes.append((sock, sock.fileno(), what))

    def add(self, sock: socket.socket) -> None:
        self._change(sock, "add")
        self.wake()

    def add_listener(self, sock: socket.socket) -> None:
        self._apply_changes()
        self._poll.register(sock, select.POLLIN)

    def remove(self, sock: socket.socket) -> None:
        # The kernel keeps a socket open for as long as a poll(2) that was given it goes on, also when
        # its descriptor has been closed: without this, the client would wait for its FIN.
        self._change(sock, "remove")
        self.wake()

    def rearm(self, sock: socket.socket) -> None:
        self._change(sock, "rearm")
        self.wake()

    def _apply_changes(self) -> None:
        while self._changes:
            sock, fd, what = self._changes.popleft()
            if fd < 0:
                continue
            if what == "remove":
                self._forget(fd)
            elif what == "add" or self._sockets.get(fd) is sock:
                self._sockets[fd] = sock
                self._poll.register(fd, select.POLLIN)

    def _forget(self, fd: int) -> None:
        self._sockets.pop(fd, None)
        try:
            self._poll.unregister(fd)
        except KeyError:
            pass

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        self._apply_changes()
        found = self._poll.poll(None if timeout is None else max(0, timeout * 1000))
        # Between this poll and the look at a byte, a worker may have closed a connection.
        self._apply_changes()
        events = [(fd, self._look(fd, flags)) for fd, flags in found]
        return [event for event in events if event[1]]

    def _look(self, fd: int, flags: int) -> int:
        sock = self._sockets.get(fd)
        if sock is None:  # a listener, or the waker
            return READABLE if flags & select.POLLIN else 0
        if flags & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            self._forget(fd)
            return READABLE | GONE
        self._poll.modify(fd, 0)
        try:
            # The bare method: a connection's socket has one of its own, which gives buffered bytes.
            byte = socket.socket.recv(sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            return READABLE if byte else READABLE | EOF
        except BlockingIOError:
            self._poll.modify(fd, select.POLLIN)
            return 0
        except OSError:
            self._forget(fd)
            return READABLE | GONE

    def close(self) -> None:
        self._sockets.clear()
        super().close()


def _choose() -> Any:
    """The best poller of this system; ``HANGUP_POLLER`` (epoll, kqueue, poll) forces one."""
    pollers: dict[str, Any] = {}
    if hasattr(select, "epoll"):
        pollers["epoll"] = EpollPoller
    if hasattr(select, "kqueue"):  # pragma: no cover - BSD and macOS
        pollers["kqueue"] = KqueuePoller
    pollers["poll"] = PollPoller
    return pollers[os.environ.get("HANGUP_POLLER") or next(iter(pollers))]


def new_poller() -> Poller:
    """A poller of the kind that suits this system."""
    poller: Poller = _choose()()
    return poller


def wait_for(sock: socket.socket, events: int, timeout: float) -> bool:
    """Block this thread until one socket is ready for ``events`` (``select.POLLIN``, ``POLLOUT``).

    Returns False if ``timeout`` seconds pass first.  An error on the socket counts as ready: the
    next call on it tells which.
    """
    poll = select.poll()
    poll.register(sock, events)
    # Once more without waiting: what a signal interrupts beyond its time-out returns without a look.
    return bool(poll.poll(timeout * 1000)) or bool(poll.poll(0))


def bytes_queued(sock: socket.socket) -> int:
    """Bytes that were sent and that the other side has not acknowledged; 0 where that can't be told."""
    if _TIOCOUTQ is None:
        return 0
    try:
        found = fcntl.ioctl(sock.fileno(), _TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return 0
    return int.from_bytes(found, sys.byteorder)


# tcpi_state, the first byte of struct tcp_info, of a connection that neither side has closed or reset.
_TCP_ESTABLISHED = b"\x01"


def is_established(sock: socket.socket) -> bool:
    """Whether neither FIN nor RST has come, in one cheap call; False where the system can't tell."""
    try:
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except (AttributeError, OSError):
        return False
    return state == _TCP_ESTABLISHED


# Likewise, of one over which the other side has sent FIN and this one has not.
_TCP_CLOSE_WAIT = 8
# tcpi_state and tcpi_unacked, which counts segments.
_TCP_INFO_UNACKED = struct.Struct("B23xI")


def is_acknowledged(sock: socket.socket) -> bool:
    """Whether the other side has sent FIN, no RST, and has all that was sent; False if unknown."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_UNACKED.size)
    except (AttributeError, OSError):
        return False
    return _TCP_INFO_UNACKED.unpack(info) == (_TCP_CLOSE_WAIT, 0)


# tcpi_last_data_recv and tcpi_last_ack_recv, in ms before now (struct tcp_info in linux/tcp.h).
_TCP_INFO_TIMES = struct.Struct("52xII")


def fin_after_data(sock: socket.socket) -> float | None:
    """Seconds between the last byte that came over ``sock`` and the FIN behind it, to some 4 ms.

    Right until something is sent, and acknowledged, after it.  None where the system can't tell.
    """
    if not hasattr(socket, "TCP_INFO") or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_TIMES.size)
    except OSError:
        return None
    data, acknowledged = _TCP_INFO_TIMES.unpack(info)
    return float(data - acknowledged) / 1000
