"""What ``hangup run`` says of a program's servers: one line on stderr for each class, once.

A server of hangup's is announced when it begins to serve, and so is one of :mod:`socketserver`'s that is
not on hangup.  What else listens (asyncio, sockets of the program's own) is noticed when it does.
"""

import contextlib
import functools
import socket
import socketserver
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from .._system.binding import shown
from .._version import __version__
from ..httpserver.server import _OnEngine, _serves_http
from .replacing import put

__all__ = ["announce_servers"]

# Whose frames lie between the one who wants to listen and the call.
_BETWEEN = frozenset(("socket", "ssl", "asyncio", "socketserver", "http", "contextlib", "selectors"))
# What listens for reasons of its own: it speaks to other processes of the program.
_INTERNAL = frozenset(("multiprocessing", "hangup"))


def announce_servers(undo: contextlib.ExitStack) -> None:
    """Say what is served and what isn't, until ``undo``."""
    said: set[str] = set()

    def say(name: str, what: str) -> None:
        if name not in said and sys.stderr is not None:
            said.add(name)
            with contextlib.suppress(OSError, ValueError):  # Nobody need read it.
                print(f"hangup {__version__} {what}", file=sys.stderr, flush=True)

    serving = functools.partial(_announce, say)
    for cls in (_OnEngine, socketserver.BaseServer):
        for name in {"serve_forever", "handle_request"}.intersection(vars(cls)):
            put(undo, cls, name, _before(vars(cls)[name], serving))
    socket.socket.listen = _after_listening(socket.socket.listen, say)  # type: ignore[method-assign]
    undo.callback(delattr, socket.socket, "listen")  # It is inherited again.


def _before(original: Any, call: Callable[[Any], None]) -> Any:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **options: Any) -> Any:
        call(self)
        return original(self, *args, **options)

    return method


def _name(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _announce(say: Callable[[str, str], None], server: Any) -> None:
    """A server of :mod:`socketserver`'s kind serves, or is about to."""
    cls = type(server)
    if not isinstance(getattr(server, "socket", None), socket.socket):
        return  # What it is, nobody knows.
    if server.socket.type != socket.SOCK_STREAM:
        return
    where = f"{_name(cls)} on {shown(server.server_address)}"
    handler = getattr(server, "RequestHandlerClass", None)
    if not _serves_http(handler):
        say(_name(cls), f"does not serve {where}: {_name(handler)} is no handler of HTTP requests")
    elif not isinstance(server, _OnEngine):
        say(_name(cls), f"does not serve {where}: the class is not derived from hangup's")
    elif server._needs_own_loop():  # noqa: SLF001
        say(_name(cls), f"serves {where}, in the standard library's own loop")
    else:
        say(_name(cls), f"serves {where}")


def _after_listening(original: Any, say: Callable[[str, str], None]) -> Any:
    @functools.wraps(original)
    def listen(self: Any, *backlog: Any) -> None:
        original(self, *backlog)
        if self.type & socket.SOCK_STREAM and self.family != getattr(socket, "AF_NETLINK", None):
            _notice(self, sys._getframe(1), say)  # noqa: SLF001

    return listen


def _notice(sock: socket.socket, frame: FrameType | None, say: Callable[[str, str], None]) -> None:
    """Something listens: find out who, and say so if it is not a server that will announce itself."""
    by = "somebody"
    through = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        top = module.partition(".")[0]
        owner = frame.f_locals.get("self")
        if isinstance(owner, _OnEngine) or top in _INTERNAL:
            return
        if isinstance(owner, socketserver.BaseServer):
            _announce(say, owner)
            return
        if top not in _BETWEEN:
            by = module
            break
        if top == "asyncio":
            through = " through asyncio"
        frame = frame.f_back
    name = f"what {by} listens with{through}"
    say(name, f"does not serve {name}, on {shown(sock.getsockname())}: it is none of http.server's")
