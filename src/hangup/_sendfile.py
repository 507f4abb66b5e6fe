"""A file's way to the client: through ``os.sendfile``, or in pieces where that can't be."""

import errno
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._sender import Sender

__all__ = ["send_file"]

# What one call may send, so that progress, and a departure, is seen between calls.
_CALL_SIZE = 1024 * 1024
# A pipe, or a file system that can't: what the call answers then.
_CANNOT = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESPIPE))
# A piece of a file that has to be read.
_PIECE_SIZE = 65536


def send_file(connection: "Sender", file: Any, offset: int, count: int | None) -> int:
    """Send ``count`` bytes of ``file`` from ``offset`` (to its end, if None); return how many.

    Raises :exc:`~hangup.ClientDisconnected` as :meth:`Sender.send` does.
    """
    connection.flush()
    if connection.encrypts:
        return _send_pieces(connection, file, offset, count)
    try:
        descriptor = file.fileno()
        os.fstat(descriptor)
    except (AttributeError, OSError, ValueError):
        return _send_pieces(connection, file, offset, count)
    if not hasattr(os, "sendfile"):  # pragma: no cover - Windows
        return _send_pieces(connection, file, offset, count)
    sent = 0
    os.set_blocking(connection.sock.fileno(), False)
    try:
        while count is None or sent < count:
            size = _CALL_SIZE if count is None else min(_CALL_SIZE, count - sent)
            try:
                done = connection.send_file_piece(descriptor, offset + sent, size)
            except OSError as error:
                if sent or error.errno not in _CANNOT:
                    raise
                return _send_pieces(connection, file, offset, count)
            if done == 0:
                break  # The file's end, perhaps sooner than it was.
            sent += done
    finally:
        if connection.sock.fileno() >= 0:
            os.set_blocking(connection.sock.fileno(), True)
    return sent


def _send_pieces(connection: "Sender", file: Any, offset: int, count: int | None) -> int:
    """For what is a file only to Python."""
    if offset:
        file.seek(offset)
    sent = 0
    while count is None or sent < count:
        size = _PIECE_SIZE if count is None else min(_PIECE_SIZE, count - sent)
        data = file.read(size)
        if not data:
            break
        connection.send(data)
        sent += len(data)
    return sent
