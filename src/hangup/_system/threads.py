"""The server's own threads."""

import contextvars
import sys
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["new_thread"]

# Free-threaded Pythons have a thread begin with the context of whoever starts it (from 3.14 on).
_INHERITS = getattr(sys.flags, "thread_inherit_context", 0)


def new_thread(target: Callable[..., Any], name: str, *args: Any) -> threading.Thread:
    """A daemon thread of the server's, not started, that runs ``target`` in a context of its own.

    It outlasts the request, or the program's function, in which it happens to be started.
    """
    options: dict[str, Any] = {"context": contextvars.Context()} if _INHERITS else {}
    return threading.Thread(target=target, name=name, args=args, daemon=True, **options)
