"""How a connection ends: who closes it, what is sent before that, and what is told."""

import math
import socket

from .._disconnect.peer import ClientState, DisconnectReason
from .._system.poller import bytes_queued, is_acknowledged
from ..records import Outcome
from .arrival import Arrival
from .delivery import Delivery
from .exchange import Exchange
from .input import Input
from .lingering import ABORT, Lingering
from .link import Link
from .output import Output
from .state import State

__all__ = ["Closing"]


class Closing:
    """The ways in which a connection ends.  Its owner calls all this; a second call does nothing."""

    __slots__ = (
        "_arrival",
        "_delivery",
        "_input",
        "_output",
        "_transport",
        "is_slow",
        "lingering",
        "link",
        "sent_much",
    )

    def __init__(
        self, link: Link, input_: Input, output: Output, arrival: Arrival, delivery: Delivery
    ) -> None:
        self.link = link
        self._input = input_
        self._output = output
        self._transport = output.transport
        self._arrival = arrival
        self._delivery = delivery
        #: Does closing run code of the program's? Then the event loop leaves it to a worker.
        self.is_slow = False
        #: Whether the kernel may have a good part of a response when we close.
        self.sent_much = False
        #: The lingering close, once it has begun.
        self.lingering: Lingering | None = None

    # -- by the thread that handles its request

    def hang_up_after_answer(self) -> None:
        """No request follows this one."""
        self.link.keep_open = False

    def shut(self, how: int) -> None:
        """Close one direction, or both."""
        self.link.keep_open = False
        try:
            self._output.flush()
            self._transport.shut(how, farewell=not self._delivery.unsettled)
        except OSError:
            pass  # It is closed already: that is all that was asked for.

    def hang_up(self) -> None:
        """The handler closed the socket: the client sees the end now, the descriptor follows.

        In a forked child the descriptor is all that is closed: the connection is the parent's.
        """
        if self.link.loop.forked:
            self.link.sock.close_descriptor()
        else:
            self.shut(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """The handler takes the descriptor for itself."""
        link = self.link
        self._output.flush()
        link.keep_open = False
        if link.loop.forget(link):
            link.loop.closed(link)

    def finish(self) -> None:
        """No further request: close, and linger where that could cost the client its answer."""
        link, delivery = self.link, self._delivery
        if link.state is not State.HANDLED:
            return  # It was finished before, and has another owner now.
        if self._transport.encrypts and delivery.unsettled and is_acknowledged(link.sock):
            # A client that has its answer and has closed would refuse a goodbye with RST, which looks as
            # if it had refused the answer. So that is judged first, by what it has acknowledged.
            delivery.settle(Outcome.COMPLETED)
        if link.peer.state is ClientState.GONE:
            if link.peer.reason is DisconnectReason.WRITE_TIMEOUT:
                link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            delivery.settle_gone()
            self.close()
        elif link.loop.ended:
            delivery.settle(Outcome.COMPLETED)
            self.close()
        elif not self._must_linger():
            self.close()
        else:
            # Before its state says so: the event loop may look at once.
            self.lingering = Lingering(link, self._transport, delivery)
            if not self.lingering.begin():
                self.close()

    def _must_linger(self) -> bool:
        link, parser = self.link, self._input.parser
        if self._input.is_raw:
            link.drained = False
            self._input.receive_available()  # Its handler counted for itself: is there anything left?
        unread = link.pending or not link.drained or parser.buffer or not parser.body_ended
        # Who was refused in the middle of a head may be sending still.
        # Sending it took a while, in which nobody may have watched for what comes.
        much = self.sent_much and (bytes_queued(link.sock) or self._transport.has_news())
        return bool(unread or self._delivery.unsettled or link.refusal or much)

    def drop(self) -> None:
        """Close with a request at hand that is not started, because its client has left."""
        self._delivery.tell_unstarted()
        self.close()

    # -- by the event loop

    def retire(self) -> None:
        """Close a connection that belongs to the event loop, in whichever thread may do that."""
        link = self.link
        if self.is_slow and not link.loop.ended:
            link.state = State.ENDING
            link.deadline = math.inf
            link.loop.hand_out(link)
        else:
            self.close()

    def make_way(self) -> None:
        """There is no room for connections, and nobody works for this one: close it."""
        if self.link.state is State.LINGERING:
            self._delivery.settle(Outcome.COMPLETED)
            self.retire()
        elif self._arrival.unfinished() is None:
            self.retire()
        else:
            self.end_idle()

    def end_idle(self) -> None:
        """Its time is over."""
        exchange = self._arrival.unfinished()
        if exchange is None:
            self.close_gently()
        else:
            # RFC 9110 §15.5.9, as far as the socket takes it; the event loop does not wait.
            self._answer(exchange, Outcome.TIMED_OUT, 408, "Request Timeout")

    def close_gently(self) -> None:
        """Close an idle connection; what its client has yet to read of the last response goes out."""
        if bytes_queued(self.link.sock):
            self.link.state = State.HANDLED  # by the event loop itself
            self.finish()
        else:
            self.retire()

    def end_unanswered(self) -> None:
        """Close an idle connection, whose client has left."""
        self._delivery.tell_unfinished(self._arrival.unfinished())
        self.retire()

    def reject(self) -> None:
        """503 (RFC 9110 §15.6.4) for the request at hand: too many wait already."""
        exchange, self.link.exchange = self.link.exchange, None
        assert exchange is not None  # What has none waits, however many do.
        self._answer(exchange, Outcome.REJECTED, 503, "Service Unavailable", "Retry-After: 1")

    def _answer(
        self, exchange: Exchange, outcome: Outcome, status: int, reason: str, *fields: str
    ) -> None:
        self._delivery.respond_at_once(self._transport, exchange, outcome, status, reason, *fields)
        self.link.state = State.HANDLED
        self.finish()

    # -- by whoever is the last, or any thread

    def cut_off(self) -> None:
        """The server waits for this request no longer.  Any thread.

        Its handler is told as of a disconnect.
        """
        self.link.left(DisconnectReason.SHUTDOWN)
        try:
            socket.socket.shutdown(self.link.sock, socket.SHUT_RDWR)  # for a thread that waits on it
        except OSError:
            pass  # It is closed already.

    def close_at_the_end(self) -> None:
        """Close a connection that nobody will handle or watch any more, and tell what is to be told."""
        link, delivery = self.link, self._delivery
        delivery.settle(Outcome.FAILED if self._output.left_over else Outcome.COMPLETED)
        exchange, link.exchange = link.exchange, None
        if exchange is not None:
            delivery.tell(exchange, Outcome.FAILED)
        self.close()

    def close(self) -> None:
        """Close the socket."""
        link = self.link
        if link.loop.forget(link):
            try:
                link.loop.closed(link)
            finally:
                self._input.drop_stream()
                self._transport.close(farewell=not self._delivery.unsettled)
                link.detach()
