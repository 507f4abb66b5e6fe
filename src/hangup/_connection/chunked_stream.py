"""A chunked body as a handler reads it: decoded, or in chunks, whichever agrees with what it knows.

``http.server`` decodes no chunks, so there are programs that do it themselves (Werkzeug's server does):
they find ``Transfer-Encoding`` among the fields, and read sizes and data from ``rfile``.  Programs that
never look at that field take ``rfile`` for the body.  Both are right here: until the field has been
looked at, ``rfile`` gives the body; from then on, what is read by the line or by a size comes in chunks.
``read()`` of all there is gives the body in either case: on ``http.server`` it would wait for ever, so
no program that decodes by itself calls it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .streams import RequestStream

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ChunkedStream", "watch_fields"]

_NAME = "transfer-encoding"


class ChunkedStream(RequestStream):
    """The body of a request that came in chunks, or that may be followed by one.

    Used by the thread that handles it.
    """

    def __init__(self, more: Callable[[], bytes], first: bytes = b"", fd: int = -1) -> None:
        super().__init__(more, first, fd)
        self._body = more
        self._framed = False
        #: Whether the program has seen that the body is chunked.
        self.known_to_be_chunked = False

    def continue_with(self, more: Callable[[], bytes], first: bytes = b"") -> None:
        super().continue_with(more, first)
        self._body = more
        self._framed = self.known_to_be_chunked = False

    def _choose(self) -> None:
        """Before something is read by line or size: in chunks, if its reader knows of them."""
        if self.known_to_be_chunked and not self._framed:
            self._framed = True
            self._more = self._next_chunk
            if self._buffer:
                self._buffer = b"%x\r\n%b\r\n" % (len(self._buffer), self._buffer)

    def _next_chunk(self) -> bytes:
        data = self._body()
        if not data:
            self._more = _end
            return b"0\r\n\r\n"
        return b"%x\r\n%b\r\n" % (len(data), data)

    def peek(self, size: int = 0, /) -> bytes:
        self._choose()
        return super().peek(size)

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size >= 0:
            self._choose()
        return super().read(size)

    def read1(self, size: int = -1) -> bytes:
        self._choose()
        return super().read1(size)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        self._choose()
        return super().readinto(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        self._choose()
        return super().readline(size)


def _end() -> bytes:
    return b""


def watch_fields(message: Any, stream: ChunkedStream) -> None:
    """Have ``stream`` know it when somebody looks at the ``Transfer-Encoding`` of ``message``."""
    cls = type(message)
    message.__class__ = _watched.get(cls) or _watched.setdefault(cls, _watching(cls))
    message.stream_of_body = stream


_watched: dict[type, type] = {}
# What looks at one field, by its name; and what looks at all of them.
_BY_NAME = ("get", "get_all", "__getitem__", "__contains__")
_ALL = ("__iter__", "keys", "values", "items", "raw_items", "as_string", "as_bytes")


def _watching(cls: type) -> type:
    """A class like ``cls``, one of ``email.message.Message``'s, that tells its stream of such looks."""
    names: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    for name in _BY_NAME:
        names[name] = _by_name(getattr(cls, name))
    for name in _ALL:
        names[name] = _of_all(getattr(cls, name))
    names["__reduce_ex__"] = _reduce
    return type(cls.__name__, (cls,), names)


def _by_name(method: Any) -> Any:
    def look(self: Any, name: Any, *args: Any, **options: Any) -> Any:
        if isinstance(name, str) and name.lower() == _NAME:
            self.stream_of_body.known_to_be_chunked = True
        return method(self, name, *args, **options)

    return look


def _reduce(self: Any, _protocol: Any) -> Any:
    """A copy, or what is pickled, is of the program's class; whoever has it may see all of it."""
    self.stream_of_body.known_to_be_chunked = True
    state = {name: value for name, value in self.__dict__.items() if name != "stream_of_body"}
    return _new, (type(self).__base__,), state


def _new(cls: Any) -> Any:
    return cls.__new__(cls)


def _of_all(method: Any) -> Any:
    def look(self: Any, *args: Any, **options: Any) -> Any:
        self.stream_of_body.known_to_be_chunked = True
        return method(self, *args, **options)

    return look
