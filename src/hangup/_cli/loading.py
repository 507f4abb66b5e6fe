"""An application by its name, as a person gives it at a terminal: ``package.module:app``."""

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from types import ModuleType, TracebackType
from typing import Any

from ..exceptions import HangupError

__all__ = ["LoadError", "load_app", "print_own"]

# What is looked for in a module that is named alone.
_USUAL = ("app", "application", "wsgi", "create_app", "make_app")
# Frames that lie between us and the program.
_OURS = ("runpy", "importlib")


class LoadError(HangupError):
    """There is no such application; the message says, in one line, what there is."""


def load_app(name: str, *, directory: str = ".", factory: bool = False) -> Any:
    """Import the application ``module:attribute``, looking first in ``directory``.

    With ``factory``, or where ``()`` follows the name, what is found there is called, and returns the
    application.

    Raises :exc:`LoadError` if there is none; and whatever the module itself raises.
    """
    module_name, _, attribute = name.partition(":")
    attribute, factory = attribute.removesuffix("()"), factory or attribute.endswith("()")
    if not all(part.isidentifier() for part in f"{module_name}.{attribute or 'app'}".split(".")):
        raise LoadError(f"an application is named as package.module:app, not {name!r}")
    if not os.path.isdir(directory):
        raise LoadError(f"there is no directory {directory!r} to look for {module_name} in")
    sys.path.insert(0, os.path.abspath(directory))
    module = _import(module_name, directory)
    app = _find(module, attribute)
    if factory:
        if not callable(app):
            raise LoadError(f"{name} can't be called: it is {app!r}")
        app = app()
    if not callable(app):
        made = "makes" if factory else "is"
        raise LoadError(f"{name} {made} no WSGI application: {app!r} can't be called")
    return app


def _import(name: str, directory: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Its own import of something else that is missing is the module's to show.
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise
        where = os.path.abspath(directory)
        raise LoadError(f"there is no module {error.name!r}, in {where} or installed") from None


def _find(module: ModuleType, attribute: str) -> Any:
    if not attribute:
        attribute = next((name for name in _USUAL[:3] if callable(getattr(module, name, None))), "app")
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise LoadError(
                f"there is no {attribute!r} in {module.__name__}{_what_there_is(module, part)}"
            ) from None
    return found


def _what_there_is(module: ModuleType, wanted: str) -> str:
    """What could have been meant: the module's own callables, the likeliest first."""
    names = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and (getattr(value, "__module__", None) == module.__name__ or name in _USUAL)
    ]
    names.sort(key=lambda name: (-difflib.SequenceMatcher(None, name, wanted).ratio(), name))
    return f"; it has {', '.join(names[:8])}" if names else "; it has nothing that can be called"


def print_own(error: BaseException) -> None:
    """Print a program's own traceback, as Python would: without the frames that led to it."""
    error.__traceback__ = _without_ours(error.__traceback__)
    traceback.print_exception(error)


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in (*_OURS, "hangup", "click"):
            break
        trace = trace.tb_next
    return trace
