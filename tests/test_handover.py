"""When the leader gives the lead away: measured by clocks of the test's own."""

import threading
import time
from typing import Any

import pytest

import hangup
from conftest import answer, descriptors, hand_over_always
from hangup._engine import handover as _handover
from hangup._engine.handover import HAS_LOCK, QUICK, Handover, Reading, is_runnable, read_clocks

pytestmark = pytest.mark.skipif(
    not HAS_LOCK, reason="without a lock, computing handlers run side by side"
)


class Clocks:
    """A thread's clocks; time passes when it is told to."""

    def __init__(self) -> None:
        self.now = Reading(0.0, 0.0, 0.0, 0.0)
        self.asked_for_delay = 0

    def read(self, *, delay: bool) -> Reading:
        self.asked_for_delay += delay
        return self.now if delay else self.now._replace(delayed=None)

    def pass_(
        self, *, blocked: float = 0.0, computed: float = 0.0, others: float = 0.0, late: float = 0.0
    ) -> float:
        wall, process, thread, delayed = self.now
        took = blocked + computed + others + late
        self.now = Reading(wall + took, process + computed + others, thread + computed, delayed + late)
        return took


class Play:
    """Handlers that are played to a :class:`Handover`, which reads the time of day from here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.handover = Handover()
        self.clocks: Any = Clocks()
        monkeypatch.setattr(_handover, "read_clocks", self.clocks.read)
        monkeypatch.setattr(_handover, "monotonic", lambda: self.clocks.now.wall)

    def run(self, count: int = 1, *, alone: bool = True, **times: float) -> bool:
        """Whether the leader keeps the lead behind them."""
        for _ in range(count):
            begun = None if self.handover.is_calm else self.handover.begin()
            took = self.clocks.pass_(**times)
            if took >= QUICK or not self.handover.is_calm:
                self.handover.note(took, begun, alone=alone)
        return self.handover.keeps_lead


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(monkeypatch)


def test_handlers_that_compute_keep_the_lead(play: Play) -> None:
    assert play.run(200, computed=0.002)
    assert not play.clocks.asked_for_delay  # which is dear


def test_handlers_that_wait_for_a_core_keep_it_too(play: Play) -> None:
    assert play.run(200, computed=0.001, late=0.005)


def test_handlers_that_block_give_it_away_within_a_few(play: Play) -> None:
    assert not play.run(20, computed=0.0001, blocked=0.004)


def test_one_in_ten_that_blocks_is_enough(play: Play) -> None:
    play.run(20, computed=0.0001, blocked=0.05)
    for _ in range(20):
        play.run(9, computed=0.00002)
        assert not play.run(1, blocked=0.05)


def test_a_rare_one_that_is_taken_over_changes_nothing(play: Play) -> None:
    """A session that is written now and then must not have every other request change threads."""
    for _ in range(50):
        play.run(80, computed=0.0005)
        play.handover.note_blocked()
        assert play.handover.keeps_lead


def test_two_that_are_taken_over_within_a_few_are_enough(play: Play) -> None:
    play.run(50, computed=0.0005)
    play.handover.note_blocked()
    play.run(20, computed=0.0005)
    play.handover.note_blocked()
    assert not play.handover.keeps_lead


def test_what_ran_beside_others_counts_only_if_it_is_seen_to_block(play: Play) -> None:
    play.run(20, blocked=0.004)
    play.run(500, computed=0.001, others=0.009, alone=False)
    assert not play.handover.keeps_lead
    play.handover.keeps_lead = True
    play.handover.note_blocked()
    assert not play.run(1, blocked=0.004, others=0.001, alone=False)


def test_quick_handlers_bring_it_back(play: Play) -> None:
    play.run(20, blocked=0.004)
    assert play.run(200, computed=0.00002, alone=False)
    assert play.handover.is_calm


def test_long_computing_handlers_give_it_away_and_quick_ones_bring_it_back(play: Play) -> None:
    assert not play.run(40, computed=0.05)
    assert not play.handover.tries()
    assert play.run(200, computed=0.00002)


def test_trials_come_soon_at_first_and_seldom_when_they_fail(play: Play) -> None:
    play.run(20, blocked=0.004)
    pauses = []
    for _ in range(8):
        began = play.clocks.now.wall
        while not play.handover.tries():
            play.clocks.pass_(blocked=0.01)
        pauses.append(play.clocks.now.wall - began)
        assert play.handover.keeps_lead
        play.handover.note_blocked()  # by the watchdog
        assert not play.handover.keeps_lead
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.2
    assert 4 < pauses[-1] < 6
    # What has come to compute goes well, and then a relapse is soon forgiven.
    while not play.handover.tries():
        play.clocks.pass_(blocked=0.01)
    assert play.run(500, computed=0.002)
    play.handover.note_blocked()
    began = play.clocks.now.wall
    while not play.handover.tries():
        play.clocks.pass_(blocked=0.01)
    assert play.clocks.now.wall - began < 0.2


def test_clocks_tell_computing_from_blocking() -> None:
    before = descriptors()
    begun = read_clocks(delay=True)
    while time.thread_time() - begun.thread < 0.02:
        pass
    computed = read_clocks(delay=True)
    assert computed.process - begun.process >= 0.02
    threading.Event().wait(0.05)
    blocked = read_clocks(delay=True)
    assert blocked.wall - computed.wall >= 0.05
    assert blocked.thread - computed.thread < 0.04
    assert None not in (begun.delayed, blocked.delayed)
    assert read_clocks(delay=False).delayed is None
    assert descriptors() == before


def test_whether_a_thread_is_runnable() -> None:
    assert is_runnable(threading.get_native_id())
    assert not is_runnable(None)
    asleep, wake = threading.Event(), threading.Event()

    def sleep() -> None:
        asleep.set()
        wake.wait()

    thread = threading.Thread(target=sleep)
    thread.start()
    try:
        asleep.wait()
        while is_runnable(thread.native_id):  # It is on its way to sleep.
            pass
    finally:
        wake.set()
        thread.join()


@pytest.mark.parametrize("hands_over", [False, True])
def test_a_handler_that_computes_is_in_nobodys_way(serve: Any, hands_over: bool) -> None:
    may_end = threading.Event()

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/compute":
                while not may_end.is_set():
                    pass
            elif self.path == "/end":
                may_end.set()
            answer(self, b"ok")

    serving = serve(Handler)
    if hands_over:
        hand_over_always(serving.engine.workers)
    with serving.connect() as computing, serving.connect() as other:
        computing.get("/compute")
        assert other.get("/end").response()[1] == b"ok"
        assert computing.response()[1] == b"ok"
