"""What went wrong once where threads meet in the engine, each made to happen again."""

import contextlib
from time import monotonic
from typing import Any

from conftest import answer, until

import hangup
from hangup._connection import Connection


class Answers(hangup.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        answer(self)

    def log_message(self, *_: Any) -> None: ...


def entries(watch: Any) -> list[Connection]:
    return [entry for entry in list(watch._entries.values()) if isinstance(entry, Connection)]


def test_room_is_made_while_other_threads_close_connections(serve: Any) -> None:
    serving = serve(Answers)
    watch = serving.engine.watch

    class Neighbour(Connection):
        """Another connection comes or goes while this one is looked at."""

        __slots__ = ()

        @property
        def is_quiet(self) -> bool:
            if watch._entries.pop(-7, None) is None:
                watch._entries[-7] = watch._entries[watch.poller.wake_fd]
            return True

    with contextlib.ExitStack() as opened:
        for _ in range(3):
            opened.enter_context(serving.connect()).get("/").response()
        until(lambda: len(entries(watch)) == 3, "all are watched")
        for connection in entries(watch):
            connection.__class__ = Neighbour
        try:
            assert watch.make_room()
        finally:
            watch._entries.pop(-7, None)


def test_a_deadline_that_another_thread_sets_during_a_sweep_is_kept(serve: Any) -> None:
    watch = serve(Answers).engine.watch
    kept = []

    class Timer:
        """Due soon; while the sweep calls on it, another thread parks a connection that it has passed."""

        deadline = monotonic() + 0.05

        def on_deadline(self) -> bool:
            self.deadline = float("inf")
            another.deadline = monotonic() + 0.05
            watch.expect(another.deadline)
            return False

    class Another:
        deadline = float("inf")

        def on_deadline(self) -> bool:
            self.deadline = float("inf")
            kept.append(self)
            return False

    another = Another()
    watch.timers[:0] = [another, timer := Timer()]
    watch.expect(timer.deadline)
    until(lambda: kept, "the other deadline")
