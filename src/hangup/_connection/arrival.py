"""How a request arrives: which bytes have come of it, and when it is at hand.

A request is at hand when its head has come, and the first ``body_prefetch`` bytes of its body, or all of
it.  Until then the event loop receives it: a slow client holds no thread, and a request whose client
disconnects in the middle of such a body is never started, so no framework prints a traceback for it.
What is longer its handler reads as it comes.  A client that asked whether it may send its body
(``Expect``) hears that from its handler.
"""

import math
from time import monotonic

from .._http1.parser import RequestParser
from .._http1.request import Request, unfinished, unparsed
from ..exceptions import RequestRejected
from ..records import Phase
from .exchange import Exchange
from .input import Input
from .link import Link
from .state import State

__all__ = ["Arrival", "has_begun"]

_NEVER = math.inf
_HANDLED = State.HANDLED  # by a global name, for its cost: see exchange.py


def has_begun(received: bytes) -> bool:
    """Whether a request has begun in what has come: the empty lines that may precede one are none of it.

    RFC 9112 §2.2: some clients send a CRLF too many behind a request.
    """
    return bool(received) and not received.isspace()


class Arrival:
    """Finds requests in what a connection receives.  The connection's owner calls all this."""

    __slots__ = ("_budget", "_coming_since", "_input", "_quota", "coming", "link")

    def __init__(self, link: Link, input_: Input) -> None:
        self.link = link
        self._input = input_
        #: The request whose body is still to come.
        self.coming: Request | None = None
        # And since when.
        self._coming_since = 0.0
        # How many requests may follow, if that is limited; 0: any number.
        self._quota = link.config.max_requests
        # Bytes that may still be read and dropped of a request's body.
        self._budget = 0

    @property
    def parser(self) -> RequestParser:
        """What parses the bytes."""
        return self._input.parser

    def advance(self) -> bool:
        """Whether a request is at hand.  Reads what has come, and never waits.

        What the previous handler left of its request's body is discarded on the way.  A request that
        must be refused is at hand too: the link's ``refusal`` holds the answer.
        """
        parser = self._input.parser
        received = b""
        try:
            while True:
                if self.coming is not None:
                    if parser.body_at_hand(self.link.config.body_prefetch):
                        whole, self.coming = self.coming, None
                        return self.begin(whole)
                elif parser.buffer and (parser.body_ended or self._discard_body()):
                    if self._input.is_raw:
                        if parser.has_raw_head():
                            return self.begin(None)
                    else:
                        received = parser.buffer
                        request = parser.next_request()
                        if request is not None:
                            if not request.length or self._is_whole(request):
                                return self.begin(request)
                            continue
                if self.link.drained or not self._input.receive_available():
                    return False
        except RequestRejected as refusal:
            return self._refuse(refusal, received)

    def begin_with_body(self, request: Request) -> bool:
        """The head of a request with a body has come, and nothing else; True if it is at hand so."""
        try:
            self._input.parser.begin_body(request)
            return self._is_whole(request) and self.begin(request)
        except RequestRejected as refusal:
            return self._refuse(refusal, request.head)

    def _refuse(self, refusal: RequestRejected, received: bytes) -> bool:
        # A traceback would keep the caller's frame, and what was received.
        self.link.refusal = refusal.with_traceback(None)
        self.begin(None, received)
        self.coming = None
        return True

    def _is_whole(self, request: Request) -> bool:
        """Whether so much has come of the body that the request can begin; else it comes first."""
        if self.link.blocking or request.expects_continue or self.link in self.link.loop.waiting:
            return True  # Its thread waits for the request, and may as well read its body.
        self.coming = request  # Its record tells of it, should its body be refused.
        self._coming_since = monotonic()
        if not self._input.parser.body_at_hand(self.link.config.body_prefetch):
            return False
        self.coming = None
        return True

    def begin(self, request: Request | None, received: bytes = b"") -> bool:
        """A request is at hand: it is the handling thread's.  None: one that its handler parses."""
        link = self.link
        link.request = request
        link.exchange = Exchange(request or self.coming or self._guess(received))
        link.keep_open = True
        if self._quota:
            self._quota -= 1
            link.keep_open = self._quota > 0
        link.deadline = _NEVER
        link.state = _HANDLED
        return True

    def begin_unparsed(self) -> None:
        """A request is at hand that its handler has begun to read by itself."""
        self.begin(None)

    def _guess(self, received: bytes) -> Request:
        """What is known of a request that somebody else will parse, or that is refused."""
        if not self._input.is_raw:
            return unfinished(received)
        words = self._input.parser.buffer.partition(b"\n")[0].decode("latin-1").split()
        return unparsed(b"", *words) if len(words) == 3 else unparsed(b"")

    # -- what is left of a body

    def leaves_body(self, exchange: Exchange) -> bool:
        """Whether the connection closes behind this answer for what has not been read of the body.

        That is so if it is too long to be dropped (RFC 9112 §9.3), as far as its length is known; and if
        it may never come, since its client waits for a word that nobody has said (RFC 9110 §10.1.1).
        """
        parser = self._input.parser
        if parser.body_ended:
            return False
        told = exchange.continued or exchange.body_in
        return parser.body_remaining > self.link.config.max_discarded_body or (
            exchange.request.expects_continue and not told
        )

    def allow_discarding(self, exchange: Exchange) -> None:
        """The request has been answered: what its handler has not read may be dropped, up to a limit."""
        if self._input.parser.body_ended:
            self._budget = 0
            return
        if self.leaves_body(exchange):
            self.link.keep_open = False
        self._budget = self.link.config.max_discarded_body

    def _discard_body(self) -> bool:
        """Drop what has come of an unread body; True at its end."""
        parser = self._input.parser
        try:
            while data := parser.read_body():
                self._budget -= len(data)
        except RequestRejected:
            self._budget = -1
        if not parser.body_ended and self._budget < parser.body_remaining:
            # Its request has been answered: there is nothing more to say, only to close.
            self.link.keep_open = False
            self.link.drained = True
        return parser.body_ended

    # -- a request that is not whole

    def is_last(self) -> bool:
        """While the server drains: whether nothing has come behind the request at hand."""
        return not (has_begun(self._input.parser.buffer) or self._input.has_news())

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come of a next request."""
        parser = self._input.parser
        return self.coming is None and parser.body_ended and not has_begun(parser.buffer)

    @property
    def received(self) -> int:
        """Bytes that have come of a request that is not whole."""
        parser = self._input.parser
        return len(parser.buffer) if self.coming is None else parser.body_come

    def patience(self) -> float:
        """Until when a request that has begun to come must have come further."""
        if self.coming is not None:
            return self.body_deadline()
        return monotonic() + self.link.config.request_header_timeout

    def body_deadline(self) -> float:
        """When a body that is coming must have come further.

        Its client has ``body_timeout`` from one byte to the next, and as long for all of it, but for the
        time that it takes at ``min_data_rate``.
        """
        limit, rate = self.link.config.body_timeout, self.link.config.min_data_rate
        pause = monotonic() + limit
        if not rate:
            return pause
        return min(pause, self._coming_since + limit + self._input.parser.body_come / rate)

    def unfinished(self) -> Exchange | None:
        """A request that has begun to come, and ends here; None if there is none."""
        parser = self._input.parser
        if self.coming is not None:
            exchange = Exchange(self.coming)
            exchange.body_in = parser.body_come
            exchange.phase = exchange.left_phase = Phase.BODY
            return exchange
        if parser.body_ended and has_begun(parser.buffer):
            exchange = Exchange(unfinished(parser.buffer))
            exchange.phase = exchange.left_phase = Phase.HEADER
            return exchange
        return None
