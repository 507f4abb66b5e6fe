"""What a handler has of its request, made when somebody looks: most requests need none of it."""

from email.message import Message
from typing import Any

from .._connection.chunked_stream import ChunkedStream, watch_fields
from .._connection.streams import RequestStream
from .._http1.request import CHUNKED

__all__ = ["LazyFields", "LazyLine", "LazyStream"]


class LazyStream:
    """``rfile``, made when somebody looks: most requests have no body."""

    def __get__(self, handler: Any, owner: type | None = None) -> Any:
        connection = None if handler is None else handler.__dict__.get("_hangup")
        if connection is None:
            raise AttributeError("rfile")
        if connection.exchange is None:
            return _closed_stream()  # A handler that was kept beyond its request.
        if handler._head_taken:  # noqa: SLF001
            stream = connection.input.stream
        else:
            stream = connection.input.open_stream(head_first=True, goes_on=handler._own_loop)  # noqa: SLF001
        if handler._own_loop:  # noqa: SLF001
            stream.goes_on = handler.next_line
        handler.__dict__["rfile"] = stream
        return stream


def _closed_stream() -> RequestStream:
    stream = RequestStream(bytes)
    stream.close()
    return stream


class LazyLine:
    """``raw_requestline``, cut out when somebody looks."""

    def __get__(self, handler: Any, owner: type | None = None) -> Any:
        request = None if handler is None else handler._request  # noqa: SLF001
        if request is None:
            raise AttributeError("raw_requestline")
        head = request.head
        return head[: head.index(b"\n") + 1]


class LazyFields:
    """``headers``, made when somebody looks."""

    def __get__(self, handler: Any, owner: type | None = None) -> Any:
        request = None if handler is None else handler._request  # noqa: SLF001
        if request is None:
            raise AttributeError("headers")
        message = handler.MessageClass()
        kept = message.__dict__.get("_headers")
        if kept == [] and type(message).set_raw is Message.set_raw:
            kept.extend(request.items)  # as set_raw() does, one call for each field
        else:
            for name, value in request.items:
                message.set_raw(name, value)
        message.set_payload("")
        if request.length == CHUNKED:
            stream = handler.rfile
            if isinstance(stream, ChunkedStream):
                watch_fields(message, stream)
        handler.__dict__["headers"] = message
        return message
