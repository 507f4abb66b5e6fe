"""Connections from a listening socket, with as few calls as can be."""

import functools
import socket
from typing import TYPE_CHECKING, Any

from .._connection.connection import Connection
from .._connection.streams import ClientSocket
from .._connection.tls_socket import TLSClientSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._system.tls import ContextOf

__all__ = ["Acceptor"]


class Acceptor:
    """Accepts from one listening socket, which doesn't block.  The watching thread's alone.

    ``make`` makes a connection of what :meth:`accept` returns, and of the event loop: a plain one, or
    one over TLS with the context that ``context_of`` gives at that time.
    """

    def __init__(self, sock: socket.socket, context_of: "ContextOf | None" = None) -> None:
        # socket.accept would wrap the descriptor in a socket that is then thrown away.
        self._accept = sock._accept  # type: ignore[attr-defined]  # noqa: SLF001
        # As plain numbers: the socket's own properties make an enum member at each look.
        self._kind = int(sock.family), int(sock.type), sock.proto
        self._socket: type[ClientSocket] = ClientSocket
        self.make: Callable[..., Connection] = Connection
        if context_of is not None:
            self._socket = TLSClientSocket
            self.make = functools.partial(_over_tls, context_of)
        if sock.family == getattr(socket, "AF_UNIX", None):
            self.make = functools.partial(_on_path, self.make)

    def accept(self) -> tuple[ClientSocket, Any]:
        """One connection's socket, and the client's address.  Raises :exc:`OSError`."""
        fd, address = self._accept()
        sock = self._socket(*self._kind, fileno=fd)
        if socket.getdefaulttimeout() is not None:
            socket.socket.settimeout(sock, None)  # or reading would wait, where it must not
        return sock, address


def _on_path(
    make: "Callable[..., Connection]", sock: ClientSocket, address: Any, loop: Any, *, raw: bool = False
) -> Connection:
    connection = make(sock, address, loop, raw=raw)
    connection.input.parser.take_paths()
    return connection


def _over_tls(
    context_of: "ContextOf", sock: ClientSocket, address: Any, loop: Any, *, raw: bool = False
) -> Connection:
    return Connection(sock, address, loop, context_of(), raw=raw)
