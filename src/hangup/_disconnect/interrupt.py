"""Breaking off pure-Python work, by an exception that another thread raises in it.

``PyThreadState_SetAsyncExc`` leaves an exception with a thread, which raises it at its next
*checkpoint*: the start of a Python function, a jump backwards, the return of a call into C.  Until
then it is pending.  It must land inside its block and nowhere else, so:

- It is sent only while the block is ARMED, and once, with the client's lock held.
- The block's end takes that lock, disarms the block, and passes a checkpoint, so that nothing is
  pending behind it.  What lands there comes out of the ``with`` statement, as if in the block's last
  moment.  (Withdrawing it, by a NULL, is no way: in CPython 3.11 that leaves a flag set for good, which
  slows all threads down, and hangs those that are traced.)
- What lands on the way into the block's end, where nothing can catch it, has landed: there is no
  second one.  The interruption that is then left behind is SENT for ever, and does nothing.

A registration (``on_disconnect``) inside the block *shields* it: the registration's own end must not
be broken off half-way, and its callback is there to end the work.

CPython 3.14 has a checkpoint that its neighbours have not: behind the call of ``__enter__``, where the
``with`` statement does not call ``__exit__`` yet.  What lands there leaves a lock locked for good, this
module's own among them (CPython issue 148874; fixed in 3.15).  Nothing here can keep an exception
away from there, so such an interpreter is refused; it is known by what it does, not by its number.

A free-threaded build is refused, too: there, threads run at once, and that an exception lands inside its
block and nowhere else has not been shown.

Before CPython 3.14 the jump back to a ``while`` loop's condition is not covered by the ``try`` and
``with`` statements around it: what lands there passes all of them in that function.  An interruption
whose block is left so has landed, as above; what the program's own statements miss is told in the
documentation.
"""

import enum
import functools
import platform
import sysconfig
import threading
from collections.abc import Callable
from typing import Protocol

from ..exceptions import ClientDisconnected

__all__ = ["Interruptible", "Interruption"]


class Interruptible(Protocol):
    """The client, as its interruptions see it.  ``lock`` guards them, too."""

    lock: threading.Lock
    interruptions: "list[Interruption]"

    @property
    def disconnected(self) -> bool:
        """Whether it has left."""

    @property
    def ended(self) -> bool:
        """Whether its request has ended."""


@functools.cache
def _async_exc() -> Callable[[int, type[BaseException]], int]:
    """``PyThreadState_SetAsyncExc``."""
    try:
        import ctypes

        # By index: the attribute is one object for the whole process, whose prototype is others' too.
        function = ctypes.pythonapi["PyThreadState_SetAsyncExc"]
    except (ImportError, AttributeError):
        raise NotImplementedError("this Python can't interrupt a thread") from None
    function.argtypes = (ctypes.c_ulong, ctypes.py_object)
    return function


class _Landed(BaseException):
    """What is raised to see where it lands."""


@functools.cache
def leaves_what_it_enters() -> bool:
    """Whether ``with`` calls ``__exit__``, if an exception is pending when ``__enter__`` returns."""
    left = []

    class Entered:
        # Called by the statement itself: no Python code, which has checkpoints of its own, lies between.
        __enter__ = staticmethod(functools.partial(_async_exc(), threading.get_ident(), _Landed))

        def __exit__(self, *_: object) -> None:
            left.append(self)

    try:
        with Entered():
            _checkpoint()
    except _Landed:
        pass
    return bool(left)


@functools.cache
def refusal() -> str:
    """Why this Python can't interrupt a thread safely; empty if it can."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "that it holds in a free-threaded build has not been shown"
    if not leaves_what_it_enters():
        return "a lock may stay locked behind its `with` (CPython issue 148874, fixed in Python 3.15)"
    return ""


def _checkpoint() -> None:
    """What is pending for this thread lands here, if not before."""
    for _ in (1, 2):
        pass


class _Stage(enum.Enum):
    OUTSIDE = "its block has not begun, or is over"
    NESTED = "inside another block of its thread, which does the work"
    ARMED = "may be sent"
    SENT = "pending, or has landed"


class Interruption:
    """What ``interrupting()`` returns.  Entered and left by the thread that is to be interrupted.

    The client's lock guards everything here.
    """

    __slots__ = ("_client", "_send", "_shields", "_stage", "thread")

    def __init__(self, client: Interruptible) -> None:
        self._client = client
        self._send = _async_exc()
        if reason := refusal():
            python = platform.python_version()
            raise NotImplementedError(f"Python {python} can't interrupt a thread safely: {reason}")
        self._stage = _Stage.OUTSIDE
        self._shields = 0
        self.thread = 0

    def __enter__(self) -> None:
        client = self._client
        self.thread = threading.get_ident()
        with client.lock:
            if self._stage is not _Stage.OUTSIDE:
                raise RuntimeError("an interruption's block is entered once at a time")
            if client.disconnected:
                raise ClientDisconnected
            if client.ended:
                return
            if any(other.is_armed_here() for other in client.interruptions):
                self._stage = _Stage.NESTED
                return
            client.interruptions.append(self)
            # From here on it may be sent.
            self._stage = _Stage.ARMED

    def __exit__(self, *_: object) -> None:
        with self._client.lock:
            stage, self._stage = self._stage, _Stage.OUTSIDE
            if stage is not _Stage.NESTED and self in self._client.interruptions:
                self._client.interruptions.remove(self)
            if stage is _Stage.SENT:
                _checkpoint()

    def is_armed_here(self) -> bool:
        """Whether this thread is inside its block."""
        return self._stage is _Stage.ARMED and self.thread == threading.get_ident()

    def send_locked(self) -> None:
        """The client has left."""
        if self._stage is not _Stage.ARMED or self._shields:
            return
        self._stage = _Stage.SENT
        if self.thread != threading.get_ident():
            # Else this thread has noticed it itself, and is told by the call that failed.
            self._send(self.thread, ClientDisconnected)

    def end_locked(self) -> None:
        """The request has ended, and with it what could interrupt.

        What is pending stays so: its thread is inside the block yet, whose end sees to it.
        """
        if self._stage is _Stage.ARMED:
            self._stage = _Stage.OUTSIDE

    def shield_locked(self) -> bool:
        """Hold back; False if this is not about the calling thread, or too late.

        What is pending lands before this returns.
        """
        if self.thread != threading.get_ident():
            return False
        if self._stage is _Stage.SENT:
            _checkpoint()
        if self._stage is not _Stage.ARMED:
            return False
        self._shields += 1
        return True

    def lift_shield(self) -> None:
        """Hold back no more.  Raises :exc:`ClientDisconnected` if the client has left meanwhile."""
        with self._client.lock:
            self._shields -= 1
            if self._shields or self._stage is not _Stage.ARMED or not self._client.disconnected:
                return
            if self.thread != threading.get_ident():
                # The callback has unregistered itself, say.
                self.send_locked()
                return
            self._stage = _Stage.SENT
        raise ClientDisconnected
