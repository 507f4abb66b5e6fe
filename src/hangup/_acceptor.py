"""Connections from a listening socket, with as few calls as can be."""

import socket
from typing import Any

from ._streams import ClientSocket

__all__ = ["Acceptor"]


class Acceptor:
    """Accepts from one listening socket, which doesn't block.  The watching thread's alone."""

    def __init__(self, sock: socket.socket) -> None:
        # socket.accept would wrap the descriptor in a socket that is then thrown away.
        self._accept = sock._accept  # type: ignore[attr-defined]  # noqa: SLF001
        # As plain numbers: the socket's own properties make an enum member at each look.
        self._kind = int(sock.family), int(sock.type), sock.proto

    def accept(self) -> tuple[ClientSocket, Any]:
        """One connection's socket, and the client's address.  Raises :exc:`OSError`."""
        fd, address = self._accept()
        sock = ClientSocket(*self._kind, fileno=fd)
        if socket.getdefaulttimeout() is not None:
            socket.socket.settimeout(sock, None)  # or reading would wait, where it must not
        return sock, address
