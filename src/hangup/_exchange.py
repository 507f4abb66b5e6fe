"""One request and its answer, as they go; at the end, a record."""

import threading
from time import monotonic, time

from ._wire import Request
from .client import Client, ClientState
from .records import CLIENT_CLOSED_REQUEST, Outcome, Phase, RequestRecord

__all__ = ["Exchange"]


class Exchange:
    """What is known of a request while it is under way.

    Owned by the thread that handles the connection.  The watching thread touches it in one place:
    :meth:`note_left`, which writes ``left_phase`` once.
    """

    __slots__ = (
        "began",
        "body_in",
        "ended_at",
        "head_in",
        "head_out",
        "left_phase",
        "method",
        "out",
        "outcome",
        "phase",
        "protocol",
        "ready_at",
        "reported",
        "started_at",
        "status",
        "target",
        "thread",
    )

    def __init__(self, request: Request | None) -> None:
        self.began = time()
        self.ready_at = monotonic()
        self.started_at = 0.0
        self.phase = Phase.QUEUED
        self.left_phase: Phase | None = None
        self.status = 0
        self.body_in = 0
        self.out = 0
        self.head_out = 0
        #: How it ends, if its client stays.
        self.outcome = Outcome.ANSWERED
        self.ended_at = 0.0
        #: Whether a handler has written its own line about this request (``log_request``).
        self.reported = False
        #: The handling thread's name, if its owner has told.
        self.thread = ""
        if request is not None:
            self.head_in = len(request.head)
            self.method = request.method
            self.target = request.target
            self.protocol = request.protocol
        else:
            self.head_in = 0
            self.method = self.target = self.protocol = ""

    def start(self, client: Client, now: float) -> None:
        """A thread takes the request up."""
        self.started_at = now
        self.phase = Phase.WORKING
        if client.state is not ClientState.OPEN:
            self.left_phase = Phase.WORKING

    def end(self) -> None:
        """The handler is done with it."""
        self.ended_at = monotonic()

    def note_left(self) -> None:
        """The client leaves now."""
        if self.left_phase is None:
            self.left_phase = self.phase

    @property
    def answer_began(self) -> bool:
        """Whether any byte of the answer is on its way."""
        return self.out > 0

    def note_sent(self, data: bytes | memoryview, count: int) -> None:
        """``count`` bytes, the beginning of ``data``, are on their way."""
        if self.out == 0 and count:
            self.phase = Phase.ANSWERING
            if not self.status:  # The handler wrote its status line itself.
                line = bytes(data[:13])
                if line.startswith(b"HTTP/1.") and line[9:12].isdigit():
                    self.status = int(line[9:12])
        self.out += count

    def forget_interim(self, count: int) -> None:
        """The ``count`` bytes that were just sent are a 1xx: the answer has yet to begin."""
        self.out -= count
        self.head_out -= count
        self.status = 0
        self.phase = Phase.WORKING

    def record(self, client: Client, outcome: Outcome) -> RequestRecord:
        """The record of this exchange, which has ended so."""
        now = self.ended_at or monotonic()
        began_at = self.ready_at
        started_at = self.started_at
        left_at = None
        wasted = 0.0
        status = self.status
        if client.state is not ClientState.OPEN:
            departed = client.disconnected_at or now
            left_at = max(0.0, departed - began_at)
            if outcome is Outcome.LEFT:
                if started_at:
                    wasted = max(0.0, now - max(departed, started_at))
                if self.left_phase is not Phase.ANSWERING:
                    status = CLIENT_CLOSED_REQUEST
        return RequestRecord(
            client.host,
            self.method,
            self.target,
            self.protocol,
            status,
            outcome,
            self._final_phase(outcome),
            self.head_in + self.body_in,
            self.out,
            max(0, self.out - self.head_out),
            self.began,
            now - began_at,
            max(0.0, (started_at or now) - began_at),
            left_at,
            wasted,
            self.thread or threading.current_thread().name,
        )

    def _final_phase(self, outcome: Outcome) -> Phase:
        if outcome is Outcome.LEFT:
            return self.left_phase or self.phase
        return self.phase if outcome is Outcome.TIMED_OUT else Phase.COMPLETE
