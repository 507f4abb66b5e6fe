"""Whether a response was delivered, and the records of requests, which may have to wait for that.

A client that has sent FIN may be reading still, or may be long gone.  Which of the two shows when it
takes the last answer or refuses it, so the records of its requests wait until then.
"""

import threading

from .._disconnect.peer import ClientState, DisconnectReason
from .._http1.error_response import plain_response
from .._system.poller import bytes_queued
from ..records import Outcome
from .exchange import Exchange
from .link import Link
from .transport import Transport

__all__ = ["Delivery"]

# Bytes that a client may have read and not acknowledged: it does so at every other segment, and the
# loopback's have 64 KiB (RFC 9293 §3.8.6.3).
UNACKNOWLEDGED = 2 * 65536


class Delivery:
    """What becomes of a connection's responses.  Its owner calls all this."""

    __slots__ = ("link", "unsettled")

    def __init__(self, link: Link) -> None:
        self.link = link
        #: Exchanges that have ended, but whose client may have left before that.
        self.unsettled: list[Exchange] | None = None

    def tell(self, exchange: Exchange, outcome: Outcome) -> None:
        """A request has ended so: its record goes to whoever wants it."""
        link = self.link
        record = exchange.record(link.peer, outcome)
        link.loop.sinks.emit(record, reported=exchange.reported, handled=exchange.started_at != 0.0)

    def wait(self, exchange: Exchange) -> None:
        """Its record waits until it is known whether its response was delivered."""
        exchange.thread = threading.current_thread().name
        self.unsettled = [*(self.unsettled or ()), exchange]

    def is_delivered(self, exchange: Exchange) -> bool:
        """Whether a response that was sent whole counts as delivered to a client that is gone.

        It does if the kernel had taken its last byte before the client reset the connection: the kernel
        refuses what is sent after a reset, so a reset that anybody notes behind that call changes
        nothing.  Two things are known better.  After a FIN the kernel goes on taking bytes, whether
        somebody reads them or not: then the client must have acknowledged them.  And if megabytes are
        unacknowledged, it can't have read them.  (Linux keeps the count beyond the reset.)
        """
        peer = self.link.peer
        if exchange.cut_short or peer.reason is not DisconnectReason.RESET:
            return False
        # Our own FIN counts as a byte.
        return bytes_queued(self.link.sock) <= (1 if peer.sent_fin else UNACKNOWLEDGED)

    def end(self, exchange: Exchange, *, whole: bool) -> None:
        """A request has ended whose client is not OPEN any more.

        ``whole`` says that the front end has handed all of the response over, as far as it can tell.
        """
        exchange.thread = threading.current_thread().name
        if not whole and exchange.outcome is Outcome.COMPLETED:
            # Its handler gave up the rest. That its client has acknowledged what there is says nothing.
            exchange.outcome = Outcome.DISCONNECTED
        if not exchange.response_began:
            self.tell(exchange, Outcome.DISCONNECTED)
        elif self.link.peer.state is ClientState.EOF:
            self.wait(exchange)
        elif self.is_delivered(exchange):
            self.tell(exchange, exchange.outcome)
        else:
            self.tell(exchange, Outcome.DISCONNECTED)

    def settle(self, outcome: Outcome) -> None:
        """Those that waited have ended so, ANSWERED as each had it."""
        for exchange in self.unsettled or ():
            self.tell(exchange, exchange.outcome if outcome is Outcome.COMPLETED else outcome)
        self.unsettled = None

    def settle_gone(self) -> None:
        """The client is gone: it has taken the responses that were sent behind its FIN, or not."""
        for exchange in self.unsettled or ():
            delivered = self.is_delivered(exchange)
            self.tell(exchange, exchange.outcome if delivered else Outcome.DISCONNECTED)
        self.unsettled = None

    def tell_unfinished(self, exchange: Exchange | None) -> None:
        """A request that had begun to come, if there is one, ends so."""
        if exchange is not None:
            self.tell(exchange, Outcome.DISCONNECTED)

    def tell_unstarted(self) -> None:
        """The request at hand is not started, because its client has left."""
        link = self.link
        if link.peer.state is ClientState.GONE:
            self.settle_gone()
        self.settle(Outcome.DISCONNECTED)
        exchange, link.exchange = link.exchange, None
        if exchange is not None:
            self.tell(exchange, Outcome.DISCONNECTED)

    def respond_at_once(
        self,
        transport: Transport,
        exchange: Exchange,
        outcome: Outcome,
        status: int,
        reason: str,
        *fields: str,
    ) -> None:
        """A response of the server's own, as far as the socket takes it; nobody waits."""
        head, body = plain_response(status, reason, *fields)
        exchange.status, exchange.reason = status, reason
        exchange.head_out = len(head)
        try:
            exchange.out = transport.send_now(head if exchange.is_for_head else head + body)
        except OSError:
            pass  # It does not listen.
        self.tell(exchange, outcome)
