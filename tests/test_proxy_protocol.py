"""The PROXY protocol: its header whole, byte by byte, malformed, and from a stranger."""

import struct
from typing import Any

import pytest

from conftest import Peer
from hangup import Config, RequestRejected
from hangup._http1.proxy_protocol import MODES, ProxiedRequestParser, ProxyHeader, parse_proxy_header
from hangup._http1.request_head import Heads

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 1234, 443)
V6 = bytes.fromhex("20010db8000000000000000000000007") * 2 + struct.pack("!HH", 1234, 443)
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FULL = ":".join(["ffff"] * 8)


def v2(body: bytes = V4, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + body


GOOD = {
    "IPv4": (
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n",
        ("TCP4", "192.0.2.7", 1234, "192.0.2.1", 80),
    ),
    "IPv6": (b"PROXY TCP6 2001:db8::7 ::1 65535 0\r\n", ("TCP6", "2001:db8::7", 65535, "::1", 0)),
    "the longest": (
        f"PROXY TCP6 {FULL} {FULL} 65535 65535\r\n".encode(),
        ("TCP6", FULL, 65535, FULL, 65535),
    ),
    "unknown": (b"PROXY UNKNOWN\r\n", ("UNKNOWN", "", 0, "", 0)),
    "unknown, and more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ("UNKNOWN", "", 0, "", 0)),
    "v2, IPv4": (v2(), ("TCP4", "192.0.2.7", 1234, "198.51.100.1", 443)),
    "v2, IPv6": (v2(V6, family=0x21), ("TCP6", "2001:db8::7", 1234, "2001:db8::7", 443)),
    "v2, with more behind the addresses": (
        v2(V4 + b"\x04\x00\x03abc"), ("TCP4", "192.0.2.7", 1234, "198.51.100.1", 443),
    ),
    "v2, local": (v2(b"", command=0x20, family=0), ("LOCAL", "", 0, "", 0)),
    "v2, local with addresses": (v2(command=0x20), ("LOCAL", "", 0, "", 0)),
    "v2, unspecified": (v2(b"abc", family=0), ("UNSPEC", "", 0, "", 0)),
    "v2, unix": (v2(b"\x00" * 216, family=0x31), ("UNIX", "", 0, "", 0)),
}  # fmt: skip
BAD = {
    "no words": b"PROXY \r\n",
    "another protocol": b"PROXY UDP4 192.0.2.7 192.0.2.1 1234 80\r\n",
    "a bare LF": b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\n",
    "an address too few": b"PROXY TCP4 192.0.2.7 1234 80\r\n",
    "a word too many": b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80 x\r\n",
    "a large port": b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 80\r\n",
    "a negative port": b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 80\r\n",
    "no IPv4 address": b"PROXY TCP4 192.0.2.777 192.0.2.1 1 80\r\n",
    "the other family": b"PROXY TCP4 ::1 ::1 1 80\r\n",
    "the other family again": b"PROXY TCP6 192.0.2.7 192.0.2.1 1 80\r\n",
    "two spaces": b"PROXY  TCP4 192.0.2.7 192.0.2.1 1234 80\r\n",
    "too long": b"PROXY UNKNOWN " + b"x" * 200,
    "v2, version 1": v2(command=0x11),
    "v2, another command": v2(command=0x22),
    "v2, UDP": v2(family=0x12),
    "v2, another family": v2(family=0x41),
    "v2, addresses that are too short": v2(V4[:11]),
    "v2, IPv4 for IPv6": v2(family=0x21),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_header_whole_and_byte_by_byte(name: str) -> None:
    data, expected = GOOD[name]
    mode = "v2" if "v2" in name else "v1"
    for asked in (mode, "auto"):
        for end in range(len(data)):
            assert parse_proxy_header(data[:end], asked) is None, data[:end]
        for behind in (b"", REQUEST, SIGNATURE):
            assert parse_proxy_header(data + behind, asked) == ProxyHeader(len(data), *expected)


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_header_is_refused(name: str) -> None:
    with pytest.raises(RequestRejected) as refused:
        parse_proxy_header(BAD[name] + REQUEST)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "data", [REQUEST, b"PROXYX", b"P\r\n", b"\r\n\r\n\r\n", b"\r\nGET", b"\x16\x03"]
)
def test_what_is_no_header(data: bytes) -> None:
    assert parse_proxy_header(data) is False


def test_a_version_that_is_not_asked_for_is_no_header() -> None:
    assert parse_proxy_header(GOOD["IPv4"][0], "v2") is False
    assert parse_proxy_header(GOOD["v2, IPv4"][0], "v1") is False
    assert MODES == ("off", "v1", "v2", "auto")


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("name", GOOD)
def test_the_request_behind_it_is_read(name: str, step: int) -> None:
    told: list[ProxyHeader] = []
    parser = ProxiedRequestParser(Config(), Heads(Config()), "auto", told.append)
    found = []
    data = GOOD[name][0] + REQUEST + REQUEST
    for start in range(0, len(data), step):
        parser.receive(data[start : start + step])
        while parser.buffer and (request := parser.next_request()) is not None:
            found.append(request.target)
    assert found == ["/", "/"]
    assert [header.protocol for header in told] == [GOOD[name][1][0]]


def test_a_connection_may_begin_without_one_and_then_has_none_later() -> None:
    """Whoever is behind a proxy could otherwise say by a second header whose connection it is."""
    told: list[ProxyHeader] = []
    for first in (REQUEST, GOOD["IPv4"][0] + REQUEST):
        parser = ProxiedRequestParser(Config(), Heads(Config()), "auto", told.append)
        parser.receive(first + GOOD["unknown"][0] + REQUEST)
        assert parser.next_request() is not None
        with pytest.raises(RequestRejected):
            parser.next_request()
    assert len(told) == 1


# -- under gunicorn


APP = """
import json
KEYS = ("REMOTE_ADDR", "REMOTE_PORT", "PROXY_PROTOCOL", "PROXY_ADDR", "PROXY_PORT")

def app(environ, start_response):
    data = json.dumps([environ.get(key) for key in KEYS]).encode()
    start_response("200 OK", [("Content-Length", str(len(data)))])
    return [data]
"""


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_gunicorns_workers_hear_who_the_client_is(gunicorn: Any, version: str) -> None:
    header = GOOD["IPv4"][0] if version == "v1" else v2()
    proxy = b"192.0.2.1" if version == "v1" else b"198.51.100.1"
    port = b"80" if version == "v1" else b"443"
    expected = b'["192.0.2.7", "1234", "TCP4", "%b", "%b"]' % (proxy, port)
    options = ("--access-logfile", "/dev/stderr", "--access-logformat", "from %(h)s")
    server = gunicorn("--proxy-protocol", version, *options, app=APP).ready()
    with Peer(server.address) as peer:
        peer.send(header)
        for _ in range(3):
            assert peer.send(REQUEST).response()[1] == expected
    server.wait_for(r"from 192\.0\.2\.7", 3)


def test_a_connection_without_the_header_is_taken_as_it_is(gunicorn: Any) -> None:
    """And has none later, also where its first request is one that has been seen before."""
    server = gunicorn("--proxy-protocol=auto", app=APP).ready()
    for _ in range(3):
        with Peer(server.address) as peer:
            for _ in range(2):
                assert peer.send(REQUEST).response()[1].startswith(b'["127.0.0.1", ')
            answer = peer.send(GOOD["IPv4"][0] + REQUEST).read_to_end()
            assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("name", ["unknown", "v2, local", "v2, unspecified"])
def test_a_balancers_own_check_keeps_its_address(gunicorn: Any, name: str) -> None:
    server = gunicorn("--proxy-protocol", "auto", app=APP).ready()
    with Peer(server.address) as peer:
        assert peer.send(GOOD[name][0] + REQUEST).response()[1].startswith(b'["127.0.0.1", ')


def test_a_stranger_does_not_say_who_it_is(gunicorn: Any) -> None:
    server = gunicorn("--proxy-protocol", "auto", "--proxy-allow-from", "192.0.2.1", app=APP).ready()
    for header in (GOOD["IPv4"][0], v2(), GOOD["v2, local"][0]):
        assert server.ask(header + REQUEST).startswith(b"HTTP/1.1 403 ")
    server.wait_for(
        "Invalid request from ip=127.0.0.1: PROXY headers are not taken from this address", 3
    )
    assert server.get()[0] == 200


def test_a_malformed_header_is_answered_and_logged(gunicorn: Any) -> None:
    server = gunicorn("--proxy-protocol", "auto", app=APP).ready()
    assert server.ask(BAD["a large port"] + REQUEST).startswith(b"HTTP/1.1 400 ")
    server.wait_for("Invalid request from ip=127.0.0.1: Malformed PROXY header")


def test_where_it_is_off_it_is_no_request(gunicorn: Any) -> None:
    assert gunicorn(app=APP).ready().ask(GOOD["IPv4"][0] + REQUEST).startswith(b"HTTP/1.1 400 ")
