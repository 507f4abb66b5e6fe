"""``wsgi.file_wrapper`` (PEP 3333)."""

from typing import Any

__all__ = ["FileWrapper"]


class FileWrapper:
    """``wsgi.file_wrapper``: a file that goes to the client by ``os.sendfile`` where that can be."""

    def __init__(self, file: Any, block_size: int = 65536) -> None:
        self.file = file
        self.block_size = block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> "FileWrapper":
        return self

    def __next__(self) -> bytes:
        block: bytes = self.file.read(self.block_size)
        if not block:
            raise StopIteration
        return block
