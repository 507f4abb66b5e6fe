"""A client that decides over each byte, and over the manner in which it leaves."""

import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Answer", "Broken", "Place", "Visitor"]

_PIECE = 65536
#: A receive buffer so small that a long answer has to wait in the server.
_SMALL = 4096
_RESET = struct.pack("ii", 1, 0)


class Broken(Exception):
    """The server's answer ended too early, is none, or did not come in time; the text says which."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server is."""

    #: An address.
    host: str
    port: int
    tls: bool = False
    #: What the server is called.
    name: str = "127.0.0.1"

    @property
    def authority(self) -> str:
        """For the Host field."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{name}:{self.port}"


@dataclass(slots=True)
class Answer:
    """What has come of one answer; ``left`` is None for a body that ends with the connection."""

    status: int
    fields: dict[str, str] = field(default_factory=dict)
    got: int = 0
    left: int | None = 0
    chunked: bool = False
    complete: bool = False


class Visitor:
    """One client, and its connection.

    Whatever reads or sends raises OSError as sockets do, and :class:`Broken` for an answer that is none;
    nothing takes longer than ``patience`` seconds from the last :meth:`hurry` on.
    """

    def __init__(self, place: Place, patience: float) -> None:
        self.place = place
        self.left_at = 0.0
        #: The answer that is being read.
        self.answer: Answer | None = None
        self._sock: socket.socket | None = None
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._buffer = b""
        self.hurry(patience)

    def hurry(self, patience: float) -> None:
        """From now on, all that is to come has so many seconds."""
        self._deadline = time.monotonic() + patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether it has a connection that it has not left."""
        return self._sock is not None

    # -- out

    def connect(self, *, small: bool = False, shake: bool = True) -> None:
        """Connect, and shake hands where TLS is spoken.  ``small``: take in no more than is read."""
        family = socket.AF_INET6 if ":" in self.place.host else socket.AF_INET
        sock = self._sock = socket.socket(family, socket.SOCK_STREAM)
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
        self._limit()
        sock.connect((self.place.host, self.place.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.place.tls:
            # Any certificate will do: nothing is said that is secret.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._tls = context.wrap_bio(self._in, self._out, server_hostname=self.place.name)
            if shake:
                self._shake()

    def _shake(self) -> None:
        assert self._tls is not None
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send_raw(self._out.read())
                self._hear()
            else:
                self.send_raw(self._out.read())
                return

    def hello(self) -> bytes:
        """The beginning of a handshake."""
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self._out.read()

    def head(self, method: str, path: str, *fields: str) -> bytes:
        """A request's head."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self.place.authority}",
            "User-Agent: hangup-probe",
        ]
        return "\r\n".join([*lines, *fields, "", ""]).encode("latin-1")

    def send(self, data: bytes) -> None:
        """Send, encrypted where TLS is spoken."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._out.read()
        self.send_raw(data)

    def send_raw(self, data: bytes) -> None:
        """Send these very bytes."""
        self._limit().sendall(data)

    # -- in

    def read_head(self) -> Answer:
        """The next answer's head; interim answers are passed over."""
        while True:
            lines = [self._line()]
            while line := self._line():
                lines.append(line)
            answer = _parse(lines)
            if answer.status >= 200:
                self.answer = answer
                return answer

    def read_some(self, least: int) -> None:
        """Read on in the answer until so many bytes of its body have come, or all."""
        answer = self.answer
        assert answer is not None
        while answer.got < least and not answer.complete:
            self._read_on(answer)

    def read_answer(self) -> Answer:
        """The rest of the answer that is being read, or the whole of the next."""
        answer = self.answer if self.answer is not None else self.read_head()
        while not answer.complete:
            self._read_on(answer)
        self.answer = None
        return answer

    def ended(self) -> bool:
        """Wait for the server's closing: False if it did not come in time."""
        try:
            while self._receive():
                self._buffer = b""
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def _read_on(self, answer: Answer) -> None:
        if answer.chunked and not answer.left:
            size = self._size()
            if not size:
                while self._line():
                    pass  # Trailers.
                answer.complete = True
                return
            answer.left = size
        if not self._buffer and not self._receive():
            if answer.left is None:
                answer.complete = True
                return
            raise Broken(f"the answer ended after {answer.got} bytes of its body")
        taken = len(self._buffer) if answer.left is None else min(answer.left, len(self._buffer))
        self._buffer = self._buffer[taken:]
        answer.got += taken
        if answer.left is not None:
            answer.left -= taken
            if not answer.left:
                if answer.chunked:
                    self._line()
                else:
                    answer.complete = True

    def _size(self) -> int:
        line = self._line()
        try:
            return int(line.split(";")[0], 16)
        except ValueError:
            raise Broken(f"a chunk has the size {line[:40]!r}") from None

    def _line(self) -> str:
        while b"\n" not in self._buffer:
            if len(self._buffer) > _PIECE:
                raise Broken("the answer has a line without an end")
            if not self._receive():
                raise Broken(
                    "the connection was closed before an answer"
                    if not self._buffer
                    else "the connection was closed in an answer's head"
                )
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")

    def _receive(self) -> int:
        """More bytes for the buffer; how many, 0 at the end."""
        before = len(self._buffer)
        if self._tls is None:
            self._buffer += self._limit().recv(_PIECE)
            return len(self._buffer) - before
        while True:
            try:
                self._buffer += self._tls.read(_PIECE)
            except ssl.SSLWantReadError:
                self._hear()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0
            else:
                return len(self._buffer) - before

    def _hear(self) -> None:
        data = self._limit().recv(_PIECE)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def _limit(self) -> socket.socket:
        assert self._sock is not None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self._sock.settimeout(left)
        return self._sock

    # -- leaving

    def close(self) -> None:
        """Close the socket; with a goodbye where TLS is spoken."""
        if self._sock is not None:
            self._goodbye()
            self.drop()

    def drop(self) -> None:
        """Close the socket, and say nothing."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def reset(self) -> None:
        """Reset the connection."""
        if self._sock is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.drop()

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        assert self._sock is not None
        self._goodbye()
        self._sock.shutdown(socket.SHUT_WR)

    def say_goodbye(self) -> None:
        """Say so in TLS alone."""
        self._goodbye()

    def _goodbye(self) -> None:
        if self._tls is None:
            return
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # It would wait for the server's; or there was no handshake.
        try:
            if data := self._out.read():
                self.send_raw(data)
        except OSError:
            pass  # The server has gone first, or does not read.


def _parse(lines: list[str]) -> Answer:
    words = lines[0].split(" ")
    if not words[0].startswith("HTTP/") or len(words) < 2 or not words[1].isdigit():
        raise Broken(f"what came is no answer: {lines[0][:60]!r}")
    answer = Answer(int(words[1]))
    for line in lines[1:]:
        name, _, value = line.partition(":")
        answer.fields[name.strip().lower()] = value.strip()
    length = answer.fields.get("content-length", "")
    if answer.status < 200 or answer.status in {204, 304}:
        answer.complete = True
    elif answer.fields.get("transfer-encoding", "").lower().endswith("chunked"):
        answer.chunked = True
    elif length.isdigit():
        answer.left = int(length)
        answer.complete = not answer.left
    else:
        answer.left = None
    return answer
