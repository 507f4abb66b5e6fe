"""Listening sockets: how an address is written, and how it is bound."""

import errno
import os
import socket
import stat
from typing import Any, NamedTuple

from ..exceptions import ConfigError

__all__ = [
    "Address",
    "CannotListen",
    "bind_socket",
    "file_identity",
    "parse_bind",
    "shown",
    "shown_address",
    "unlink_own",
]


class Address(NamedTuple):
    """Where to listen: host and port, or a path in the file system, or a descriptor."""

    host: str
    port: int
    uds: str | None = None
    fd: int | None = None


def parse_bind(text: str, port: int = 8000) -> Address:
    """An address as gunicorn's ``--bind`` has it: ``HOST:PORT``, ``HOST``, ``unix:PATH``, ``fd://N``.

    ``port`` is meant where none is named.  Raises :exc:`hangup.ConfigError` for anything else.
    """
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Address("", 0, uds=text.removeprefix("unix:"))
    if text.startswith("fd://") and text.removeprefix("fd://").isdecimal():
        return Address("", 0, fd=int(text.removeprefix("fd://")))
    host, colon, number = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, number = text, str(port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"bind: an IPv6 address stands in brackets, as [::1]:8000, not {text!r}")
    if not (number.isascii() and number.isdecimal() and int(number) <= 65535) or "/" in host:
        raise ConfigError(f"bind must be HOST:PORT, unix:PATH or fd://N, not {text!r}")
    return Address(host, int(number))


class CannotListen(OSError):
    """A socket can't be had; the text says which, and why."""


def bind_socket(
    host: str, port: int, *, uds: str | None = None, fd: int | None = None, backlog: int
) -> socket.socket:
    """A listening socket: a TCP one, one in the file system, or one that another process has bound.

    Raises :exc:`OSError` where it can't be had, and :exc:`hangup.ConfigError` for a descriptor that is
    no listening socket; both say which.
    """
    if fd is not None:
        return _inherited(fd)
    if uds is not None:
        return _bind_unix(uds, backlog)
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
        try:
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        raise _cannot_listen(error, shown_address((host, port))) from error
    return sock


def _inherited(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"can't listen on descriptor {fd}: {error.strerror}") from None
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise ConfigError(f"can't listen on descriptor {fd}: it is no listening socket")
    sock.set_inheritable(False)  # It was meant for this process, and not for those that it starts.
    return sock


def _bind_unix(path: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_over(path):
            os.unlink(path)
        sock.bind(path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _cannot_listen(error, path) from error
    return sock


def _is_left_over(path: str) -> bool:
    """Whether there is a socket behind which nobody listens any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        return False


def file_identity(path: str) -> tuple[int, int] | None:
    """Which file a path leads to."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def unlink_own(path: str, identity: tuple[int, int] | None) -> None:
    """Remove a socket from the file system, unless it is the one of a server that succeeds this one."""
    if identity is not None and file_identity(path) == identity:
        os.unlink(path)


def _cannot_listen(error: Exception, where: str) -> CannotListen:
    reason = getattr(error, "strerror", None) or str(error)
    return CannotListen(
        getattr(error, "errno", None) or errno.EINVAL, f"can't listen on {where}: {reason}"
    )


def shown(address: Any) -> str:
    """A socket address as people write it."""
    if not isinstance(address, tuple):
        return str(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host or '*'}:{port}"


def shown_address(address: Any, scheme: str = "http") -> str:
    """A socket's address, as people write it."""
    if not isinstance(address, tuple):
        return f"unix:{os.fsdecode(address)}"
    return f"{scheme}://{shown(address)}"
