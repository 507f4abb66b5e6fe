"""Request heads on a unix socket, whose clients may have a path where others have a host.

:mod:`http.client` and all that is built on it send what they were told to connect to, and that is the
socket's path.  By RFC 9110 §7.2 that is no Host; but there is nobody else on such a connection whom it
could mislead, and no other value that the client could have sent.
"""

import re
from typing import TYPE_CHECKING

from ..exceptions import RequestRejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import Request
    from .request_head import Heads

__all__ = ["PathHeads"]

_HOST = re.compile(rb"(?i)\r\nhost:[ \t]*(/[\x21-\x7e]*)[ \t]*(?=\r\n)")


class PathHeads:
    """:class:`~hangup._http1.request_head.Heads` that take a path for a Host.  Shared as they are."""

    def __init__(self, heads: "Heads | PathHeads") -> None:
        self._heads = heads
        self.check_beginning: Callable[[bytes, int], None] = heads.check_beginning

    def parse(self, head: bytes) -> "Request":
        """See :meth:`Heads.parse`."""
        try:
            return self._heads.parse(head)
        except RequestRejected:
            match = _HOST.search(head)
            if match is None:
                raise
        request = self._heads.parse(head[: match.start(1)] + b"localhost" + head[match.end(1) :])
        path = match[1].decode("ascii")
        return request.with_items(
            ((name, path if name.lower() == "host" else value) for name, value in request.items), head
        )
