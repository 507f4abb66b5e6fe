"""A connection's bytes over TLS.

OpenSSL is given bytes and gives bytes (memory BIOs), and never touches the socket.  So a connection over
TLS is read, sent on and watched exactly as a plain one, and no thread ever waits inside OpenSSL.

*Departures.*  FIN and RST are seen below TLS, as ever.  A client may also say goodbye within TLS
(close_notify, RFC 8446 §6.1) and leave its socket open: that comes as data, so while a handler works the
event loop reads and decrypts what comes, up to :data:`AHEAD` bytes.  It means what FIN means.

*Who may touch what.*  An SSL object is no thing for two threads at once, and three may want it: the
owner, the watchdog that sends a head, the event loop that looks ahead.  ``_ciphering`` guards the SSL
object, both BIOs, the bytes that have been decrypted and not been taken, those encrypted and not sent,
and the closing of the descriptor, whose number may be another connection's a moment later.  It is never
held while waiting.
"""

import errno
import socket
import ssl
from threading import Lock
from typing import Any

from .._disconnect.peer import ClientState, DisconnectReason
from ..exceptions import RequestRejected
from .input import RECEIVE_SIZE
from .link import DONTWAIT, Link
from .state import State
from .transport import Transport

__all__ = ["AHEAD", "TLSTransport", "no_tls"]

_recv = socket.socket.recv
_send = socket.socket.send

#: Bytes that are decrypted ahead of a handler, at the most.
AHEAD = RECEIVE_SIZE
# What is encrypted in one go: some records of 16 KiB, for one send.
_PIECE = 65536
# The first byte of a TLS record that carries a handshake (RFC 8446 §5.1).
_HANDSHAKE_RECORD = 0x16


def no_tls() -> RequestRejected:
    """A new one each time: an exception keeps each traceback that it was ever raised with."""
    return RequestRejected(400, "This port speaks HTTPS, not HTTP")


class TLSTransport(Transport):
    """Bytes over TLS.  See this module's text for the lock."""

    __slots__ = (
        "_began",
        "_ciphering",
        "_ended",
        "_failure",
        "_incoming",
        "_outgoing",
        "_tls",
        "_unsent",
        "_waits",
        "established",
    )

    encrypts = True

    def __init__(self, link: Link, context: ssl.SSLContext) -> None:
        super().__init__(link)
        self._ciphering = Lock()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent: bytes | memoryview = b""
        # Whether the client has said that it sends no more; and what went wrong beneath.
        self._ended = False
        self._failure: OSError | None = None
        # Whether the owner waits on the socket, so that nobody else may take bytes from it.
        self._waits = False
        # Whether the client's first bytes have been taken for TLS.
        self._began = False
        #: Whether the handshake is done.
        self.established = False

    def ask(self, question: str, *arguments: Any) -> Any:
        with self._ciphering:
            return getattr(self._tls, question)(*arguments)

    def after_fork(self) -> None:
        self._ciphering = Lock()

    # -- the handshake

    def shake_hands(self) -> bool:
        """Read what has come, and answer it; True when the handshake is done.

        Raises :exc:`OSError` if it fails, :exc:`RequestRejected` for plain HTTP.
        """
        with self._ciphering:
            try:
                data = _recv(self.link.sock, RECEIVE_SIZE, DONTWAIT)
            except BlockingIOError:
                self.link.mark_drained()
                return False
            if not data:
                raise ConnectionAbortedError(errno.ECONNABORTED, "it left")
            if len(data) < RECEIVE_SIZE:
                self.link.mark_drained()
            if not self._began and data[0] != _HANDSHAKE_RECORD:
                raise no_tls()
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

    def read_behind_handshake(self) -> None:
        """Decrypt what came with the last of the handshake."""
        with self._ciphering:
            self.read_ahead += self._pull_locked(AHEAD)
        self.link.mark_drained()

    @property
    def has_something(self) -> bool:
        """Whether there is something to take of which the poller will not tell."""
        return bool(self.read_ahead or self._ended or self._failure)

    # -- bytes in

    def recv_now(self, size: int) -> bytes:
        if not self.established:
            raise BlockingIOError(errno.EAGAIN, "the handshake is not done")
        with self._ciphering:
            data = self.read_ahead
            if len(data) < size:  # Fewer than were asked for say that the socket is drained.
                data += self._pull_locked(size - len(data))
            self.read_ahead = data[size:]
            left = self._departure_locked()
        if left is not None and self.link.peer.state is ClientState.OPEN:
            # Also behind bytes: these drain the socket, so nobody will come back for the goodbye.
            self.link.left(left)
        data = data[:size]
        if data or self._ended:
            return data
        if self._failure is not None:
            raise self._failure
        raise BlockingIOError(errno.EAGAIN, "nothing has come")

    def _departure_locked(self) -> DisconnectReason | None:
        return DisconnectReason.FIN if self._ended else DisconnectReason.RESET if self._failure else None

    def _pull_locked(self, size: int) -> bytes:
        """Read and decrypt what has come: ``size`` bytes, and what came with the last of them."""
        pieces: list[bytes] = []
        got = self._decrypt_locked(pieces)  # what came behind the handshake
        while got < size and not (self._ended or self._failure):
            try:
                data = _recv(self.link.sock, RECEIVE_SIZE, DONTWAIT)
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

    def wait_readable(self, timeout: float) -> bool:
        with self._ciphering:
            if self.has_something:
                return True
            self._waits = True
        try:
            return super().wait_readable(timeout)
        finally:
            self._waits = False

    def look_ahead(self) -> bool:
        """A handler works, and bytes have come: see whether the client's goodbye is among them.

        Returns whether anything was taken from the socket.
        """
        link = self.link
        if not self.established:
            return False
        with self._ciphering:
            if self._waits or self._ended or len(self.read_ahead) >= AHEAD:
                return False
            if link.state is not State.HANDLED:
                return False
            data = self._pull_locked(AHEAD)
            self.read_ahead += data
            left = self._departure_locked()
        if link.loop.rearm is not None:
            link.loop.rearm(link.sock)
        if left is not None and link.peer.state is ClientState.OPEN:
            link.left(left)
            link.loop.on_left(link)
        return bool(data) or left is not None

    def has_news(self) -> bool:
        return bool(self.read_ahead) or super().has_news()

    def fin_after_data(self) -> float | None:
        # A goodbye is data to the kernel, and comes with the FIN.
        return None

    # -- bytes out

    def send_now(self, data: bytes | memoryview) -> int:
        """Encrypt and send a piece.  What the socket does not take of it goes before the next one."""
        with self._ciphering:
            if self._unsent and not self._flush_locked():
                raise BlockingIOError(errno.EAGAIN, "there is no room")
            piece = data[:_PIECE]
            if piece:
                self._encrypt_locked(piece)
                self._flush_locked()
            return len(piece)

    def send_plainly(self, data: bytes) -> int:
        """Send bytes as they are, to a client that speaks no TLS.  Raises :exc:`OSError`."""
        return _send(self.link.sock, data, DONTWAIT)

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
                sent = _send(self.link.sock, data, DONTWAIT)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self._unsent = memoryview(data)[sent:]
                self.has_unsent = True
                return False
            data, self._unsent = self._outgoing.read(), b""
        self.has_unsent = False
        return True

    # -- the end

    def _say_goodbye_locked(self) -> None:
        """close_notify: what has come before it is all there is (RFC 8446 §6.1)."""
        if self.established and self.link.peer.state is not ClientState.GONE:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # It wants the client's goodbye, which need not be waited for.
            try:
                self._flush_locked()
            except OSError:
                pass  # It is gone, as it turns out.

    def shut(self, how: int, *, farewell: bool) -> None:
        with self._ciphering:
            if farewell and how != socket.SHUT_RD:
                self._say_goodbye_locked()
            super().shut(how, farewell=farewell)

    def close(self, *, farewell: bool) -> None:
        with self._ciphering:
            if farewell and not self.link.loop.forked:  # It is the parent's to say.
                self._say_goodbye_locked()
            super().close(farewell=farewell)
