"""A connection's way out: what is sent, and when.

Used by the connection's owner, but for :meth:`Output.send_held`, which the watchdog calls.

A head waits in the list ``_held`` for the body's beginning, and a small block of a body for those that
come close behind it.  Whoever pops what is there sends it, and the pop is atomic.  The watchdog pops and
sends with ``_rest_lock`` held, and puts what the socket did not take into ``_rest``.  So an owner that
finds it gone takes that lock, and knows how far it has come.
"""

import errno
import os
import select
import socket
from threading import Lock
from time import monotonic
from typing import Any

from .._disconnect.peer import ClientState, DisconnectReason
from .._system.poller import bytes_queued, wait_for
from ..exceptions import ClientDisconnected
from ..records import Phase
from .link import DONTWAIT, IS_INTERNET, RESETS, SILENCE, Link
from .sendfile import send_file
from .transport import Transport

__all__ = ["JOIN_SIZE", "Output"]

# A held head is joined to the body's first bytes by copying, up to this size; beyond, the copy would
# cost more than a second send.
JOIN_SIZE = 65536
# Blocks of a body that come within so many seconds of each other are joined, up to so many bytes: a send
# costs more than a copy of that.
_CLOSE = 0.0002
_BLOCKS_SIZE = 16384

# The method under ClientSocket's own, looked up once: it is on every request's way.
_send = socket.socket.send

_GONE = ClientState.GONE
_ANSWERING = Phase.RESPONSE
_NOTHING = memoryview(b"")


class Output:
    """The sending half of a connection."""

    __slots__ = (
        "_block_at",
        "_held",
        "_is_plain",
        "_leaves_remainder",
        "_limited",
        "_rest",
        "_rest_lock",
        "holds_back",
        "left_over",
        "link",
        "remainder",
        "transport",
    )

    def __init__(self, link: Link, transport: Transport) -> None:
        self.link = link
        self.transport = transport
        # Whether send(2) is called without the detour over the transport, which most requests take.
        self._is_plain = not transport.encrypts
        self._rest_lock: Lock | None = None
        self._held: list[bytes] = []
        #: Whether a head waits for its body, or blocks of a body for more.
        self.holds_back = False
        # When the latest block of a body came.
        self._block_at = 0.0
        self._rest = b""
        # Whether the kernel knows for how long bytes may go unacknowledged.
        self._limited = False
        #: What is left over of an answer, whether anything is, and whether it may be.
        self.remainder = _NOTHING
        self.left_over = False
        self._leaves_remainder = False

    @property
    def sock(self) -> Any:
        """The socket."""
        return self.link.sock

    @property
    def encrypts(self) -> bool:
        """Whether the bytes on the socket differ from those that are sent."""
        return not self._is_plain

    def hold(self, head: bytes) -> None:
        """Keep a head back for a moment, so that it leaves together with the body's beginning.

        If the body takes longer, the watchdog sends the head by itself.
        """
        if self.holds_back:
            self.flush()
        if self._rest_lock is None:
            self._rest_lock = Lock()
        self.holds_back = True
        self._held.append(head)
        watchdog = self.link.loop.watchdog
        if watchdog.asleep:
            watchdog.nudge()

    def _take_held(self) -> bytes:
        """What was held back, or what the watchdog could not send of it."""
        self.holds_back = False
        try:
            return self._held.pop()
        except IndexError:
            assert self._rest_lock is not None
            with self._rest_lock:
                rest, self._rest = self._rest, b""
                return rest

    def take_back(self) -> None:
        """Forget the head that is held back: it will not be sent."""
        if self.holds_back:
            self._take_held()

    def flush(self) -> None:
        """Send what is held back."""
        if self.holds_back:
            self.send(b"")

    def send_held(self) -> None:
        """Send what is held back: what follows takes its time.  The watchdog calls this: never waits."""
        lock = self._rest_lock
        if lock is None:
            return
        with lock:
            try:
                head = self._held.pop()
            except IndexError:
                return  # Its owner has sent it just now.
            exchange = self.link.exchange
            if exchange is not None:
                exchange.phase = _ANSWERING
            try:
                sent = self.transport.send_now(head)
            except OSError:
                sent = 0  # A full buffer, or a departed client: its owner will meet it.
            self._rest = head[sent:]
            if exchange is not None:
                exchange.note_sent(head, sent)

    def after_fork(self) -> None:
        """In a forked child whose handler's connection this is: other threads' locks are nobody's."""
        if self._rest_lock is not None:
            self._rest_lock = Lock()

    def _behind_held(self, data: bytes | memoryview) -> bytes | memoryview:
        """What to send, now that the head that was held back goes before it."""
        head = self._take_held()
        if len(data) <= JOIN_SIZE:
            return head + data
        self.send(head)
        return data

    def send(self, data: bytes | memoryview) -> None:
        """Send everything.

        Raises :exc:`~hangup.ClientDisconnected` if the client is gone, or takes nothing for
        ``write_timeout`` seconds.
        """
        if self.holds_back:
            data = self._behind_held(data)
        if not data and not self.transport.has_unsent:
            return
        link = self.link
        exchange = link.exchange
        if exchange is not None:
            exchange.phase = _ANSWERING  # Before the call, see Exchange.note_left.
        if link.peer.state is _GONE:
            raise link.refused()
        full = self._is_plain
        try:
            sent = _send(link.sock, data, DONTWAIT) if full else self.transport.send_now(data)
        except BlockingIOError:
            sent, full = 0, True
        except OSError as error:
            raise link.lost_sending(error) from error
        if exchange is not None:
            if not self._limited and (exchange.out or exchange.known_client is not None):
                self.limit_silence()
            if exchange.out:
                exchange.out += sent
            elif exchange.status and sent:  # as note_sent does it, without the call
                exchange.out = sent
            else:
                exchange.note_sent(data, sent)
        if sent < len(data) or self.transport.has_unsent:
            self._send_rest(memoryview(data)[sent:], full=full)

    def send_block(self, data: bytes) -> None:
        """:meth:`send` a block of a body that may not be the last.

        One that comes close behind another is held back, and leaves with those that follow; alone, if
        nothing follows for a moment: the watchdog sees to that.  (PEP 3333: a server may go on sending a
        block while the application makes the next.)
        """
        now = monotonic()
        is_close = now - self._block_at < _CLOSE
        self._block_at = now
        if not is_close or len(data) >= _BLOCKS_SIZE:
            self.send(data)
            return
        if self.link.peer.state is _GONE:
            raise self.link.refused()
        if self.holds_back:
            data = self._take_held() + data
        if len(data) >= _BLOCKS_SIZE:
            self.send(data)
            return
        if not self._limited:
            self.limit_silence()
        self.hold(data)

    def limit_silence(self) -> None:
        """This answer goes out in pieces, or its handler knows its client: its end may be far off.

        While bytes are unacknowledged the kernel sends no keep-alive probes; without a limit it would
        go on for a quarter of an hour.  Not from the beginning: where TCP_USER_TIMEOUT is set, it
        counts in place of the number of probes, also while all is quiet.
        """
        self._limited = True
        link = self.link
        if hasattr(socket, "TCP_USER_TIMEOUT") and link.sock.family in IS_INTERNET:
            limit = int(link.config.write_timeout * 1000)
            try:
                link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
            except OSError:
                pass  # It has been closed: a thread that outlives its request asked for the client.

    def send_last(self, data: bytes) -> None:
        """:meth:`send` the end of an answer.

        What the socket does not take at once is left over, as the :attr:`remainder`: the event loop
        sends it when the exchange has ended, or :meth:`send_remainder` does.
        """
        self._leaves_remainder = True
        try:
            self.send(data)
        finally:
            self._leaves_remainder = False

    @property
    def remains(self) -> bool:
        """Whether the end of an answer is still to be sent."""
        # What is encrypted must go out, even if nothing is to be encrypted any more.
        return bool(self.remainder) or self.transport.has_unsent

    def drop_remainder(self) -> None:
        """The end of an answer is sent, or will not be."""
        self.remainder, self.left_over = _NOTHING, False

    def send_remainder(self) -> None:
        """Send what :meth:`send_last` left over.  Raises :exc:`~hangup.ClientDisconnected`."""
        rest = self.remainder
        self.drop_remainder()
        if self.link.peer.state is _GONE:
            raise self.link.refused()
        self._send_rest(rest, full=True)

    def _send_rest(self, rest: memoryview, *, full: bool) -> None:
        """Send what is left, and wait for room; ``full`` says that there is none now."""
        link, transport = self.link, self.transport
        while rest or transport.has_unsent:
            if full:
                if self._leaves_remainder:
                    self.remainder, self.left_over = rest, True
                    return
                self._wait_writable()
            try:
                sent = transport.send_now(rest)
            except BlockingIOError:
                full = True
                continue
            except OSError as error:
                raise link.lost_sending(error) from error
            full = self._is_plain
            if link.exchange is not None:
                link.exchange.note_sent(rest, sent)
            rest = rest[sent:]

    def _wait_writable(self) -> None:
        link = self.link
        timeout = link.config.write_timeout if link.io_timeout is None else link.io_timeout
        # There is room when a third of the kernel's buffer is free, and that may be megabytes. Whether
        # the client reads meanwhile, and how fast, is told by what is still in there.
        queued = bytes_queued(link.sock)
        while not self._wait_for_room(timeout):
            left = bytes_queued(link.sock)
            if queued - left < max(1.0, link.config.min_data_rate * timeout):
                link.cut_short()
                link.left(DisconnectReason.WRITE_TIMEOUT)
                raise ClientDisconnected(f"the client read too little in {timeout:g} s", errno.ETIMEDOUT)
            queued = left

    def _wait_for_room(self, timeout: float) -> bool:
        link = self.link
        held_up = link.loop.held_up
        held_up[link] = None
        try:
            return wait_for(link.sock, select.POLLOUT, timeout)
        finally:
            with link.loop.lock:  # see Input.evict
                del held_up[link]

    def send_file_piece(self, descriptor: int, offset: int, count: int) -> int:
        """One ``os.sendfile``, waiting for room; returns how many bytes were sent."""
        link = self.link
        if link.peer.state is _GONE:
            raise link.refused()
        while True:
            try:
                sent = os.sendfile(link.sock.fileno(), descriptor, offset, count)
            except BlockingIOError:
                self._wait_writable()
            except OSError as error:
                if error.errno not in RESETS and error.errno not in SILENCE:
                    raise  # The file's, not the client's.
                raise link.lost_sending(error) from error
            else:
                if link.exchange is not None:
                    link.exchange.out += sent
                return sent

    def send_file(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send ``count`` bytes of an open binary file, or all, from ``offset``; return how many.

        Through ``os.sendfile`` where the platform has it and the file is a real one.
        """
        return send_file(self, file, offset, count)
