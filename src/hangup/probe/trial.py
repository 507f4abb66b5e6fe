"""One cell, tried once: clients come to a point and leave, and what can be seen of it is kept."""

import dataclasses
import time

from .log import Log, accounts_for_departure, tracebacks
from .paths import Paths
from .points import Due, Manner, Point
from .results import Evidence, Usage
from .subject import Subject
from .visitor import Broken, Place, Visitor

__all__ = ["Setting", "Sight", "Trial", "ask"]

#: Seconds that a server has to read what was sent, and to begin a handler, where nothing tells that.
_ARRIVAL, _BEGINNING = 0.05, 0.15
#: Seconds that a silent client stays; and for which a half-closed one that is owed nothing waits for the
#: server's closing.
_SILENCE, _CLOSING = 0.3, 1.0
#: Seconds without a line in the log, after which it is taken for quiet; and the most to wait for that.
_QUIET, _NOISY = 0.1, 1.0
_LOOK, _LOOKS = 0.02, 3
_LONGEST_LOG = 60


@dataclasses.dataclass(slots=True)
class Setting:
    """What all trials share.  ``patience`` is how many seconds a healthy client waits, at the most."""

    place: Place
    paths: Paths
    log: Log
    subject: Subject
    repeat: int = 3
    patience: float = 3.0
    #: Does the ready-made target tell of its work?
    tells: bool = False
    #: What the server held when the last trial ended; None if it was started again since.
    level: Usage | None = None
    #: Seconds that a server has to give back what it held for who left.
    settling: float = 1.0
    #: The status of the plain path's answer, and how many lines the log has for one.
    status: int = 200
    lines_each: float = 0.0


def ask(setting: Setting, limit: float) -> float | None:
    """A healthy client's request: the seconds to its whole answer; None if none that is right came."""
    began = time.monotonic()
    with Visitor(setting.place, limit) as visitor:
        try:
            visitor.connect()
            setting.paths.mark = "healthy" if setting.tells else ""
            visitor.send(visitor.head("GET", setting.paths.of("plain"), "Connection: close"))
            if visitor.read_answer().status != setting.status:
                return None
        except (OSError, Broken):
            return None
    return time.monotonic() - began


@dataclasses.dataclass(slots=True)
class Sight:
    """What a trial saw: evidence, and what bears on the verdict beside it."""

    evidence: Evidence
    #: How many clients could leave where they should.
    departures: int = 0
    #: What became of a process that ended.
    lost: str | None = None
    #: Whether the healthy client went without an answer only while a silent one was there.
    held_up: bool = False


class Trial:
    """``repeat`` clients at once, at one point, in one manner."""

    def __init__(self, setting: Setting, point: Point, manner: Manner, mark: str) -> None:
        self._setting = setting
        self._point = point
        self._manner = manner
        self._visitors: list[Visitor] = []
        self._marks = [f"{mark}.{number}" for number in range(setting.repeat)]
        self._healthy = 0
        self._sight = Sight(Evidence())

    def run(self) -> Sight:
        """Do it all."""
        setting, evidence = self._setting, self._sight.evidence
        position = setting.log.position()
        setting.subject.settled()
        evidence.before = self._usage_before()
        try:
            self._arrive()
            self._leave()
            evidence.healthy_at_once = self._ask()
            self._stay()
        finally:
            for visitor in self._visitors:
                visitor.close()
        self._wait_for_work()
        evidence.healthy_after = self._ask(0.5 if self._wedged else 1.0)
        self._sight.held_up = evidence.healthy_at_once is None and evidence.healthy_after is not None
        self._settle()
        self._read_log(position)
        self._read_events()
        evidence.restarts = 0 if evidence.before is not None else None  # Who restarts it counts that.
        return self._sight

    def _usage_before(self) -> Usage | None:
        """The least of some looks, and of the last trial's end: a client's thread may just be ending."""
        looks = [self._setting.subject.usage()]
        if looks[0] is not None and self._setting.level is not None:
            looks.append(self._setting.level)
        while looks[0] is not None and len(looks) <= _LOOKS:
            time.sleep(_LOOK / 2)
            looks.append(self._setting.subject.usage())
        return min(looks, key=lambda usage: (usage.threads, usage.descriptors) if usage else (0, 0))

    @property
    def _work(self) -> float:
        """Seconds that the handlers may work for these clients, one after the other."""
        paths = self._setting.paths
        seconds = paths.work if self._point.works else 0.0
        if self._point.path == "stream":
            seconds = paths.streaming
        return seconds * self._setting.repeat

    @property
    def _wedged(self) -> bool:
        """Whether a healthy client waited in vain, though no silent one was there."""
        return self._sight.evidence.healthy_at_once is None and self._manner is not Manner.SILENCE

    def _ask(self, share: float = 1.0) -> float | None:
        self._healthy += 1
        return ask(self._setting, (self._setting.patience + self._work) * share)

    # -- the clients

    def _arrive(self) -> None:
        setting = self._setting
        for mark in self._marks:
            visitor = Visitor(setting.place, setting.patience + self._work)
            self._visitors.append(visitor)
            setting.paths.mark = mark if setting.tells else ""
            try:
                self._point.arrive(visitor, setting.paths)
            except (OSError, Broken) as error:
                self._say(f"could not come so far: {error}")
                visitor.close()
        self._arrived = time.monotonic()
        if not self._point.works:
            time.sleep(_ARRIVAL)
        elif not setting.tells:
            time.sleep(min(_BEGINNING, setting.paths.work / 3))
        elif not setting.log.wait_for_events("began", self._marks, setting.patience + self._work):
            self._say("a handler had not begun before its client left")

    def _leave(self) -> None:
        for visitor in self._visitors:
            if not visitor.connected:
                continue
            self._sight.departures += 1
            try:
                self._point.leave(visitor, self._manner)
            except OSError as error:
                self._say(f"the server had gone first: {error}")
            visitor.left_at = time.time()

    def _stay(self) -> None:
        """What half-closed and silent clients do next."""
        if self._manner is Manner.SILENCE:
            time.sleep(_SILENCE)
        elif self._manner is Manner.HALF_CLOSE:
            due = self._point.due
            limit = self._setting.patience + self._work if due is not Due.NOTHING else _CLOSING
            served = []
            for visitor in self._visitors:
                if visitor.connected:
                    visitor.hurry(limit)
                    served.append(self._read_on(visitor, due))
            if due is not Due.NOTHING and served:
                self._sight.evidence.served = all(served)

    def _read_on(self, visitor: Visitor, due: Due) -> bool:
        """Read all that a half-closed client is due; False if it did not come."""
        if due is Due.NOTHING:
            if not visitor.ended():
                self._say(f"the server had not closed after {_CLOSING:g} s")
            return True
        length = self._setting.paths.lengths.get(self._point.path)
        try:
            for _ in range(2 if due is Due.TWO else 1):
                if length is None and visitor.answer is not None:
                    visitor.read_some(visitor.answer.got + 1)  # It has no end, but goes on.
                    continue
                answer = visitor.read_answer()
                if answer.status >= 400:
                    raise Broken(f"it was answered with {answer.status}")
                if length and answer.got != length:
                    raise Broken(f"{answer.got} bytes came instead of {length}")
        except (OSError, Broken) as error:
            self._say(f"half-closed, and not served: {error}")
            return False
        return True

    def _say(self, text: str) -> None:
        if text not in self._sight.evidence.seen:
            self._sight.evidence.seen.append(text)

    # -- what can be seen

    def _wait_for_work(self) -> None:
        """Wait until what was begun has had the time to end."""
        setting = self._setting
        if setting.tells:
            began = [mark for mark in self._marks if self._count(mark, "began")]
            setting.log.wait_for_events("ended", began, setting.patience + self._work)
        elif self._point.works:
            time.sleep(max(0.0, self._arrived + setting.paths.work + _ARRIVAL - time.monotonic()))
        setting.log.wait_quiet(_QUIET, _NOISY)

    def _settle(self) -> None:
        """Wait until the processes hold no more than before, if they come to that."""
        setting, evidence = self._setting, self._sight.evidence
        self._sight.lost = setting.subject.lost()
        limit = setting.settling if self._sight.lost is None else 0.0
        evidence.after = setting.level = settled(setting.subject, evidence.before, limit)

    def _read_log(self, position: int) -> None:
        setting, evidence = self._setting, self._sight.evidence
        if not setting.log.readable:
            return
        setting.log.wait_quiet(_QUIET, _NOISY)
        lines = setting.log.since(position)
        evidence.tracebacks = tracebacks(lines)
        evidence.lines = max(0, len(lines) - round(self._healthy * setting.lines_each))
        evidence.accounted = accounts_for_departure(lines)
        evidence.log = lines[:_LONGEST_LOG]
        if len(lines) > _LONGEST_LOG:
            evidence.log.append(f"… and {len(lines) - _LONGEST_LOG} lines more")

    def _read_events(self) -> None:
        if not self._setting.tells:
            return
        evidence = self._sight.evidence
        evidence.began = evidence.told = evidence.stopped = 0
        gone = self._manner in {Manner.FIN, Manner.RST}
        wasted = 0.0
        for mark, visitor in zip(self._marks, self._visitors, strict=False):
            began = visitor.left_at
            for event in self._setting.log.events_of(mark):
                match event["event"]:
                    case "began":
                        began = event["at"]
                        evidence.began += 1
                    case "told":
                        evidence.told += 1
                    case "ended":
                        evidence.stopped += bool(event.get("stopped"))
                        if gone and visitor.left_at:
                            seconds = event["at"] - max(began, visitor.left_at)
                            wasted += max(0.0, seconds)

        evidence.wasted = round(wasted, 3) if gone else None

    def _count(self, mark: str, kind: str) -> int:
        return sum(event["event"] == kind for event in self._setting.log.events_of(mark))


def settled(subject: Subject, before: Usage | None, limit: float) -> Usage | None:
    """What the processes hold as soon as that is no more than before, or after ``limit`` seconds."""
    end = time.monotonic() + limit
    while True:
        after = subject.usage()
        if after is None or before is None or time.monotonic() >= end:
            return after
        if after.descriptors <= before.descriptors and after.threads <= before.threads:
            return after
        time.sleep(_LOOK)
