"""A connection over TLS: the same life, with encryption between it and its socket.

OpenSSL is given bytes and gives bytes (memory BIOs), and never touches the socket.  So a connection over
TLS is read, sent on and watched exactly as a plain one, and no thread ever waits inside OpenSSL.

*The handshake* is taken step by step.  The watch waits for the client's bytes, as for a request's; a
worker takes the step, for a signature costs a millisecond; then the connection is the watch's again.
So a client that connects and says nothing costs a descriptor, until ``handshake_timeout``.

*Departures.*  FIN and RST are seen below TLS, as ever.  A client may also say goodbye within TLS
(close_notify, RFC 8446 §6.1) and leave its socket open: that comes as data, so while a handler works the
watch reads and decrypts what comes, up to :data:`AHEAD` bytes.  It means what FIN means.

*Who may touch what.*  An SSL object is no thing for two threads at once, and three may want it: the
owner, the pacer that sends a head, the watch that looks ahead.  ``_ciphering`` guards the SSL object,
both BIOs, the bytes that have been decrypted and not been taken, those encrypted and not sent, and the
closing of the descriptor, whose number may be another connection's a moment later.  It is never held
while waiting.
"""

import errno
import logging
import socket
import ssl
from threading import Lock
from time import monotonic
from typing import Any

from .._disconnect.peer import ClientState, Departure
from .._http1.error_response import plain_answer
from .._http1.request import unparsed
from .._system.poller import EOF, GONE, READABLE, is_acknowledged
from ..exceptions import BadRequest
from ..records import Outcome, Phase
from .closing import State
from .connection import Connection
from .exchange import Exchange
from .input import RECEIVE_SIZE
from .loop import Loop
from .output import DONTWAIT
from .streams import ClientSocket

__all__ = ["TLSConnection"]

_log = logging.getLogger("hangup")

_recv = socket.socket.recv
_send = socket.socket.send

#: Bytes that are decrypted ahead of a handler, at the most.
AHEAD = RECEIVE_SIZE
# What is encrypted in one go: some records of 16 KiB, for one send.
_PIECE = 65536
# Seconds behind its deadline at which a client's bytes are only found if nobody could look for them: the
# process was stopped, or the machine asleep. Then its client's next bytes have their time, too.
_STOPPED = 0.5
# The first byte of a TLS record that carries a handshake (RFC 8446 §5.1).
_HANDSHAKE_RECORD = 0x16


def _no_tls() -> BadRequest:
    """A new one each time: an exception keeps each traceback that it was ever raised with."""
    return BadRequest(400, "This port speaks HTTPS, not HTTP")


class TLSConnection(Connection):
    """One client's connection, over TLS.  See this module's text."""

    __slots__ = (
        "_began",
        "_ciphering",
        "_ended",
        "_failure",
        "_incoming",
        "_outgoing",
        "_plain",
        "_tls",
        "_unsent",
        "_waits",
        "established",
    )

    encrypts = True

    def __init__(
        self,
        sock: ClientSocket,
        address: Any,
        watch: Loop,
        context: ssl.SSLContext,
        *,
        raw: bool = False,
    ) -> None:
        super().__init__(sock, address, watch, raw=raw)
        self._direct = False
        self._ciphering = Lock()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._plain = b""
        self._unsent: bytes | memoryview = b""
        # Whether the client has said that it sends no more; and what went wrong beneath.
        self._ended = False
        self._failure: OSError | None = None
        # Whether the owner waits on the socket, so that nobody else may take bytes from it.
        self._waits = False
        # Whether the client's first bytes have been taken for TLS; whether the handshake is done.
        self._began = False
        self.established = False
        self.deadline = monotonic() + self.config.handshake_timeout

    def ask_tls(self, question: str, *arguments: Any) -> Any:
        """Ask the SSL object for something that it knows."""
        with self._ciphering:
            return getattr(self._tls, question)(*arguments)

    def after_fork(self) -> None:
        super().after_fork()
        self._ciphering = Lock()

    # -- the handshake

    def on_ready(self, flags: int) -> bool:
        if self.established or self.state is State.ENDING:
            return super().on_ready(flags)
        if self.state is not State.IDLE and not self._on_ready_while_owned(flags):
            return False
        if flags & GONE:
            return self._leave_early("it left")
        if flags & EOF:
            # It may have closed its sending side alone, behind the last of the handshake and a request.
            self._left(Departure.FIN)
        try:
            if not _recv(self.sock, 1, DONTWAIT | socket.MSG_PEEK):
                return self._leave_early("it left")
        except BlockingIOError:
            if self.watch.rearm is not None:
                self.watch.rearm(self.sock)
            return False
        except OSError as error:
            return self._leave_early(error)
        self.state = State.HANDLED
        return True

    def _leave_early(self, why: object) -> bool:
        _log.debug("no TLS handshake with %s: %s", self.peer.host, why)
        self.retire()
        return False

    def prepare(self) -> bool:
        """Take a step of the handshake.  False: the connection is the watch's again, or closed.

        A request that came with the last step is the watch's to find: whether there is a thread for it
        is another question than whether there was one for the handshake.
        """
        if self.established:
            return super().prepare()
        try:
            self._take_steps()
        except OSError as error:
            _log.debug("no TLS handshake with %s: %s", self.peer.host, error)
            self.refusal = _no_tls()  # It may be sending on, and is to read the alert.
            self.finish()
        except BadRequest as refusal:
            self._answer_plainly(refusal)
        return False

    def _take_steps(self) -> None:
        until = self.deadline
        if (now := monotonic()) > until + _STOPPED:
            until = now + self.config.handshake_timeout
        while True:
            if not self.established and self._shake_hands():
                self.idle_since = monotonic()
                until = self.idle_since + self.config.head_timeout
            if self.established:
                with self._ciphering:
                    self._plain += self._pull_locked(AHEAD)
                self._mark_drained()
            elif self.peer.state is ClientState.GONE:
                raise ConnectionAbortedError(errno.ECONNABORTED, "it left")
            elif self.peer.state is ClientState.EOF:
                continue  # Its FIN was told of together with these bytes: the next look finds it.
            # What is there now nobody would tell the watch of.
            more = bool(self._plain or self._ended or self._failure)
            parked = self._park(until)
            if parked is not None:
                break
            if not self.keep_open:
                self.close()
                return
        if more:
            self.watch.look_at(self)
        self.watch.expect(parked)

    def _shake_hands(self) -> bool:
        """Read what has come, and answer it; True when the handshake is done."""
        with self._ciphering:
            try:
                data = _recv(self.sock, RECEIVE_SIZE, DONTWAIT)
            except BlockingIOError:
                self._mark_drained()
                return False
            if not data:
                raise ConnectionAbortedError(errno.ECONNABORTED, "it left")
            if len(data) < RECEIVE_SIZE:
                self._mark_drained()
            if not self._began and data[0] != _HANDSHAKE_RECORD:
                raise _no_tls()
            self._began = True
            self._incoming.write(data)
            try:
                self._tls.do_handshake()
                self.established = True
            except ssl.SSLWantReadError:
                pass
            finally:
                self._flush_locked()
            return self.established

    def _answer_plainly(self, refusal: BadRequest) -> None:
        """To plain HTTP on a port for TLS: a complete answer, in plain HTTP."""
        self.refusal = refusal
        exchange = Exchange(unparsed(b""))
        head, body = plain_answer(refusal.status, refusal.reason)
        exchange.status, exchange.head_out = refusal.status, len(head)
        exchange.reason = refusal.reason
        try:
            exchange.out = _send(self.sock, head + body, DONTWAIT)
        except OSError:
            pass  # It does not listen.
        self._tell(exchange, Outcome.REFUSED)
        self.finish()

    # -- bytes in

    def _recv_now(self, size: int) -> bytes:
        if not self.established:
            raise BlockingIOError(errno.EAGAIN, "the handshake is not done")
        with self._ciphering:
            data = self._plain
            if len(data) < size:  # Fewer than were asked for say that the socket is drained.
                data += self._pull_locked(size - len(data))
            self._plain = data[size:]
            left = Departure.FIN if self._ended else Departure.RESET if self._failure else None
        if left is not None and self.peer.state is ClientState.OPEN:
            # Also behind bytes: these drain the socket, so nobody will come back for the goodbye.
            self._left(left)
        data = data[:size]
        if data or self._ended:
            return data
        if self._failure is not None:
            raise self._failure
        raise BlockingIOError(errno.EAGAIN, "nothing has come")

    def _pull_locked(self, size: int) -> bytes:
        """Read and decrypt what has come: ``size`` bytes, and what came with the last of them."""
        pieces: list[bytes] = []
        got = self._decrypt_locked(pieces)  # what came behind the handshake
        while got < size and not (self._ended or self._failure):
            try:
                data = _recv(self.sock, RECEIVE_SIZE, DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                self._failure = error
                break
            if not data:
                self._ended = True
                break
            self._incoming.write(data)
            got += self._decrypt_locked(pieces)
            if len(data) < RECEIVE_SIZE:
                break
        if self._outgoing.pending:  # an alert, or the answer to a change of keys
            try:
                self._flush_locked()
            except OSError:
                pass  # The next read or send will meet it.
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _decrypt_locked(self, pieces: list[bytes]) -> int:
        got = 0
        incoming, tls = self._incoming, self._tls
        try:
            while incoming.pending or tls.pending():
                piece = tls.read(_PIECE)
                if not piece:
                    self._ended = True  # close_notify
                    break
                pieces.append(piece)
                got += len(piece)
        except ssl.SSLWantReadError:
            pass  # A record that has not all come.
        except ssl.SSLError as error:
            self._failure = ConnectionAbortedError(errno.ECONNABORTED, f"TLS: {error.reason}")
        return got

    def _wait_readable(self, timeout: float) -> bool:
        with self._ciphering:
            if self._plain or self._ended or self._failure:
                return True
            self._waits = True
        try:
            return super()._wait_readable(timeout)
        finally:
            self._waits = False

    def _on_ready_while_owned(self, flags: int) -> bool:
        if super()._on_ready_while_owned(flags):
            return True
        if not (flags & READABLE and self.established and self._look_ahead()):
            return False
        # The owner may have found nothing just before that, and have parked. Nobody would tell of these
        # bytes again (see _system.poller, "Edges").
        with self.watch.lock:
            if self.state is State.HANDLED:
                self.pending |= READABLE
            return self.state is State.IDLE

    def _take_news(self) -> bool:
        if super()._take_news():
            return True
        if self._plain:  # The watch has read it, and is about to say so.
            self._drained = False
        return bool(self._plain)

    def _look_ahead(self) -> bool:
        """A handler works, and bytes have come: see whether the client's goodbye is among them.

        Returns whether anything was taken from the socket.
        """
        with self._ciphering:
            if self._waits or self._ended or len(self._plain) >= AHEAD:
                return False
            if self.state is not State.HANDLED:
                return False
            data = self._pull_locked(AHEAD)
            self._plain += data
            left = Departure.FIN if self._ended else Departure.RESET if self._failure else None
        if self.watch.rearm is not None:
            self.watch.rearm(self.sock)
        if left is not None and self.peer.state is ClientState.OPEN:
            self._left(left)
            self.watch.on_left(self)
        return bool(data) or left is not None

    def has_news(self) -> bool:
        return bool(self._plain) or super().has_news()

    def fin_after_data(self) -> float | None:
        # A goodbye is data to the kernel, and comes with the FIN.
        return None

    # -- bytes out

    def _send_now(self, data: bytes | memoryview) -> int:
        """Encrypt and send a piece.  What the socket does not take of it goes before the next one."""
        with self._ciphering:
            if self._unsent and not self._flush_locked():
                raise BlockingIOError(errno.EAGAIN, "there is no room")
            piece = data[:_PIECE]
            if piece:
                self._encrypt_locked(piece)
                self._flush_locked()
            return len(piece)

    def _encrypt_locked(self, piece: bytes | memoryview) -> None:
        try:
            done = self._tls.write(piece)
            while done < len(piece):  # A record at a time.
                done += self._tls.write(memoryview(piece)[done:])
        except ssl.SSLError as error:
            raise ConnectionAbortedError(errno.ECONNABORTED, f"TLS: {error.reason}") from None

    def _flush_locked(self) -> bool:
        """Send what is encrypted; False if the socket does not take all of it."""
        data = self._unsent or self._outgoing.read()
        while data:
            try:
                sent = _send(self.sock, data, DONTWAIT)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self._unsent = memoryview(data)[sent:]
                return False
            data, self._unsent = self._outgoing.read(), b""
        return True

    def send(self, data: bytes | memoryview) -> None:
        if self._holding:
            data = self._behind_held(data)
        if not data and not self._unsent:
            return
        exchange = self.exchange
        if exchange is not None:
            exchange.phase = Phase.ANSWERING  # Before the call, see Exchange.note_left.
        if self.peer.state is ClientState.GONE:
            raise self._refused()
        if exchange is not None and not self._limited and (exchange.out or exchange.known_client):
            self.limit_silence()
        rest = data
        while rest or self._unsent:
            try:
                sent = self._send_now(rest)
            except BlockingIOError:
                if self._leaves_remainder:
                    self.remainder, self.left_over = memoryview(rest), True
                    return
                self._wait_writable()
                continue
            except OSError as error:
                raise self._lost_sending(error) from error
            if exchange is not None:
                exchange.note_sent(rest, sent)
            rest = memoryview(rest)[sent:] if sent < len(rest) else b""

    def _remains(self) -> bool:
        # What is encrypted must go out, even if nothing is to be encrypted any more.
        return bool(self.remainder or self._unsent)

    def _send_rest(self, rest: memoryview) -> None:
        self.send(rest)

    # -- the end

    def finish(self) -> None:
        # A client that has its answer and has closed would refuse a goodbye with RST, which looks as if
        # it had refused the answer. So that is judged first, by what it has acknowledged.
        if self._unsettled and self.state is State.HANDLED and is_acknowledged(self.sock):
            self._settle(Outcome.ANSWERED)
        super().finish()

    def _say_goodbye_locked(self) -> None:
        """close_notify: what has come before it is all there is (RFC 8446 §6.1)."""
        if self.established and self.peer.state is not ClientState.GONE and not self._unsettled:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # It wants the client's goodbye, which need not be waited for.
            try:
                self._flush_locked()
            except OSError:
                pass  # It is gone, as it turns out.

    def _shut_socket(self, how: int) -> None:
        with self._ciphering:
            if how != socket.SHUT_RD:
                self._say_goodbye_locked()
            super()._shut_socket(how)

    def _close_socket(self) -> None:
        with self._ciphering:
            if not self.watch.forked:  # It is the parent's to say.
                self._say_goodbye_locked()
            super()._close_socket()
