"""What a handler has of its request, made when somebody looks: most requests need none of it."""

from typing import Any

__all__ = ["LazyFields", "LazyLine", "LazyStream"]


class LazyStream:
    """``rfile``, made when somebody looks: most requests have no body."""

    def __get__(self, handler: Any, owner: type | None = None) -> Any:
        connection = None if handler is None else handler.__dict__.get("_hangup")
        if connection is None:
            raise AttributeError("rfile")
        if handler._head_taken:  # noqa: SLF001
            stream = connection.stream
        else:
            stream = connection.open_stream(head_first=True)
        handler.__dict__["rfile"] = stream
        return stream


class LazyLine:
    """``raw_requestline``, cut out when somebody looks."""

    def __get__(self, handler: Any, owner: type | None = None) -> Any:
        connection = None if handler is None else handler.__dict__.get("_hangup")
        if connection is None or connection.request is None:
            raise AttributeError("raw_requestline")
        head = connection.request.head
        return head[: head.index(b"\n") + 1]


class LazyFields:
    """``headers``, made when somebody looks."""

    def __get__(self, handler: Any, owner: type | None = None) -> Any:
        connection = None if handler is None else handler.__dict__.get("_hangup")
        if connection is None or connection.request is None:
            raise AttributeError("headers")
        message = handler.MessageClass()
        for name, value in connection.request.fields.items:
            message.set_raw(name, value)
        message.set_payload("")
        handler.__dict__["headers"] = message
        return message
