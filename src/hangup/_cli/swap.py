"""hangup's classes in the place of the standard library's, also where something was built on those.

A name in ``http.server`` is quickly replaced; but a class that was derived from the old one, a default
argument that is the old one, and a module that has imported it would still have it.
"""

import builtins
import contextlib
import functools
import http.server
import socketserver
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from ..httpserver.cgi import CGIHTTPRequestHandler
from ..httpserver.files import SimpleHTTPRequestHandler
from ..httpserver.handler import BaseHTTPRequestHandler
from ..httpserver.https import HTTPSServer, ThreadingHTTPSServer
from ..httpserver.server import HTTPServer, TCPServer, ThreadingHTTPServer
from .replacing import put

__all__ = ["builtins_for_http_server", "swap_classes"]

_OF_HTTP_SERVER: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        BaseHTTPRequestHandler,
        SimpleHTTPRequestHandler,
        CGIHTTPRequestHandler,  # until Python 3.14
        HTTPServer,
        ThreadingHTTPServer,
        HTTPSServer,
        ThreadingHTTPSServer,
    )
    if cls is not None
}
# What this Python's http.server hasn't, as before 3.14: programs that ask whether it is there find it.
_ADDED = {name: cls for name, cls in _OF_HTTP_SERVER.items() if not hasattr(http.server, name)}
# The standard library's classes, and what stands in the place of each.
_SWAPS: dict[Any, Any] = {
    **{getattr(http.server, name): own for name, own in _OF_HTTP_SERVER.items() if name not in _ADDED},
    socketserver.TCPServer: TCPServer,
}
# What a module has that knows one of them.
_KNOWN = frozenset(map(id, (http.server, socketserver, *_SWAPS)))


def swap_classes() -> Callable[[], None]:
    """Put hangup's classes where programs look for the standard library's; return what undoes it.

    Those are ``http.server``'s, and ``socketserver.TCPServer``, which ``xmlrpc.server`` is built on
    (without an HTTP handler it is what it was).  What is imported from then on gets hangup's.  Of what
    has been imported already, classes that are derived from the standard library's are derived from
    hangup's, names at the top of a module and default arguments are replaced.
    """
    undo = contextlib.ExitStack()

    replace = functools.partial(put, undo)
    for cls in _derived():
        # An odd layout, or an order of bases that can't be: it stays the standard library's.
        with contextlib.suppress(TypeError):
            replace(cls, "__bases__", tuple(_SWAPS.get(base, base) for base in cls.__bases__))
    for name, added in _ADDED.items():
        setattr(http.server, name, added)
        undo.callback(delattr, http.server, name)
    names = [*http.server.__all__, *(name for name in _ADDED if name not in http.server.__all__)]
    replace(http.server, "__all__", names)
    for name, module in list(sys.modules.items()):
        if isinstance(module, types.ModuleType) and not _is_own(name):
            _replace_in(module, replace)
    return undo.close


def _is_own(module: str) -> bool:
    return module == "hangup" or module.startswith("hangup.")


def _derived() -> Iterator[type]:
    """The classes that are derived from the standard library's own, and whose bases can change."""
    for stock in _SWAPS:
        for cls in stock.__subclasses__():
            if (
                cls not in _SWAPS
                and not any(_is_own(str(base.__module__)) for base in cls.__mro__)
                and not issubclass(cls, socketserver.UDPServer)  # It has no connections.
            ):
                yield cls


def _swapped(value: Any) -> Any:
    """What stands in the place of ``value``, or itself."""
    return _SWAPS.get(value, value) if isinstance(value, type) else value


def _replace_in(module: types.ModuleType, replace: Callable[[Any, str, Any], None]) -> None:
    """Replace the classes in a module that knows them, by name or by ``http.server.…``."""
    names = vars(module)
    values = list(names.items())
    if module not in (http.server, socketserver) and _KNOWN.isdisjoint(map(id, names.values())):
        return
    for name, value in values:
        if _swapped(value) is not value:
            replace(module, name, _swapped(value))
        elif isinstance(value, types.FunctionType):
            _replace_defaults(value, replace)
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for attribute, member in list(vars(value).items()):
                if isinstance(member, types.FunctionType):
                    _replace_defaults(member, replace)
                elif _swapped(member) is not member:
                    replace(value, attribute, _swapped(member))


def _replace_defaults(function: types.FunctionType, replace: Callable[[Any, str, Any], None]) -> None:
    defaults, named = function.__defaults__, function.__kwdefaults__
    if defaults and any(_swapped(value) is not value for value in defaults):
        replace(function, "__defaults__", tuple(map(_swapped, defaults)))
    if named and any(_swapped(value) is not value for value in named.values()):
        replace(function, "__kwdefaults__", {name: _swapped(value) for name, value in named.items()})


def builtins_for_http_server() -> dict[str, Any]:
    """Builtins for ``http.server``'s source when it runs again, as a program: ``-m http.server``.

    Its class statements make hangup's classes.
    """

    def build_class(body: Any, name: str, /, *bases: Any, **options: Any) -> Any:
        if name in _OF_HTTP_SERVER:
            return _OF_HTTP_SERVER[name]
        return builtins.__build_class__(body, name, *bases, **options)

    return {**vars(builtins), "__build_class__": build_class}
