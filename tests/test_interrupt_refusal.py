"""``interrupting()`` refuses where an exception can land behind ``__enter__`` and before its block."""

import ctypes
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import PATIENCE
from hangup._disconnect import interrupt as _interrupt
from test_client import Pair

#: Exceptions that are raised beside a ``with`` statement that does nothing else.
EXCEPTIONS = 5_000


@pytest.fixture
def swift_switches() -> Iterator[None]:
    """Threads take turns as often as they can; no tracer slows one of them."""
    before, trace, threads = sys.getswitchinterval(), sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
    threading.settrace(threads)  # type: ignore[arg-type]
    sys.settrace(trace)


class Landed(Exception):
    """What is raised in the other thread."""


class Taker:
    """A thread that takes a lock and gives it back, in which exceptions are raised one by one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.landed = 0
        #: As many have landed, and the next one may come: it would be caught.
        self.ready = -1
        self.locked_for_good = False
        self.ended = False
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.ended:
            try:
                self._take()
            except Landed:
                # Nobody else takes it: if it is locked now, it is so for ever.
                if self.lock.locked():
                    self.locked_for_good = True
                    return
                self.landed += 1

    def _take(self) -> None:
        # A function of its own: before Python 3.14, a `try` does not cover the jump back to the
        # condition of a `while` loop in it.
        self.ready = self.landed
        while not self.ended:
            with self.lock:
                pass

    def raise_here(self, count: int) -> None:
        send = _interrupt._async_exc()
        self._thread.start()
        deadline = time.monotonic() + PATIENCE * 3
        for number in range(count + 1):
            while self.ready < number and not self.locked_for_good and time.monotonic() < deadline:
                time.sleep(0)
            if self.ready < number or number == count:
                break
            assert self._thread.ident is not None
            send(self._thread.ident, Landed)
        self.ended = True
        self._thread.join()


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="a free-threaded build is always refused"
)
@pytest.mark.usefixtures("swift_switches")
def test_it_refuses_exactly_where_a_lock_may_stay_locked() -> None:
    taker = Taker()
    taker.raise_here(EXCEPTIONS)
    if _interrupt.leaves_what_it_enters():
        assert taker.landed == EXCEPTIONS
        assert not taker.locked_for_good
    else:
        assert taker.locked_for_good


def test_a_python_that_leaves_locks_locked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_interrupt, "leaves_what_it_enters", lambda: False)
    monkeypatch.setattr(_interrupt, "refusal", _interrupt.refusal.__wrapped__)
    monkeypatch.setattr(_interrupt.sysconfig, "get_config_var", lambda _name: 0)
    with pytest.raises(NotImplementedError, match=r"a lock may stay locked .* issue 148874"):
        Pair().client.interrupting()


def test_a_free_threaded_build_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_interrupt, "refusal", _interrupt.refusal.__wrapped__)
    monkeypatch.setattr(_interrupt.sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    with pytest.raises(NotImplementedError, match="in a free-threaded build has not been shown"):
        Pair().client.interrupting()


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="what Python 3.14.x does is looked at, not known"
)
def test_python_before_3_14_is_not_refused() -> None:
    assert _interrupt.leaves_what_it_enters()


def test_python_without_the_means_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoSuchFunction:
        def __getitem__(self, name: str) -> Any:
            raise AttributeError(name)

    _interrupt._async_exc.cache_clear()
    monkeypatch.setattr(ctypes, "pythonapi", NoSuchFunction())
    with pytest.raises(NotImplementedError, match="can't interrupt a thread"):
        Pair().client.interrupting()
