"""Servers that speak TLS: ``http.server``'s of Python 3.14, here for each Python that hangup runs on."""

import os
import ssl
from collections.abc import Sequence
from typing import Any

from .._system.tls import Password, server_context
from .server import HTTPServer, ThreadingHTTPServer

__all__ = ["HTTPSServer", "ThreadingHTTPSServer"]


class HTTPSServer(HTTPServer):
    """``http.server.HTTPSServer``: an :class:`HTTPServer` that speaks TLS.

    ``certfile`` is the certificate's file (PEM), ``keyfile`` that of its private key, if that is not in
    ``certfile`` too, and ``password`` decrypts it.  ``alpn_protocols`` are offered to clients
    (``["http/1.1"]``, unless said otherwise).  The other arguments are :class:`HTTPServer`'s.

    Raises :exc:`hangup.ConfigError` for files that can't be used, which says why.
    """

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: Any,  # noqa: N803
        bind_and_activate: bool = True,  # noqa: FBT001, FBT002
        *,
        certfile: str | os.PathLike[str],
        keyfile: str | os.PathLike[str] | None = None,
        password: Password | None = None,
        alpn_protocols: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        self.ssl = ssl  # where http.server has the module
        self.certfile = certfile
        self.keyfile = keyfile
        self.password = password
        self.alpn_protocols = ["http/1.1"] if alpn_protocols is None else alpn_protocols
        super().__init__(server_address, RequestHandlerClass, bind_and_activate, **options)

    def server_activate(self) -> None:
        """Begin to listen."""
        super().server_activate()
        self.socket = self._create_context().wrap_socket(self.socket, server_side=True)

    def reload_certificate(self) -> None:
        """Read the certificate's files again, for the connections that are accepted from now on.

        Raises :exc:`hangup.ConfigError` if they can't be used; what was read before serves on then.
        """
        # Not through the property, which a listener's lacks the other half of.
        self.socket._context = self._create_context()  # type: ignore[attr-defined]  # noqa: SLF001

    def _create_context(self) -> ssl.SSLContext:
        # By http.server's name for it: programs have their own, for what the arguments don't say.
        return server_context(
            self.certfile, self.keyfile, self.password, alpn_protocols=self.alpn_protocols
        )


class ThreadingHTTPSServer(ThreadingHTTPServer, HTTPSServer):
    """``http.server.ThreadingHTTPSServer``: a :class:`ThreadingHTTPServer` that speaks TLS."""
