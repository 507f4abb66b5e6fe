"""The faces that a connection shows to a handler: a socket, a file to read, a file to write.

They hold no state of the connection.  Each call goes to the connection, which is the one boundary
where errors of the operating system become :exc:`~hangup.ClientDisconnected`.  All are used by the
one thread that handles the connection at that time.
"""

import _socket
import errno
import io
import logging
import socket
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from .._disconnect.peer import ClientState, Peer
from .._http1.chunked import Chunks
from .._http1.framing import NO_BODY
from ..exceptions import ClientDisconnected, RequestRejected

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


__all__ = ["ANY_LENGTH", "ClientSocket", "RequestStream", "ResponseStream"]

_log = logging.getLogger("hangup")

#: In ``ResponseStream.room``: a response's body may have as many bytes as come.
ANY_LENGTH = 1 << 62


def _nothing() -> bytes:
    return b""


class RequestStream(io.BufferedIOBase):
    """A file to read from: ``rfile``.

    ``more`` gives the next bytes, waiting for them, and ``b""`` at the end.  Reading follows
    :class:`io.BufferedReader`: ``read(n)`` waits for ``n`` bytes or the end, ``read()`` for the end.
    """

    def __init__(self, more: Callable[[], bytes], first: bytes = b"", fd: int = -1) -> None:
        self._more = more
        self._buffer = first
        self._fd = fd
        #: Asked by a ``readline`` that has come to the end: whether the stream goes on all the same.
        self.goes_on: Callable[[RequestStream], bool] | None = None
        #: Called before a line is read: it may be the next request's first.
        self.before_line: Callable[[], object] | None = None

    def _fill(self) -> bool:
        data = self._more()
        self._buffer = self._buffer + data if self._buffer else data
        return bool(data)

    def continue_with(self, more: Callable[[], bytes], first: bytes = b"") -> None:
        """What follows comes from elsewhere, ``first`` before it."""
        self._more = more
        self._buffer += first

    def end(self) -> None:
        """Nothing follows, whoever keeps it and reads on."""
        self._more = _nothing
        self._buffer = b""
        self.goes_on = self.before_line = None

    def take_buffer(self) -> bytes:
        """What was received and not read."""
        data, self._buffer = self._buffer, b""
        return data

    @property
    def buffered(self) -> int:
        """How many bytes were received and not read."""
        return len(self._buffer)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def _take(self, size: int) -> bytes:
        data = self._buffer[:size]
        self._buffer = self._buffer[size:]
        return data

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")

    def peek(self, size: int = 0, /) -> bytes:  # noqa: ARG002
        """What is buffered, after at most one wait for it to be something."""
        self._check_open()
        if not self._buffer:
            self._fill()
        return self._buffer

    def read(self, size: int | None = -1) -> bytes:
        self._check_open()
        if size is None or size < 0:
            pieces = [self.take_buffer()]
            while piece := self._more():
                pieces.append(piece)
            return b"".join(pieces)
        if size <= len(self._buffer):
            return self._take(size)
        pieces, missing = [self._buffer], size - len(self._buffer)
        self._buffer = b""
        while missing > 0 and (piece := self._more()):
            if len(piece) > missing:
                piece, self._buffer = piece[:missing], piece[missing:]
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def read1(self, size: int = -1) -> bytes:
        self._check_open()
        if not self._buffer and size != 0:
            self._fill()
        return self._take(len(self._buffer) if size < 0 else size)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        return self._read_into(buffer, self.read)

    def readinto1(self, buffer: "WriteableBuffer", /) -> int:
        return self._read_into(buffer, self.read1)

    @staticmethod
    def _read_into(buffer: "WriteableBuffer", read: Callable[[int], bytes]) -> int:
        view = memoryview(buffer).cast("B")
        data = read(len(view))
        view[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1, /) -> bytes:
        self._check_open()
        if self.before_line is not None:
            self.before_line()
        limit = -1 if size is None else size
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched) + 1
            if not end and 0 <= limit <= len(self._buffer):
                end = limit
            if end or limit == 0:
                return self._take(end if limit < 0 else min(end, limit))
            searched = len(self._buffer)
            if not self._fill() and not (
                searched == 0 and self.goes_on is not None and self.goes_on(self)
            ):
                return self.take_buffer()


class _Unbuffered(io.RawIOBase):
    """A stream's raw face, for buffers of :mod:`io` that want to fill themselves as far as can be."""

    def __init__(self, stream: RequestStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        return self._stream.readinto1(buffer)


class Reads(Protocol):
    """The way in, see ``input``."""

    @property
    def stream(self) -> RequestStream: ...


class Writes(Protocol):
    """The way out, see ``output``."""

    @property
    def encrypts(self) -> bool: ...

    def send(self, data: bytes | memoryview) -> None: ...

    def send_file(self, file: Any, offset: int = 0, count: int | None = None) -> int: ...

    def flush(self) -> None: ...


class Closes(Protocol):
    """How it ends, see ``closing``."""

    def hang_up_after_answer(self) -> None: ...

    def shut(self, how: int) -> None: ...

    def hang_up(self) -> None: ...

    def abandon(self) -> None: ...


class Ways(Protocol):
    """What a handler's socket and streams ask of its connection."""

    peer: Peer
    sock: "ClientSocket"
    io_timeout: float | None

    @property
    def input(self) -> Reads: ...

    @property
    def output(self) -> Writes: ...

    def set_io_timeout(self, value: float | None) -> None: ...

    @property
    def closing(self) -> "Closes": ...


class ResponseStream(io.BufferedIOBase):
    """A file to write to: ``wfile``.

    Unbuffered, as ``http.server``'s: what is written leaves at once.  Only the head waits, for a
    moment, to leave together with the body's beginning.
    """

    def __init__(self, connection: Ways, sock: "ClientSocket") -> None:
        self._connection = connection
        self._output = connection.output
        # Where http.server's own stream has it: programs reach for ``wfile._sock`` to hang up.
        self._sock: ClientSocket | None = sock
        #: How many bytes the answer's body may still have.
        self.room = ANY_LENGTH
        # A body in chunks for a client that knows none: its chunks, as they come.
        self._chunks: Chunks | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        if type(data) is not bytes:
            data = memoryview(data).cast("B")
        size = len(data)
        if size > self.room:
            data = self._cut(data)
        else:
            self.room -= size
        self._output.send(data)
        return size

    def _cut(self, data: bytes | memoryview) -> bytes | memoryview:
        """The part of ``data`` that has room: the rest would be taken for the next answer."""
        if self.closed:
            raise ValueError("write to closed file")
        if self._chunks is not None:
            return self._undone(self._chunks, bytes(data))
        room, self.room = self.room, NO_BODY
        if room == NO_BODY:
            # Nothing is sent that could fail: who writes until it does has to be told all the same.
            if self._connection.peer.state is not ClientState.OPEN:
                raise ClientDisconnected
            return b""
        _log.error("a handler's answer is longer than its Content-Length: what is over is cut off")
        self._connection.closing.hang_up_after_answer()
        return data[:room]

    def undo_chunks(self) -> None:
        """What is written from now on is chunked: send the body that is in the chunks."""
        self._chunks = Chunks(sys.maxsize)
        self.room = NO_BODY  # So that write() comes here.

    @staticmethod
    def _undone(chunks: Chunks, data: bytes) -> bytes:
        try:
            chunks.feed(data)
        except RequestRejected as error:
            raise ValueError("the chunks of a handler's answer are malformed") from error
        return chunks.take()

    def writelines(self, lines: "Iterable[ReadableBuffer]", /) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        # Not an error on a closed stream: a handler that closes it on a departure ends calmly,
        # and http.server's own code flushes it afterwards.
        if not self.closed:
            self._output.flush()

    def fileno(self) -> int:
        # Whoever asks wants to write around us.
        if self._output.encrypts:
            raise io.UnsupportedOperation("what is written to the descriptor would not be encrypted")
        self._output.flush()
        return self._connection.sock.fileno()

    def close(self) -> None:
        if not self.closed:
            self._connection.closing.hang_up_after_answer()
            self.room = NO_BODY  # So that write() need not ask each time.
        super().close()

    def __del__(self) -> None:
        # io's own closes the stream. One that nobody uses any more says nothing of the connection.
        pass


class ClientSocket(socket.socket):
    """The socket of one client: what a handler finds as ``self.request`` and ``self.connection``.

    A real socket, whose I/O goes through its connection: bytes that were received already come
    first, deadlines hold, and a departure is a :exc:`~hangup.ClientDisconnected`.  ``close`` hangs
    up at once but leaves the descriptor to the server, which may be watching it.
    """

    __slots__ = ("connection",)

    #: Its connection: :class:`Ways` here, and more for the front ends, which reach it from here.
    connection: Any

    @property
    def _ways(self) -> Ways:
        ways: Ways = self.connection
        return ways

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if flags & ~socket.MSG_WAITALL:  # MSG_PEEK and the like ask the kernel alone
            return super().recv(bufsize, flags)
        if flags & socket.MSG_WAITALL:
            return self._ways.input.stream.read(bufsize)
        return self._ways.input.stream.read1(bufsize)

    def recv_into(self, buffer: "WriteableBuffer", nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def send(self, data: "ReadableBuffer", flags: int = 0, /) -> int:  # noqa: ARG002
        self.sendall(data)
        return memoryview(data).nbytes

    def sendall(self, data: "ReadableBuffer", flags: int = 0, /) -> None:  # noqa: ARG002
        self.connection.output.send(data if isinstance(data, bytes) else memoryview(data).cast("B"))

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        return self._ways.output.send_file(file, offset, count)

    def makefile(self, mode: str = "r", buffering: int | None = None, **text: Any) -> Any:
        if not set(mode) <= {"r", "w", "b"}:
            raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
        reading, writing = "r" in mode or "w" not in mode, "w" in mode
        reader = self.connection.input.stream
        writer: Any = ResponseStream(self.connection, self)
        size = io.DEFAULT_BUFFER_SIZE if buffering is None or buffering <= 1 else buffering
        if reading and writing:
            both: Any = io.BufferedRWPair(_Unbuffered(reader), writer, size)
        elif reading:
            both = reader
        else:
            both = writer if buffering == 0 else io.BufferedWriter(writer, size)
        return both if "b" in mode else io.TextIOWrapper(both, **text)

    def settimeout(self, value: float | None, /) -> None:
        self.connection.set_io_timeout(value)

    def gettimeout(self) -> float | None:
        return self._ways.io_timeout

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001
        self.connection.set_io_timeout(None if flag else 0.0)

    def shutdown(self, how: int, /) -> None:
        self.connection.closing.shut(how)

    def close(self) -> None:
        self.connection.closing.hang_up()

    def detach(self) -> int:
        self.connection.closing.abandon()
        return super().detach()

    def close_descriptor(self) -> None:
        """Really close; for the connection, which knows that nobody watches any more."""
        _close(self)
        # The two refer to each other; without this, only the garbage collector would part them.
        self.connection = _CLOSED


class _Closed:
    """What a socket finds in its connection's place when that has ended.

    Closing what is closed is no error; all else is.
    """

    blocking = True

    @property
    def closing(self) -> "_Closed":
        return self

    def finish(self) -> None: ...

    def hang_up(self) -> None: ...

    def shut(self, how: int) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise OSError(errno.EBADF, "the connection has been closed")


_CLOSED: Any = _Closed()
_close = _socket.socket.close
