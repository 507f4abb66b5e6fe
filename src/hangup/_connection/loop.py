"""What a connection knows of the event loop that it belongs to."""

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .._disconnect.callbacks import Callbacks
    from .._http1.request_head import Heads
    from .._system.poller import InertPoller, Poller
    from ..config import Config

from .sinks import Sinks

__all__ = ["Loop", "Watchdog"]


class Watchdog(Protocol):
    """Sends what is held back, a moment later; see ``_engine.watchdog``."""

    #: Whether it waits for something to do.
    asleep: list[Lock]

    def nudge(self) -> None:
        """There is something to look at."""


class Loop:
    """The event loop's side of a connection: :class:`~hangup._engine.event_loop.EventLoop` is one.

    A base class and no protocol, since it is on every request's way: compiled, its attributes are found
    without a look at names.  What each is, and which lock guards it, stands there.
    """

    config: "Config"
    heads: "Heads"
    poller: "Poller | InertPoller"
    rearm: "Callable[[Any], None] | None"
    lock: Lock
    watchdog: Watchdog
    callbacks: "Callbacks"
    ignores_fin: bool
    draining: bool
    drained_at: float
    sinks: Sinks
    next_sweep: float
    waiting: dict[Any, None]
    held_up: dict[Any, None]
    held_bytes: int
    most_held: int
    ended: bool
    has_children: bool
    forked: bool
    on_left: Callable[[Any], None]

    def note_opened(self) -> None:
        """A connection is made."""
        raise NotImplementedError

    def hand_out(self, connection: Any) -> None:
        """A connection needs a thread."""
        raise NotImplementedError

    def look_at(self, connection: Any) -> None:
        """Bytes have come for a connection that was parked, of which the poller will not tell."""
        raise NotImplementedError

    def register(self, connection: Any) -> None:
        """Watch a connection from now on, if it is not watched yet."""
        raise NotImplementedError

    def register_locked(self, connection: Any) -> bool:
        """:meth:`register`, of one that is not watched; False if it can't be."""
        raise NotImplementedError

    def expect(self, deadline: float) -> None:
        """A deadline was set."""
        raise NotImplementedError

    def forget(self, connection: Any) -> bool:
        """A connection closes; False if it has closed before."""
        raise NotImplementedError

    def end_handler(self, connection: Any) -> None:
        """No request follows on this connection: its handler ends, in the calling thread."""
        raise NotImplementedError

    def closed(self, connection: Any) -> None:
        """A connection has closed."""
        raise NotImplementedError
