"""A connection's way out: what is sent, when, and what its errors mean.

Used by the connection's owner, but for :meth:`Sender.send_held`, which the pacer calls.

A head waits in the list ``_held`` for the body's beginning, and a small block of a body for those that
come close behind it.  Whoever pops what is there sends it, and the pop is atomic.  The pacer pops and
sends with ``_pacing`` held, and puts what the socket did not take into ``_rest``.  So an owner that
finds it gone takes that lock, and knows how far it has come.
"""

import errno
import os
import select
import socket
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._disconnect.peer import ClientState, Departure, Peer
from .._system.poller import bytes_queued, fin_after_data, wait_for
from ..exceptions import ClientDisconnected
from ..records import Phase
from .loop import Loop
from .sendfile import send_file
from .streams import ClientSocket

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["Sender"]

# A held head is joined to the body's first bytes by copying, up to this size; beyond, the copy would
# cost more than a second send.
JOIN_SIZE = 65536
# Blocks of a body that come within so many seconds of each other are joined, up to so many bytes: a send
# costs more than a copy of that.
_CLOSE = 0.0002
_BLOCKS_SIZE = 16384

# By flag and not by the descriptor's mode, which handlers and their children rely on.
DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)
# The method under ClientSocket's own, looked up once: it is on every request's way.
_send = socket.socket.send

_GONE = ClientState.GONE
_ANSWERING = Phase.ANSWERING
_NOTHING = memoryview(b"")
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_RESETS = frozenset((errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN))
# What the kernel says when it has given up on a peer that does not answer.
_SILENCE = frozenset((errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN))


def _departure(code: int) -> Departure:
    if code in _RESETS:
        return Departure.RESET
    return Departure.UNREACHABLE if code in _SILENCE else Departure.WRITE_FAILED


class Sender:
    """The sending half of a connection, and the boundary where errors become departures."""

    __slots__ = (
        "_block_at",
        "_held",
        "_holding",
        "_leaves_remainder",
        "_limited",
        "_pacing",
        "_rest",
        "config",
        "exchange",
        "io_timeout",
        "left_over",
        "peer",
        "remainder",
        "sock",
        "watch",
        "watched",
    )

    def __init__(self, sock: ClientSocket, address: Any, watch: Loop) -> None:
        self.sock = sock
        self.peer = Peer(address)
        self.config = watch.config
        self.watch = watch
        #: Whether the poller knows it; ``watch.lock`` guards the change.
        self.watched = False
        self.exchange: Exchange | None = None
        #: What the handler set with ``settimeout``, in seconds; None for the config's limits.
        self.io_timeout: float | None = None
        self._pacing: Lock | None = None
        self._held: list[bytes] = []
        #: Whether the owner has held something back and not sent it since.
        self._holding = False
        # When the latest block of a body came.
        self._block_at = 0.0
        self._rest = b""
        # Whether the kernel knows for how long bytes may go unacknowledged.
        self._limited = False
        #: What is left over of an answer, whether anything is, and whether it may be.
        self.remainder = _NOTHING
        self.left_over = False
        self._leaves_remainder = False

    def hold(self, head: bytes) -> None:
        """Keep a head back for a moment, so that it leaves together with the body's beginning.

        If the body takes longer, the pacer sends the head by itself.
        """
        if self._holding:
            self.flush()
        if self._pacing is None:
            self._pacing = Lock()
        self._holding = True
        self._held.append(head)
        pacer = self.watch.pacer
        if pacer.asleep:
            pacer.nudge()

    @property
    def holds_back(self) -> bool:
        """Whether a head waits for its body, or blocks of a body for more."""
        return self._holding

    def _take_held(self) -> bytes:
        """What was held back, or what the pacer could not send of it."""
        self._holding = False
        try:
            return self._held.pop()
        except IndexError:
            assert self._pacing is not None
            with self._pacing:
                rest, self._rest = self._rest, b""
                return rest

    def take_back(self) -> None:
        """Forget the head that is held back: it will not be sent."""
        if self._holding:
            self._take_held()

    def flush(self) -> None:
        """Send what is held back."""
        if self._holding:
            self.send(b"")

    def send_held(self) -> None:
        """Send what is held back: what follows takes its time.  The pacer calls this; it never waits."""
        pacing = self._pacing
        if pacing is None:
            return
        with pacing:
            try:
                head = self._held.pop()
            except IndexError:
                return  # Its owner has sent it just now.
            exchange = self.exchange
            if exchange is not None:
                exchange.phase = _ANSWERING
            try:
                sent = self._send_now(head)
            except OSError:
                sent = 0  # A full buffer, or a departed client: its owner will meet it.
            self._rest = head[sent:]
            if exchange is not None:
                exchange.note_sent(head, sent)

    def after_fork(self) -> None:
        """In a forked child whose handler's connection this is: other threads' locks are nobody's."""
        if self._pacing is not None:
            self._pacing = Lock()

    #: Do the bytes on the socket differ from those that are sent, so that nobody may write around it?
    encrypts = False

    def _send_now(self, data: bytes | memoryview) -> int:
        """Send what the socket takes at once; return how much that was.  Raises :exc:`OSError`."""
        return _send(self.sock, data, DONTWAIT)

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
        if self._holding:
            data = self._behind_held(data)
        if not data:
            return
        exchange = self.exchange
        if exchange is not None:
            exchange.phase = _ANSWERING  # Before the call, see Exchange.note_left.
        if self.peer.state is _GONE:
            raise self._refused()
        try:
            sent = _send(self.sock, data, DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self._lost_sending(error) from error
        if exchange is not None:
            if not self._limited and (exchange.out or exchange.known_client is not None):
                self.limit_silence()
            if exchange.out:
                exchange.out += sent
            elif exchange.status and sent:  # as note_sent does it, without the call
                exchange.out = sent
            else:
                exchange.note_sent(data, sent)
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def send_block(self, data: bytes) -> None:
        """:meth:`send` a block of a body that may not be the last.

        One that comes close behind another is held back, and leaves with those that follow; alone, if
        nothing follows for a moment: the pacer sees to that.  (PEP 3333: a server may go on sending a
        block while the application makes the next.)
        """
        now = monotonic()
        is_close = now - self._block_at < _CLOSE
        self._block_at = now
        if not is_close or len(data) >= _BLOCKS_SIZE:
            self.send(data)
            return
        if self.peer.state is _GONE:
            raise self._refused()
        if self._holding:
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
        if hasattr(socket, "TCP_USER_TIMEOUT") and self.sock.family in _INTERNET:
            limit = int(self.config.write_timeout * 1000)
            try:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
            except OSError:
                pass  # It has been closed: a thread that outlives its request asked for the client.

    def send_last(self, data: bytes) -> None:
        """:meth:`send` the end of an answer.

        What the socket does not take at once is left over, as the :attr:`remainder`: the watch sends it
        when the exchange has ended, or :meth:`send_remainder` does.
        """
        self._leaves_remainder = True
        try:
            self.send(data)
        finally:
            self._leaves_remainder = False

    def _remains(self) -> bool:
        """Whether the end of an answer is still to be sent."""
        return bool(self.remainder)

    def send_remainder(self) -> None:
        """Send what :meth:`send_last` left over.  Raises :exc:`~hangup.ClientDisconnected`."""
        rest, self.remainder, self.left_over = self.remainder, _NOTHING, False
        self._send_rest(rest)

    def _send_rest(self, rest: memoryview) -> None:
        if self._leaves_remainder:
            self.remainder, self.left_over = rest, True
            return
        while rest:
            self._wait_writable()
            try:
                sent = _send(self.sock, rest, DONTWAIT)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._lost_sending(error) from error
            if self.exchange is not None:
                self.exchange.note_sent(rest, sent)
            rest = rest[sent:]

    def _wait_writable(self) -> None:
        timeout = self.config.write_timeout if self.io_timeout is None else self.io_timeout
        # There is room when a third of the kernel's buffer is free, and that may be megabytes. Whether
        # the client reads meanwhile, and how fast, is told by what is still in there.
        queued = bytes_queued(self.sock)
        while not self._wait_for_room(timeout):
            left = bytes_queued(self.sock)
            if queued - left < max(1.0, self.config.min_rate * timeout):
                self._cut_short()
                self._left(Departure.WRITE_TIMEOUT)
                raise ClientDisconnected(f"the client read too little in {timeout:g} s", errno.ETIMEDOUT)
            queued = left

    def _wait_for_room(self, timeout: float) -> bool:
        held_up = self.watch.held_up
        held_up[self] = None
        try:
            return wait_for(self.sock, select.POLLOUT, timeout)
        finally:
            with self.watch.lock:  # see Receiver.evict
                del held_up[self]

    def send_file_piece(self, descriptor: int, offset: int, count: int) -> int:
        """One ``os.sendfile``, waiting for room; returns how many bytes were sent."""
        if self.peer.state is _GONE:
            raise self._refused()
        while True:
            try:
                sent = os.sendfile(self.sock.fileno(), descriptor, offset, count)
            except BlockingIOError:
                self._wait_writable()
            except OSError as error:
                if error.errno not in _RESETS and error.errno not in _SILENCE:
                    raise  # The file's, not the client's.
                raise self._lost_sending(error) from error
            else:
                if self.exchange is not None:
                    self.exchange.out += sent
                return sent

    def send_file(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send ``count`` bytes of an open binary file, or all, from ``offset``; return how many.

        Through ``os.sendfile`` where the platform has it and the file is a real one.
        """
        return send_file(self, file, offset, count)

    def _left(self, how: Departure, *, incomplete: bool = False) -> None:
        """The client left.  Any thread that notices."""
        exchange = self._note_left(how, incomplete=incomplete)
        if exchange is not None:
            exchange.tell_client(self.peer)

    def _note_left(self, how: Departure, *, incomplete: bool = False) -> "Exchange | None":
        """Note it; returns the request whose client is to be told, with no lock held.

        A FIN that is to be ignored counts all the same behind an ``incomplete`` request.
        """
        leaves = incomplete or how is not Departure.FIN or not self.watch.ignores_fin
        exchange = self.exchange
        if leaves and exchange is not None:
            exchange.note_left()
        self.peer.note(how, leaves=leaves)
        return self.exchange

    def fin_after_data(self) -> float | None:
        """Seconds between the client's last byte and its FIN; None where that can't be told."""
        return fin_after_data(self.sock)

    def _error(self) -> Departure | None:
        """What the error on the socket means, if there is one; this takes it from there."""
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return _departure(code) if code else None

    def _lost(self, error: OSError) -> ClientDisconnected:
        """The one place where an error of the operating system becomes a departure."""
        code = error.errno or errno.EPIPE
        self._left(_departure(code))
        return ClientDisconnected(f"the client left: {error.strerror or error}", code)

    def _lost_sending(self, error: OSError) -> ClientDisconnected:
        """:meth:`_lost`, met where a part of the response was to be sent, which is not delivered so."""
        self._cut_short()
        return self._lost(error)

    def _refused(self) -> ClientDisconnected:
        """The client is gone, and more of its response was to be sent."""
        self._cut_short()
        return ClientDisconnected()

    def _cut_short(self) -> None:
        if self.exchange is not None:
            self.exchange.cut_short = True

    def set_io_timeout(self, value: float | None) -> None:
        """A handler's ``settimeout``: the deadline of each read and write, None for the config's."""
        self.io_timeout = value
