"""A whole run: what the target has is looked at, then each cell is tried, confirmed and judged."""

import collections
import time
from collections.abc import Callable, Iterable

from .judging import Leak, growth, judge
from .points import Manner, Point
from .results import Cell, Evidence, Verdict
from .trial import Setting, Sight, Trial, ask, settled

__all__ = ["Prober"]

#: How often a cell is tried that seems to leak: that is what grows each time; a pool fills but once.
_TRIES = 3
#: Seconds that are given to the last of it to go away: some servers wait for a client's last bytes.
_LAST_CHANCE = 2.5
#: In how many cells a server must have kept something, for it to be believed of the others more easily;
#: and the seconds that it has there to give it back.
_KNOWN, _SHORT = 2, 0.4
#: Seconds that a server has to come back, if it is not the probe's to start again.
_RECOVERY = 10.0


class Prober:
    """Tries cells, one after the other.  All of it happens in the thread that calls it."""

    def __init__(self, setting: Setting, skipped: dict[str, str]) -> None:
        """``skipped`` has the points that don't fit, by name, with the reason."""
        self._setting = setting
        self._skipped = skipped
        self._number = 0
        self._convictions: collections.Counter[str] = collections.Counter()
        self._over: str | None = None

    def run(
        self,
        pairs: Iterable[tuple[Point, Manner]],
        started: Callable[[Point, Manner], None] = lambda _point, _manner: None,
        finished: Callable[[Cell], None] = lambda _cell: None,
    ) -> list[Cell]:
        """Try each of the cells; what is told of them while they are tried, is told to the functions."""
        cells = []
        for point, manner in pairs:
            started(point, manner)
            cell = self._cell(point, manner)
            finished(cell)
            cells.append(cell)
        return cells

    def _cell(self, point: Point, manner: Manner) -> Cell:
        reason = self._skipped.get(point.name) or self._over
        if reason is not None:
            return Cell(point.name, manner, Verdict.SKIPPED, [reason])
        sight = self._try(point, manner)
        cell = judge(point, manner, sight, self._leaked(point, manner, sight), self._setting.lines_each)
        if cell.verdict in {Verdict.CRASHED, Verdict.WEDGED}:
            self._revive(cell.evidence)
        return cell

    def _try(self, point: Point, manner: Manner) -> Sight:
        self._number += 1
        return Trial(self._setting, point, manner, str(self._number)).run()

    # -- leaks

    def _leaked(self, point: Point, manner: Manner, sight: Sight) -> Leak:
        """What the server did not give back."""
        grown = self._grown(sight)
        known = {name: number for name, number in grown.items() if self._convictions[name] >= _KNOWN}
        if known and min(known.values()) >= sight.departures:
            return Leak(known, sight.departures)
        leaked = self._confirm(point, manner, sight) if grown else Leak()
        self._convictions.update(leaked.kept.keys())
        if any(number >= _KNOWN for number in self._convictions.values()):
            self._setting.settling = _SHORT
        return leaked

    def _grown(self, sight: Sight) -> dict[str, int]:
        well = sight.lost is None and sight.evidence.healthy_after is not None
        return growth(sight.evidence) if well else {}

    def _confirm(self, point: Point, manner: Manner, first: Sight) -> Leak:
        """Try it again; return what the server kept each time, and in the end."""
        names = set(growth(first.evidence))
        departures = first.departures
        for _ in range(_TRIES - 1):
            again = self._try(point, manner)
            departures += again.departures
            names &= set(self._grown(again))
            if not names:
                return Leak()
        before = first.evidence.before
        after = settled(self._setting.subject, before, _LAST_CHANCE)
        whole = Evidence(before=before, after=after)
        kept = {
            name: number for name, number in growth(whole).items() if name in names and number >= _TRIES
        }
        return Leak(kept, departures)

    # -- a server that is no more

    def _revive(self, evidence: Evidence) -> None:
        """Have a server that answers, for the next cell; or none at all."""
        subject = self._setting.subject
        self._setting.level = None
        if subject.restart():
            evidence.restarts = (evidence.restarts or 0) + 1
        end = time.monotonic() + _RECOVERY
        while ask(self._setting, self._setting.patience) is None:
            if time.monotonic() > end:
                self._over = "the server no longer answered"
                return
            time.sleep(0.05)
