"""What is known of the other end of a connection.

It is in one of three states, and only ever moves down this list:

========  ======================================================================================
OPEN      nothing says that it left
EOF       it sent FIN: it may have closed, or it may have closed its sending side alone and still
          read (RFC 9112 §9.6), so writing stays possible
GONE      it can't be answered: reset, hung up, or deaf past a deadline
========  ======================================================================================
"""

import enum
from threading import Lock
from time import monotonic
from typing import Any

__all__ = ["ClientState", "DisconnectReason", "Peer", "renew_lock"]


_noting = Lock()


def renew_lock() -> None:
    """In a forked child: whoever held the lock is not there."""
    global _noting  # noqa: PLW0603
    _noting = Lock()


class ClientState(enum.Enum):
    """What is known of a client."""

    OPEN = "open"
    EOF = "eof"
    GONE = "gone"


class DisconnectReason(enum.Enum):
    """How a client's leaving was noticed."""

    FIN = "fin"
    RESET = "reset"
    WRITE_FAILED = "write_failed"
    WRITE_TIMEOUT = "write_timeout"
    UNREACHABLE = "unreachable"
    #: It has not: the server ends, and waits no longer for what works for it.
    SHUTDOWN = "shutdown"


class Peer:
    """The other end of one connection, for as long as that lasts.

    Written by whichever thread notices a departure: the one that runs the event loop, or the one that
    handles the connection and meets an error.  ``_noting`` guards that; one lock for all peers, as a
    departure is noted once.  ``state`` is set last, so a reader that sees it finds reason and time.
    """

    __slots__ = ("address", "disconnected_at", "host", "reason", "sent_fin", "state")

    def __init__(self, address: Any) -> None:
        self.address = address
        #: The part of the address that names the client; a unix socket's has none.
        self.host = str(address[0]) if isinstance(address, tuple) and address else ""
        self.state = ClientState.OPEN
        #: How the state was reached; None while it is OPEN.
        self.reason: DisconnectReason | None = None
        #: Whether FIN came, perhaps before what it was that made it GONE.
        self.sent_fin = False
        #: When it left, on the monotonic clock; None while it has not, or its FIN is to be ignored.
        self.disconnected_at: float | None = None

    def has_left(self) -> bool:
        """Whether it has left."""
        return self.disconnected_at is not None

    def note(self, reason: DisconnectReason, *, leaves: bool = True) -> None:
        """Something was noticed; ``leaves`` says whether it counts as leaving."""
        state = ClientState.EOF if reason is DisconnectReason.FIN else ClientState.GONE
        with _noting:
            if reason is DisconnectReason.FIN and self.state is not ClientState.GONE:
                self.sent_fin = True
            if leaves and self.disconnected_at is None:
                self.disconnected_at = monotonic()
            if self.state is not state and self.state is not ClientState.GONE:
                self.reason = reason
                self.state = state
