"""Requests that wait for a thread, and which of them goes first.

In order while waits are short.  Newest first while they are long: under overload the oldest request
is the one whose client is about to leave, so a queue served in order serves only the departed
(adaptive LIFO; "Fail at Scale", ACM Queue 2015).  A request whose client has left is not started.

What is no request goes before all of them, in order: an *errand*, a step of a TLS handshake say.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from time import monotonic

from .._connection.connection import Connection
from .._disconnect.peer import ClientState

__all__ = ["Backlog"]

# Seconds. A FIN within this time of the last byte came with it: a half-closed client sends its request
# and FIN at once and then waits for the answer. A later one is a departure.
HALF_CLOSE_GRACE = 0.05


class Backlog:
    """The waiting requests.  Its owner's lock guards it.

    ``lifo_threshold`` is how long the oldest may have waited, in seconds, before the newest go first.
    """

    def __init__(self, lifo_threshold: float) -> None:
        self._long_wait = lifo_threshold
        # In the order of arrival; a dict, so that one in the middle can go cheaply.
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._errands: deque[Connection] = deque()

    def __len__(self) -> int:
        """The number of requests."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[Connection]:
        """The waiting connections."""
        return iter([*self._errands, *self._waiting])

    def put(self, connection: Connection) -> None:
        """A request, or an errand, waits from now on."""
        if connection.exchange is None:
            self._errands.append(connection)
        else:
            self._waiting[connection] = None

    def remove(self, connection: Connection) -> bool:
        """A request waits no more; False if it did not."""
        if connection not in self._waiting:
            return False
        del self._waiting[connection]
        return True

    def take_first(self) -> Connection | None:
        """An errand, the oldest request, or None."""
        if self._errands:
            return self._errands.popleft()
        return self._waiting.popitem(last=False)[0] if self._waiting else None

    def take(self, *, errands_alone: bool = False) -> Connection | None:
        """An errand, the request whose turn it is, or None."""
        if self._errands:
            return self._errands.popleft()
        if errands_alone:
            return None
        waiting = self._waiting
        if not waiting:
            return None
        exchange = next(iter(waiting)).exchange
        long = exchange is not None and monotonic() - exchange.ready_at > self._long_wait
        return waiting.popitem(last=long)[0]


def is_dead(connection: Connection) -> bool:
    """Whether the client left while its request waited, so that the answer is for nobody."""
    peer, exchange = connection.peer, connection.exchange
    if peer.state is ClientState.GONE:
        return True
    if peer.disconnected_at is None or exchange is None:
        return False
    if peer.disconnected_at - exchange.ready_at <= HALF_CLOSE_GRACE:
        return False
    # It was noticed late, or came late. The kernel knows; but what is acknowledged after it, a
    # keep-alive probe say, makes it look later, so this is asked when it is noticed, and kept.
    if exchange.fin_late is None:
        late = connection.transport.fin_after_data()
        exchange.fin_late = late is None or late > HALF_CLOSE_GRACE
    return exchange.fin_late
