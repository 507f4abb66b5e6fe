"""A server: listening sockets, the engine behind them, and a front end.

The engine (event loops, workers, watchdog) knows connections and requests.  What a request means is the
business of a :class:`FrontEnd`: the ``http.server`` classes are one, WSGI another.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextvars import copy_context
from time import monotonic
from typing import Protocol

from .._connection.connection import Connection
from .._connection.exchange import Exchange
from .._connection.sinks import Sinks
from .._disconnect.callbacks import Callbacks
from .._disconnect.client import find_request
from .._disconnect.peer import ClientState, renew_lock
from .._http1.error_response import plain_response
from .._system.fork import ForkWatch, end_process
from .._system.poller import new_poller
from ..config import Config
from ..exceptions import BodyTimeout, ClientDisconnected, ConfigError, RequestRejected
from ..records import Outcome, RequestRecord
from .event_loop import Accept, EventLoop
from .handover import HAS_LOCK
from .serial_workers import SerialWorkers
from .watchdog import Watchdog
from .workers import Workers

__all__ = ["Engine", "FrontEnd", "tune_listener"]

_log = logging.getLogger("hangup")

_GONE = ClientState.GONE

# Seconds between the probes of a silent peer, and how many go unanswered before it counts as gone.
_PROBE_INTERVAL = 5
_PROBES = 3
# Seconds that a handler has to end which was just told that it must.
_LAST_CHANCE = 1.0


class FrontEnd(Protocol):
    """What a front end does for the engine.  Called by the thread that owns the connection."""

    def acceptor(self, sock: socket.socket) -> Accept:
        """What takes one connection from this listening socket."""

    def handle(self, connection: Connection) -> None:
        """Answer the request at hand, and end its exchange.  May raise anything."""

    def failed(self, connection: Connection, error: BaseException) -> None:
        """The handler raised, and its client is there still."""

    def closed(self, connection: Connection) -> None:
        """The connection has closed."""


def tune_listener(sock: socket.socket, config: Config) -> None:
    """Set what accepted connections inherit (on Linux), so that a connection costs no calls for it.

    No Nagle: head and body leave together anyhow, and a delayed ACK would cost 40 ms otherwise.
    Keep-alive probes: a peer that vanished is noticed.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options = [(socket.IPPROTO_TCP, "TCP_NODELAY", 1)]
    if config.tcp_keepalive_idle:
        options += [
            (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
            (socket.IPPROTO_TCP, "TCP_KEEPIDLE", config.tcp_keepalive_idle),
            (socket.IPPROTO_TCP, "TCP_KEEPINTVL", _PROBE_INTERVAL),
            (socket.IPPROTO_TCP, "TCP_KEEPCNT", _PROBES),
        ]
    for level, name, value in options:
        if hasattr(socket, name):
            try:
                sock.setsockopt(level, getattr(socket, name), value)
            except OSError as error:  # pragma: no cover - a kernel that knows the name alone
                _log.debug("%s: %s", name, error)


def _event_loop_count(config: Config) -> int:
    """How many event loops are of use: one where one thread at a time runs Python code, else one a core.

    The environment may say another number, as the tests do.
    """
    said = os.environ.get("HANGUP_EVENT_LOOPS")
    cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    if said and not (said.isascii() and said.isdigit()):
        raise ConfigError(f"HANGUP_EVENT_LOOPS is a whole number of event loops, not {said!r}")
    number = int(said) if said else 1 if HAS_LOCK else cores
    return max(1, min(number, config.max_threads))


class Engine:
    """The engine of one server, from :meth:`start` to :meth:`close`.

    ``serial`` has one handler run at a time, in the thread that calls :meth:`serve_one`.  All methods
    may be called by any thread, but each at most once, in their order here.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        config: Config,
        *,
        serial: bool = False,
        name: str = "hangup",
        sinks: Sequence[Callable[[RequestRecord], None]] = (),
        access_sink: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self._front_end = front_end
        self._config = config
        self._serial = serial
        #: Where the records of its requests go.
        self.sinks = Sinks(sinks, access_sink)
        #: The event loops, with connections of their own: one, or one for each core that can be used.
        self.loops = [
            EventLoop(config, new_poller(), self.sinks)
            for _ in range(1 if serial else _event_loop_count(config))
        ]
        #: The first of them, which is all there is where handlers run one at a time.
        self.loop = self.loops[0]
        self._callbacks = Callbacks(name, config.thread_idle_timeout)
        kind = SerialWorkers if serial else Workers
        self.workers = kind(self.loops, self.serve, config.max_threads, name)
        self._watchdog = Watchdog(self.workers.look, f"{name}-watchdog")
        for loop in self.loops:
            loop.on_closed = front_end.closed
            loop.callbacks = self._callbacks
            loop.watchdog = self._watchdog
            loop.share(self.loops)
        # An event loop closes its listening sockets when it drains: each has descriptors of its own.
        self._duplicates: list[socket.socket] = []
        self._fork_watch: ForkWatch | None = None

    def listen(self, sock: socket.socket, *, one_at_a_time: bool = False) -> None:
        """Accept connections from a bound, listening socket.  Before :meth:`start`.

        ``one_at_a_time`` says not to accept several in one go.
        """
        tune_listener(sock, self._config)
        for loop in self.loops:
            own = sock
            if loop is not self.loop:
                own = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
                own.setblocking(False)
                self._duplicates.append(own)
            loop.listen(own, self._front_end.acceptor(own), one_at_a_time=one_at_a_time)

    def start(self) -> None:
        """Start the threads."""
        self._fork_watch = ForkWatch(self)
        self._watchdog.start()
        self.workers.start()

    def before_fork(self) -> None:
        """A child will have copies of our descriptors, see ``_system.fork``."""
        for loop in self.loops:
            loop.has_children = True

    def after_fork_in_child(self) -> None:
        """This process is a forked child: nothing is served here, see ``_system.fork``."""
        renew_lock()
        request = find_request()
        own = request.after_fork() if isinstance(request, Exchange) else None
        others = self.workers.connections()
        for loop in self.loops:
            mine = own if isinstance(own, Connection) and own.loop is loop else None
            loop.after_fork(mine, [each for each in others if each.loop is loop])
        self.workers.after_fork()
        self._callbacks.after_fork()

    def serve_one(self, timeout: float | None) -> None:
        """Serial servers: handle the next request in this thread, or return after ``timeout`` s."""
        assert isinstance(self.workers, SerialWorkers)
        self.workers.serve(timeout)

    def serve_until_drained(self) -> None:
        """Serial servers that drain: handle the requests that were accepted, in this thread."""
        assert isinstance(self.workers, SerialWorkers)
        self.workers.serve_until_drained()

    def interrupt(self) -> None:
        """Serial servers: make :meth:`serve_one` return."""
        assert isinstance(self.workers, SerialWorkers)
        self.workers.interrupt()

    def stop_accepting(self) -> None:
        """:meth:`drain`, and wait until no event loop accepts any more: it takes them a moment.

        Who listens on the same socket next would miss the connection that is accepted meanwhile.
        """
        self.drain()
        for loop in self.loops:
            loop.accepts_no_more.wait()

    def drain(self, patience: float = 0.0, *, close_listeners: bool = False) -> None:
        """Accept nothing more and close what is idle; requests in progress go on.

        With ``patience``, in seconds, idle connections are left that long to send one more request: a
        client may be sending it at this moment.  ``close_listeners`` closes the listening sockets, after
        what waits there has been accepted.
        """
        for loop in self.loops:
            loop.closes_listeners = close_listeners
            loop.drain(patience)

    @property
    def busy(self) -> bool:
        """Whether threads are at work, or on watch."""
        return self.workers.thread_count > 0

    def wait(self, timeout: float | None = None) -> None:
        """After :meth:`drain`: wait until all is done, ``timeout`` seconds at the most."""
        self.workers.join(timeout)

    def close(self, *, wait: bool, grace: float | None = None, waited: float = 0.0) -> None:
        """End; ``wait`` for requests in progress first, ``grace`` seconds at the most (None: no limit).

        ``waited`` seconds of the grace have passed.

        Without ``wait``, a handler that runs on keeps its thread and its connection to itself; both
        end with it.
        """
        for loop in self.loops:
            loop.drain()
        if wait:
            self.workers.join(None if grace is None else grace - waited)
            if self.cut_off(grace):
                self.workers.join(_LAST_CHANCE)
        for loop in self.loops:
            loop.stop()
        self.workers.stop()
        self.workers.join_idle()
        self._callbacks.close()
        self._watchdog.stop()
        for loop in self.loops:
            loop.close()
        for duplicate in self._duplicates:
            duplicate.close()

    def in_progress(self) -> "list[tuple[Connection, Exchange]]":
        """The requests that are handled, or wait for it, and their connections."""
        found = [(one, one.exchange) for one in self.workers.connections()]
        return [(one, exchange) for one, exchange in found if exchange is not None]

    def cut_off(self, grace: float | None) -> bool:
        """``grace`` seconds have passed: end what is in progress.  Returns whether anything is.

        Its handlers are told as of a disconnect: what asks its client stops, and generators are closed.
        """
        left = self.in_progress()
        for connection, exchange in left:
            age = monotonic() - exchange.ready_at
            what = f"{exchange.request.method} {exchange.request.target[:200]}"
            _log.warning("cut off after %g s of grace: %a (%.1f s old)", grace or 0, what, age)
            connection.closing.cut_off()
        return bool(left)

    def serve(self, connection: Connection) -> None:
        """Handle the requests of a connection that are at hand.  The worker threads call this.

        A forked child ends here, when its handler does.
        """
        self._serve(connection)
        if connection.loop.forked:
            end_process()

    def _serve(self, connection: Connection) -> None:
        handle = self._handle
        try:
            while True:
                exchange = connection.exchange
                if exchange is None:
                    if not connection.prepare():
                        return
                    continue
                if connection.peer.state is _GONE:
                    connection.closing.drop()
                    return
                # Each request in a context of its own: what a handler sets is gone with it.
                copy_context().run(handle, connection, exchange)
                if not connection.rest():
                    return
        except Exception as error:
            if connection.loop.forked:
                self._end_child(connection, error)
            try:
                self._failed(connection, error)
            except Exception:
                _log.exception("while an exception was handled")  # handle_error itself raised
            finally:
                self._end(connection)
        except BaseException as error:
            # SystemExit, say, or asyncio's CancelledError. They end a handler, and not the server.
            if connection.loop.forked:
                end_process(error)
            try:
                self._failed(connection, error)
            finally:
                self._end(connection)
            if self._serial:
                raise  # Its handlers run in the main thread: Ctrl-C and sys.exit() are meant for that.

    def _end_child(self, connection: Connection, error: Exception) -> None:
        """A handler has raised in a forked child: say so, and leave it to the parent to answer."""
        try:
            if not isinstance(error, ClientDisconnected):
                self._front_end.failed(connection, error)
        finally:
            end_process(error)

    def _handle(self, connection: Connection, exchange: Exchange) -> None:
        exchange.start(connection)
        answer = connection.answer
        if answer is None:
            self._front_end.handle(connection)
        else:
            answer()

    def serve_guest(self, connection: Connection) -> None:
        """:meth:`serve`, in a thread that is not the engine's."""
        self.workers.guests.add(connection)
        try:
            self.serve(connection)
        finally:
            self.workers.remove_guest(connection)

    def _failed(self, connection: Connection, error: BaseException) -> None:
        """The one place where it is decided what a handler's exception means."""
        if isinstance(error, ClientDisconnected) and connection.peer.state is not ClientState.OPEN:
            # An ordinary event. Its handler has given up, so that nobody was answered.
            if connection.exchange is not None:
                connection.exchange.outcome = Outcome.DISCONNECTED
        elif isinstance(error, RequestRejected):
            self._answer(connection, Outcome.REJECTED, error.status, error.reason)
        elif isinstance(error, BodyTimeout):
            self._answer(connection, Outcome.TIMED_OUT, 408, "Request Timeout")
        elif connection.peer.disconnected_at is not None:
            _log.debug("a handler raised after its client had left", exc_info=error)
        else:
            if connection.exchange is not None and not connection.exchange.response_began:
                # Before it is reported: that takes a while, in which the watchdog would send the head.
                connection.output.take_back()
            try:
                if not (self._serial and not isinstance(error, Exception)):
                    self._front_end.failed(connection, error)
            finally:
                self._answer(connection, Outcome.FAILED, 500, "Internal Server Error")

    @staticmethod
    def _answer(connection: Connection, outcome: Outcome, status: int, reason: str) -> None:
        """Answer in the handler's place, if no byte of its own answer is out."""
        exchange = connection.exchange
        if exchange is None:
            return
        exchange.outcome = outcome
        if outcome is not Outcome.FAILED:
            exchange.reason = reason
        if not exchange.response_began:
            connection.output.take_back()
        if exchange.response_began:
            return  # Maybe just now: until the head was back, the watchdog could send it.
        exchange.status = status
        head, body = plain_response(status, reason)
        exchange.head_out = len(head)
        phase = exchange.phase
        try:
            connection.output.send(head if exchange.is_for_head else head + body)
        except ClientDisconnected:
            pass
        if outcome is Outcome.TIMED_OUT:
            exchange.phase = phase  # What it was that took too long.

    def _end(self, connection: Connection) -> None:
        connection.end_exchange(keep_open=False)
        try:
            if connection.one_thread:
                connection.loop.end_handler(connection)
        finally:
            connection.closing.finish()
