"""Whether the leader gives the lead away before it runs a handler, or runs it with the lead.

What matters is whether handlers *block*.  While one waits for a database, the interpreter is free, and
another thread should lead.  One that computes holds the interpreter lock: a second thread would gain
nothing, cost two thread switches a request, and compete for the lock.  So the leader runs computing
handlers itself, one after the other, and gives the lead away before those that block; and before those
that compute for so long that others, and whoever disconnects, must not wait for their end.

What is measured is time in which this process did not run: the wall clock, less the processor time of
all its threads, less the time for which this thread was ready and had no core.  (Linux tells the last;
elsewhere it counts as blocked.)  Of a handler that ran beside others this is too little: where they kept
the interpreter busy, nobody knows how long it would have blocked alone.  Such a handler counts if it is
seen to block, and else not at all.  So that a server which is busy in many threads finds its way back to
one, the leader tries from time to time what it is like to run handlers itself: at first soon, and ever
more seldom if they block.

Without an interpreter lock, the time in which a handler's own thread did not run is measured.  Handlers
that compute run side by side then because there are several leaders.
"""

import os
import sys
from time import monotonic, process_time, thread_time
from typing import NamedTuple

__all__ = ["HAS_LOCK", "QUICK", "Handover", "is_runnable", "read_clocks"]

#: Whether one thread at a time runs Python code.
HAS_LOCK: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
#: Seconds. Giving the lead away costs two thread switches, some 0.1 ms where cores are shared; a handler
#: that blocks for three times that is worth them.
QUICK = 0.0003
# Seconds for which a handler must run before it is worth measuring.
_WORTHWHILE = 0.0001
# Seconds of processor time, on average, that handlers may take with the lead.
_LONG = 0.005
# One in so many is measured while none blocks: it costs some 3 µs.
_NOW_AND_THEN = 4
# The weight of the newest handler in the running average. It rises sooner than it falls: where one
# request in ten blocks, a leader that trusts the nine runs into the tenth, and the event loop pauses for
# a tick or two (with one in ten of 50 ms, the 99th percentile of the others was 1.5 ms, and is 0.5).
_RISING = 0.1
_FALLING = 0.03
# Seconds. For so long one handler counts at the most: then the watchdog has long given the lead away.
_LONGEST = 0.01
# Seconds. What a handler that had to be taken over counts for. One among many that compute costs the
# others two or three milliseconds: less than giving the lead away before all of them. Two within some
# thirty are more than that.
_TAKEN_OVER = 0.0025
# Seconds from one trial to the next, at first and at the most, and how many handlers must go well for
# the next one to come soon again.
_SOON, _SELDOM = 0.1, 5.0
_PROBATION = 100


class Reading(NamedTuple):
    """Clocks, in seconds: the wall's, and the processor time of the process and of the calling thread.

    ``delayed`` is for how long that thread was ready and had no core, if that was asked.
    """

    wall: float
    process: float
    thread: float
    delayed: float | None


def read_clocks(*, delay: bool) -> Reading:
    """The clocks as of now; ``delay`` costs some 6 µs."""
    return Reading(monotonic(), process_time(), thread_time(), _delay() if delay else None)


def _delay() -> float:
    # No descriptor is kept: it would be one for each thread.
    try:
        descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        return 0.0
    try:
        return int(os.read(descriptor, 80).split()[1]) / 1e9
    finally:
        os.close(descriptor)


class Handover:
    """Decides, by what the latest handlers did.

    All threads write here without a lock: a lost update changes nothing that matters.  What is asked for
    each request stands in two attributes.
    """

    def __init__(self) -> None:
        #: Whether the leader is to run the next handler itself; if not, :meth:`tries` is asked.
        self.keeps_lead = True
        #: Whether handlers are quick, so that there is nothing to measure; only what is not is noted.
        self.is_calm = True
        # For how long handlers block, in seconds, on average.
        self._blocked = 0.0
        # The same for how long they take, and for their processor time.
        self._took = self._computed = 0.0
        self._turn = 0
        # Whether the latest handler seemed to block, so that the next one is measured exactly.
        self._in_doubt = False
        # When to try next, and how long after that again; how many handlers have gone well since.
        self._trial_at = 0.0
        self._pause = _SOON
        self._went_well = 0

    @property
    def is_undisturbed(self) -> bool:
        """Whether handlers take their time, and spend it computing, with the lead."""
        return self.keeps_lead and HAS_LOCK and self._took > _WORTHWHILE

    def begin(self) -> Reading | None:
        """The clocks before a handler, if it is to be measured: while none blocks, now and then."""
        if self._took <= _WORTHWHILE:
            return None
        doubt = self._in_doubt or not self.keeps_lead
        self._turn += 1
        return read_clocks(delay=doubt) if doubt or self._turn % _NOW_AND_THEN == 0 else None

    def note(self, took: float, begun: Reading | None, *, alone: bool) -> None:
        """A handler has run for ``took`` seconds; ``begun`` are the clocks before it, if they were read.

        ``alone`` says that no other handler ran meanwhile.
        """
        self._took += (took - self._took) * _RISING
        blocked = computed = took
        stands_for = 1
        if took >= QUICK:
            if begun is None:
                self.is_calm = False
                return
            wall, process, thread, delayed = read_clocks(delay=begun.delayed is not None)
            computed = thread - begun.thread
            blocked = (wall - begun.wall) - ((process - begun.process) if HAS_LOCK else computed)
            if begun.delayed is not None and delayed is not None:
                blocked -= delayed - begun.delayed
            elif blocked >= QUICK:
                self._in_doubt = True  # It may have had no core. The next one tells.
                return
            else:
                stands_for = _NOW_AND_THEN
            self._in_doubt = blocked >= QUICK
        self._computed += (computed - self._computed) * _RISING
        if took < QUICK or blocked >= QUICK or alone or not HAS_LOCK:
            self._count(max(0.0, blocked), falling=_FALLING * stands_for)
        self._decide()

    def note_blocked(self) -> None:
        """The watchdog has found a handler that blocks, and given the lead away."""
        # Not when it ends: the next request may block for as long. Handlers that have blocked of late
        # are believed at once.
        self._count(_TAKEN_OVER, rising=1.0 if self._pause > _SOON else _RISING)
        self._decide()

    def tries(self) -> bool:
        """Handlers block. Whether to run the next ones with the lead nevertheless, as a trial."""
        if self._computed >= _LONG or monotonic() < self._trial_at:
            return False
        self._blocked = 0.0
        self._decide()
        return True

    def _count(self, blocked: float, rising: float = _RISING, falling: float = _FALLING) -> None:
        more = min(blocked, _LONGEST) - self._blocked
        self._blocked += more * (rising if more > 0 else falling)

    def _decide(self) -> None:
        before, blocks = self.keeps_lead, self._blocked >= QUICK
        self.keeps_lead = not blocks and self._computed < _LONG
        self.is_calm = self._blocked < _WORTHWHILE and self._took <= _WORTHWHILE and self.keeps_lead
        if blocks:
            if before:
                self._trial_at = monotonic() + self._pause
                self._pause = min(2 * self._pause, _SELDOM)
            self._went_well = 0
        elif self._pause > _SOON:
            self._went_well += 1
            if self._went_well > _PROBATION:
                self._pause = _SOON


def is_runnable(thread: int | None) -> bool:
    """Whether a thread, by the system's name for it, runs or waits for a core; False if nobody knows."""
    try:
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            return file.read(512).rpartition(b") ")[2].startswith(b"R")
    except OSError:
        return False
