"""The socket that a handler sees of a connection over TLS."""

import socket
from typing import Any

from .streams import ClientSocket

__all__ = ["TLSClientSocket"]


class TLSClientSocket(ClientSocket):
    """What a handler finds as ``self.connection``; it answers :class:`ssl.SSLSocket`'s questions too."""

    __slots__ = ()

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if flags & ~socket.MSG_WAITALL:  # ssl.SSLSocket refuses them likewise: the kernel can't know
            raise ValueError(f"flags {flags:#x} are not for a connection over TLS")
        return super().recv(bufsize, flags)

    def getpeercert(self, binary_form: bool = False) -> Any:  # noqa: FBT001, FBT002
        """The client's certificate, if it was asked for one."""
        return self.connection.transport.ask("getpeercert", binary_form)

    def cipher(self) -> Any:
        """Name, protocol and secret bits of the cipher in use."""
        return self.connection.transport.ask("cipher")

    def version(self) -> str | None:
        """The protocol in use, ``TLSv1.3`` say."""
        return self.connection.transport.ask("version")  # type: ignore[no-any-return]

    def selected_alpn_protocol(self) -> str | None:
        """The protocol that was agreed on (RFC 7301)."""
        return self.connection.transport.ask("selected_alpn_protocol")  # type: ignore[no-any-return]
