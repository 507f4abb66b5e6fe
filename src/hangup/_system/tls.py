"""TLS contexts: what makes a listener speak TLS, and how that is renewed.

A listener asks for its context at each connection that it accepts, so a certificate that was loaded
anew serves the next one, and those that are open keep theirs.
"""

import os
import select
import ssl
from collections.abc import Callable, Sequence

from ..exceptions import ConfigError
from .poller import wait_for

__all__ = ["Certificate", "ContextOf", "Password", "check_context", "say_goodbye", "server_context"]

#: Gives the context for the next connection.
ContextOf = Callable[[], ssl.SSLContext]

_Path = str | os.PathLike[str]
#: What decrypts a private key, or gives that (``http.server`` of Python 3.14 takes both).
Password = str | bytes | Callable[[], str | bytes]

# What OpenSSL says where it says more than that PEM is not to its liking.
_REASONS = {
    "KEY_VALUES_MISMATCH": "the private key doesn't belong to the certificate",
    "KEY_TYPE_MISMATCH": "the private key doesn't belong to the certificate",
    "NO_CERTIFICATE_ASSIGNED": "the private key doesn't belong to the certificate",
    "EE_KEY_TOO_SMALL": "the key is too short to be secure",
    "CA_MD_TOO_WEAK": "the signature is too weak to be secure",
}


def server_context(
    certfile: _Path,
    keyfile: _Path | None = None,
    password: Password | None = None,
    *,
    alpn_protocols: Sequence[str] = ("http/1.1",),
) -> ssl.SSLContext:
    """A context for servers, with this certificate: TLS 1.2 or newer, and no renegotiation.

    ``keyfile`` is the private key's, if that does not stand in ``certfile``; ``password`` decrypts it.
    Raises :exc:`hangup.ConfigError`, which says which file can't be used, and why.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # RFC 9325 §3.5: costs the server more than the client
    context.set_alpn_protocols(list(alpn_protocols))
    key = os.fspath(keyfile if keyfile is not None else certfile)
    _check_holds(b"CERTIFICATE-----", os.fspath(certfile), "certificate")
    _check_holds(b"PRIVATE KEY-----", key, "private key")
    asked = False

    def ask() -> str | bytes:
        nonlocal asked
        asked = True
        if password is None:  # OpenSSL would ask at the terminal, where there may be none.
            raise ConfigError(f"the private key in {key} is encrypted, and there is no password for it")
        return password() if callable(password) else password

    try:
        context.load_cert_chain(certfile, keyfile, ask)
    except ssl.SSLError as error:
        reason = _REASONS.get(error.reason or "", error.reason or "OpenSSL can't make sense of it")
        if asked and error.reason not in _REASONS:
            reason = "the private key's password is another one"
        raise ConfigError(f"can't use {os.fspath(certfile)} with {key} for TLS: {reason}") from None
    return context


def _check_holds(begin: bytes, path: str, what: str) -> None:
    try:
        with open(path, "rb") as file:
            there = begin in file.read()
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None
    if not there:
        raise ConfigError(f"can't use {path} for TLS: there is no {what} in PEM form in it")


def say_goodbye(sock: ssl.SSLSocket, timeout: float) -> None:
    """Send close_notify, behind which nothing comes (RFC 8446 §6.1), and wait for no answer to it.

    For a socket that :mod:`ssl` has wrapped.  ``timeout`` is how long there may be no room for it, in
    seconds.  Without it, a response that ends with the connection looks as if it had been cut off.
    """
    try:
        sock.setblocking(False)
        try:
            sock.unwrap()
        except ssl.SSLWantWriteError:
            if wait_for(sock, select.POLLOUT, timeout):
                sock.unwrap()
    except (OSError, ValueError):
        pass  # It wants the client's own, which need not be waited for; or the client is gone.


def check_context(context: object) -> ssl.SSLContext:
    """``context``, if a server can use it.  Raises :exc:`hangup.ConfigError`."""
    if not isinstance(context, ssl.SSLContext):
        raise ConfigError(f"ssl_context must be an ssl.SSLContext, not {context!r}")
    if context.protocol is ssl.PROTOCOL_TLS_CLIENT:
        raise ConfigError(
            "ssl_context is one for clients: ssl.PROTOCOL_TLS_SERVER makes one for servers"
        )
    return context


class Certificate:
    """A certificate in files, and the context made of them.

    ``_context`` is replaced as a whole, and any thread reads it.
    """

    def __init__(
        self, certfile: _Path, keyfile: _Path | None = None, password: Password | None = None
    ) -> None:
        self._files = (certfile, keyfile, password)
        self.reload()

    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        return self._context

    def reload(self) -> None:
        """Read the files.  Raises :exc:`hangup.ConfigError`; what was read before serves on then."""
        self._context = server_context(*self._files)
