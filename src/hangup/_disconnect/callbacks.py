"""Callbacks: each runs once, in a thread of its own, and is over when its block has been left.

A callback may block: a database's cancel can take half a minute.  So the thread that runs the event loop
runs none, and none waits for another: :class:`Callbacks` always has a thread to spare.
"""

import contextvars
import enum
import logging
import os
import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, Self

from .._system.fork import end_process
from .._system.threads import new_thread

if TYPE_CHECKING:
    from .interrupt import Interruption

__all__ = ["Callbacks", "Registration", "Registry"]

_log = logging.getLogger("hangup")

# Seconds that a thread which runs no callback is given to end.
_ENDING = 1.0


class Callbacks:
    """The threads that run callbacks.

    ``_lock`` guards ``_idle``, ``_threads`` and ``_closed``.  ``_idle`` counts the threads that wait
    for a job, or have been started to; from :meth:`prepare` on it is at least one between any two
    jobs, as a thread that takes a job first sees to it that another is there.  So :meth:`start`, which
    the event loop calls, starts no thread and waits for none.
    """

    def __init__(self, name: str, idle_timeout: float) -> None:
        self._name = name
        self._idle_timeout = idle_timeout
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._started = 0
        self._idle = 0
        self._closed = False

    def prepare(self) -> None:
        """There will be jobs.  Any thread but the event loop's."""
        if not self._idle:
            with self._lock:
                self._spare_thread_locked()

    def start(self, job: Callable[[], None]) -> None:
        """Run ``job``, which raises nothing, in another thread, after :meth:`prepare`."""
        self._jobs.put(job)

    def after_fork(self) -> None:
        """In a forked child: these threads are the parent's."""
        self._lock = threading.Lock()
        self._jobs = queue.SimpleQueue()
        self._threads = set()
        self._idle = 0

    def _spare_thread_locked(self) -> None:
        if self._idle or self._closed:
            return
        self._started += 1
        thread = new_thread(self._run, f"{self._name}-callbacks-{self._started}")
        self._idle += 1
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            self._idle -= 1
            self._threads.discard(thread)
            _log.warning("callbacks may be late: %s", error)

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._idle_timeout)
            except queue.Empty:
                with self._lock:
                    if self._idle > 1:
                        self._end_locked()
                        return
                continue
            with self._lock:
                if job is None:
                    self._end_locked()
                    return
                self._idle -= 1
                self._spare_thread_locked()
            job()
            with self._lock:
                self._idle += 1
                if self._closed:
                    self._end_locked()
                    return

    def _end_locked(self) -> None:
        self._idle -= 1
        self._threads.discard(threading.current_thread())

    def close(self) -> None:
        """End the threads; those that are inside a callback end behind it."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        deadline = monotonic() + _ENDING
        for thread in threads:
            if thread is not threading.current_thread():  # A callback closes the server.
                thread.join(max(0.0, deadline - monotonic()))


class Registry(Protocol):
    """Where registrations are kept: the client."""

    lock: threading.Lock

    def forget_locked(self, registration: "Registration") -> None:
        """It has been left, or has run."""


class _Stage(enum.Enum):
    REGISTERED = "waits for the client to leave"
    DUE = "the client has left: to be run"
    RUNNING = "being run"
    OVER = "has run, or will not run"


class Registration:
    """A callback that waits for its client to leave: what ``on_disconnect`` returns.

    Use it in a ``with`` statement, whose end unregisters it.  Registered by one thread, told by
    another that the client left (:meth:`fall_due_locked`), and run by a third.  The client's lock
    guards ``_stage``, ``_runner``, ``_waiter`` and ``shielded``: block and callback may both unregister
    it, and one of them lifts the shield.
    """

    __slots__ = ("_call", "_context", "_registry", "_runner", "_stage", "_waiter", "shielded")

    def __init__(
        self, registry: Registry, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        if not callable(callback):
            raise TypeError(f"a callback must be callable, not {callback!r}")
        self._registry = registry
        self._call = (callback, args)
        # It runs where it was registered, as far as context variables go: logs and the like say for
        # whom, and current_client() is this client.
        self._context = contextvars.copy_context()
        self._stage = _Stage.REGISTERED
        self._runner = 0
        self._waiter: threading.Lock | None = None
        #: What must not break off the block that this is for.
        self.shielded: Interruption | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    def fall_due_locked(self) -> bool:
        """The client has left; True if the callback is now to be run."""
        if self._stage is not _Stage.REGISTERED:
            return False
        self._stage = _Stage.DUE
        return True

    def run(self) -> None:
        """Run the callback, if nobody has; its exceptions are logged."""
        with self._registry.lock:
            if self._stage is not _Stage.DUE:
                return
            self._stage = _Stage.RUNNING
            self._runner = threading.get_ident()
        callback, args = self._call
        process, failure = os.getpid(), None
        try:
            self._context.run(callback, *args)
        except BaseException as error:
            failure = error
            if os.getpid() == process or not isinstance(error, SystemExit):
                _log.exception("a callback failed: %r", callback)
        finally:
            if os.getpid() != process:
                end_process(failure)  # A child that it has forked: what would follow is the parent's.
            with self._registry.lock:
                self.end_locked()

    def end_locked(self) -> None:
        """It has run, or will not."""
        self._stage = _Stage.OVER
        self._registry.forget_locked(self)
        if self._waiter is not None:
            self._waiter.release()

    def unregister(self) -> None:
        """Have it not be called any more; if it is being called, wait until it has returned.

        A callback that is due and that no thread has begun is run here: it is called exactly once
        for a client that left inside the block.  Called by the callback itself, this does not wait.

        Raises :exc:`~hangup.ClientDisconnected` if the client left, inside an ``interrupting`` block
        that was held back for this.
        """
        try:
            self._unregister()
        finally:
            with self._registry.lock:
                shielded, self.shielded = self.shielded, None
            if shielded is not None:
                shielded.lift_shield()

    def _unregister(self) -> None:
        with self._registry.lock:
            if self._stage is _Stage.REGISTERED:
                self.end_locked()
                return
        self.run()
        with self._registry.lock:
            if self._stage is not _Stage.RUNNING or self._runner == threading.get_ident():
                return
            if self._waiter is None:
                self._waiter = threading.Lock()
                self._waiter.acquire()
            waiter = self._waiter
        with waiter:
            pass
