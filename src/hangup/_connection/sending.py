"""The end of a response that the client has yet to read: the event loop sends it, and no thread waits.

When a front end has given all of a response and the socket does not take it at once, its thread is
done all the same, as long as the server holds no more than ``max_held_output`` bytes for such clients.
What is left over, the *remainder*, goes with the connection to the event loop, which sends it on
whenever there is room; then the connection goes on as after any response.  The request's record is told
when the last byte is out, or the client has left.
"""

import socket
from time import monotonic

from .._disconnect.peer import ClientState, DisconnectReason
from .._system.poller import EOF, GONE, bytes_queued
from ..exceptions import ClientDisconnected
from ..records import Outcome
from .delivery import Delivery
from .lingering import ABORT
from .link import Link
from .output import Output
from .state import State

__all__ = ["Sending", "send_remainder"]


class Sending:
    """One remainder, made when it is handed over.  The connection's owner calls all this."""

    __slots__ = ("_delivery", "_held_bytes", "_output", "_queued", "exchange", "link")

    def __init__(self, link: Link, output: Output, delivery: Delivery) -> None:
        self.link = link
        self._output = output
        self._delivery = delivery
        assert delivery.unsettled
        #: The request whose response this is.
        self.exchange = delivery.unsettled[-1]
        # How much of the server's budget for such responses it has.
        self._held_bytes = output.remainder.nbytes
        # What was in the kernel's buffer when somebody last looked.
        self._queued = 0

    def begin(self) -> bool:
        """Have the event loop send what is left over; False if it can't."""
        link = self.link
        loop = link.loop
        output = loop.poller.output
        if output is None:
            return False
        with loop.lock:
            if loop.ended or not (link.watched or loop.register_locked(link)):
                return False
            if loop.held_bytes + self._held_bytes > loop.most_held:
                return False
            loop.held_bytes += self._held_bytes
            self._queued = bytes_queued(link.sock)
            deadline = link.deadline = monotonic() + link.config.write_timeout
            # In this order: the poller tells at once if there is room by now.
            link.state = State.SENDING
            output(link.sock, True)
        loop.expect(deadline)
        return True

    def on_ready(self, flags: int) -> bool | None:
        """There may be room, or the client has left.

        True when all is sent and the connection goes on, False when it is to be closed, else None.
        """
        link = self.link
        with link.loop.lock:
            pass  # Whoever handed it over has done with it.
        if flags & GONE:
            link.left(link.error() or DisconnectReason.RESET)
        elif flags & EOF:
            link.left(DisconnectReason.FIN)
        if link.peer.state is not ClientState.GONE and not self._send_what_fits():
            return None
        if link.peer.state is ClientState.GONE:
            self.give_up()
            return False
        self._end()
        if link.peer.state is ClientState.OPEN:
            self._delivery.settle(Outcome.COMPLETED)
        return True

    def _send_what_fits(self) -> bool:
        """Whether all is sent; what this thread notes of a departure tells why nothing more will be."""
        link, output = self.link, self._output
        progress = False
        try:
            while output.remains:
                sent = output.transport.send_now(output.remainder)
                self.exchange.note_sent(output.remainder, sent)
                output.remainder = output.remainder[sent:]
                progress = True
        except BlockingIOError:
            if progress:
                self._queued = bytes_queued(link.sock)
                link.deadline = monotonic() + link.config.write_timeout
            return False
        except OSError as error:
            link.lost(error)
        return True

    def is_deaf(self) -> bool:
        """Called at its deadline: whether the client reads too little to be waited for any longer."""
        link = self.link
        left = bytes_queued(link.sock)
        if self._queued - left < max(1.0, link.config.min_data_rate * link.config.write_timeout):
            return True
        self._queued = left
        link.deadline = monotonic() + link.config.write_timeout
        link.loop.expect(link.deadline)
        return False

    def give_up(self) -> None:
        """The client is gone, or deaf; the connection is to be closed."""
        link = self.link
        if link.peer.reason is DisconnectReason.WRITE_TIMEOUT:
            link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self._end()
        self._delivery.settle(Outcome.DISCONNECTED)

    def _end(self) -> None:
        link = self.link
        loop = link.loop
        with loop.lock:
            loop.held_bytes -= self._held_bytes
        self.exchange.ended_at = link.idle_since = monotonic()
        self._output.drop_remainder()
        output = loop.poller.output
        assert output is not None
        output(link.sock, False)


def send_remainder(link: Link, output: Output, delivery: Delivery) -> None:
    """Where the event loop can't send it: this thread waits for the client after all."""
    assert delivery.unsettled
    link.exchange = exchange = delivery.unsettled[-1]  # for its count of bytes
    try:
        output.send_remainder()
    except ClientDisconnected:
        pass
    finally:
        exchange.ended_at = link.idle_since = monotonic()
        link.exchange = None
    if link.peer.state is ClientState.OPEN:
        delivery.settle(Outcome.COMPLETED)
