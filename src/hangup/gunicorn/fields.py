"""Request heads by gunicorn's rules: whom it believes what, and what it takes that RFC 9112 does not.

What gunicorn's own workers do is in its http/message.py: ``HeaderPolicy`` and ``parse_headers``.
"""

import functools
import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from .._http1.field_names import cgi_key
from .._http1.request import Request
from .._http1.request_head import Heads
from ..config import Config
from ..exceptions import RequestRejected
from .settings import setting

__all__ = ["FieldPolicy", "Judged", "LenientHeads", "mount", "trusts"]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_METHOD = re.compile(rb"(%s) " % _TOKEN)
# gunicorn's "nonstandard restriction, suitable for all IANA registered methods".
_UNCONVENTIONAL = re.compile(rb"[a-z#]")
_METHOD_LENGTHS = range(3, 21)
# Not before the first field: it would be folded onto the request line.
_FOLD = re.compile(rb"(?<=[^\r\n])[ \t]*\r\n[ \t]+")
_SPACED_NAME = re.compile(rb"(?m)^(%s)[ \t]+:" % _TOKEN)


class LenientHeads(Heads):
    """Heads with gunicorn's compatibility settings: methods in lower case, folded fields."""

    def __init__(self, config: Config, cfg: Any) -> None:
        super().__init__(config)
        self._any_method: bool = setting(cfg, "permit_unconventional_http_method")
        self._casefolds: bool = setting(cfg, "casefold_http_method")
        self._unfolds: bool = setting(cfg, "permit_obsolete_folding")
        self._strips: bool = setting(cfg, "strip_header_spaces")

    def parse(self, head: bytes) -> Request:
        match = _METHOD.match(head)
        if match is not None:
            method = match[1]
            if not self._any_method and (
                _UNCONVENTIONAL.search(method) or len(method) not in _METHOD_LENGTHS
            ):
                raise RequestRejected(400, f"Invalid HTTP method ({method[:20].decode()})")
            if self._casefolds:
                head = method.upper() + head[match.end() - 1 :]
        if self._unfolds or self._strips:
            head = self._repaired(head)
        return super().parse(head)

    def _repaired(self, head: bytes) -> bytes:
        line, end, fields = head.partition(b"\r\n")
        if self._unfolds:
            fields = _FOLD.sub(b" ", fields)
        if self._strips:
            fields = _SPACED_NAME.sub(rb"\1:", fields)
        return line + end + fields


class Judged(NamedTuple):
    """What is left of a request's fields, and what a trusted proxy says by them; None: nothing."""

    items: list[tuple[str, str]]
    scheme: str | None
    script_name: str | None


class FieldPolicy:
    """Which fields of whom reach an environ.

    A *forwarder* may say the scheme (``secure_scheme_headers``), and set fields whose names have
    underscores (``forwarder_headers``); of anybody else's the latter are dropped, refused or taken, as
    ``header_map`` says.  All threads use it; nobody changes it.
    """

    def __init__(self, cfg: Any) -> None:
        self._secure = {name.upper(): value for name, value in cfg.secure_scheme_headers.items()}
        self._secure_keys = frozenset(map(cgi_key, self._secure))
        self._forwarder = frozenset(setting(cfg, "forwarder_headers"))
        self._map = setting(cfg, "header_map")
        self._trusts = functools.lru_cache(maxsize=1024)(trusts(cfg.forwarded_allow_ips))

    def concerns(self, request: Request) -> bool:
        """Whether it matters whose fields these are.  Raises :exc:`~hangup.RequestRejected`."""
        if request.cgi is not None:  # No name has an underscore then, or comes twice.
            return not self._secure_keys.isdisjoint(request.cgi)
        concerned = False
        types = 0
        for name, _ in request.items:
            name = name.upper()
            if "_" in name or name in self._secure:
                concerned = True
            elif name == "CONTENT-TYPE":
                types += 1
        if types > 1:  # It has one value (RFC 9110 §8.3), and which of two is meant nobody knows.
            raise RequestRejected(400, "A request has one Content-Type field at the most")
        return concerned

    def judge(self, items: Iterable[tuple[str, str]], host: str) -> Judged:
        """``items`` as the peer ``host`` sent them, ``""`` by a unix socket.

        Raises :exc:`~hangup.RequestRejected`.
        """
        trusted = self._trusts(host)
        kept: list[tuple[str, str]] = []
        scheme = script_name = None
        for name, value in items:
            upper = name.upper()
            if trusted and upper in self._secure:
                said = "https" if value == self._secure[upper] else "http"
                if scheme is not None and said != scheme:
                    raise RequestRejected(400, "Contradictory scheme headers")
                scheme = said
            if "_" not in upper or self._takes(upper, trusted=trusted):
                kept.append((name, value))
                if upper == "SCRIPT_NAME" and trusted:
                    # A stranger's is a field like any other, whatever header_map says.
                    script_name = value
        return Judged(kept, scheme, script_name)

    def _takes(self, name: str, *, trusted: bool) -> bool:
        """Whether this name, with an underscore, is taken; it may be refused, too."""
        if trusted and (name in self._forwarder or "*" in self._forwarder):
            return True
        if self._map == "refuse":
            raise RequestRejected(400, f"Invalid HTTP header name ({name[:80]})")
        return bool(self._map == "dangerous")


def trusts(allowed: Iterable[Any]) -> Callable[[str], bool]:
    """Whether an address is a proxy's that may be believed; a unix socket's always is."""
    names = [str(one) for one in allowed]
    networks = [ipaddress.ip_network(name, strict=False) for name in names if name != "*"]

    def is_trusted(address: str) -> bool:
        if not address or "*" in names:
            return True
        try:
            return any(ipaddress.ip_address(address) in network for network in networks)
        except ValueError:
            return False

    return is_trusted


def mount(environ: dict[str, Any], script_name: str) -> bool:
    """Move ``script_name`` from ``PATH_INFO`` to ``SCRIPT_NAME``; False if that begins otherwise.

    A proxy may name it as it is, or percent-encoded as in the request's target; an environ has it
    decoded (PEP 3333).
    """
    path = environ["PATH_INFO"]
    script_name = script_name.rstrip("/")
    decoded = unquote_to_bytes(script_name.encode("latin-1")).decode("latin-1")
    for name in (script_name, decoded):
        if (path + "/").startswith(name + "/"):
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = name, path[len(name) :]
            return True
    return False
