"""Run a program that imports from ``http.server`` on hangup's classes instead."""

import builtins
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import pkgutil
import runpy
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..exceptions import HangupError
from .announcing import announce_servers
from .children import adopt_children
from .http_command import is_needed, serve_directory
from .loading import print_own
from .swap import builtins_for_http_server, swap_classes

__all__ = ["ScriptError", "install", "run_code", "run_module", "run_script", "swap_classes", "uninstall"]

# The exit status of a program that Ctrl-C ended, as a shell reports it.
_INTERRUPTED = 130

_installed: contextlib.ExitStack | None = None


class ScriptError(HangupError):
    """The program can't be run at all; the message says why, in one line."""


def install() -> None:
    """Put this process on hangup, and the children that it starts with this interpreter.

    That is done once, however often it is asked for.
    """
    global _installed  # noqa: PLW0603
    if _installed is None:
        _installed = contextlib.ExitStack()
        _installed.callback(swap_classes())
        announce_servers(_installed)
        adopt_children(_installed, install)


def uninstall() -> None:
    """Undo :func:`install`, for what is made from now on."""
    global _installed  # noqa: PLW0603
    if _installed is not None:
        _installed.close()
        _installed = None


def run_script(path: str, args: Sequence[str]) -> int:
    """Run ``path`` as ``python path args…`` would; return its exit status.

    It is a file, a directory or a zip file with a ``__main__.py``, or ``-``, which is standard input.

    Raises :exc:`ScriptError` if there is no such program.
    """
    if path == "-":
        return _run(lambda: _execute(sys.stdin.read(), "<stdin>"), ["-", *args], "")
    if not os.access(path, os.R_OK):
        raise ScriptError(f"can't run {path!r}: no such file, or not readable")
    full = os.path.abspath(path)
    importer: Any = pkgutil.get_importer(path)
    if importer is not None:
        if importer.find_spec("__main__") is None:
            kind = "directory" if os.path.isdir(path) else "zip file"
            raise ScriptError(f"can't run {path!r}: it is a {kind} without a __main__.py")
        return _run(lambda: _run_as_main("__main__", alter_argv=False), [path, *args], full)
    return _run(lambda: _execute(_code_of(full), full), [path, *args], os.path.dirname(full))


def run_module(name: str, args: Sequence[str]) -> int:
    """Run a module as ``python -m name args…`` would; return its exit status.

    Raises :exc:`ScriptError` if there is no such module.
    """
    # runpy's word on http.server, which was imported to be changed.
    warnings.filterwarnings("ignore", ".*found in sys.modules after import", RuntimeWarning)

    def program() -> None:
        if _is_missing(name):
            raise ScriptError(f"there is no module named {name!r}")
        _run_as_main(name, alter_argv=True)

    return _run(program, ["-m", *args], os.getcwd())


def run_code(code: str, args: Sequence[str]) -> int:
    """Run ``code`` as ``python -c code args…`` would; return its exit status."""
    return _run(lambda: _execute(code, "<string>"), ["-c", *args], "")


def _run(program: Callable[[], object], argv: list[str], first: str) -> int:
    """Run a program; ``first`` is where it looks for modules first."""
    install()
    sys.argv = argv
    if not sys.flags.safe_path:
        sys.path[:1] = [first]  # Where the command itself lies is no concern of the program's.
    # For good: its threads may outlast it, and children are told of it.
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    try:
        program()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ScriptError:
        raise
    except HangupError as error:
        return _say(str(error))
    except Exception as error:
        if isinstance(error, OSError) and hasattr(error, "listen_address"):
            return _say(f"can't listen: {error.strerror}")
        print_own(error)
        return 1
    return 0


def _is_missing(name: str) -> bool:
    """Whether there is no such module; raises what the packages raise that it lies in."""
    if name.startswith("."):
        return True
    try:
        return importlib.util.find_spec(name) is None
    except ValueError:
        return True
    except ModuleNotFoundError as error:
        # Its own import of something else that is missing is the package's to show.
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise
        return True


def _run_as_main(name: str, *, alter_argv: bool) -> None:
    """What ``python -m`` does, and what it does with a directory."""
    if name == "http.server":
        if is_needed():
            serve_directory(sys.argv[1:])
            return
        sys.modules["__main__"].__dict__["__builtins__"] = builtins_for_http_server()
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]  # noqa: SLF001


def _code_of(path: str) -> types.CodeType | str | bytes:
    """A program's source, or its code if it is a ``.pyc``."""
    with io.open_code(path) as file:
        code: types.CodeType | None = pkgutil.read_code(file)
    if code is not None:
        return code
    with io.open_code(path) as file:
        return file.read()


def _execute(code: types.CodeType | str | bytes, name: str) -> None:
    main = sys.modules["__main__"]
    if name == "<stdin>":
        main.__file__ = name
    elif os.path.isabs(name):
        main.__file__ = name
        main.__cached__ = None  # type: ignore[attr-defined]
        main.__loader__ = importlib.machinery.SourceFileLoader("__main__", name)
    if not isinstance(code, types.CodeType):
        code = compile(code, name, "exec", dont_inherit=True)
    exec(code, main.__dict__)  # noqa: S102 - that is what it is for


def _say(what: str) -> int:
    """What the person at the terminal can mend: one line, and no traceback."""
    print(f"Error: {what}", file=sys.stderr)
    return 1
