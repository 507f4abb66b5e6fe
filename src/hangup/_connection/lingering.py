"""A lingering close: FIN is sent, and what comes is read and dropped for a while.

Bytes that are unread when a socket is closed make the kernel send RST, which can overtake the answer and
destroy it (RFC 9112 §9.6).  The event loop drains them; no thread waits.
"""

import socket
import struct
from time import monotonic

from .._disconnect.peer import ClientState, DisconnectReason
from .._system.poller import GONE, READABLE, bytes_queued
from ..records import Outcome
from .delivery import Delivery
from .link import DONTWAIT, Link
from .state import State
from .transport import Transport

__all__ = ["ABORT", "Lingering"]

# Bytes that a lingering close reads and drops before others have their turn.
DROPPED_AT_ONCE = 1024 * 1024
# Where they go. All connections share it: nobody reads it.
_dropped = bytearray(256 * 1024)
# Not to linger in the kernel either: what a deaf client left unread is dropped at once, with an RST.
ABORT = struct.pack("ii", 1, 0)
# tcpi_state, the first byte of struct tcp_info (linux/tcp.h).
_TCP_CLOSE = 7

_recv_into = socket.socket.recv_into


class Lingering:
    """One lingering close, made when it begins.  The connection's owner calls all this."""

    __slots__ = ("_delivery", "_heard_at", "_queued", "_queued_at", "_transport", "_until", "link")

    def __init__(self, link: Link, transport: Transport, delivery: Delivery) -> None:
        self.link = link
        self._transport = transport
        self._delivery = delivery
        # When something came last, and until when what comes is read.
        self._heard_at = self._queued_at = monotonic()
        self._until = self._heard_at + link.config.linger_time
        # What was in the kernel's buffer when somebody last looked, and when.
        self._queued = 0

    def begin(self) -> bool:
        """Send FIN, and have the event loop read and drop what comes; False if it is over at once.

        For ``linger_timeout`` behind the last byte that comes and ``linger_time`` in all, as nginx has
        it; and for as long as the client reads on what is in the kernel's buffer.
        """
        link = self.link
        try:
            self._transport.shut(socket.SHUT_WR, farewell=not self._delivery.unsettled)
        except OSError:
            pass  # RST came first; the next look tells.
        self._queued = bytes_queued(link.sock)
        flags = READABLE
        while self.on_ready(flags):
            deadline = monotonic() + link.config.linger_timeout
            with link.loop.lock:
                flags, link.pending = link.pending, 0
                # Both sides have closed, it may be: nobody would tell of that again.
                hung_up = bool(flags & GONE)
                watched = not hung_up and self._begin_locked(deadline)
            if watched:
                link.loop.expect(deadline)
                if flags or not link.drained:
                    link.loop.look_at(link)
                return True
            if not hung_up:
                break  # It can't be watched.
        self._delivery.settle(Outcome.COMPLETED)
        return False

    def _begin_locked(self, deadline: float) -> bool:
        """It is the event loop's from now on, until ``deadline``; False if it can't be watched."""
        link = self.link
        if not (link.watched or link.loop.register_locked(link)):
            return False
        link.deadline = deadline
        link.state = State.LINGERING
        return True

    def on_deadline(self) -> bool:
        """Nothing has ended it: whether there is still somebody to wait for."""
        if not self.on_ready(READABLE):
            return False
        link = self.link
        now, config = monotonic(), link.config
        queued = bytes_queued(link.sock)
        if self._queued - queued >= max(1.0, config.min_data_rate * (now - self._queued_at)):
            self._queued, self._queued_at = queued, now
        quiet = min(self._heard_at + config.linger_timeout, self._until)
        if queued > 1:  # Our own FIN counts as a byte.
            quiet = max(quiet, self._queued_at + config.write_timeout)
        elif self._queued > 1:
            # The client's kernel has it now; it takes the client a moment to read it.
            self._queued = 0
            quiet = now + config.linger_timeout
        if now >= quiet:
            if queued > 1:
                link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self._delivery.settle(Outcome.COMPLETED)
            return False
        link.deadline = min(quiet, now + config.linger_timeout)
        link.loop.expect(link.deadline)
        return True

    def on_ready(self, flags: int) -> bool:
        """Read and drop; False when the client is done, or gone."""
        link = self.link
        if flags & GONE and (how := link.error()) is not None:
            link.left(how)
        elif not self._drain() and not (flags & GONE and self._is_over()):
            return True
        if link.peer.state is ClientState.GONE:
            self._delivery.settle_gone()
        else:
            self._delivery.settle(Outcome.COMPLETED)
        return False

    def _is_over(self) -> bool:
        """Whether both sides have closed and everything is acknowledged.

        EPOLLHUP comes as soon as both have sent FIN, when the last bytes may be on their way still.
        """
        if not hasattr(socket, "TCP_INFO") or self.link.is_unix:
            return True
        state = self.link.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return state[0] == _TCP_CLOSE

    def _drain(self) -> bool:
        """Read and drop what has come, or a good part of it; True when there is nothing to wait for."""
        link = self.link
        room = DROPPED_AT_ONCE
        while room > 0:
            try:
                count = _recv_into(link.sock, _dropped, 0, DONTWAIT)
            except BlockingIOError:
                link.mark_drained()
                return False
            except OSError:
                link.left(DisconnectReason.RESET)
                return True
            if not count:
                # FIN. If answers are unsettled it is no news: the client's last word is to come; nor if
                # it has yet to read what is in the kernel's buffer: it may have closed its sending side.
                link.drained = True
                return self._is_last_word()
            room -= count
            self._heard_at = monotonic()
        link.drained = False
        return self._heard_at >= self._until

    def _is_last_word(self) -> bool:
        """FIN has come: whether nothing more will."""
        unsettled = self._delivery.unsettled
        if self.link.is_unix:
            return not unsettled
        unread = bytes_queued(self.link.sock) > 1  # Our own FIN counts as a byte.
        if not (unread or unsettled):
            return True
        if not self._is_over():
            return False
        if unread:
            self.link.left(DisconnectReason.RESET)  # Whoever met the error did not say so.
        return True
