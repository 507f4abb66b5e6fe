"""A part of a file that behaves as a file: what a handler reads of it ends where the part ends."""

import io
import os
from typing import TYPE_CHECKING

from .conditions import Part

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["FileWindow", "open_window"]


class FileWindow(io.RawIOBase):
    """The part of ``file`` that an answer has announced, whatever becomes of the file meanwhile.

    It is the raw layer under the :class:`io.BufferedReader` that a program gets, so that a program's own
    way to copy sends the part, too.
    """

    mode = "rb"

    def __init__(self, file: io.FileIO, part: Part) -> None:
        self.file = file
        self.name = file.name
        self.part = part
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.file.fileno()

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        size = max(0, min(len(view), self.part.length - self._at))
        self.file.seek(self.part.start + self._at)
        count: int = self.file.readinto(view[:size]) or 0
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.part.length}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._at = base + offset
        return self._at

    def close(self) -> None:
        self.file.close()
        super().close()


def open_window(file: io.FileIO, part: Part) -> io.BufferedReader:
    """A file of ``part``'s bytes; closing it closes ``file``."""
    return io.BufferedReader(FileWindow(file, part))
