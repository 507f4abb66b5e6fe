"""Bytes to events: every request whole, byte by byte, and with something behind it."""

from typing import Any

import pytest

from hangup import Config, RequestRejected
from hangup._http1.error_response import plain_response
from hangup._http1.parser import RequestParser
from hangup._http1.request import CHUNKED

HOST = b"Host: example.org\r\n"


def parse(pieces: list[bytes], config: Config | None = None) -> list[Any]:
    """What a connection would see: each request, with its body; at the end, perhaps a refusal."""
    parser = RequestParser(config or Config())
    events: list[Any] = []
    body: list[bytes] = []

    def advance() -> None:
        while True:
            while data := parser.read_body():
                body.append(data)
            if not parser.body_ended:
                return
            if events and len(events[-1]) == 4:
                events[-1] = (*events[-1], b"".join(body))
                body.clear()
            request = parser.next_request()
            if request is None:
                return
            events.append((request.method, request.target, request.protocol, request))

    try:
        for piece in pieces:
            parser.receive(piece)
            advance()
    except RequestRejected as refusal:
        events.append(refusal.status)
    return events


def ways_to_send(data: bytes) -> list[list[bytes]]:
    return [[data], [data[i : i + 1] for i in range(len(data))], [data[:-1], data[-1:]]]


GOOD = {
    "plain": (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", ("GET", "/", "HTTP/1.1"), 0, b""),
    "http/1.0 needs no host": (b"GET /a HTTP/1.0\r\n\r\n", ("GET", "/a", "HTTP/1.0"), 0, b""),
    "a higher minor version is 1.1": (
        b"GET / HTTP/1.7\r\n" + HOST + b"\r\n",
        ("GET", "/", "HTTP/1.1"),
        0,
        b"",
    ),
    "a method of one's own": (
        b"TEST /x HTTP/1.1\r\n" + HOST + b"\r\n",
        ("TEST", "/x", "HTTP/1.1"),
        0,
        b"",
    ),
    "non-ascii target": (
        b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n",
        ("GET", "/\xc3\xa4", "HTTP/1.1"),
        0,
        b"",
    ),
    "connect": (
        b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n",
        ("CONNECT", "a:1", "HTTP/1.1"),
        0,
        b"",
    ),
    "an upgrade that nobody accepts": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n",
        ("GET", "/", "HTTP/1.1"),
        0,
        b"",
    ),
    "an empty line first": (
        b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
        ("GET", "/", "HTTP/1.1"),
        0,
        b"",
    ),
    "content-length": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
        ("POST", "/", "HTTP/1.1"),
        5,
        b"hello",
    ),
    "a body that looks like a head's end": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 8\r\n\r\n\r\n\r\n\r\n\r\n",
        ("POST", "/", "HTTP/1.1"),
        8,
        b"\r\n\r\n\r\n\r\n",
    ),
    "chunked": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: t\r\n\r\n",
        ("POST", "/", "HTTP/1.1"),
        CHUNKED,
        b"hello world",
    ),
    "chunks that look like the end": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\n\r\n"
        b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n",
        ("POST", "/", "HTTP/1.1"),
        CHUNKED,
        b"0\r\n\r\n\r\n",
    ),
}
BAD = {
    "no version": (b"GET /\r\n\r\n", 400),
    "a word for a version": (b"GET / FUBAR\r\n\r\n", 400),
    "a long version": (b"GET / HTTP/1.1.1\r\n\r\n", 400),
    "http/2": (b"GET / HTTP/2.0\r\n\r\n", 505),
    "http/0.9 by name": (b"GET / HTTP/0.9\r\n\r\n", 505),
    "two spaces": (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a method that is no token": (b"GE(T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "bare LF after the line": (b"GET / HTTP/1.1\r\nHost: x\n\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "a host that is none": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "folded": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", 400),
    "CR in a value": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", 400),
    "signed length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\n", 400),
    "two lengths": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        400,
    ),
    "length and chunked": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "chunked in http/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "chunked twice": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
        400,
    ),
    "chunked on two lines": (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "an unknown coding": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        501,
    ),
    "an unknown expectation": (b"GET / HTTP/1.1\r\n" + HOST + b"Expect: tea\r\n\r\n", 417),
    "a chunk's size that is no number": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
        400,
    ),
    "empty lines without end": (b"\r\n" * 8, 400),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_request_is_the_same_however_it_arrives(name: str) -> None:
    data, line, length, body = GOOD[name]
    for pieces in ways_to_send(data):
        (event,) = parse(pieces)
        assert event[:3] == line
        assert event[3].length == length
        assert event[4] == body
    follower = b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"
    for pieces in ways_to_send(data + follower):
        first, second = parse(pieces)
        assert first[:3] == line
        assert first[4] == body
        assert second[1] == "/next"


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_request_is_refused_however_it_arrives(name: str) -> None:
    data, status = BAD[name]
    for pieces in ways_to_send(data):
        assert parse(pieces)[-1] == status
    good = b"GET /first HTTP/1.1\r\n" + HOST + b"\r\n"
    assert [event if isinstance(event, int) else event[1] for event in parse([good + data])][:2] in (
        ["/first", status],
        ["/first", "/"],  # refused in its body
    )


def test_a_request_line_may_be_as_long_as_the_limit_and_no_longer() -> None:
    limit = Config().max_request_line_size
    rest = b" HTTP/1.1\r\n" + HOST + b"\r\n"
    longest = limit - len(b"GET / HTTP/1.1\r\n")
    assert parse([b"GET /" + b"a" * longest + rest])[0][0] == "GET"
    for pieces in ([b"GET /" + b"a" * (longest + 1) + rest], [b"GET /", b"a" * (limit + 1)]):
        assert parse(pieces) == [414]


def test_a_head_over_its_limit_is_refused_before_it_ends() -> None:
    line = b"GET / HTTP/1.1\r\n" + HOST
    big = b"X: " + b"a" * Config().max_request_header_size + b"\r\n"
    assert parse([line + big + b"\r\n"]) == [431]
    assert parse([line, big]) == [431]
    assert parse([line + b"X: y\r\n" * 100 + b"\r\n"]) == [431]


def test_a_refusal_shows_little_of_what_was_sent() -> None:
    parser = RequestParser(Config())
    parser.receive(b"GET / " + b"<script>" * 100 + b"\r\n\r\n")
    with pytest.raises(RequestRejected) as refusal:
        parser.next_request()
    assert len(refusal.value.reason) < 130
    assert refusal.value.reason.isprintable()


def test_an_endless_chunk_extension_is_refused() -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5;"
    assert parse([head, *[b"x" * 1000] * 40])[-1] == 400


def test_one_byte_chunks_are_no_attack() -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    events = parse([head, *[b"1\r\nx\r\n"] * 2000, b"0\r\n\r\n"])
    assert events[0][4] == b"x" * 2000


def test_keep_alive_follows_version_and_field() -> None:
    def keeps(line: bytes, *fields: bytes) -> bool:
        return bool(parse([line + HOST + b"".join(fields) + b"\r\n"])[0][3].keep_alive)

    assert keeps(b"GET / HTTP/1.1\r\n")
    assert not keeps(b"GET / HTTP/1.1\r\n", b"Connection: x, Close\r\n")
    assert not keeps(b"GET / HTTP/1.0\r\n")
    assert keeps(b"GET / HTTP/1.0\r\n", b"Connection: Keep-Alive\r\n")


def test_the_same_fields_under_another_version_are_judged_anew() -> None:
    fields = b"Connection: keep-alive\r\n\r\n"
    assert parse([b"GET / HTTP/1.0\r\n" + fields])[0][0] == "GET"
    assert parse([b"GET / HTTP/1.1\r\n" + fields]) == [400]


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    event = parse([b"GET / HTTP/1.1\r\nHost: \t x \t \r\n\r\n"])[0]
    assert event[3].items == (("Host", "x"),)


def test_a_raw_head_is_at_hand_when_its_handler_would_not_wait() -> None:
    for data, at_hand in [
        (b"", False),
        (b"GET / HTTP/1.1", False),
        (b"GET / HTTP/1.1\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"GET / HTTP/1.1\nHost: x\n\n", True),
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET /\r\n", True),
        (b"a" * 65537, True),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 65537, True),
    ]:
        parser = RequestParser(Config())
        parser.receive(data)
        assert parser.has_raw_head() is at_hand, data[:40]


def test_a_plain_answer_tells_its_length() -> None:
    head, body = plain_response(400, "Bad \N{SNOWMAN}")
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert b"Connection: close\r\n" in head
