"""A program's children on hangup, too: those that it starts with its own interpreter.

Autoreloaders are such programs: the child serves, and the parent starts it anew.  A child finds
``_child/sitecustomize.py``, which Python runs as it starts, by an entry in its ``PYTHONPATH``; that
removes what led there from the environment.  So the entry is in the environment of those processes
alone: not in the program's, nor in that of its other children.  A child of :mod:`multiprocessing` finds
it in what its parent tells it (``spawn`` and ``forkserver``), or is a copy of its parent (``fork``).

A child that is told to ignore the environment (``python -I``, ``-E``) or :mod:`site` (``-S``) is not on
hangup.
"""

import contextlib
import functools
import inspect
import multiprocessing.spawn
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .replacing import put

__all__ = ["adopt_children"]

_HOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_child")
# As it is now: a program may say that another one is to be started.
_PYTHON = sys.executable
#: Says of which environment the interpreter is that is meant: its prefix.
VARIABLE = "HANGUP_RUN"


def adopt_children(undo: contextlib.ExitStack, install: Callable[[], object]) -> None:
    """Have ``install`` run in each child that is started with this interpreter, until ``undo``.

    ``install`` is a function at the top of a module.
    """
    if not _PYTHON:
        return  # An interpreter inside another program.

    put(undo, subprocess.Popen, "__init__", _popen(subprocess.Popen.__init__))
    if hasattr(os, "posix_spawn"):
        put(undo, os, "execve", _with_env(os.execve))
        put(undo, os, "execv", _without_env(os.execv, os.execve))
        put(undo, os, "posix_spawn", _with_env(os.posix_spawn))
        put(undo, os, "posix_spawnp", _with_env(os.posix_spawnp))
    put(
        undo,
        multiprocessing.spawn,
        "get_preparation_data",
        _prepared(multiprocessing.spawn.get_preparation_data, install),
    )


def _is_this_python(name: Any) -> bool:
    """Whether this is the name of the program's interpreter: its file, in the same folder."""
    try:
        path = os.fsdecode(name)
        if path.startswith("python"):
            path = shutil.which(path) or path
        if os.path.dirname(os.path.abspath(path)) != os.path.dirname(_PYTHON):
            return False
        return os.path.realpath(path) == os.path.realpath(_PYTHON)
    except (TypeError, ValueError):
        return False


def _hears(words: list[Any]) -> bool:
    """Whether an interpreter with these arguments looks at its environment as it starts."""
    words = words[1:]
    while words and isinstance(words[0], (str, bytes)):
        option = os.fsdecode(words.pop(0))
        if not option.startswith("-") or option in ("-", "-c", "-m"):
            break
        if option in ("-W", "-X"):
            del words[:1]
        elif option[1] not in "-WX" and not set("EIS").isdisjoint(option):
            return False
    return True


def _names_this_python(command: Any, executable: Any = None) -> bool:
    """Whether a command starts this interpreter, by itself or by another program's doing."""
    if isinstance(command, (str, bytes, os.PathLike)):
        line = os.fsdecode(command)  # Of a shell's, perhaps.
        return _PYTHON in line or _is_this_python(executable or line)
    if not isinstance(command, Sequence):
        return False
    words = list(command)
    if _is_this_python(executable or next(iter(words), None)):
        return _hears(words)
    return any(_is_this_python(word) or _is_in_line(word) for word in words)


def _is_in_line(word: Any) -> bool:
    return isinstance(word, str) and _PYTHON in word.split()


def _environment(env: Mapping[Any, Any] | None) -> dict[Any, Any]:
    """``env``, or this process's, with what leads a child to its hook."""
    changed = dict(os.environ if env is None else env)
    path = changed.pop(b"PYTHONPATH", None) or changed.get("PYTHONPATH") or ""
    known = os.fsdecode(path).split(os.pathsep)
    changed["PYTHONPATH"] = os.pathsep.join([_HOOK, *(one for one in known if one != _HOOK)])
    changed[VARIABLE] = sys.prefix
    return changed


def _popen(original: Any) -> Any:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807
        try:
            bound = signature.bind(self, *args, **options)
        except TypeError:
            original(self, *args, **options)  # It says what is wrong.
            return
        given = bound.arguments
        if _names_this_python(given.get("args"), given.get("executable")):
            given["env"] = _environment(given.get("env"))
        original(*bound.args, **bound.kwargs)

    return __init__


def _with_env(original: Any) -> Any:
    @functools.wraps(original)
    def start(path: Any, argv: Any, env: Any, **options: Any) -> Any:
        if _names_this_python(argv, path):
            env = _environment(env)
        return original(path, argv, env, **options)

    return start


def _without_env(original: Any, with_env: Any) -> Any:
    @functools.wraps(original)
    def start(path: Any, argv: Any, /) -> Any:
        if _names_this_python(argv, path):
            return with_env(path, argv, os.environ)
        return original(path, argv)

    return start


class _Install:
    """Unpickled, it runs a function."""

    def __init__(self, install: Callable[[], object]) -> None:
        self._install = install

    def __reduce__(self) -> Any:
        return self._install, ()


def _prepared(original: Any, install: Callable[[], object]) -> Any:
    @functools.wraps(original)
    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        if _is_this_python(multiprocessing.spawn.get_executable()):
            # The first thing that the child unpickles, before it imports the program.
            data["hangup"] = _Install(install)
        return data

    return get_preparation_data
