"""Other attributes in the place of a program's or the standard library's, until that is undone."""

import contextlib
from typing import Any

__all__ = ["put"]


def put(undo: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute until ``undo`` is closed; what can't be set raises, and is not undone."""
    old = getattr(owner, name)
    setattr(owner, name, value)
    undo.callback(setattr, owner, name, old)
