"""The PROXY protocol, versions 1 and 2: bytes in, addresses out.

A proxy that passes bytes on, HAProxy say, or a cloud's balancer, writes before the first byte of a
connection whose connection it is (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt; sections
below are that text's).  Whoever may write it may claim any address: callers ask first who the peer is.
"""

import ipaddress
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from ..config import Config
from ..exceptions import RequestRejected
from .parser import RequestParser
from .request import Request
from .request_head import Heads

__all__ = ["MODES", "ProxiedRequestParser", "ProxyHeader", "parse_proxy_header"]

#: What may be asked for: gunicorn's words. ``auto`` takes either version.
MODES = ("off", "v1", "v2", "auto")

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_PREFIX = b"PROXY "
# §2.1: "a 107-byte buffer is always enough to store all the line", and the zero behind it.
_LONGEST_LINE = 107
_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9.:A-Fa-f]+) ([0-9.:A-Fa-f]+) (\d{1,5}) (\d{1,5})\r\n")
# What follows UNKNOWN is to be ignored (§2.1).
_UNKNOWN_LINE = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_V2_HEAD = struct.Struct("!12sBBH")
# Byte 13 (§2.2): the version, 2, and the command; byte 14: the family, and the transport.
_LOCAL, _PROXY = 0x20, 0x21
_TCP_FAMILIES = {
    0x11: ("TCP4", struct.Struct("!4s4sHH")),
    0x21: ("TCP6", struct.Struct("!16s16sHH")),
}
_UNSPECIFIED, _UNIX_STREAM = 0x00, 0x31


class ProxyHeader(NamedTuple):
    """What a proxy says of a connection.

    ``size`` is the header's own, in bytes.  ``protocol`` is ``TCP4`` or ``TCP6``; or something else, and
    then the proxy names no client (its own health check, say), and the addresses are empty.
    """

    size: int
    protocol: str
    client: str = ""
    client_port: int = 0
    proxy: str = ""
    proxy_port: int = 0


def parse_proxy_header(data: bytes, mode: str = "auto") -> ProxyHeader | bool | None:
    """What the first bytes of a connection say, in the version that ``mode`` names.

    None if more must come, False if this is no PROXY header.  Raises :exc:`~hangup.RequestRejected` for
    one that is malformed: a connection whose beginning can't be understood must be closed (§2).
    """
    if mode in ("v2", "auto"):
        if data.startswith(_SIGNATURE):
            return _parse_v2(data)
        if _SIGNATURE.startswith(data):
            return None
    if mode in ("v1", "auto"):
        if data.startswith(_PREFIX):
            return _parse_v1(data)
        if _PREFIX.startswith(data):
            return None
    return False


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, _LONGEST_LINE) + 1
    if not end:
        if len(data) < _LONGEST_LINE:
            return None
        raise RequestRejected(400, "A PROXY line is too long")
    line = data[:end]
    if _UNKNOWN_LINE.fullmatch(line):
        return ProxyHeader(end, "UNKNOWN")
    match = _LINE.fullmatch(line)
    if match is None:
        raise _malformed()
    protocol, client, proxy = match[1].decode(), match[2].decode(), match[3].decode()
    ports = int(match[4]), int(match[5])
    kind = ipaddress.IPv4Address if protocol == "TCP4" else ipaddress.IPv6Address
    try:
        kind(client), kind(proxy)
    except ValueError:
        raise _malformed() from None
    if max(ports) > 65535:
        raise _malformed()
    return ProxyHeader(end, protocol, client, ports[0], proxy, ports[1])


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD.size:
        return None
    _, command, family, length = _V2_HEAD.unpack_from(data)
    size = _V2_HEAD.size + length
    if command not in (_LOCAL, _PROXY):
        raise _malformed()
    if len(data) < size:
        return None
    if command == _LOCAL:  # "The receiver must use the real connection endpoints" (§2.2).
        return ProxyHeader(size, "LOCAL")
    if family in (_UNSPECIFIED, _UNIX_STREAM):
        return ProxyHeader(size, "UNSPEC" if family == _UNSPECIFIED else "UNIX")
    if family not in _TCP_FAMILIES:
        raise RequestRejected(400, "A PROXY header of another transport than TCP")
    protocol, addresses = _TCP_FAMILIES[family]
    if length < addresses.size:
        raise _malformed()
    client, proxy, client_port, proxy_port = addresses.unpack_from(data, _V2_HEAD.size)
    shown = [str(ipaddress.ip_address(address)) for address in (client, proxy)]
    return ProxyHeader(size, protocol, shown[0], client_port, shown[1], proxy_port)


def _malformed() -> RequestRejected:
    return RequestRejected(400, "Malformed PROXY header")


class ProxiedRequestParser(RequestParser):
    """The bytes of a connection that a PROXY header may precede.

    ``told`` is called with the header when it has come, before the first request's head is looked at; it
    may raise :exc:`~hangup.RequestRejected`.  A connection that begins without one is taken as it is:
    the setting allows for both (gunicorn's ``proxy_protocol``).
    """

    __slots__ = ("_mode", "_told")

    def __init__(
        self, config: Config, heads: Heads, mode: str, told: Callable[[ProxyHeader], None]
    ) -> None:
        super().__init__(config, heads)
        self._mode = mode
        self._told: Callable[[ProxyHeader], None] | None = told

    def next_request(self) -> Request | None:
        if self._told is not None:
            header = parse_proxy_header(self.buffer, self._mode)
            if header is None:
                return None
            told, self._told = self._told, None
            if isinstance(header, ProxyHeader):
                told(header)
                self.buffer = self.buffer[header.size :]
                if not self.buffer:
                    return None
        return super().next_request()
