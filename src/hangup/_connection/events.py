"""What the poller's events say of a client, while a thread handles its request."""

import select
from typing import TYPE_CHECKING

from .._disconnect.peer import DisconnectReason
from .._system.poller import EOF, GONE, READABLE
from .link import Link
from .state import State

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["flags_now", "has_parked_meanwhile", "note_events"]


def note_events(link: Link, flags: int) -> "Exchange | None":
    """What events say of the client; returns the request whose client is to be told."""
    how = link.error() if flags & GONE else None
    if how is None and flags & GONE and link.exchange is not None and _is_reset_for_sure(link):
        how = DisconnectReason.RESET
    if how is not None:
        return link.note_left(how)
    if flags & (EOF | GONE):
        # No error is there when both sides have closed in peace, or a handler has taken it.
        return link.note_left(DisconnectReason.FIN)
    return None


def _is_reset_for_sure(link: Link) -> bool:
    """Of a connection that is hung up, and has no error: whether it was reset.

    close() on a unix socket hangs up both ways at once, and there is no RST to tell of it.  Over TCP
    both sides may have closed in peace; but if this one has not, another thread has met the error, and
    is about to say so.
    """
    return link.is_unix or not link.fin_sent


def has_parked_meanwhile(link: Link) -> bool:
    """Bytes were taken from the socket beside the owner: True if it has parked behind that.

    It may have found nothing just before.  Nobody would tell of these bytes again (see _system.poller,
    "Edges").
    """
    with link.loop.lock:
        if link.state is State.HANDLED:
            link.pending |= READABLE
        return link.state is State.IDLE


def flags_now(link: Link) -> int:
    """What the socket says this moment.

    A blocking connection is registered by its own thread, so that an event which was told before may
    have been another connection's, under the same number.
    """
    poll = select.poll()
    try:
        poll.register(link.sock, EOF)
    except ValueError:
        return 0  # It has been closed.
    return READABLE | sum(flags for _, flags in poll.poll(0))
