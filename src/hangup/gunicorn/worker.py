"""hangup's engine in gunicorn's workers: ``gunicorn -k hangup.gunicorn.Worker -w 4 app:app``.

gunicorn keeps the processes: it binds, forks, restarts, counts and buries.  Each of its workers runs one
engine, over the sockets that all of them share.

What becomes of each of gunicorn's settings stands in docs/gunicorn.md, and, in groups, in
``settings``.  Any of hangup's own that gunicorn does not know is read from ``HANGUP_…`` in the
environment, as ``hangup serve`` reads it.
"""

import contextlib
import os
import select
import time
from typing import Any

from gunicorn.workers import base

from .._engine.engine import Engine
from ..wsgi.server import LAST_REQUEST
from .adapter import GunicornDoor
from .fields import LenientHeads
from .log import access_sink, log_to, shield
from .settings import check_settings, config_of

__all__ = ["Worker"]

# Seconds between two signs of life; gunicorn's time-out is in whole seconds.
_HEARTBEAT = 1.0
# Seconds, at the most, that what is cut off has to end before the arbiter kills its process.
_LAST_WORDS = 1.0


class Worker(base.Worker):  # type: ignore[misc]
    """A gunicorn worker of hangup's.

    gunicorn makes it, and calls :meth:`run` in the process's main thread, where its signals come, too.
    """

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Say what is asked for in vain; gunicorn calls this at its start."""
        check_settings(cfg, log)
        log_to(log)  # Before the application is imported, here or in a worker.

    def run(self) -> None:
        """Serve until gunicorn says otherwise; then finish what is in progress."""
        log_to(self.log)
        shield(self.log)
        config = config_of(self.cfg)
        sink = access_sink(self.log)
        front_end = GunicornDoor(self, self.wsgi, keeps_environ=sink is not None)
        engine = Engine(front_end, config, access_sink=sink)
        for loop in engine.loops:
            loop.heads = LenientHeads(config, self.cfg)
        for sock in self.sockets:
            engine.listen(sock.sock)
        engine.start()
        while self.alive and self.ppid == os.getppid():
            self.notify()
            self._wait()
        engine.drain(LAST_REQUEST)
        grace = self.cfg.graceful_timeout
        # The arbiter kills whatever is there when the time is over: before that, it is told, and logged.
        grace -= min(_LAST_WORDS, grace / 4)
        deadline = time.monotonic() + grace
        while engine.busy and (left := deadline - time.monotonic()) > 0:
            self.notify()
            engine.wait(min(left, self._heartbeat))
        if engine.cut_off(grace):
            engine.wait(_LAST_WORDS)
        engine.close(wait=False)
        for sock in self.sockets:
            sock.close()

    def end_soon(self) -> None:
        """This worker has served its share; any thread may say so."""
        self.log.info("Autorestarting worker after current request.")
        self.alive = False
        with contextlib.suppress(BlockingIOError):
            os.write(self.PIPE[1], b".")

    @property
    def _heartbeat(self) -> float:
        """Seconds between two signs of life: of gunicorn's time-out a worker is told half; 0 is none."""
        return min(_HEARTBEAT, self.timeout or _HEARTBEAT)

    def _wait(self) -> None:
        """Until a signal comes, which writes into the pipe, or for a heartbeat."""
        if select.select([self.PIPE[0]], [], [], self._heartbeat)[0]:
            os.read(self.PIPE[0], 4096)
