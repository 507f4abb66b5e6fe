"""How a request arrives: which bytes have come of it, and when it is at hand.

A request is at hand when its head has come, and the first ``body_ahead`` bytes of its body, or all of
it.  Until then the event loop receives it: a slow client holds no thread, and a request whose client
disconnects in the middle of such a body is never started, so no framework prints a traceback for it.
What is longer its handler reads as it comes.  A client that asked whether it may send its body
(``Expect``) hears that from its handler.
"""

import math
from time import monotonic
from typing import Any

from .._http1.request import Request, unfinished, unparsed
from ..exceptions import BadRequest
from ..records import Outcome, Phase
from .closing import Ending, State, has_begun
from .exchange import Exchange
from .loop import Loop
from .streams import ClientSocket

__all__ = ["Arrival"]

_NEVER = math.inf
_HANDLED = State.HANDLED  # by a global name, for its cost: see exchange.py


class Arrival(Ending):
    """The part of a connection's life before a request is handled.  Its owner calls all this."""

    __slots__ = ("_coming", "_coming_since", "_quota", "blocking", "one_thread")

    def __init__(self, sock: ClientSocket, address: Any, watch: Loop, *, raw: bool) -> None:
        super().__init__(sock, address, watch, raw=raw)
        #: Does one thread keep it as long as it lasts, and wait for each request?
        self.blocking = False
        #: Does one thread of the engine's run all of its requests, and wait for each? Whoever accepts it
        #: says so.
        self.one_thread = False
        # The request whose body is still to come, and since when.
        self._coming: Request | None = None
        self._coming_since = 0.0
        # How many requests may follow, if that is limited; 0: any number.
        self._quota = self.config.max_requests

    def advance(self) -> bool:
        """Whether a request is at hand.  Reads what has come, and never waits.

        What the previous handler left of its request's body is discarded on the way.  A request that
        must be refused is at hand too: :attr:`refusal` holds the answer.
        """
        wire = self.wire
        received = b""
        try:
            while True:
                if self._coming is not None:
                    if wire.body_at_hand(self.config.body_ahead):
                        whole, self._coming = self._coming, None
                        return self._begin(whole)
                elif wire.buffer and (wire.body_ended or self._discard_body()):
                    if self._raw:
                        if wire.has_raw_head():
                            return self._begin(None)
                    else:
                        received = wire.buffer
                        request = wire.next_request()
                        if request is not None:
                            if not request.length or self._is_whole(request):
                                return self._begin(request)
                            continue
                if self._drained or not self._receive_available():
                    return False
        except BadRequest as refusal:
            return self._refuse(refusal, received)

    def begin_with_body(self, request: Request) -> bool:
        """The head of a request with a body has come, and nothing else; True if it is at hand so."""
        try:
            self.wire.begin_body(request)
            return self._is_whole(request) and self._begin(request)
        except BadRequest as refusal:
            return self._refuse(refusal, request.head)

    def _refuse(self, refusal: BadRequest, received: bytes) -> bool:
        # A traceback would keep the caller's frame, and what was received.
        self.refusal = refusal.with_traceback(None)
        self._begin(None, received)
        self._coming = None
        return True

    def _is_whole(self, request: Request) -> bool:
        """Whether so much has come of the body that the request can begin; else it comes first."""
        if self.blocking or request.expects_continue or self in self.watch.waiting:
            return True  # Its thread waits for the request, and may as well read its body.
        self._coming = request  # Its record tells of it, should its body be refused.
        self._coming_since = monotonic()
        if not self.wire.body_at_hand(self.config.body_ahead):
            return False
        self._coming = None
        return True

    def _begin(self, request: Request | None, received: bytes = b"") -> bool:
        self.request = request
        self.exchange = Exchange(request or self._coming or self._guess(received))
        self.keep_open = True
        if self._quota:
            self._quota -= 1
            self.keep_open = self._quota > 0
        self.deadline = _NEVER
        self.state = _HANDLED
        return True

    def begin_unparsed(self) -> None:
        """A request is at hand that its handler has begun to read by itself."""
        self._begin(None)

    def _guess(self, received: bytes) -> Request:
        """What is known of a request that somebody else will parse, or that is refused."""
        if not self._raw:
            return unfinished(received)
        words = self.wire.buffer.partition(b"\n")[0].decode("latin-1").split()
        return unparsed(b"", *words) if len(words) == 3 else unparsed(b"")

    def leaves_body(self, exchange: Exchange) -> bool:
        """Whether the connection closes behind this answer for what has not been read of the body.

        That is so if it is too long to be dropped (RFC 9112 §9.3), as far as its length is known; and if
        it may never come, since its client waits for a word that nobody has said (RFC 9110 §10.1.1).
        """
        wire = self.wire
        if wire.body_ended:
            return False
        told = exchange.continued or exchange.body_in
        return wire.body_remaining > self.config.max_discarded_body or (
            exchange.request.expects_continue and not told
        )

    def _discard_budget(self, exchange: Exchange) -> int:
        if self.wire.body_ended:
            return 0
        if self.leaves_body(exchange):
            self.keep_open = False
        return self.config.max_discarded_body

    def _discard_body(self) -> bool:
        """Drop what has come of an unread body; True at its end."""
        wire = self.wire
        try:
            while data := wire.read_body():
                self._budget -= len(data)
        except BadRequest:
            self._budget = -1
        if not wire.body_ended and self._budget < wire.body_remaining:
            # Its request has been answered: there is nothing more to say, only to close.
            self.keep_open = False
            self._drained = True
        return wire.body_ended

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come of a next request."""
        return self._coming is None and self.wire.body_ended and not has_begun(self.wire.buffer)

    @property
    def received(self) -> int:
        """Bytes that have come of a request that is not whole."""
        return len(self.wire.buffer) if self._coming is None else self.wire.body_come

    @property
    def body_is_coming(self) -> bool:
        """Whether a request's head is there, and its body is waited for."""
        return self._coming is not None

    def body_deadline(self) -> float:
        """When a body that is coming must have come further.

        Its client has ``body_timeout`` from one byte to the next, and as long for all of it, but for the
        time that it takes at ``min_rate``.
        """
        limit, rate = self.config.body_timeout, self.config.min_rate
        pause = monotonic() + limit
        if not rate:
            return pause
        return min(pause, self._coming_since + limit + self.wire.body_come / rate)

    def _unfinished(self) -> Exchange | None:
        """A request that has begun to come, and ends here; None if there is none."""
        if self._coming is not None:
            exchange = Exchange(self._coming)
            exchange.body_in = self.wire.body_come
            exchange.phase = exchange.left_phase = Phase.BODY
            return exchange
        if self.wire.body_ended and has_begun(self.wire.buffer):
            exchange = Exchange(unfinished(self.wire.buffer))
            exchange.phase = exchange.left_phase = Phase.HEAD
            return exchange
        return None

    def _tell_of_unfinished(self) -> None:
        exchange = self._unfinished()
        if exchange is not None:
            self._tell(exchange, Outcome.LEFT)
