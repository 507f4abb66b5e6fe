"""The end of an answer that the client has yet to read: the watch sends it, and no thread waits.

When a front door has given all of an answer and the socket does not take it at once, its thread is
done all the same, as long as the server holds no more than ``max_held_output`` bytes for such clients.
What is left over, the *remainder*, goes with the connection to the watch, which sends it on whenever
there is room; then the connection goes on as after any answer.  The request's record is told when the
last byte is out, or the client has left.
"""

import socket
from time import monotonic
from typing import TYPE_CHECKING

from .._disconnect.peer import ClientState, Departure
from .._system.poller import EOF, GONE, bytes_queued
from ..records import Outcome
from .arrival import Arrival
from .closing import ABORT, State

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["Remainder"]


class Remainder(Arrival):
    """The part of a connection's life in which the watch sends.  Its owner calls all this."""

    __slots__ = ("_held_bytes", "_sending")

    # While it is SENDING: the exchange whose answer this is.
    _sending: "Exchange | None"
    # And how much of the server's budget for such responses it has.
    _held_bytes: int

    @property
    def exchange_under_way(self) -> "Exchange | None":
        """The request at hand, or the one whose response the event loop sends.  The event loop's."""
        return self._sending if self.state is State.SENDING else self.exchange

    def evict(self) -> None:
        if self.state is State.SENDING:
            self._left(Departure.WRITE_TIMEOUT)
            self._give_up()
        else:
            super().evict()

    def _hand_remainder_over(self) -> bool:
        """Have the watch send what is left over; False if it can't."""
        watch = self.watch
        output = watch.poller.output
        assert self._unsettled
        if output is None:
            return False
        with watch.lock:
            if watch.ended or not (self.watched or watch.register_locked(self)):
                return False
            size = self.remainder.nbytes
            if watch.held_bytes + size > watch.most_held:
                return False
            watch.held_bytes += size
            self._held_bytes = size
            self._sending = self._unsettled[-1]
            self._queued = bytes_queued(self.sock)
            deadline = self.deadline = monotonic() + self.config.write_timeout
            # In this order: the poller tells at once if there is room by now.
            self.state = State.SENDING
            output(self.sock, True)
        watch.expect(deadline)
        return True

    def _send_on(self, flags: int) -> bool:
        """There may be room, or the client has left; True when all is sent, and it goes on."""
        with self.watch.lock:
            pass  # Whoever handed it over has done with it.
        if flags & GONE:
            self._left(self._error() or Departure.RESET)
        elif flags & EOF:
            self._left(Departure.FIN)
        if self.peer.state is not ClientState.GONE and not self._send_what_fits():
            return False
        if self.peer.state is ClientState.GONE:
            self._give_up()
            return False
        self._end_sending()
        if self.peer.state is ClientState.OPEN:
            self._settle(Outcome.ANSWERED)
        return True

    def _send_what_fits(self) -> bool:
        """Whether all is sent; what this thread notes of a departure tells why nothing more will be."""
        exchange = self._sending
        assert exchange is not None
        progress = False
        try:
            while self._remains():
                sent = self._send_now(self.remainder)
                exchange.note_sent(self.remainder, sent)
                self.remainder = self.remainder[sent:]
                progress = True
        except BlockingIOError:
            if progress:
                self._queued = bytes_queued(self.sock)
                self.deadline = monotonic() + self.config.write_timeout
            return False
        except OSError as error:
            self._lost(error)
        return True

    def _is_deaf(self) -> bool:
        """Called at its deadline: whether the client reads too little to be waited for any longer."""
        left = bytes_queued(self.sock)
        if self._queued - left < max(1.0, self.config.min_rate * self.config.write_timeout):
            return True
        self._queued = left
        self.deadline = monotonic() + self.config.write_timeout
        self.watch.expect(self.deadline)
        return False

    def _give_up(self) -> None:
        """Close; the client is gone, or deaf."""
        if self.peer.reason is Departure.WRITE_TIMEOUT:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self._end_sending()
        self._settle(Outcome.LEFT)
        self.retire()

    def _end_sending(self) -> None:
        exchange, self._sending = self._sending, None
        assert exchange is not None
        with self.watch.lock:
            self.watch.held_bytes -= self._held_bytes
        exchange.ended_at = self.idle_since = monotonic()
        self.remainder, self.left_over = memoryview(b""), False
        output = self.watch.poller.output
        assert output is not None
        output(self.sock, False)
