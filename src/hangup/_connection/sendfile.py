"""A file's way to the client: through ``os.sendfile``, or in pieces where that can't be."""

import errno
import io
import os
import stat
import tempfile
from typing import Any, NamedTuple, Protocol

__all__ = ["extent_of", "send_file"]

# What one call may send, so that progress, and a departure, is seen between calls.
_CALL_SIZE = 1024 * 1024
# A pipe, or a file system that can't: what the call answers then.
_CANNOT = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESPIPE))
# Up to this size, in bytes, a file without blocks may be none.
_OPINION = 65536
# A piece of a file that has to be read.
_PIECE_SIZE = 65536


class Way(Protocol):
    """A connection's way out, see ``output``."""

    @property
    def sock(self) -> Any: ...

    @property
    def encrypts(self) -> bool: ...

    def flush(self) -> None: ...

    def send(self, data: bytes) -> None: ...

    def send_file_piece(self, descriptor: int, offset: int, count: int) -> int: ...


class Extent(NamedTuple):
    """A part of a file on disk: what ``read()`` would give next, up to the file's end."""

    descriptor: int
    offset: int
    size: int


def extent_of(file: Any) -> Extent | None:
    """Where the bytes that ``file.read()`` gives lie on disk; None if that can't be relied on.

    A descriptor by itself says nothing: :class:`gzip.GzipFile` has one, of the compressed file, and a
    class of a program's own may change what it reads.  So only the files that :func:`open` makes count,
    and those of :mod:`tempfile`.  And the size of a file is only an opinion where the file is no file on
    a disk, as in ``/proc`` (0) and ``/sys`` (4096): then no blocks are allocated, nor are they for a
    moment to a file that was just written, which is read then, if it is as small as those are.
    """
    if type(file) is tempfile._TemporaryFileWrapper:  # noqa: SLF001
        file = file.file
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
    if type(raw) is not io.FileIO or "read" in vars(file):
        return None
    try:
        status = os.fstat(raw.fileno())
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size <= _OPINION and not getattr(status, "st_blocks", 1):
            return None
        if type(file) is io.BufferedRandom:
            file.flush()
        offset = file.tell()
    except (OSError, ValueError):
        return None
    return Extent(raw.fileno(), offset, max(0, status.st_size - offset))


def send_file(connection: Way, file: Any, offset: int, count: int | None) -> int:
    """Send ``count`` bytes of ``file`` from ``offset`` (to its end, if None); return how many.

    Raises :exc:`~hangup.ClientDisconnected` as :meth:`Sender.send` does.
    """
    connection.flush()
    extent = None if connection.encrypts else extent_of(file)
    if extent is None or not hasattr(os, "sendfile"):
        return _send_pieces(connection, file, offset, count)
    descriptor = extent.descriptor
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
        if sent and not file.closed:
            file.seek(offset + sent)  # As socket.socket.sendfile leaves it.
    return sent


def _send_pieces(connection: Way, file: Any, offset: int, count: int | None) -> int:
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
