"""What the parts of a connection share: its socket, its peer, its request, and who owns it.

And the one place where errors of the operating system become disconnects.
"""

import errno
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._disconnect.peer import DisconnectReason, Peer
from ..exceptions import ClientDisconnected
from .loop import Loop
from .state import State
from .streams import ClientSocket

if TYPE_CHECKING:
    from .._http1.request import Request
    from ..exceptions import RequestRejected
    from .exchange import Exchange

__all__ = ["DONTWAIT", "IS_INTERNET", "RESETS", "SILENCE", "Link"]

# By flag and not by the descriptor's mode, which handlers and their children rely on.
DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)
IS_INTERNET = (socket.AF_INET, socket.AF_INET6)
RESETS = frozenset((errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN))
# What the kernel says when it has given up on a peer that does not answer.
SILENCE = frozenset((errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN))


def _departure(code: int) -> DisconnectReason:
    if code in RESETS:
        return DisconnectReason.RESET
    return DisconnectReason.UNREACHABLE if code in SILENCE else DisconnectReason.WRITE_FAILED


class Link:
    """The state of one connection, which its parts work on.  Its owner changes it, but for ``pending``.

    ``loop.lock`` guards ``state``, ``pending`` and ``watched`` where a connection changes hands.
    """

    __slots__ = (
        "blocking",
        "config",
        "deadline",
        "drained",
        "exchange",
        "fin_sent",
        "idle_since",
        "io_timeout",
        "keep_open",
        "loop",
        "peer",
        "pending",
        "refusal",
        "request",
        "sock",
        "state",
        "watched",
    )

    def __init__(self, sock: ClientSocket, address: Any, loop: Loop) -> None:
        self.sock = sock
        self.peer = Peer(address)
        self.config = loop.config
        self.loop = loop
        #: Whether the poller knows it.
        self.watched = False
        self.state = State.IDLE
        #: Does one thread keep the connection as long as it lasts, and wait for each request?
        self.blocking = False
        #: What the poller has told since the owner last looked.
        self.pending = 0
        #: The request in progress, and what is known of it.
        self.exchange: Exchange | None = None
        self.request: Request | None = None
        #: Why the request at hand is refused; more of it may be on its way.
        self.refusal: RequestRejected | None = None
        #: May another request follow? Anybody who handles this one may say no.
        self.keep_open = True
        #: Whether all has been read that had come when somebody last looked.
        self.drained = False
        #: Whether we have closed our side: a hang-up may be two FINs in peace then, and is a reset else.
        self.fin_sent = False
        #: What the handler set with ``settimeout``, in seconds; None for the config's limits.
        self.io_timeout: float | None = None
        #: When its last answer ended, or when it was opened.
        self.idle_since = monotonic()
        self.deadline = self.idle_since + self.config.request_header_timeout

    def mark_drained(self) -> None:
        """All that has come is read: the poller is to tell of more."""
        self.drained = True
        if self.loop.rearm is not None:
            self.loop.rearm(self.sock)

    @property
    def is_unix(self) -> bool:
        """Whether it is a unix socket's."""
        return self.sock.family == getattr(socket, "AF_UNIX", None)

    def left(self, how: DisconnectReason, *, incomplete: bool = False) -> None:
        """The client left.  Any thread that notices."""
        exchange = self.note_left(how, incomplete=incomplete)
        if exchange is not None:
            exchange.notify_client(self.peer)

    def note_left(self, how: DisconnectReason, *, incomplete: bool = False) -> "Exchange | None":
        """Note it; returns the request whose client is to be told, with no lock held.

        A FIN that is to be ignored counts all the same behind an ``incomplete`` request.
        """
        leaves = incomplete or how is not DisconnectReason.FIN or not self.loop.ignores_fin
        exchange = self.exchange
        if leaves and exchange is not None:
            exchange.note_left()
        self.peer.note(how, leaves=leaves)
        return self.exchange

    def error(self) -> DisconnectReason | None:
        """What the error on the socket means, if there is one; this takes it from there."""
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return _departure(code) if code else None

    def lost(self, error: OSError) -> ClientDisconnected:
        """The one place where an error of the operating system becomes a departure."""
        code = error.errno or errno.EPIPE
        self.left(_departure(code))
        return ClientDisconnected(f"the client disconnected: {error.strerror or error}", code)

    def lost_sending(self, error: OSError) -> ClientDisconnected:
        """:meth:`lost`, met where a part of the response was to be sent, which is not delivered so."""
        self.cut_short()
        return self.lost(error)

    def refused(self) -> ClientDisconnected:
        """The client is gone, and more of its response was to be sent."""
        self.cut_short()
        return ClientDisconnected()

    def cut_short(self) -> None:
        """A part of the response is not sent."""
        if self.exchange is not None:
            self.exchange.cut_short = True

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed.  Any thread; it may be closed a moment later."""
        return self.state is not State.CLOSED

    def detach(self) -> None:
        """The connection has closed: its parts and it refer to each other no longer."""

    def set_io_timeout(self, value: float | None) -> None:
        """A handler's ``settimeout``: the deadline of each read and write, None for the config's."""
        self.io_timeout = value
