"""What a running server does when its process forks.

A child has the descriptors and the memory of its parent, and of its threads the one that forked.  It
would take events from the parent's poller, keep the port and the clients' connections open, and wait for
locks that nobody holds any more.  So in the child each engine is made inert: its listeners and
connections are closed, but for the connection whose handler forked, and when that handler returns the
child ends, as it would under ``http.server``.  In the parent a connection is from then on shut down
before it is closed, so that its client sees the end however long a child lives that has a copy of it.

Nothing of this concerns programs that are started (:mod:`subprocess`): descriptors are not inheritable
(PEP 446).  A server that was made, but not started, may be served by several children (pre-fork).
"""

import os
import socket
import sys
import weakref
from typing import NoReturn, Protocol

__all__ = ["ForkWatch", "PrivateSocket", "end_process"]


class Forking(Protocol):
    """What is told of forks: an engine, or a socket."""

    def before_fork(self) -> None:
        """A child is about to be forked, by any thread."""

    def after_fork_in_child(self) -> None:
        """This process is the child."""


class PrivateSocket:
    """A listening socket that no forked child keeps, unless the program means to hand it on."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def before_fork(self) -> None:
        pass

    def after_fork_in_child(self) -> None:
        if self._sock.fileno() >= 0 and not self._sock.get_inheritable():  # PEP 446
            self._sock.close()


class ForkWatch:
    """Tells ``told`` of each fork, for as long as this object lives: ``told`` is to hold it.

    Not ``told`` itself is what is kept weakly: an object of a compiled class can't be.
    """

    def __init__(self, told: Forking) -> None:
        self.told = told
        _watches.add(self)


_watches: weakref.WeakSet[ForkWatch] = weakref.WeakSet()


def _before() -> None:
    for watch in list(_watches):
        watch.told.before_fork()


def _in_child() -> None:
    for watch in list(_watches):
        watch.told.after_fork_in_child()
    _watches.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)


def end_process(error: BaseException | None = None) -> NoReturn:
    """End a forked child whose handler has returned, or has raised ``error``.

    The status is :exc:`SystemExit`'s, and 1 for anything else that was raised, as a program's is.
    Nothing that the parent registered to run at its exit runs here.
    """
    status = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
        status = code & 0xFF if isinstance(code, int) else int(code is not None)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # There is none, or it is closed.
    os._exit(status)
