"""How a connection's bytes pass its socket: as they are, or over TLS (``tls_transport``).

This is the one part of a connection of which there are two kinds.
"""

import select
import socket
from typing import Any

from .._system.poller import fin_after_data, wait_for
from .link import DONTWAIT, Link

__all__ = ["Transport"]

_recv = socket.socket.recv
# The methods under ClientSocket's own, looked up once.
_send = socket.socket.send
_shutdown = socket.socket.shutdown


class Transport:
    """Bytes as they are.  The connection's owner calls this, and the watchdog :meth:`send_now`."""

    __slots__ = ("has_unsent", "link", "read_ahead")

    #: Do the bytes on the socket differ from those that are sent, so that nobody may write around it?
    encrypts = False

    def __init__(self, link: Link) -> None:
        self.link = link
        #: Whether something that was sent has yet to leave.
        self.has_unsent = False
        #: What was read and decrypted before anybody asked for it.
        self.read_ahead = b""

    def recv_now(self, size: int) -> bytes:
        """Up to ``size`` bytes that have come; fewer have drained the socket.  Raises :exc:`OSError`."""
        return _recv(self.link.sock, size, DONTWAIT)

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the socket takes at once; return how much that was.  Raises :exc:`OSError`."""
        return _send(self.link.sock, data, DONTWAIT)

    def wait_readable(self, timeout: float) -> bool:
        """Block until something has come; False if nothing did for ``timeout`` seconds."""
        return wait_for(self.link.sock, select.POLLIN, timeout)

    def has_news(self) -> bool:
        """Whether something has come that nobody has read, FIN included."""
        try:
            _recv(self.link.sock, 1, DONTWAIT | socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def look_ahead(self) -> bool:
        """A handler works, and bytes have come, which is all that is known: False."""
        return False

    def fin_after_data(self) -> float | None:
        """Seconds between the client's last byte and its FIN; None where that can't be told."""
        return fin_after_data(self.link.sock)

    def shut(self, how: int, *, farewell: bool) -> None:  # noqa: ARG002
        """Close one direction of the socket, or both.

        ``farewell`` says that all that was sent may count as delivered.  Raises :exc:`OSError`.
        """
        link = self.link
        link.fin_sent = link.fin_sent or how != socket.SHUT_RD
        _shutdown(link.sock, how)

    def close(self, *, farewell: bool) -> None:  # noqa: ARG002
        """Close the descriptor."""
        link = self.link
        if link.loop.has_children:
            try:
                _shutdown(link.sock, socket.SHUT_RDWR)  # see _system.fork
            except OSError:
                pass  # The client was there first.
        link.sock.close_descriptor()

    def after_fork(self) -> None:
        """In a forked child whose handler's connection this is: other threads' locks are nobody's."""

    def ask(self, question: str, *arguments: Any) -> Any:
        """Ask TLS for something that it knows."""
        raise NotImplementedError(question)
