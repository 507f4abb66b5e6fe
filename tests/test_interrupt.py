"""``interrupting()``: an exception lands inside its block, and never anywhere else."""

import ctypes
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any, Self

import pytest

import hangup
from conftest import PATIENCE, Serving, answer, interrupts
from hangup import ClientDisconnected, DisconnectReason, Outcome
from hangup._disconnect import interrupt as _interrupt
from hangup._disconnect.callbacks import Callbacks
from test_client import Deferred, Pair

pytestmark = interrupts

#: In each of two tests: 110,000 in all.
DEPARTURES = 55_000


@pytest.fixture
def untraced() -> Iterator[None]:
    """No tracer (coverage's, a debugger's): in CPython 3.11, a thread that is traced stands still at its
    next call for as long as an exception is pending for another thread.
    """
    trace, threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    yield
    threading.settrace(threads)  # type: ignore[arg-type]
    sys.settrace(trace)


@pytest.fixture
def swift_switches(untraced: None) -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def spin(turns: int) -> None:
    for _ in range(turns):
        pass


def work_for_ever(began: threading.Event) -> None:
    began.set()
    while True:
        pass


class Departures:
    """A thread that has whatever client is at hand leave, wherever the other thread is just then.

    Threads switch every few microseconds, which is as long as a short block takes: so the departures
    fall on all of its instructions, those of its edges most of all.
    """

    def __init__(self, count: int, callbacks: Any = None) -> None:
        self.pair = Pair(callbacks)
        self.left = 0
        self._count = count
        self._thread = threading.Thread(target=self._run)

    @property
    def over(self) -> bool:
        return self.left == self._count

    def _run(self) -> None:
        last = self.pair
        while not self.over:
            if self.pair is not last:
                last = self.pair
                last.note(DisconnectReason.FIN)
                self.left += 1
            time.sleep(0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def place_of(error: BaseException) -> str:
    """Where an exception landed."""
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return next((name for name in names if name in ("__enter__", "__exit__")), "block")


@pytest.mark.usefixtures("swift_switches")
@pytest.mark.parametrize(
    ("hesitates", "met"),
    [(False, ["__enter__", "block", "__exit__"]), (True, ["__enter__", "__exit__"])],
    ids=["at-once", "hesitating"],
)
@pytest.mark.timeout(240)
def test_it_lands_inside_its_block_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, hesitates: bool, met: list[str]
) -> None:
    """Many departures, timed around both edges of the block, each followed by a next request.

    A sender that hesitates, once it has found the block armed, gives the other thread time to leave it.
    """
    send = _interrupt._async_exc()

    def hesitate(thread: int, exception: Any) -> int:
        if hesitates and thread != threading.get_ident():
            time.sleep(0)
        return send(thread, exception)

    monkeypatch.setattr(_interrupt, "_async_exc", lambda: hesitate)
    landed: Counter[str] = Counter()
    escaped: list[str] = []
    with Departures(DEPARTURES) as departures:
        while not departures.over:
            place = "before the block"
            try:
                pair = departures.pair = Pair()
                try:
                    with pair.client.interrupting():
                        spin(3)
                except ClientDisconnected as error:
                    landed[place_of(error)] += 1
                finally:
                    place = "in the finally"
                    spin(3)
                pair.client.end()
                place = "in the next request"
                spin(3)
            except ClientDisconnected as error:
                escaped.append(f"{place}: {traceback.format_exception(error)}")
    assert not escaped
    # The edges were met, or this would prove nothing.
    assert min(landed[place] for place in met) > 100, landed
    assert sum(landed.values()) < DEPARTURES, "some came after the block"


def test_work_is_broken_off() -> None:
    pair = Pair()
    began = threading.Event()
    leaving = threading.Thread(target=lambda: began.wait(PATIENCE) and pair.note(DisconnectReason.RESET))
    leaving.start()
    with pytest.raises(ClientDisconnected), pair.client.interrupting():
        work_for_ever(began)
    leaving.join()


def test_a_client_that_has_left_lets_nobody_in() -> None:
    pair = Pair()
    pair.note(DisconnectReason.FIN)
    with pytest.raises(ClientDisconnected), pair.client.interrupting():
        pytest.fail("it was let in")


def test_a_block_inside_a_block_leaves_the_outer_one_armed() -> None:
    pair = Pair()
    began = threading.Event()
    leaving = threading.Thread(target=lambda: began.wait(PATIENCE) and pair.note(DisconnectReason.FIN))
    leaving.start()
    with pytest.raises(ClientDisconnected), pair.client.interrupting():  # noqa: PT012
        with pair.client.interrupting():
            pass
        work_for_ever(began)
    leaving.join()


def test_a_block_is_entered_once_at_a_time() -> None:
    block = Pair().client.interrupting()
    with block, pytest.raises(RuntimeError), block:
        pass
    with block:
        pass


def test_another_threads_block_is_its_own() -> None:
    """Two threads work for one client; both are broken off, each in its own block."""
    pair = Pair()
    began = [threading.Event(), threading.Event()]
    ended: list[str] = []

    def work(event: threading.Event) -> None:
        try:
            with pair.client.interrupting():
                work_for_ever(event)
        except ClientDisconnected:
            ended.append("broken off")

    threads = [threading.Thread(target=work, args=(event,)) for event in began]
    for thread, event in zip(threads, began, strict=True):
        thread.start()
        assert event.wait(PATIENCE)
    pair.note(DisconnectReason.FIN)
    for thread in threads:
        thread.join(PATIENCE)
    assert ended == ["broken off"] * 2


def test_after_the_requests_end_nothing_is_broken_off() -> None:
    pair = Pair()
    with pair.client.interrupting():
        pair.client.end()
        pair.note(DisconnectReason.RESET)
        spin(100)
    with pair.client.interrupting():
        spin(100)


def test_who_notices_a_departure_himself_is_told_by_the_call_that_failed() -> None:
    pair = Pair()
    with pair.client.interrupting():
        pair.note(DisconnectReason.WRITE_FAILED)
        spin(100)


def test_a_registration_inside_the_block_holds_the_interruption_back(callbacks: Callbacks) -> None:
    pair = Pair(callbacks)
    called = threading.Event()
    steps = []
    leaving = threading.Thread(target=pair.note, args=[DisconnectReason.FIN])
    with pytest.raises(ClientDisconnected), pair.client.interrupting():  # noqa: PT012
        with pair.client.on_disconnect(called.set):
            leaving.start()
            leaving.join()
            spin(100)
            steps.append("not broken off")
        steps.append("behind the inner block")
    assert steps == ["not broken off"]
    assert called.is_set()


@pytest.mark.usefixtures("swift_switches")
def test_a_registration_that_is_being_made_is_not_left_behind() -> None:
    """An interruption that lands while a registration is made, or its block left, loses none."""
    callbacks = Deferred()
    rounds = 5_000
    with Departures(rounds, callbacks) as departures:
        while not departures.over:
            pair = departures.pair = Pair(callbacks)
            try:
                with pair.client.interrupting(), pair.client.on_disconnect(spin, 1):
                    spin(3)
            except ClientDisconnected:
                pass
            assert not pair.client._registrations
            pair.client.end()


# -- in a server


@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_a_handler_that_computes_is_broken_off(
    untraced: None, serve: Any, base: Any, manner: str
) -> None:
    began = threading.Event()
    seen: list[str] = []

    class Handler(base):
        def do_GET(self) -> None:
            try:
                with self.client.interrupting():
                    work_for_ever(began)
            finally:
                seen.append("the finally runs")

    serving: Serving = serve(Handler)
    peer = serving.connect().get("/")
    assert began.wait(PATIENCE)
    getattr(peer, manner)()
    record = serving.record()
    assert (record.outcome, record.status) == (Outcome.DISCONNECTED, 499)
    assert seen == ["the finally runs"]


def test_the_next_request_on_the_thread_is_not_broken_off(
    serve: Any, swift_switches: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Departures over real connections, timed around the block's end; each thread serves many."""

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/short":
                with self.client.interrupting():
                    spin(200)
            spin(200)
            answer(self)

    serving: Serving = serve(Handler)
    for count in range(300):
        with serving.connect() as peer:
            peer.get("/short")
            if count % 2:
                peer.rst()
        assert serving.get() == (200, b"ok")
    serving.wait_for_records(600)
    assert "Traceback" not in capfd.readouterr().err


def test_a_callback_that_unregisters_itself_lifts_the_shield_for_its_thread(
    callbacks: Callbacks,
) -> None:
    pair = Pair(callbacks)
    registrations: list[Any] = []
    began = threading.Event()
    leaving = threading.Thread(target=lambda: began.wait(PATIENCE) and pair.note(DisconnectReason.FIN))
    leaving.start()
    with pytest.raises(ClientDisconnected), pair.client.interrupting():  # noqa: PT012
        registrations.append(pair.client.on_disconnect(lambda: registrations[0].unregister()))
        work_for_ever(began)
    leaving.join()


def test_other_users_of_the_same_function_keep_their_prototype() -> None:
    with Pair().client.interrupting():
        pass
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc.argtypes is None
