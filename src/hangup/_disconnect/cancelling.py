"""Stopping what a database works at, when its client leaves."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..exceptions import ClientDisconnected
from .client import Client, find_client

if TYPE_CHECKING:
    from .callbacks import Registration

__all__ = ["cancels"]

# Seconds. A cancel that comes when the statement has not quite begun is lost, so it is repeated; a
# person doesn't notice the delay, nor does a database the calls.
_REPEAT = 0.05


class _Cancelling:
    """The block of :func:`cancels`.

    Entered and left by the thread that works, told by a callback's.  ``_left`` is set by the first,
    ``_cancelled`` by the second, and read when that has ended.
    """

    def __init__(self, client: Client | None, cancel: Callable[[], object]) -> None:
        self._client = client
        self._cancel = cancel
        self._left = threading.Event()
        self._cancelled = False
        self._registration: Registration | None = None

    def __enter__(self) -> None:
        if self._client is not None:
            self._client.raise_if_disconnected()
            self._registration = self._client.on_disconnect(self._cancel_until_left)

    def _cancel_until_left(self) -> None:
        while not self._left.is_set():
            self._cancelled = True
            self._cancel()
            self._left.wait(_REPEAT)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._left.set()
        if self._registration is not None:
            self._registration.unregister()
        ours = isinstance(error, ClientDisconnected)
        if self._cancelled and isinstance(error, Exception) and not ours:
            raise ClientDisconnected from error


def cancels(connection: Any) -> _Cancelling:
    """Cancel what ``connection`` works at if the current request's client leaves.

    For a ``with`` statement around the work::

        with hangup.cancels(connection):
            rows = connection.execute(slow_query).fetchall()

    When the client leaves, ``connection.interrupt()`` (:mod:`sqlite3`, DuckDB) or
    ``connection.cancel()`` (psycopg, oracledb) is called in another thread, and again until the block
    is left: a cancel that comes just before a statement begins is lost.  The error that the work then
    ends with becomes :exc:`~hangup.ClientDisconnected`, with the error as its cause.  The block's end
    waits for a cancel that is under way, so that it never meets the connection's next user.

    Entering the block raises :exc:`~hangup.ClientDisconnected` if the client has left.  Outside of a
    request nothing is cancelled.

    Raises :exc:`TypeError` for a connection that has neither method.
    """
    for name in ("interrupt", "cancel"):
        method = getattr(connection, name, None)
        if callable(method):
            return _Cancelling(find_client(), method)
    raise TypeError(f"{connection!r} has no method interrupt() or cancel()")
