"""``wsgi.input``: a request's body, as it comes."""

from typing import TYPE_CHECKING

from ._streams import RequestStream

if TYPE_CHECKING:
    from ._connection import Connection
    from ._exchange import Exchange

__all__ = ["NO_INPUT", "open_input", "send_continue"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _NoInput(RequestStream):
    """The body of a request that has none.  All requests share it, so nothing closes it."""

    def close(self) -> None:
        pass


NO_INPUT = _NoInput(bytes)


def send_continue(connection: "Connection", exchange: "Exchange") -> None:
    """Send a 100, which is not the answer yet (RFC 9110 §15.2.1)."""
    exchange.head_out += len(_CONTINUE)
    connection.send(_CONTINUE)
    exchange.forget_interim(len(_CONTINUE))


def open_input(connection: "Connection") -> RequestStream:
    """The body of the request at hand: read from the socket when it is asked for, and no sooner.

    A client that waits to hear that it may send its body hears it at the first read
    (RFC 9110 §10.1.1).
    """
    stream = connection.stream
    request = connection.request
    if request is not None and request.fields.expects_continue:
        more = connection.more_body

        def first() -> bytes:
            stream.continue_with(more)
            exchange = connection.exchange
            if exchange is not None and not exchange.answer_began and not connection.wire.buffer:
                send_continue(connection, exchange)
            return more()

        stream.continue_with(first)
    return stream
