"""A TLS handshake, taken step by step.

The event loop waits for the client's bytes, as for a request's; a worker takes the step, for a signature
costs a millisecond; then the connection is the event loop's again.  So a client that connects and says
nothing costs a descriptor, until ``handshake_timeout``.
"""

import errno
import logging
import socket
from collections.abc import Callable
from time import monotonic

from .._disconnect.peer import ClientState, DisconnectReason
from .._http1.error_response import plain_response
from .._http1.request import unparsed
from .._system.poller import EOF, GONE
from ..exceptions import RequestRejected
from ..records import Outcome
from .closing import Closing
from .delivery import Delivery
from .exchange import Exchange
from .link import DONTWAIT, Link
from .state import State
from .tls_transport import TLSTransport, no_tls

__all__ = ["Handshake"]

_log = logging.getLogger("hangup")

_recv = socket.socket.recv

# Seconds behind its deadline at which a client's bytes are only found if nobody could look for them: the
# process was stopped, or the machine asleep. Then its client's next bytes have their time, too.
_STOPPED = 0.5


class Handshake:
    """The handshake of one connection, whose owner calls all this."""

    __slots__ = ("_closing", "_delivery", "_park", "_transport", "link")

    def __init__(
        self,
        link: Link,
        transport: TLSTransport,
        delivery: Delivery,
        closing: Closing,
        park: Callable[[float], float | None],
    ) -> None:
        self.link = link
        self._transport = transport
        self._delivery = delivery
        self._closing = closing
        # Gives the connection to the event loop until a time; None if there is more to do.
        self._park = park
        link.deadline = monotonic() + link.config.handshake_timeout

    @property
    def is_done(self) -> bool:
        """Whether it is."""
        return self._transport.established

    def on_ready(self, flags: int) -> bool:
        """Something has come, or the client has left; True if a worker is to take a step."""
        link = self.link
        if flags & GONE:
            return self._leave("it left")
        if flags & EOF:
            # It may have closed its sending side alone, behind the last of the handshake and a request.
            link.left(DisconnectReason.FIN)
        try:
            if not _recv(link.sock, 1, DONTWAIT | socket.MSG_PEEK):
                return self._leave("it left")
        except BlockingIOError:
            if link.loop.rearm is not None:
                link.loop.rearm(link.sock)
            return False
        except OSError as error:
            return self._leave(error)
        link.state = State.HANDLED
        return True

    def _leave(self, why: object) -> bool:
        _log.debug("no TLS handshake with %s: %s", self.link.peer.host, why)
        self._closing.retire()
        return False

    def take_steps(self) -> None:
        """Take what steps can be taken; then the connection is the event loop's again, or closed.

        A request that came with the last step is the event loop's to find: whether there is a thread for
        it is another question than whether there was one for the handshake.
        """
        link = self.link
        try:
            self._take_steps()
        except OSError as error:
            _log.debug("no TLS handshake with %s: %s", link.peer.host, error)
            link.refusal = no_tls()  # It may be sending on, and is to read the alert.
            self._closing.finish()
        except RequestRejected as refusal:
            self._answer_plainly(refusal)

    def _take_steps(self) -> None:
        link, transport = self.link, self._transport
        until = link.deadline
        if (now := monotonic()) > until + _STOPPED:
            until = now + link.config.handshake_timeout
        while True:
            if not transport.established and transport.shake_hands():
                link.idle_since = monotonic()
                until = link.idle_since + link.config.request_header_timeout
            if transport.established:
                transport.read_behind_handshake()
            elif link.peer.state is ClientState.GONE:
                raise ConnectionAbortedError(errno.ECONNABORTED, "it left")
            elif link.peer.state is ClientState.EOF:
                continue  # Its FIN was told of together with these bytes: the next look finds it.
            # What is there now nobody would tell the event loop of.
            more = transport.has_something
            parked = self._park(until)
            if parked is not None:
                break
            if not link.keep_open:
                self._closing.close()
                return
        if more:
            link.loop.look_at(link)
        link.loop.expect(parked)

    def _answer_plainly(self, refusal: RequestRejected) -> None:
        """To plain HTTP on a port for TLS: a complete answer, in plain HTTP."""
        self.link.refusal = refusal
        exchange = Exchange(unparsed(b""))
        head, body = plain_response(refusal.status, refusal.reason)
        exchange.status, exchange.head_out = refusal.status, len(head)
        exchange.reason = refusal.reason
        try:
            exchange.out = self._transport.send_plainly(head + body)
        except OSError:
            pass  # It does not listen.
        self._delivery.tell(exchange, Outcome.REJECTED)
        self._closing.finish()
