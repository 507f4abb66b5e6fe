"""``wsgi.input``: a request's body, as it comes."""

from typing import TYPE_CHECKING

from .._connection.streams import RequestStream
from ..exceptions import ClientDisconnected
from ..records import Phase

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .._connection.exchange import Exchange

__all__ = ["NO_INPUT", "gather_input", "open_input", "send_continue", "send_interim"]

#: How much of a chunked body comes before its application is called, at the most: what nginx takes of a
#: body unless it is told otherwise (client_max_body_size).
GATHERED = 1024**2

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _NoInput(RequestStream):
    """The body of a request that has none.  All requests share it, so nothing closes it."""

    def close(self) -> None:
        pass


NO_INPUT = _NoInput(bytes)


def send_continue(connection: "Connection", exchange: "Exchange") -> None:
    """Send a 100, which is not the answer yet (RFC 9110 §15.2.1)."""
    send_interim(connection, exchange, _CONTINUE)


def send_interim(connection: "Connection", exchange: "Exchange", head: bytes) -> None:
    """Send a 1xx, which is not the response yet (RFC 9110 §15.2)."""
    exchange.head_out += len(head)
    connection.output.send(head)
    exchange.forget_interim(len(head))


def open_input(connection: "Connection") -> RequestStream:
    """The body of the request at hand: read from the socket when it is asked for, and no sooner.

    A client that waits to hear that it may send its body hears it at the first read
    (RFC 9110 §10.1.1).
    """
    stream = connection.input.stream
    request = connection.request
    if request is not None and request.expects_continue:
        more = connection.input.more_body

        def first() -> bytes:
            stream.continue_with(more)
            exchange = connection.exchange
            if (
                exchange is not None
                and not (exchange.response_began or exchange.continued)
                and not connection.input.parser.buffer
            ):
                send_continue(connection, exchange)
            return more()

        stream.continue_with(first)
    return stream


def gather_input(connection: "Connection", most: int = GATHERED) -> int | None:
    """Receive a chunked body, up to ``most`` bytes; return its length, None if it is longer.

    Many applications read CONTENT_LENGTH bytes and no more (RFC 3875 §4.1.2 has it set wherever there is
    a body).  waitress and nginx tell it in this way, too.  Longer bodies come as they are read.

    Raises what reading raises, before the application has begun.
    """
    parser, exchange, request = connection.input.parser, connection.exchange, connection.request
    if exchange is None or request is None:
        return None
    if not parser.body_at_hand(most) and request.expects_continue and not parser.buffer:
        send_continue(connection, exchange)
    try:
        while not parser.body_at_hand(most):
            connection.input.receive_body()
    except ClientDisconnected:
        exchange.left_phase = Phase.BODY  # A FIN may have come before this thread looked.
        raise
    return parser.body_come if parser.body_complete else None
