"""What a handler finds in ``headers`` and what it reads from ``rfile`` agree, for a body in chunks.

Who decodes chunks by itself, since http.server does not, finds some; who never asks finds the body.
"""

import copy
import http.server
import io
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import hangup
from conftest import Peer, answer
from loops_support import LOOPS, Reference, handler

FIELD = "Transfer-Encoding"
CHUNKS = b"5\r\nhello\r\n8\r\n,\n world\r\n1\r\n!\r\n0\r\n\r\n"
BODY = b"hello,\n world!"

#: Every way to see that a body is chunked, each of which returns whether it is.
LOOKS: dict[str, Callable[[Any], bool]] = {
    "get": lambda headers: headers.get("transfer-encoding", "") == "chunked",
    "item": lambda headers: headers["TRANSFER-ENCODING"] == "chunked",
    "in": lambda headers: FIELD in headers,
    "get_all": lambda headers: headers.get_all(FIELD) == ["chunked"],
    "items": lambda headers: (FIELD, "chunked") in list(headers.items()),
    "keys": lambda headers: FIELD in list(headers.keys()),
    "values": lambda headers: "chunked" in headers.values(),
    "iteration": lambda headers: any(name.lower() == FIELD.lower() for name in headers),
    "dict": lambda headers: dict(headers)[FIELD] == "chunked",
    "raw_items": lambda headers: (FIELD, "chunked") in headers.raw_items(),
    "str": lambda headers: "Transfer-Encoding: chunked" in str(headers),
    "bytes": lambda headers: b"Transfer-Encoding: chunked" in bytes(headers),
    "as_string": lambda headers: "chunked" in headers.as_string(),
    "a copy": lambda headers: copy.copy(headers)[FIELD] == "chunked",
    "a deep copy": lambda headers: copy.deepcopy(headers)[FIELD] == "chunked",
    "a pickle": lambda headers: pickle.loads(pickle.dumps(headers))[FIELD] == "chunked",
}


def decode(line: Callable[[], bytes], read: Callable[[int], bytes]) -> bytes:
    """As programs do it that have found a ``Transfer-Encoding``."""
    body = b""
    while size := int(line(), 16):
        body += read(size)
        assert line() == b"\r\n"
    assert line() == b"\r\n"
    return body


def by_read1(self: Any) -> bytes:
    def line() -> bytes:
        found = b""
        while not found.endswith(b"\n"):
            found += self.rfile.read1(1)
        return found

    def read(size: int) -> bytes:
        found = b""
        while len(found) < size:
            found += self.rfile.read1(size - len(found))
        return found

    return decode(line, read)


def by_readinto(self: Any) -> bytes:
    def read(size: int) -> bytes:
        room = bytearray(size)
        assert self.rfile.readinto(room) == size
        return bytes(room)

    return decode(self.rfile.readline, read)


def by_iteration(self: Any) -> bytes:
    return decode(lambda: next(self.rfile), self.rfile.read)


def by_recv(self: Any) -> bytes:
    """All that comes, up to the last chunk."""
    found = b""
    while not found.endswith(b"0\r\n\r\n"):
        found += self.connection.recv(3)
    file = io.BytesIO(found)
    return decode(file.readline, file.read)


def by_recv_into(self: Any) -> bytes:
    found, room = b"", bytearray(4)
    while not found.endswith(b"0\r\n\r\n"):
        found += room[: self.connection.recv_into(room)]
    file = io.BytesIO(found)
    return decode(file.readline, file.read)


def by_makefile(self: Any) -> bytes:
    file = self.connection.makefile("rb")
    return decode(file.readline, file.read)


def by_a_reader_of_ones_own(self: Any) -> bytes:
    file = io.BufferedReader(self.rfile)
    found = decode(file.readline, file.read)
    file.detach()
    return found


READS: dict[str, Callable[[Any], bytes]] = {
    "readline and read": lambda self: decode(self.rfile.readline, self.rfile.read),
    "read1": by_read1,
    "readinto": by_readinto,
    "iteration": by_iteration,
    "recv": by_recv,
    "recv_into": by_recv_into,
    "makefile": by_makefile,
    "a reader": by_a_reader_of_ones_own,
}
# There, rfile has read ahead what these would read from the socket, and what reads ahead waits for ever.
ON_HTTP_SERVER = [name for name in READS if name not in ("recv", "recv_into", "makefile", "a reader")]


def post(peer: Peer, chunks: bytes = CHUNKS, *fields: str) -> bytes:
    head = "\r\n".join(["POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked", *fields, "", ""])
    response, body = peer.send(head.encode() + chunks).response("POST")
    assert response.status == 200, body
    return body


def echo(body: Callable[[Any], bytes], /, **own: Any) -> Any:
    def do_POST(self: Any) -> None:
        answer(self, body(self))

    return handler(hangup.BaseHTTPRequestHandler, do_POST=do_POST, **own)


@pytest.mark.parametrize("server", [hangup.ThreadingHTTPServer, Reference])
@pytest.mark.parametrize("look", LOOKS)
def test_who_sees_the_field_in_any_way_reads_chunks(serve: Any, look: str, server: Any) -> None:
    def body(self: Any) -> bytes:
        assert LOOKS[look](self.headers)
        return decode(self.rfile.readline, self.rfile.read)

    with serve(echo(body), server).connect() as peer:
        assert post(peer) == BODY
        assert post(peer) == BODY  # and nothing is left of the first


@pytest.mark.parametrize("read", READS)
def test_who_has_seen_it_reads_chunks_in_any_way(serve: Any, read: str) -> None:
    def body(self: Any) -> bytes:
        assert self.headers[FIELD] == "chunked"
        return READS[read](self)

    cls = echo(body)
    with serve(cls).connect() as peer:
        assert [post(peer), post(peer)] == [BODY, BODY]
        assert peer.get("/").response()[1] == b"1 /"
    if read in ON_HTTP_SERVER:
        with serve(cls, Reference).connect() as peer:
            assert [post(peer), post(peer)] == [BODY, BODY]


@pytest.mark.parametrize("read", ON_HTTP_SERVER)
def test_the_standard_librarys_handlers_read_what_came(serve: Any, read: str) -> None:
    def do_POST(self: Any) -> None:
        answer(self, READS[read](self))

    with serve(handler(http.server.BaseHTTPRequestHandler, do_POST=do_POST)).connect() as peer:
        assert [post(peer), post(peer)] == [BODY, BODY]


IGNORANT: dict[str, Callable[[Any], bytes]] = {
    "read": lambda self: self.rfile.read(),
    "read of None": lambda self: self.rfile.read(None),
    "read of a size": lambda self: self.rfile.read(len(BODY)),
    "read of too much": lambda self: self.rfile.read(1000),
    "read1": lambda self: b"".join(iter(lambda: self.rfile.read1(4), b"")),
    "lines": lambda self: b"".join(self.rfile),
    "readlines": lambda self: b"".join(self.rfile.readlines()),
    "recv": lambda self: b"".join(iter(lambda: self.connection.recv(4), b"")),
}


@pytest.mark.parametrize("read", IGNORANT)
def test_who_never_looks_reads_the_body(serve: Any, read: str) -> None:
    def body(self: Any) -> bytes:
        assert self.headers["Host"] == "h"
        assert "Content-Length" not in self.headers
        assert self.headers.get_content_type() == "text/plain"
        assert len(self.headers) == 2
        return IGNORANT[read](self)

    with serve(echo(body)).connect() as peer:
        assert [post(peer), post(peer)] == [BODY, BODY]


@pytest.mark.parametrize("look", ["get", "items", "str"])
def test_read_of_all_there_is_gives_the_body_also_to_who_has_seen_the_field(
    serve: Any, look: str
) -> None:
    """http.server would wait for ever there, so it is nobody's way to decode."""

    def body(self: Any) -> bytes:
        assert LOOKS[look](self.headers)
        return json.dumps(json.load(self.rfile)).encode()

    with serve(echo(body)).connect() as peer:
        assert post(peer, b'9\r\n{"a": "b"\r\n1\r\n}\r\n0\r\n\r\n') == b'{"a": "b"}'


def test_chunks_that_come_slowly_and_trailers(serve: Any) -> None:
    def body(self: Any) -> bytes:
        assert FIELD in self.headers
        return decode(self.rfile.readline, self.rfile.read)

    chunks = CHUNKS[:-2] + b"X: y\r\n\r\n"
    cls = echo(body)
    with serve(cls, config=hangup.Config(body_prefetch=1)).connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(len(chunks)):
            peer.send(chunks[at : at + 1])
        assert peer.response()[1] == BODY
        assert peer.get("/").response()[1] == b"1 /"


def test_who_looks_in_the_middle_reads_the_rest_in_chunks(serve: Any) -> None:
    def body(self: Any) -> bytes:
        first = self.rfile.read(3)
        assert FIELD in self.headers
        return bytes(first + decode(self.rfile.readline, self.rfile.read))

    with serve(echo(body)).connect() as peer:
        assert post(peer) == BODY


def test_a_malformed_chunk_is_refused_whoever_decodes(serve: Any) -> None:
    def body(self: Any) -> bytes:
        assert FIELD in self.headers
        return decode(self.rfile.readline, self.rfile.read)

    with serve(echo(body)).connect() as peer:
        peer.send(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n"
        )
        assert peer.response()[0].status == 400


@pytest.mark.parametrize("name", ["copied", "request lines"])
def test_in_a_loop_each_request_is_read_as_its_own_fields_say(serve: Any, name: str) -> None:
    def body(self: Any) -> bytes:
        if self.headers.get(FIELD):
            return decode(self.rfile.readline, self.rfile.read)
        return bytes(self.rfile.read(int(self.headers["Content-Length"])))

    plain = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nplain"
    cls = echo(body, **LOOPS[name])
    for server in (hangup.ThreadingHTTPServer, Reference):
        with serve(cls, server).connect() as peer:
            found = [
                post(peer) if chunked else peer.send(plain).response("POST")[1]
                for chunked in (False, True, False, True, True)
            ]
            assert found == [b"plain", BODY, b"plain", BODY, BODY]
