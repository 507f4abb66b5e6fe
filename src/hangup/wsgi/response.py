"""One answer of a WSGI application, on its way out (PEP 3333).

An :class:`Answer` lasts as long as its request; the thread that handles the request alone uses it.  The
usual one, one block in a list, takes a short way (:meth:`Answer.send_whole`).

Departures.  Between the blocks of an answer the client's state is looked at, also after an empty block.
A client that is GONE ends the iteration.  One that sent FIN may be reading still, which only shows when
something is sent to it: see :meth:`Answer._has_left`.
"""

import logging
import re
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol

from .._connection.connection import Connection
from .._connection.exchange import Exchange
from .._connection.output import JOIN_SIZE
from .._connection.sendfile import extent_of
from .._disconnect.peer import ClientState
from .._http1.framing import CHUNKED, NO_BODY, TUNNEL, UNTIL_CLOSE, frame_response
from .._http1.request import Request
from .._http1.response_head import ResponseHead
from ..exceptions import ClientDisconnected, WSGIError
from .file_wrapper import FileWrapper
from .input import send_continue

__all__ = ["Answer"]

_log = logging.getLogger("hangup")

_OPEN = ClientState.OPEN
_GONE = ClientState.GONE
_LAST_CHUNK = b"0\r\n\r\n"
# An answer's framing before its head is out.
_UNSENT = -1

# What a head has of its framing: an application says nothing of the coding.
_LENGTH_LINE = re.compile(rb"(?i)(?<=\r\n)content-length:[^\r]*\r\n")

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class Shared(Protocol):
    """What the answers of one application share."""

    #: What says who answers, for whom does not say so itself.
    server_line: str
    #: The latest head: many applications give the same one again and again.
    last_head: ResponseHead

    def date_line(self) -> bytes:
        """The Date, and the empty line that ends a head."""

    def failed(self, connection: Connection, error: BaseException) -> None:
        """The application raised."""


class Answer:
    """One answer, as an application gives it.

    ``_framing`` is how the client knows the body's end: :data:`_UNSENT` until the head is out, then the
    number of bytes that are still to come, or what :mod:`~hangup._http1.framing` has in place of one.
    """

    __slots__ = (
        "_connection",
        "_exchange",
        "_framing",
        "_given",
        "_probed",
        "_request",
        "_shared",
        "head",
        "keep_open",
    )

    def __init__(
        self, shared: "Shared", connection: Connection, exchange: Exchange, request: Request
    ) -> None:
        self._shared = shared
        self._connection = connection
        self._exchange = exchange
        self._request = request
        self.head: ResponseHead | None = None
        #: Whether another request may follow.
        self.keep_open = False
        self._framing = _UNSENT
        # Whether a client that sent FIN has been sent something since.
        self._probed = False
        # Whether the application has given all that there is: no code of it runs between the blocks.
        self._given = False

    @property
    def is_whole(self) -> bool:
        """Whether the kernel has taken all of it, as far as its head says how much that is."""
        connection = self._connection
        return (
            self._framing in (0, NO_BODY)
            and not self._exchange.cut_short
            and not connection.output.left_over
        )

    @property
    def is_complete(self) -> bool:
        """The application has returned: whether it has given all of it, as far as can be told.

        Where the connection's end is the body's, an application that was told of a disconnect may have
        stopped for that.
        """
        return self._framing != UNTIL_CLOSE or not self._exchange.may_have_stopped

    # -- what the application calls

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """An answer's status and fields; they may be replaced, with ``exc_info``, until they are out.

        Raises :exc:`TypeError` and :exc:`ValueError` for what can't be sent, :exc:`WSGIError` for a
        second call without ``exc_info``, and ``exc_info`` itself if it comes too late.
        """
        if self.head is not None or exc_info is not None:
            try:
                self._restart(exc_info)
            finally:
                exc_info = None  # Its traceback refers to this frame.
        shared = self._shared
        last = shared.last_head
        if last.given != (status, headers):
            last = shared.last_head = ResponseHead(status, headers, shared.server_line)
        self.head = last
        return self.write

    def _restart(self, exc_info: _ExcInfo | None) -> None:
        if exc_info is None:
            raise WSGIError("start_response was called a second time, without exc_info (PEP 3333)")
        if self._framing != _UNSENT:
            raise exc_info[1].with_traceback(exc_info[2])
        self.head = None

    def write(self, data: bytes) -> None:
        """Send a block of the body, and before the first one the head.

        Raises :exc:`WSGIError` for more than the Content-Length, and
        :exc:`~hangup.ClientDisconnected` for a client that has gone.
        """
        if not isinstance(data, bytes):
            raise WSGIError(f"a block of a body is bytes (PEP 3333), not {type(data).__name__}")
        if not data:
            return
        framing = self._framing
        if framing == _UNSENT:
            self._begin(data, None)
        elif framing == CHUNKED:
            self._send_chunk(data)
        elif framing == UNTIL_CLOSE:
            self._connection.output.send_block(data)
        elif framing != NO_BODY:
            self._send_counted(data, framing)

    # -- the head

    def _begin(self, data: bytes, total: int | None) -> None:
        """Send the head, and ``data`` with it; ``total`` is the body's length, if that is known."""
        head = self.head
        if head is None:
            raise WSGIError("the application sends a body, and has not called start_response")
        connection, request = self._connection, self._request
        framing = frame_response(
            request.method,
            request.protocol,
            head.status,
            head.length,
            known_length=total,
            may_chunk=True,
            persists=(
                request.keep_alive
                and not head.closes
                and connection.keep_open
                and not (connection.loop.draining and connection.arrival.is_last())
                and not (request.length and connection.arrival.leaves_body(self._exchange))
            ),
        )
        self.keep_open = framing.persists
        prefix = head.prefix
        if framing.dropped:
            prefix = _LENGTH_LINE.sub(b"", prefix)
        end = b"\r\n" if head.dated else self._shared.date_line()
        raw = b"".join((prefix, framing.body_line, framing.connection_line, end))
        self._exchange.status = head.status
        self._exchange.response_fields = head.fields
        self._exchange.head_out += len(raw)
        # What an application sends into a tunnel, it can't mean.
        self._framing = NO_BODY if framing.body == TUNNEL else framing.body
        self._send_first(raw, data)

    def _send_first(self, head: bytes, data: bytes) -> None:
        """Head and first block leave together, unless copying them would cost more than a call."""
        connection, framing = self._connection, self._framing
        if framing == NO_BODY or not data:
            connection.output.send(head)
        elif framing == CHUNKED:
            self._send_chunk(data, head)
        elif len(data) > JOIN_SIZE:
            connection.output.send(head)
            self.write(data)
        elif framing == UNTIL_CLOSE:
            connection.output.send(head + data)
        elif len(data) <= framing:
            self._framing = framing - len(data)
            connection.output.send(head + data)
        else:
            connection.output.send(head)
            self._send_counted(data, framing)

    def _send_chunk(self, data: bytes, before: bytes = b"") -> None:
        """RFC 9112 §7.1."""
        connection = self._connection
        size = b"%x\r\n" % len(data)
        self._exchange.head_out += len(size) + 2  # Framing is no part of the body.
        if before and len(data) <= JOIN_SIZE:
            connection.output.send(b"%b%b%b\r\n" % (before, size, data))
        elif len(data) <= JOIN_SIZE:
            connection.output.send_block(b"%b%b\r\n" % (size, data))
        else:
            connection.output.send(before + size)
            connection.output.send(data)
            connection.output.send(b"\r\n")

    def _send_counted(self, data: bytes, room: int) -> None:
        more = len(data) - room
        self._framing = max(0, -more)
        if more == 0 and self._given:
            self._connection.output.send_last(data)
            return
        if more < 0:
            self._connection.output.send_block(data)
            return
        self._connection.output.send(data[:room])
        if more > 0:
            raise WSGIError(f"the body is longer than its Content-Length, by {more} bytes at least")

    # -- the body

    def send_whole(self, block: bytes) -> None:
        """Head and body, when they are at hand together: nearly all answers are."""
        head = self.head
        if (
            head is not None
            and head.length == len(block)
            and self._framing == _UNSENT
            and self._request.keeps_plainly
            and type(block) is bytes
            and head.is_plain
            and self._connection.input.parser.body_ended
            and head.length <= JOIN_SIZE
            and self._connection.keep_open
            and not self._connection.loop.draining
        ):
            # What all of _begin comes to in that case; tests/test_framing.py holds that.
            raw = head.prefix + self._shared.date_line()
            exchange = self._exchange
            exchange.status = head.status
            exchange.response_fields = head.fields
            exchange.head_out += len(raw)
            self.keep_open = True
            self._framing = 0
            self._connection.output.send(raw + block)
        else:
            self._given = True
            self._send_blocks((block,), len(block))
            self._finish()

    def send_all(self, result: Iterable[bytes]) -> None:
        """Whatever an application may return.  ``close()`` is called, once, whatever happens."""
        try:
            kind = type(result)
            if kind is FileWrapper and (extent := extent_of(result.file)) is not None:  # type: ignore[attr-defined]
                self._send_file(result.file, extent.offset, extent.size)  # type: ignore[attr-defined]
            elif kind is list or kind is tuple:
                total = sum(map(len, result))
                self._given = True
                if total <= JOIN_SIZE and set(map(type, result)) == {bytes}:
                    result = (b"".join(result),)  # It is all there: one send does.
                self._send_blocks(result, total)
            else:
                self._send_blocks(result, None, lone=_is_lone(result))
            self._finish()
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                self._close(close)

    def _close(self, close: Callable[[], object]) -> None:
        try:
            close()
        except Exception as error:
            if self._connection.peer.disconnected_at is not None:
                _log.debug("close() failed after its client had left", exc_info=error)
            else:
                self._shared.failed(self._connection, error)

    def _send_blocks(self, blocks: Iterable[bytes], total: int | None, *, lone: bool = False) -> None:
        peer = self._connection.peer
        for block in blocks:
            if peer.state is not _OPEN and self._has_left(empty=not block):
                raise ClientDisconnected
            if not block and isinstance(block, bytes):
                continue
            if self._framing == _UNSENT and (lone or total is not None) and isinstance(block, bytes):
                self._begin(block, len(block) if lone else total)
            else:
                self.write(block)
            if self._framing == NO_BODY:
                return

    def _has_left(self, *, empty: bool) -> bool:
        """Whether a client that is no longer OPEN takes nothing more.

        One that has sent FIN may be reading still.  Which of the two it is shows when something is sent
        to it: a closed socket answers with RST.  A block does that.  Where the application has none yet,
        something is sent that means nothing: before the head a 100, which any HTTP/1.1 client reads
        over (RFC 9110 §15.2), and between chunks a leading zero of the next one's size.  Without either
        of these the signal counts.
        """
        peer = self._connection.peer
        if peer.state is _GONE:
            return True
        if peer.disconnected_at is None or not empty or self._probed:
            return False
        self._probed = True
        if self._framing == CHUNKED:
            self._exchange.head_out += 1
            self._connection.output.send(b"0")
        elif self._framing == _UNSENT and self._request.protocol == "HTTP/1.1":
            send_continue(self._connection, self._exchange)
        else:
            return True
        return False

    def _send_file(self, file: Any, offset: int, size: int) -> None:
        head = self.head
        count = size if head is None or head.length is None else min(size, head.length)
        if count <= JOIN_SIZE:
            self._send_blocks((file.read(count),), count)
            return
        self._begin(b"", count)
        if self._framing != NO_BODY:
            self._framing -= self._connection.output.send_file(file, offset, count)

    def _finish(self) -> None:
        """The application has given all of the body."""
        if self._framing == _UNSENT:
            head = self.head
            if head is None:
                raise WSGIError("the application has returned, and has not called start_response")
            if head.length and not head.bodiless and self._request.method != "HEAD":
                raise WSGIError(f"there is no body, and a Content-Length of {head.length}")
            self._begin(b"", 0)
        elif self._framing == CHUNKED:
            self._exchange.head_out += len(_LAST_CHUNK)
            self._connection.output.send(_LAST_CHUNK)
        elif self._framing > 0:
            raise WSGIError(f"the body is shorter than its Content-Length, by {self._framing} bytes")


def _is_lone(result: Any) -> bool:
    """Whether a body says that it comes in one block, whose length is then its own (PEP 3333)."""
    try:
        return len(result) == 1
    except TypeError:
        return False
