"""Pollers: readiness by edges, and departures."""

import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import PATIENCE
from hangup._system import poller as _poller
from hangup._system.poller import EOF, GONE, READABLE, EpollPoller, PollPoller


@pytest.fixture(params=[EpollPoller, PollPoller])
def poller(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param is EpollPoller and not hasattr(select, "epoll"):
        pytest.skip("no epoll here")
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    yield client, server
    client.close()
    server.close()


def wait(poller: Any, timeout: float = PATIENCE) -> dict[int, int]:
    """The next events, wake-ups apart."""
    while True:
        events = dict(poller.wait(timeout))
        if poller.wake_fd in events:
            poller.woken()
            del events[poller.wake_fd]
        if events or not timeout:
            return events


def test_bytes_are_told_once_until_the_buffer_is_drained(poller: Any, pair: Any) -> None:
    client, server = pair
    poller.add(server)
    client.send(b"one")
    assert wait(poller) == {server.fileno(): READABLE}
    assert wait(poller, 0) == {}
    assert server.recv(100) == b"one"
    if poller.rearm is not None:
        poller.rearm(server)
    assert wait(poller, 0) == {}
    client.send(b"two")
    assert wait(poller) == {server.fileno(): READABLE}


def test_fin_is_told(poller: Any, pair: Any) -> None:
    client, server = pair
    poller.add(server)
    client.shutdown(socket.SHUT_WR)
    assert wait(poller)[server.fileno()] & (EOF | GONE) == EOF


def test_rst_is_told(poller: Any, pair: Any) -> None:
    client, server = pair
    poller.add(server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert wait(poller)[server.fileno()] & GONE


def test_a_removed_socket_is_not_told_of_and_its_number_can_come_again(poller: Any, pair: Any) -> None:
    client, server = pair
    poller.add(server)
    poller.remove(server)
    client.send(b"x")
    assert wait(poller, 0) == {}
    poller.add(server)
    assert wait(poller) == {server.fileno(): READABLE}
    poller.remove(server)
    poller.remove(server)


def test_a_listener_is_told_of_for_as_long_as_somebody_waits(poller: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        poller.add_listener(listener)
        with socket.create_connection(listener.getsockname()):
            for _ in range(2):
                assert wait(poller) == {listener.fileno(): READABLE}
            listener.accept()[0].close()
        poller.remove(listener)
        assert wait(poller, 0) == {}


def test_wake(poller: Any) -> None:
    for _ in range(100_000):
        poller.wake()  # more than the buffer holds
    assert dict(poller.wait(PATIENCE)) == {poller.wake_fd: READABLE}
    poller.woken()
    assert poller.wait(0) == []
    poller.close()
    poller.wake()
    poller.woken()


def test_a_socket_that_was_closed_behind_the_fallbacks_back(pair: Any) -> None:
    _, server = pair
    poller = PollPoller()
    poller.add(server)
    number = server.fileno()
    assert wait(poller, 0) == {}
    server.close()
    assert wait(poller) == {number: READABLE | GONE}
    assert wait(poller, 0) == {}
    poller.close()


def test_the_fallback_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGUP_POLLER", "poll")
    forced = _poller.new_poller()
    assert isinstance(forced, PollPoller)
    forced.close()


class FakeKqueue:
    """select.kqueue's face, and what it was asked."""

    KQ_EV_ADD, KQ_EV_DELETE, KQ_EV_CLEAR, KQ_EV_EOF, KQ_FILTER_READ = 1, 2, 32, 0x8000, -1

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.events: list[Any] = []
        self.fail = False

    def kqueue(self) -> Any:
        return self

    def kevent(self, ident: int, filter: int, flags: int) -> Any:
        return (ident, flags)

    def control(self, changes: Any, _count: int, _timeout: float | None) -> list[Any]:
        if self.fail:
            raise OSError
        if changes:
            self.asked += changes
        return self.events

    def close(self) -> None:
        self.asked.append("closed")


def test_kqueue_by_a_fake(monkeypatch: pytest.MonkeyPatch, pair: Any) -> None:
    fake = FakeKqueue()
    monkeypatch.setattr(_poller, "select", fake)
    poller = _poller.KqueuePoller()
    _, server = pair
    poller.add(server)
    poller.add_listener(server)
    poller.remove(server)
    fake.fail = True
    poller.remove(server)
    fake.fail = False
    fd = server.fileno()
    assert fake.asked == [(poller.wake_fd, 1), (fd, 33), (fd, 1), (fd, 2)]

    class Event:
        def __init__(self, flags: int, fflags: int) -> None:
            self.ident, self.flags, self.fflags = 7, flags, fflags

    fake.events = [Event(0, 0), Event(0x8000, 0), Event(0x8000, 54)]
    assert poller.wait(None) == [(7, READABLE), (7, READABLE | EOF), (7, READABLE | GONE)]
    poller.close()
    assert fake.asked[-1] == "closed"
