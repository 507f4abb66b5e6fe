"""The watchdog, a thread: it does what can't wait for a handler that turned out slow.

Two things wait for a handler: the event loop, while the leader is inside one, and an answer's head, held
back to leave with the body.  Neither may wait long, and neither should cost the quick request that
is the rule.  So this thread looks at every tick, and helps whatever it finds a second time.

When a whole tick saw nothing it sleeps until somebody calls :meth:`Pacer.nudge`: an idle server does
not tick.
"""

import threading
import time
from collections.abc import Callable

from .._system.threads import new_thread

__all__ = ["LONG_TICK", "TICK", "Watchdog"]

#: Seconds. A stalled handler is seen after one to two of them; a hundredth of that is what a tick
#: costs the leader when it has to share its core.
TICK = 0.002
#: The same where handlers are known to compute.
LONG_TICK = 0.008


class Watchdog:
    """Ticks while there is anything to look at.

    ``look`` is what it does at each tick; it returns how long the next one is, in seconds, or 0 if there
    was nothing to see.  ``nudge`` may be called by any thread.  ``asleep`` holds the sleeper's lock, and
    whoever pops it wakes the sleeper, so that no wake-up is given twice; callers on a request's way look
    at it before they nudge.
    """

    def __init__(self, look: Callable[[], float], name: str) -> None:
        self._look = look
        self.asleep: list[threading.Lock] = []
        self._stopped = False
        self._thread = new_thread(self._run, name)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for that (a tick at the most)."""
        self._stopped = True
        self.nudge()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def nudge(self) -> None:
        """There may be something to look at.  Cheap when the watchdog is awake."""
        try:
            self.asleep.pop().release()
        except IndexError:
            pass  # It is awake, or another thread woke it.

    def _run(self) -> None:
        wakeup = threading.Lock()
        wakeup.acquire()
        while not self._stopped:
            tick = self._look()
            if not tick:
                self._sleep(wakeup)
            time.sleep(tick or TICK)

    def _sleep(self, wakeup: threading.Lock) -> None:
        self.asleep.append(wakeup)
        # A nudge that came before the line above went unheard: look once more.
        if self._look() or self._stopped:
            self.nudge()
        wakeup.acquire()
