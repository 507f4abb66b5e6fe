"""One request and its answer, as they go; at the end, a record."""

import math
import threading
from http import HTTPStatus
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Protocol

from .._disconnect.client import Client, set_current
from .._disconnect.peer import ClientState, DisconnectReason, Peer
from .._http1.request import Request
from ..records import CLIENT_CLOSED_REQUEST, Outcome, Phase, RequestRecord

if TYPE_CHECKING:
    from .loop import Loop

__all__ = ["Exchange"]

_making = threading.Lock()

# Enum members by global names: in CPython 3.11 `Phase.QUEUED` takes 60 ns, and a global 8. A request
# looks at ten.
_QUEUED, _WORKING, _ANSWERING = Phase.QUEUED, Phase.HANDLER, Phase.RESPONSE
_ANSWERED = Outcome.COMPLETED


class Limits(Protocol):
    """The way out, see ``output``."""

    def limit_silence(self) -> None: ...


class Carrier(Protocol):
    """The connection that carries a request."""

    peer: Peer
    loop: "Loop"

    @property
    def output(self) -> "Limits": ...


class Exchange:
    """What is known of a request while it is under way.

    Owned by the thread that handles the connection.  The event loop's thread touches it in two places:
    :meth:`note_left`, which writes ``left_phase`` once, and :meth:`notify_client`.

    The client is made when somebody asks for it.  Whoever makes it publishes it first and then looks
    at the peer and at ``ended_at``; whoever notes a departure, or ends the request, writes there first
    and then looks for the client.  So one of the two tells it.  ``_making`` guards the making.  A front
    end that has to hand a client out before anybody asks leaves a blank one in ``blank_client``.
    """

    __slots__ = (
        "_connection",
        "blank_client",
        "body_in",
        "continued",
        "cut_short",
        "ended_at",
        "environ",
        "fin_late",
        "head_out",
        "known_client",
        "left_phase",
        "out",
        "outcome",
        "phase",
        "ready_at",
        "reason",
        "reported",
        "request",
        "response_fields",
        "started_at",
        "status",
        "thread",
    )

    def __init__(self, request: Request) -> None:
        #: The client, if somebody has asked for it.
        self.known_client: Client | None = None
        self.blank_client: Client | None = None
        self.ready_at = monotonic()
        self.started_at = 0.0
        self.phase = _QUEUED
        self.left_phase: Phase | None = None
        #: Whether FIN came so long after the request that its client has left; None: not judged yet.
        self.fin_late: bool | None = None
        self.status = 0
        self.body_in = 0
        #: Whether its client was told to send its body.
        self.continued = False
        self.out = 0
        self.head_out = 0
        #: Whether the kernel refused a part of the response, or the client did not take it in time.
        self.cut_short = False
        #: How it ends, if its client stays.
        self.outcome = _ANSWERED
        self.ended_at = 0.0
        #: Whether a handler has written its own line about this request (``log_request``).
        self.reported = False
        #: The handling thread's name, if its owner has told.
        self.thread = ""
        self.response_fields: tuple[tuple[str, str], ...] = ()
        #: Why it is refused, where it is.
        self.reason = ""
        #: What was asked for, as far as that is known.
        self.request = request
        #: What its application was given, and what it put there, if a front end keeps that for the log.
        self.environ: dict[str, Any] | None = None

    def start(self, connection: Carrier) -> None:
        """A thread takes the request up, and this context is the request's from now on."""
        self._connection = connection
        self.started_at = monotonic()
        self.phase = _WORKING
        if connection.peer.disconnected_at is not None:
            self.left_phase = Phase.HANDLER
        set_current(self)

    @property
    def client_has_left(self) -> bool:
        """Whether the client has left.  Any thread, after the start."""
        return self._connection.peer.disconnected_at is not None

    def after_fork(self) -> Carrier | None:
        """In a forked child, whose handler's request this is: the locks are nobody's.

        Returns its connection; None if the request has ended, and the connection serves another one.
        """
        global _making  # noqa: PLW0603
        _making = threading.Lock()
        if self.known_client is not None:
            self.known_client.after_fork()
        return None if self.ended_at else self._connection

    @property
    def client(self) -> Client:
        """The client, as the handler and whatever it calls see it.  Any thread, after the start."""
        return self.known_client or self.make_client(self.blank_client)

    def make_client(self, blank: Client | None) -> Client:
        """The client, made of a blank one where there is one."""
        with _making:
            client = self.known_client
            if client is None:
                peer = self._connection.peer
                connection = self._connection
                client = blank or Client.__new__(Client)
                Client.__init__(client, peer.address, connection.loop.callbacks)
                self.known_client = client
                if not self.ended_at:
                    # This thread leads, or did until now, and will not look at the poller for long.
                    connection.loop.register(connection)
                if self.out and not self.ended_at:
                    self._connection.output.limit_silence()
                left_after_end = self.ended_at and (peer.disconnected_at or math.inf) > self.ended_at
                if peer.state is not ClientState.OPEN and not left_after_end:
                    client.note(peer)
                if self.ended_at:
                    client.end()
            return client

    def notify_client(self, peer: Peer) -> None:
        """The peer's state has changed.  Any thread."""
        client = self.known_client
        if client is not None:
            client.note(peer)

    def note_left(self) -> None:
        """The client leaves now.

        ``phase`` is ``ANSWERING`` from before the first call that sends: whoever notes a reset in the
        middle of that call, or before its caller has counted the bytes, finds it so.  Whether anything
        was sent, :meth:`record` asks ``out``.
        """
        if self.left_phase is None:
            self.left_phase = self.phase

    def end(self, now: float) -> None:
        """Its handler is done with it; what was sent may be on its way still."""
        self.ended_at = now
        self.blank_client = None
        if self.known_client is not None:
            self.known_client.end()

    @property
    def response_began(self) -> bool:
        """Whether any byte of the answer is on its way."""
        return self.out > 0

    def note_sent(self, data: bytes | memoryview, count: int) -> None:
        """``count`` bytes, the beginning of ``data``, are on their way."""
        if self.out == 0 and count and not self.status:  # The handler wrote its status line itself.
            line = bytes(data[:13])
            if line.startswith(b"HTTP/1.") and line[9:12].isdigit():
                self.status = int(line[9:12])
        self.out += count

    @property
    def may_have_stopped(self) -> bool:
        """Whether a handler may have given up its response because it was told of a disconnect.

        Asked where nothing else says whether the response is whole: a stream that ends with its
        connection may have ended for that.  Not so where FIN came with the request, from a client that
        has closed its sending side and reads on.
        """
        client = self.known_client
        disconnected_at = None if client is None else client.disconnected_at
        return (
            disconnected_at is not None
            and disconnected_at > self.started_at
            and self.status != HTTPStatus.SWITCHING_PROTOCOLS
        )

    @property
    def is_for_head(self) -> bool:
        """Whether its method is HEAD, also of a request that is refused, as far as it has come."""
        return self.request.method == "HEAD" or self.request.head.startswith(b"HEAD ")

    def forget_interim(self, count: int) -> None:
        """The ``count`` bytes that were just sent are a 1xx: the answer has yet to begin."""
        self.continued = self.continued or self.status == HTTPStatus.CONTINUE
        self.out -= count
        self.head_out -= count
        self.status = 0
        self.phase = Phase.HANDLER

    def record(self, peer: Peer, outcome: Outcome) -> RequestRecord:
        """The record of this exchange, which has ended so."""
        if outcome is Outcome.DISCONNECTED and peer.reason is DisconnectReason.SHUTDOWN:
            outcome = Outcome.FAILED
        now = self.ended_at or monotonic()
        request = self.request
        began_at = self.ready_at
        started_at = self.started_at
        disconnected_at = None
        wasted = 0.0
        status = self.status
        # Who reset when it had its response stayed for as long as anybody worked for it.
        if peer.disconnected_at is not None and (outcome is not _ANSWERED or peer.sent_fin):
            departed = peer.disconnected_at
            disconnected_at = max(0.0, departed - began_at)
            if outcome is Outcome.DISCONNECTED and started_at:
                wasted = max(0.0, now - max(departed, started_at))
        # It refers to this exchange, by its client: only the garbage collector would part the two.
        environ, self.environ = self.environ, None
        phase = Phase.COMPLETE if outcome is _ANSWERED else self._final_phase(outcome)
        body_out = self.out - self.head_out if self.out > self.head_out else 0
        if outcome is Outcome.DISCONNECTED and phase is not _ANSWERING:
            status = CLIENT_CLOSED_REQUEST
            body_out = 0  # What was sent behind its FIN nobody took.
        return RequestRecord(
            peer.host,
            request.method,
            request.target,
            request.protocol,
            status,
            outcome,
            phase,
            len(request.head) + self.body_in,
            self.out,
            body_out,
            time() - monotonic() + began_at,
            now - began_at,
            (started_at or now) - began_at,
            disconnected_at,
            wasted,
            self.thread or threading.current_thread().name,
            request,
            self.response_fields,
            self.reason,
            environ,
        )

    def _final_phase(self, outcome: Outcome) -> Phase:
        if outcome is Outcome.DISCONNECTED:
            phase = self.left_phase or self.phase
            # It left during the first call that sends, of which the kernel took nothing.
            return _WORKING if phase is _ANSWERING and not self.out else phase
        return self.phase if outcome is Outcome.TIMED_OUT else Phase.COMPLETE
