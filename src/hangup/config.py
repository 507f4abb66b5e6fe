"""Every limit that hangup keeps, with its unit and its default.

One frozen object, made once and only read afterwards, so threads share it without a lock.
"""

import dataclasses
import math
import sys
from typing import Any

from .exceptions import ConfigError

__all__ = ["Config", "size_limit"]


def size_limit(setting: int) -> int:
    """A limit as a number that can be compared with: 0 stands for none."""
    return setting or sys.maxsize


def _setting(
    default: Any,
    text: str,
    *,
    least: float = 0,
    most: float = math.inf,
    choices: tuple[str, ...] = (),
    unlimited: bool = False,
) -> Any:
    """A field.  With ``unlimited``, 0 means that there is no limit, as it does to gunicorn."""
    metadata = {
        "help": f"{text} (0: any)" if unlimited else text,
        "least": 0 if unlimited else least,
        "least_limit": least,
        "most": most,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The limits of a server.  Times are in seconds, sizes in bytes.

    Raises :exc:`~hangup.ConfigError` for a value of the wrong type or outside its range.
    """

    max_threads: int = _setting(
        # ThreadingHTTPServer promises a thread to each slow request. Threads are made on demand
        # and retired when idle, so the number only bounds the memory of a bad day.
        1000,
        "handlers that may run at one time",
        least=1,
    )
    max_queue: int = _setting(
        # More wait for no good: the newest go first by then, and the oldest wait in vain.
        1024,
        "requests that wait for a thread (more: 503)",
    )
    long_wait: float = _setting(
        # A wait that a person doesn't notice. Beyond it the queue grows faster than it is served.
        0.1,
        "that the oldest request may have waited before the newest go first",
    )
    max_connections: int = _setting(
        # Whoever reaches the descriptors' limit can't open a file either.
        0,
        "connections that may be open (0: as many as descriptors allow, with some to spare)",
    )
    max_requests: int = _setting(
        # Balancers in front of many servers want connections to move; nobody else needs it.
        0,
        "requests that one connection may carry (0: any number)",
    )
    backlog: int = _setting(
        # The standard library's 5 loses connections in any burst; the kernel caps it at somaxconn.
        1024,
        "connections that the kernel queues before they are accepted",
        least=1,
    )
    max_request_line: int = _setting(
        # http.server's own figure (longer: 414).
        65536,
        "length of a request line, its line end included",
        least=64,
        unlimited=True,
    )
    max_head: int = _setting(
        # Go's net/http's figure: single sign-on and Kerberos put tens of kilobytes into one field, and
        # http.server and gunicorn take some 100 such fields (more: 431).
        1024**2,
        "length of a request's header fields together",
        least=256,
        unlimited=True,
    )
    max_fields: int = _setting(
        # http.client._MAXHEADERS, which http.server applies (more: 431).
        100,
        "number of a request's header fields",
        least=1,
        unlimited=True,
    )
    max_field: int = _setting(
        # http.server's own figure again (longer: 431).
        65536,
        "length of one header field",
        least=64,
        unlimited=True,
    )
    max_body: int = _setting(
        # waitress's and Apache's own figure (longer: 413).
        1024**3,
        "length of a request's body",
        least=1,
        unlimited=True,
    )
    body_ahead: int = _setting(
        # One read's worth. nginx and waitress wait for whole bodies, on disk; this bounds the memory.
        65536,
        "part of a request's body that is received before its handler begins (0: none)",
    )
    max_discarded_body: int = _setting(
        # What a handler left unread is read and dropped up to here, so that the connection can be
        # kept; beyond it, a new connection is cheaper. Go's net/http uses the same 256 KiB.
        256 * 1024,
        "unread request body that is discarded to keep a connection alive",
    )
    head_timeout: float = _setting(
        30.0,
        "from a connection's first byte, or its opening, to the end of a request's head",
        least=0.01,
    )
    handshake_timeout: float = _setting(
        # A handshake is two round trips; five over a bad line, with its losses.
        10.0,
        "from a connection's opening to the end of its TLS handshake",
        least=0.01,
    )
    keep_alive_timeout: float = _setting(
        # nginx's keepalive_timeout; an idle connection costs memory alone.
        75.0,
        "that an idle connection is kept",
        least=0.01,
    )
    body_timeout: float = _setting(
        60.0, "without a byte of a request's body while its handler waits for one", least=0.01
    )
    write_timeout: float = _setting(60.0, "without progress while an answer is sent", least=0.01)
    min_rate: float = _setting(
        # Kestrel's figure; a modem is ten times as fast.
        240.0,
        "bytes a second that a client must send or read while it is waited for (0: any)",
    )
    min_rate_under_load: float = _setting(
        # Less than a slow mobile connection. It matters only where every thread is taken.
        16384.0,
        "bytes a second that a client must send or read while requests wait for its thread (0: any)",
    )
    max_held_output: int = _setting(
        # A handful of large downloads; beyond it, a thread waits for its client.
        64 * 1024 * 1024,
        "bytes of responses that are held in memory for clients that read slowly",
    )
    linger_timeout: float = _setting(
        # Apache's and nginx's lingering closes use 2 and 5 s.
        2.0,
        "that a connection which the server closes is drained, lest an RST destroy the answer",
        least=0.01,
    )
    linger_time: float = _setting(
        # nginx's lingering_time. Who uploads megabytes reads a 413 only when it has sent them all.
        30.0,
        "in all that such a connection is drained",
        least=0.01,
    )
    thread_idle_timeout: float = _setting(
        10.0, "that a thread without work waits for some before it ends", least=0.01
    )
    half_close: str = _setting(
        # A client that closes its sending side alone is rare, one that leaves is not; and neither
        # is refused its answer.
        "signal",
        "what FIN alone says: that the client has left (signal), or nothing (ignore)",
        choices=("signal", "ignore"),
    )
    keepalive_idle: int = _setting(
        # With three probes, 5 s apart, a peer that vanished is noticed within half a minute.
        15,
        "of silence before the kernel probes whether the peer is there (0: never)",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check(field)

    def _check(self, field: "dataclasses.Field[Any]") -> None:
        value = getattr(self, field.name)
        if choices := field.metadata["choices"]:
            if value not in choices:
                raise ConfigError(f"{field.name} must be one of {', '.join(choices)}, not {value!r}")
            return
        kinds = (int, float) if field.type is float else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds):
            wanted = "a number" if field.type is float else "a whole number"
            raise ConfigError(f"{field.name} must be {wanted}, not {value!r}")
        least, most = field.metadata["least_limit"], field.metadata["most"]
        if not least <= value <= most and (value != 0 or field.metadata["least"] != 0):
            raise ConfigError(f"{field.name} must be at least {least:g}, not {value!r}")
