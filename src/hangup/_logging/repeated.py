"""What is said of something that fails again and again: once, and then now and then."""

import logging
import threading
import time
import traceback

from .._http1.escape import printable

__all__ = ["INTERVAL", "Trouble", "described"]

#: Seconds between two lines about one trouble; the operator knows, and it may go on for days.
INTERVAL = 10.0
# Characters of an exception's text: more is no text for one line.
_LONG = 200

_log = logging.getLogger("hangup")


def described(error: BaseException) -> str:
    """What went wrong, and where, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    what = f"{type(error).__name__}: {error}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return printable(what[:_LONG] + where)


class Trouble:
    """Counts failures, and logs the first, then one line in :data:`INTERVAL` s, and that it works again.

    ``what`` is what fails, ``lost`` what each failure costs, in the plural.  Any thread calls it.
    """

    def __init__(self, what: str, lost: str) -> None:
        self._what = what
        self._lost = lost
        self._lock = threading.Lock()
        self._said_at = 0.0
        self._failing = False
        #: How many were lost since it last worked.
        self.count = 0

    def failed(self, error: BaseException | str, count: int = 1) -> None:
        """It failed, and ``count`` were lost."""
        now = time.monotonic()
        with self._lock:
            self.count += count
            first = not self._failing
            if not first and now < self._said_at + INTERVAL:
                return
            self._failing = True
            self._said_at = now
            total = self.count
        why = error if isinstance(error, str) else described(error)
        if first:
            _log.error("%s failed: %s", self._what, why)
        else:
            _log.error("%s still fails: %s; %d %s are lost so far", self._what, why, total, self._lost)
        if isinstance(error, BaseException):
            _log.debug("%s failed", self._what, exc_info=error)

    def over(self) -> None:
        """It worked; said once, and not at once, lest one that fails now and then says so each time."""
        if self._failing and time.monotonic() >= self._said_at + INTERVAL:
            self._sum_up("%s works again; %d %s are lost")

    def end(self) -> None:
        """It is not used any more."""
        if self._failing:
            self._sum_up("%s has failed; %d %s are lost")

    def _sum_up(self, text: str) -> None:
        with self._lock:
            self._failing = False
            total, self.count = self.count, 0
        if total:
            _log.warning(text, self._what, total, self._lost)
