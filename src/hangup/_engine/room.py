"""Room for connections: how many there may be, and which close when there are too many."""

import logging
import sys
from collections.abc import Sequence
from time import monotonic

from .._connection.connection import Connection
from .._connection.state import State

if sys.platform != "win32":
    import resource

__all__ = ["close_some", "raise_descriptor_limit", "room_for_connections"]

_log = logging.getLogger("hangup")

# When there is no room, so many of the idle connections are closed in one go: one in 64 of all that may
# be open, for looking at them all is dear.
ROOM_SHARE = 64
# Seconds that a request may take to come when there is no room for other connections.
SLOW_REQUEST = 1.0
# Descriptors that are left to the program: an eighth, and so many at least.
SPARE_SHARE = 8
SPARE = 32


def close_some(connections: Sequence[Connection]) -> None:
    """Close some connections that nobody works for.

    Those first that have been answered and only linger; then those that are idle, the longest idle
    first; then those whose request is not whole, which have sent least for longest (408).  One whose
    client has just sent something is none of them.  The event loop calls this.
    """
    now = monotonic()
    lingering, idle, slow = [], [], []
    for entry in connections:
        if entry.state is State.LINGERING:
            lingering.append(entry)
        elif entry.state is State.IDLE and entry.arrival.is_quiet:
            idle.append(entry)
        elif entry.state is State.IDLE and now - entry.idle_since > SLOW_REQUEST:
            slow.append(entry)
    idle.sort(key=lambda connection: connection.idle_since)
    slow.sort(key=lambda connection: (connection.arrival.received, connection.idle_since))
    candidates = [*lingering, *idle] or slow
    wanted = max(1, len(candidates) // ROOM_SHARE)
    for connection in candidates:
        if wanted and (connection.state is State.LINGERING or not connection.transport.has_news()):
            wanted -= 1
            connection.closing.make_way()


def raise_descriptor_limit() -> None:
    """Have as many descriptors as this process may, and so as many connections.

    The soft limit of 1,024 is there for programs that use select(2); Go's runtime lifts it likewise.
    """
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            except (OSError, ValueError) as error:  # pragma: no cover - macOS has a limit besides
                _log.debug("the limit of descriptors stays at %s: %s", soft, error)


def room_for_connections() -> int:
    """How many connections the limit of descriptors allows (RLIMIT_NOFILE), with some to spare."""
    if sys.platform == "win32":  # pragma: no cover
        return sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, limit - max(SPARE, limit // SPARE_SHARE))
