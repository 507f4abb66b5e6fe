"""Who is at the other end of a connection, and whether it is still there.

A client is in one of three states, and only ever moves down this list:

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

__all__ = ["Client", "ClientState", "Departure"]


_noting = Lock()


class ClientState(enum.Enum):
    """What is known of a client."""

    OPEN = "open"
    EOF = "eof"
    GONE = "gone"


class Departure(enum.Enum):
    """How a client's leaving was noticed."""

    FIN = "fin"
    RESET = "reset"
    WRITE_FAILED = "write failed"
    WRITE_TIMEOUT = "write timeout"
    UNREACHABLE = "unreachable"


class Client:
    """The client of one connection.

    Written by whichever thread notices a departure: the one that keeps the watch, or the one that
    handles the connection and meets an error.  ``_noting`` guards that; one lock for all clients, as a
    departure is noted once.  ``state`` is set last, so a reader that sees it finds reason and time.
    """

    __slots__ = ("address", "disconnected_at", "host", "reason", "state")

    def __init__(self, address: Any) -> None:
        self.address = address
        #: The part of the address that names the client; a unix socket's has none.
        self.host = str(address[0]) if isinstance(address, tuple) and address else ""
        self.state = ClientState.OPEN
        self.reason: Departure | None = None
        self.disconnected_at: float | None = None

    @property
    def disconnected(self) -> bool:
        """Whether the client has left, or has at least closed its sending side."""
        return self.state is not ClientState.OPEN

    def note_eof(self) -> None:
        """The client sent FIN."""
        with _noting:
            if self.state is ClientState.OPEN:
                self._note(Departure.FIN)
                self.state = ClientState.EOF

    def note_gone(self, reason: Departure) -> None:
        """The client can't be answered any more."""
        with _noting:
            if self.state is not ClientState.GONE:
                self._note(reason)
                self.state = ClientState.GONE

    def _note(self, reason: Departure) -> None:
        self.reason = reason
        if self.disconnected_at is None:
            self.disconnected_at = monotonic()
