"""How a connection ends: what is drained, what is told late, who closes.

A client that has sent FIN may be reading still, or may be long gone.  Which of the two shows when it
takes the last answer or refuses it, so what is told of its requests waits until then.
"""

import enum
import math
import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._disconnect.peer import ClientState, Departure
from .._system.poller import GONE, READABLE, bytes_queued
from ..records import Outcome
from .exchange import Exchange
from .input import Receiver
from .loop import Loop
from .output import DONTWAIT
from .streams import ClientSocket

if TYPE_CHECKING:
    from ..exceptions import BadRequest

__all__ = ["ABORT", "MUCH", "Ending", "State", "has_begun"]

# Bytes that a lingering close reads and drops before others have their turn.
DROPPED_AT_ONCE = 1024 * 1024
# Where they go. All connections share it: nobody reads it.
_dropped = bytearray(256 * 1024)
# Bytes of a response that a client has soon, whatever comes: its connection is closed without a look at
# what the kernel has of it.
MUCH = 16384
# Bytes that a client may have read and not acknowledged: it does so at every other segment, and the
# loopback's have 64 KiB (RFC 9293 §3.8.6.3).
UNACKNOWLEDGED = 2 * 65536
# Not to linger in the kernel either: what a deaf client left unread is dropped at once, with an RST.
ABORT = struct.pack("ii", 1, 0)
# tcpi_state, the first byte of struct tcp_info (linux/tcp.h).
_TCP_CLOSE = 7

_recv = socket.socket.recv
_recv_into = socket.socket.recv_into


def has_begun(received: bytes) -> bool:
    """Whether a request has begun in what has come: the empty lines that may precede one are none of it.

    RFC 9112 §2.2: some clients send a CRLF too many behind a request.
    """
    return bool(received) and not received.isspace()


class State(enum.Enum):
    """Who owns a connection, and what for."""

    IDLE = "between requests, or receiving a head: the watch's"
    HANDLED = "a request is at hand: the handling thread's"
    SENDING = "the end of an answer goes out: the watch's"
    LINGERING = "answered and closing: the watch's"
    ENDING = "to be closed by a worker: the watch's"
    CLOSED = "closed: nobody's"


class Ending(Receiver):
    """The last part of a connection's life.  Its owner calls all this, see ``connection``."""

    __slots__ = (
        "_budget",
        "_heard_at",
        "_linger_until",
        "_queued",
        "_queued_at",
        "_unsettled",
        "closes_slowly",
        "deadline",
        "fin_sent",
        "idle_since",
        "pending",
        "refusal",
        "sent_much",
        "state",
    )

    def __init__(self, sock: ClientSocket, address: Any, watch: Loop, *, raw: bool) -> None:
        super().__init__(sock, address, watch, raw=raw)
        self.state = State.IDLE
        watch.note_opened()
        #: What the poller has told since the owner last looked.
        self.pending = 0
        #: When its last answer ended, or when it was opened.
        self.idle_since = monotonic()
        self.deadline = self.idle_since + self.config.head_timeout
        #: Whether the kernel may have a good part of a response when we close.
        self.sent_much = False
        #: Why the request at hand is refused; more of it may be on its way.
        self.refusal: BadRequest | None = None
        #: Does closing run code of the program's? Then the watch leaves it to a worker.
        self.closes_slowly = False
        #: Whether we have closed our side: a hang-up may be two FINs in peace then, and is a reset else.
        self.fin_sent = False
        # Bytes that may still be read and dropped of a request's body.
        self._budget = 0
        # While it lingers: until when what comes is read, and when something came last.
        self._linger_until = self._heard_at = 0.0
        # What was in the kernel's buffer when somebody last looked, and when: see Sender._wait_writable.
        self._queued, self._queued_at = 0, 0.0
        # Exchanges that have ended, but whose client may have left before that.
        self._unsettled: list[Exchange] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed.  Any thread; it may be closed a moment later."""
        return self.state is not State.CLOSED

    def hang_up_after_answer(self) -> None:
        """No request follows this one."""
        self.keep_open = False

    def hang_up(self) -> None:
        """The handler closed the socket: the client sees the end now, the descriptor follows.

        In a forked child the descriptor is all that is closed: the connection is the parent's.
        """
        if self.watch.forked:
            self.sock.close_descriptor()
        else:
            self.shut(socket.SHUT_RDWR)

    def shut(self, how: int) -> None:
        """Close one direction, or both."""
        self.keep_open = False
        try:
            self.flush()
            self._shut_socket(how)
        except OSError:
            pass  # It is closed already: that is all that was asked for.

    def _shut_socket(self, how: int) -> None:
        self.fin_sent = self.fin_sent or how != socket.SHUT_RD
        socket.socket.shutdown(self.sock, how)

    def abandon(self) -> None:
        """The handler takes the descriptor for itself."""
        self.flush()
        self.keep_open = False
        if self.watch.forget(self):
            self.watch.closed(self)

    def finish(self) -> None:
        """No further request: close, and linger where that could cost the client its answer.

        Bytes that are unread when a socket is closed make the kernel send RST, which can overtake
        the answer and destroy it (RFC 9112 §9.6).  The watch drains them; no thread waits.
        """
        if self.state is not State.HANDLED:
            return  # It was finished before, and has another owner now.
        if self.peer.state is ClientState.GONE:
            if self.peer.reason is Departure.WRITE_TIMEOUT:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self._settle_gone()
            self.close()
            return
        if self.watch.ended:
            self._settle(Outcome.ANSWERED)
            self.close()
            return
        if self._raw:
            self._drained = False
            self._receive_available()  # Its handler counted for itself: is there anything left?
        unread = self.pending or not self._drained or self.wire.buffer or not self.wire.body_ended
        # Who was refused in the middle of a head may be sending still.
        # Sending it took a while, in which nobody may have watched for what comes.
        much = self.sent_much and (bytes_queued(self.sock) or self.has_news())
        if unread or self._unsettled or self.refusal or much:
            self._begin_to_linger()
        else:
            self.close()

    def _begin_to_linger(self) -> None:
        """Send FIN, and have the event loop read and drop what comes.

        For ``linger_timeout`` behind the last byte that comes and ``linger_time`` in all, as nginx has
        it; and for as long as the client reads on what is in the kernel's buffer.
        """
        try:
            self._shut_socket(socket.SHUT_WR)
        except OSError:
            pass  # RST came first; the next look tells.
        self._heard_at = self._queued_at = monotonic()
        self._linger_until = self._heard_at + self.config.linger_time
        self._queued = bytes_queued(self.sock)
        flags = READABLE
        while self._linger(flags):
            deadline = monotonic() + self.config.linger_timeout
            with self.watch.lock:
                flags, self.pending = self.pending, 0
                # Both sides have closed, it may be: nobody would tell of that again.
                hung_up = bool(flags & GONE)
                watched = not hung_up and self._linger_watched_locked(deadline)
            if watched:
                self.watch.expect(deadline)
                if flags or not self._drained:
                    self.watch.look_at(self)
                return
            if not hung_up:
                break  # It can't be watched.
        self._settle(Outcome.ANSWERED)
        self.close()

    def _linger_watched_locked(self, deadline: float) -> bool:
        """It is the watch's from now on, until ``deadline``; False if it can't be watched."""
        if not (self.watched or self.watch.register_locked(self)):
            return False
        self.deadline = deadline
        self.state = State.LINGERING
        return True

    def on_linger_deadline(self) -> None:
        """Nothing has ended it: see whether there is still somebody to wait for."""
        if not self._linger(READABLE):
            self.retire()
            return
        now, config = monotonic(), self.config
        queued = bytes_queued(self.sock)
        if self._queued - queued >= max(1.0, config.min_rate * (now - self._queued_at)):
            self._queued, self._queued_at = queued, now
        quiet = min(self._heard_at + config.linger_timeout, self._linger_until)
        if queued > 1:  # Our own FIN counts as a byte.
            quiet = max(quiet, self._queued_at + config.write_timeout)
        elif self._queued > 1:
            # The client's kernel has it now; it takes the client a moment to read it.
            self._queued = 0
            quiet = now + config.linger_timeout
        if now >= quiet:
            if queued > 1:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self._settle(Outcome.ANSWERED)
            self.retire()
        else:
            self.deadline = min(quiet, now + config.linger_timeout)
            self.watch.expect(self.deadline)

    def _linger(self, flags: int) -> bool:
        """Drain a closing connection; False when its client is done, or gone."""
        if flags & GONE and (how := self._error()) is not None:
            self._left(how)
        elif not self._drain() and not (flags & GONE and self._is_over()):
            return True
        if self.peer.state is ClientState.GONE:
            self._settle_gone()
        else:
            self._settle(Outcome.ANSWERED)
        return False

    def _is_over(self) -> bool:
        """Whether both sides have closed and everything is acknowledged.

        EPOLLHUP comes as soon as both have sent FIN, when the last bytes may be on their way still.
        """
        if not hasattr(socket, "TCP_INFO") or self._is_unix():
            return True
        state = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return state[0] == _TCP_CLOSE

    def _is_unix(self) -> bool:
        return self.sock.family == getattr(socket, "AF_UNIX", None)

    def _drain(self) -> bool:
        """Read and drop what has come, or a good part of it; True when there is nothing to wait for."""
        room = DROPPED_AT_ONCE
        while room > 0:
            try:
                count = _recv_into(self.sock, _dropped, 0, DONTWAIT)
            except BlockingIOError:
                self._mark_drained()
                return False
            except OSError:
                self._left(Departure.RESET)
                return True
            if not count:
                # FIN. If answers are unsettled it is no news: the client's last word is to come; nor if
                # it has yet to read what is in the kernel's buffer: it may have closed its sending side.
                self._drained = True
                return self._is_last_word()
            room -= count
            self._heard_at = monotonic()
        self._drained = False
        return self._heard_at >= self._linger_until

    def _is_last_word(self) -> bool:
        """FIN has come: whether nothing more will."""
        if self._is_unix():
            return not self._unsettled
        unread = bytes_queued(self.sock) > 1  # Our own FIN counts as a byte.
        if not (unread or self._unsettled):
            return True
        if not self._is_over():
            return False
        if unread:
            self._left(Departure.RESET)  # Whoever met the error did not say so.
        return True

    def is_delivered(self, exchange: Exchange) -> bool:
        """Whether a response that was sent whole counts as delivered to a client that is gone.

        It does if the kernel had taken its last byte before the client reset the connection: the kernel
        refuses what is sent after a reset, so a reset that anybody notes behind that call changes
        nothing.  Two things are known better.  After a FIN the kernel goes on taking bytes, whether
        somebody reads them or not: then the client must have acknowledged them.  And if megabytes are
        unacknowledged, it can't have read them.  (Linux keeps the count beyond the reset.)
        """
        if exchange.cut_short or self.peer.reason is not Departure.RESET:
            return False
        # Our own FIN counts as a byte.
        return bytes_queued(self.sock) <= (1 if self.peer.sent_fin else UNACKNOWLEDGED)

    def _settle_gone(self) -> None:
        """The client is gone: it has taken the responses that were sent behind its FIN, or not."""
        for exchange in self._unsettled or ():
            delivered = self.is_delivered(exchange)
            self._tell(exchange, exchange.outcome if delivered else Outcome.LEFT)
        self._unsettled = None

    def _settle(self, outcome: Outcome) -> None:
        for exchange in self._unsettled or ():
            self._tell(exchange, exchange.outcome if outcome is Outcome.ANSWERED else outcome)
        self._unsettled = None

    def _tell(self, exchange: Exchange, outcome: Outcome) -> None:
        self.watch.tell(exchange.record(self.peer, outcome), exchange)

    def drop(self) -> None:
        """Close with a request at hand that is not started, because its client has left."""
        self.tell_unstarted()
        self.close()

    def tell_unstarted(self) -> None:
        """The request at hand is not started, because its client has left."""
        if self.peer.state is ClientState.GONE:
            self._settle_gone()
        self._settle(Outcome.LEFT)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._tell(exchange, Outcome.LEFT)

    def has_news(self) -> bool:
        """Whether something has come that nobody has read, FIN included."""
        try:
            _recv(self.sock, 1, DONTWAIT | socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def is_last(self) -> bool:
        """While the server drains: whether nothing has come behind this request: it is the last."""
        return not (has_begun(self.wire.buffer) or self.has_news())

    def close_at_the_end(self) -> None:
        """Close a connection that nobody will handle or watch any more, and tell what is to be told."""
        self._settle(Outcome.FAILED if self.left_over else Outcome.ANSWERED)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._tell(exchange, Outcome.FAILED)
        self.close()

    def retire(self) -> None:
        """Close a connection that belongs to the watch, in whichever thread may do that."""
        if self.closes_slowly and not self.watch.ended:
            self.state = State.ENDING
            self.deadline = math.inf
            self.watch.hand_out(self)
        else:
            self.close()

    def close(self) -> None:
        """Close the socket.  Owner only; the second call does nothing."""
        if self.watch.forget(self):
            try:
                self.watch.closed(self)
            finally:
                self._stream = None
                self._close_socket()

    def _close_socket(self) -> None:
        if self.watch.has_children:
            try:
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # see _system.fork
            except OSError:
                pass  # The client was there first.
        self.sock.close_descriptor()
