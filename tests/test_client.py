"""The client by itself: state, waiting, callbacks; without a server, and in any order of events."""

import contextvars
import logging
import math
import threading
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

import hangup
from conftest import PATIENCE, until
from hangup import ClientDisconnected, ClientState, DisconnectReason
from hangup._disconnect.callbacks import Callbacks
from hangup._disconnect.client import Client
from hangup._disconnect.interrupt import refusal
from hangup._disconnect.peer import Peer

ADDRESS = ("192.0.2.1", 1)


class Pair:
    """A client, and the peer that tells it."""

    def __init__(self, callbacks: Any = None) -> None:
        self.peer = Peer(ADDRESS)
        self.client = Client(ADDRESS, callbacks)

    def note(self, how: DisconnectReason, *, leaves: bool = True) -> None:
        self.peer.note(how, leaves=leaves)
        self.client.note(self.peer)


def test_a_new_client_is_there() -> None:
    client = Pair().client
    assert client.address == ADDRESS
    assert (client.state, client.reason, client.disconnected_at) == (ClientState.OPEN, None, None)
    assert not client.disconnected
    assert not client.wait(0)
    client.raise_if_disconnected()
    assert "192.0.2.1" in repr(client)


@pytest.mark.parametrize("how", list(DisconnectReason))
def test_a_departure_is_told_with_its_reason_and_its_time(how: DisconnectReason) -> None:
    pair = Pair()
    pair.note(how)
    client = pair.client
    assert client.state is (ClientState.EOF if how is DisconnectReason.FIN else ClientState.GONE)
    assert client.reason is how
    assert client.disconnected
    assert client.disconnected_at == pair.peer.disconnected_at
    assert client.wait(0)
    with pytest.raises(ClientDisconnected):
        client.raise_if_disconnected()


def test_a_client_only_moves_down_and_the_first_departure_is_when_it_left() -> None:
    pair = Pair()
    pair.note(DisconnectReason.FIN)
    disconnected_at = pair.client.disconnected_at
    pair.note(DisconnectReason.RESET)
    pair.note(DisconnectReason.FIN)
    pair.note(DisconnectReason.UNREACHABLE)
    assert (pair.client.state, pair.client.reason) == (ClientState.GONE, DisconnectReason.RESET)
    assert pair.client.disconnected_at == disconnected_at


def test_a_fin_that_is_to_be_ignored_is_known_and_sets_no_signal() -> None:
    pair = Pair()
    pair.note(DisconnectReason.FIN, leaves=False)
    assert (pair.client.state, pair.client.reason) == (ClientState.EOF, DisconnectReason.FIN)
    assert not pair.client.disconnected
    assert not pair.client.wait(0)
    pair.note(DisconnectReason.RESET)
    assert pair.client.disconnected


@pytest.mark.parametrize("timeout", [None, PATIENCE, math.inf])
def test_wait_returns_when_the_client_leaves(timeout: float | None) -> None:
    pair = Pair()
    leaving = threading.Timer(0, pair.note, [DisconnectReason.FIN])
    leaving.start()
    assert pair.client.wait(timeout)
    leaving.join()


@pytest.mark.parametrize("timeout", [0, 0.001, -1])
def test_wait_returns_false_when_the_time_is_over(timeout: float) -> None:
    assert not Pair().client.wait(timeout)


def test_wait_returns_when_the_request_ends() -> None:
    pair = Pair()
    ending = threading.Timer(0, pair.client.end)
    ending.start()
    assert not pair.client.wait(PATIENCE)
    ending.join()
    assert not pair.client.wait(PATIENCE)


def test_an_ended_request_hears_of_nothing_any_more() -> None:
    pair = Pair()
    pair.client.end()
    pair.note(DisconnectReason.RESET)
    assert pair.client.state is ClientState.OPEN
    with pair.client.on_disconnect(pytest.fail):
        pass


def test_a_callback_runs_once_in_another_thread(callbacks: Callbacks) -> None:
    pair = Pair(callbacks)
    calls: list[tuple[str, int]] = []
    called = threading.Event()

    def callback(name: str) -> None:
        calls.append((name, threading.get_ident()))
        called.set()

    with pair.client.on_disconnect(callback, "x"):
        pair.note(DisconnectReason.FIN)
        assert called.wait(PATIENCE)
        pair.note(DisconnectReason.RESET)
    assert [name for name, _ in calls] == ["x"]
    assert calls[0][1] != threading.get_ident()


def test_a_callback_that_comes_late_runs_at_once(callbacks: Callbacks) -> None:
    pair = Pair(callbacks)
    pair.note(DisconnectReason.RESET)
    called = threading.Event()
    with pair.client.on_disconnect(called.set):
        assert called.wait(PATIENCE)


def test_a_callback_whose_block_is_left_does_not_run(callbacks: Callbacks) -> None:
    pair = Pair(callbacks)
    with pair.client.on_disconnect(pytest.fail):
        pass
    registration = pair.client.on_disconnect(pytest.fail)
    registration.unregister()
    registration.unregister()
    pair.note(DisconnectReason.FIN)


def test_leaving_the_block_waits_for_the_callback_that_is_running(callbacks: Callbacks) -> None:
    pair = Pair(callbacks)
    began, proceed, ended = threading.Event(), threading.Event(), threading.Event()

    def callback() -> None:
        began.set()
        assert proceed.wait(PATIENCE)
        ended.set()

    def handler() -> None:
        with pair.client.on_disconnect(callback):
            assert began.wait(PATIENCE)
        assert ended.is_set()
        left.set()

    left = threading.Event()
    thread = threading.Thread(target=handler)
    thread.start()
    until(lambda: pair.client._registrations, "it is registered")
    pair.note(DisconnectReason.FIN)
    assert began.wait(PATIENCE)
    until(lambda: is_waited_for(pair.client), "the block's end waits")
    assert not left.is_set()
    proceed.set()
    assert left.wait(PATIENCE)
    thread.join()


def is_waited_for(client: Client) -> bool:
    return any(registration._waiter is not None for registration in list(client._registrations))


def test_the_requests_end_waits_for_it_too(callbacks: Callbacks) -> None:
    pair = Pair(callbacks)
    began, proceed = threading.Event(), threading.Event()
    ended = []

    def callback() -> None:
        began.set()
        assert proceed.wait(PATIENCE)
        ended.append("callback")

    def end() -> None:
        pair.client.end()
        ended.append("request")

    pair.client.on_disconnect(callback)
    pair.note(DisconnectReason.FIN)
    assert began.wait(PATIENCE)
    thread = threading.Thread(target=end)
    thread.start()
    until(lambda: is_waited_for(pair.client), "the request's end waits")
    proceed.set()
    thread.join()
    assert ended == ["callback", "request"]


def test_a_callback_may_unregister_itself(callbacks: Callbacks) -> None:
    pair = Pair(callbacks)
    done = threading.Event()
    registered = threading.Event()

    def callback() -> None:
        assert registered.wait(PATIENCE)
        registration.unregister()
        done.set()

    registration = pair.client.on_disconnect(callback)
    registered.set()
    pair.note(DisconnectReason.FIN)
    assert done.wait(PATIENCE)


def test_a_callback_that_blocks_delays_no_other(callbacks: Callbacks) -> None:
    proceed = threading.Event()
    blocked = threading.Semaphore(0)

    def block() -> None:
        blocked.release()
        assert proceed.wait(PATIENCE)

    for _ in range(5):
        pair = Pair(callbacks)
        pair.client.on_disconnect(block)
        pair.client.on_disconnect(block)
        pair.note(DisconnectReason.FIN)
    for _ in range(10):
        assert blocked.acquire(timeout=PATIENCE)
    proceed.set()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_what_a_callback_raises_is_logged_and_harms_nobody(
    callbacks: Callbacks, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def callback() -> None:
        raise error("this one")

    pair = Pair(callbacks)
    called = threading.Event()
    with pair.client.on_disconnect(callback), pair.client.on_disconnect(called.set):
        pair.note(DisconnectReason.FIN)
        assert called.wait(PATIENCE)
    assert [(r.name, r.levelno) for r in caplog.records] == [("hangup", logging.ERROR)]
    assert "this one" in caplog.text


def test_a_callback_runs_in_the_context_in_which_it_was_registered(callbacks: Callbacks) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []
    pair = Pair(callbacks)
    variable.set("mine")
    with pair.client.on_disconnect(lambda: seen.append(variable.get())):
        variable.set("later")
        pair.note(DisconnectReason.FIN)
    assert seen == ["mine"]


def test_what_is_no_callable_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="a callback must be callable, not 'cancel'"):
        Pair().client.on_disconnect("cancel")  # type: ignore[arg-type]


def test_a_system_without_threads_to_spare_still_calls_back(
    callbacks: Callbacks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pair = Pair(callbacks)
    called: list[int] = []
    with pair.client.on_disconnect(called.append, 1):
        pair.note(DisconnectReason.FIN)
    assert called == [1], "whoever leaves the block calls it"
    assert "callbacks may be late: can't start new thread" in caplog.text


def test_callback_threads_are_few_and_end() -> None:
    threads = Callbacks("test", idle_timeout=0.01)
    called = threading.Semaphore(0)
    for _ in range(20):
        pair = Pair(threads)
        with pair.client.on_disconnect(called.release):
            pair.note(DisconnectReason.FIN)
    until(lambda: len(threads._threads) == 1, "all but one have ended")
    assert called._value == 20
    threads.close()
    assert not threads._threads


# -- outside of a request


def test_outside_of_a_request_there_is_no_current_client() -> None:
    with pytest.raises(LookupError, match="hangup handles no request here"):
        hangup.current_client()
    hangup.raise_if_disconnected()


def test_outside_of_a_request_sleep_is_times_own(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    hangup.sleep(3)
    assert slept == [3]


# -- inside of one, by hand


class Request:
    def __init__(self, client: Client) -> None:
        self.client = client


def in_request(client: Client, work: Callable[..., Any], *args: Any) -> Any:
    context = contextvars.copy_context()
    context.run(hangup._disconnect.client.set_current, Request(client))
    return context.run(work, *args)


def test_sleep_sleeps_for_as_long_as_the_client_stays() -> None:
    in_request(Pair().client, hangup.sleep, 0.001)
    in_request(Pair().client, hangup.sleep, 0)


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_sleep_refuses_what_time_sleep_refuses(seconds: float) -> None:
    with pytest.raises(ValueError, match=r".+"):
        in_request(Pair().client, hangup.sleep, seconds)


def test_sleep_raises_when_the_client_leaves() -> None:
    pair = Pair()
    leaving = threading.Timer(0, pair.note, [DisconnectReason.FIN])
    leaving.start()
    with pytest.raises(ClientDisconnected):
        in_request(pair.client, hangup.sleep, PATIENCE)
    leaving.join()
    with pytest.raises(ClientDisconnected):
        in_request(pair.client, hangup.sleep, 0)


def test_sleep_goes_on_when_the_request_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    pair = Pair()
    pair.client.end()
    in_request(pair.client, hangup.sleep, PATIENCE)
    assert PATIENCE - 1 < slept[0] <= PATIENCE


# -- any order of events


class Deferred:
    """Callback threads that run when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def prepare(self) -> None: ...

    def start(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)


class ClientMachine(RuleBasedStateMachine):
    """A model of the client: each callback is called once if it was registered while the client left,
    or registered afterwards; and not at all otherwise.
    """

    registrations = Bundle("registrations")

    def __init__(self) -> None:
        super().__init__()
        self.deferred = Deferred()
        self.pair = Pair(self.deferred)
        self.client = self.pair.client
        self.calls: list[int] = []
        self.expected: dict[int, int] = {}
        self.registered: set[int] = set()
        self.state, self.reason, self.left, self.ended = ClientState.OPEN, None, False, False

    @rule(how=st.sampled_from(DisconnectReason), leaves=st.booleans())
    def signal(self, how: DisconnectReason, leaves: bool) -> None:
        leaves = leaves or how is not DisconnectReason.FIN
        before = self.pair.peer.state
        self.pair.note(how, leaves=leaves)
        if self.ended:
            return
        state = ClientState.EOF if how is DisconnectReason.FIN else ClientState.GONE
        if before is not ClientState.GONE and before is not state:
            self.state, self.reason = state, how
        if leaves and not self.left:
            self.left = True
            for number in self.registered:
                self.expected[number] = 1

    @rule(target=registrations)
    def register(self) -> Any:
        number = len(self.expected)
        self.expected[number] = 1 if self.left else 0
        if not self.left and not self.ended:
            self.registered.add(number)
        return number, self.client.on_disconnect(self.calls.append, number)

    @rule(registration=registrations)
    def leave_block(self, registration: Any) -> None:
        number, one = registration
        with one:
            pass
        self.registered.discard(number)
        assert self.calls.count(number) == self.expected[number], "it is over when the block is left"

    @precondition(lambda self: self.deferred.jobs)
    @rule(data=st.data())
    def a_thread_runs(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.deferred.jobs) - 1))
        self.deferred.jobs.pop(index)()

    @rule()
    def end_request(self) -> None:
        self.client.end()
        self.ended = True
        self.registered.clear()
        assert all(self.calls.count(number) == count for number, count in self.expected.items() if count)

    @rule()
    def ask(self) -> None:
        assert self.client.wait(0) is self.left
        try:
            self.client.raise_if_disconnected()
        except ClientDisconnected:
            assert self.left
        else:
            assert not self.left
        if refusal():
            return  # Here interrupting() refuses.
        try:
            with self.client.interrupting():
                assert not self.left
        except ClientDisconnected:
            assert self.left

    @invariant()
    def it_is_what_it_says(self) -> None:
        client = self.client
        assert (client.state, client.reason) == (self.state, self.reason)
        assert client.disconnected is self.left
        assert (client.disconnected_at is None) is not self.left
        for number, count in self.expected.items():
            assert self.calls.count(number) <= count, "once, and only if it was to be called"

    def teardown(self) -> None:
        for job in self.deferred.jobs:
            job()
        for number, count in self.expected.items():
            assert self.calls.count(number) == count


TestAnyOrder = ClientMachine.TestCase
TestAnyOrder.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
