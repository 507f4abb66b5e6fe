"""Every limit that hangup keeps, with its unit and its default.

One frozen object, made once and only read afterwards, so threads share it without a lock.
"""

import dataclasses
import math
import os
import sys
from typing import Any, Self

from .exceptions import ConfigError

__all__ = ["RENAMED", "Config", "refuse_old_variables", "size_limit"]

#: What settings of 0.1.0 are called since 0.2.0.
RENAMED = {
    "max_head": "max_request_header_size",
    "max_field": "max_request_field_size",
    "max_fields": "max_request_fields",
    "max_body": "max_request_body_size",
    "max_request_line": "max_request_line_size",
    "head_timeout": "request_header_timeout",
    "keepalive_idle": "tcp_keepalive_idle",
    "min_rate": "min_data_rate",
    "min_rate_under_load": "min_data_rate_under_load",
    "long_wait": "lifo_threshold",
    "body_ahead": "body_prefetch",
    "grace": "graceful_timeout",
    "unix": "uds",
}


def refuse_old_variables() -> None:
    """Raises :exc:`~hangup.ConfigError` if the environment sets what has another name now."""
    for old, new in RENAMED.items():
        if (variable := f"HANGUP_{old.upper()}") in os.environ:
            raise ConfigError(f"{variable} is now called HANGUP_{new.upper()}")


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
        "help": f"{text}; 0: unlimited" if unlimited else text,
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
        "Threads that handle requests, at the most",
        least=1,
    )
    max_queue: int = _setting(
        # More wait for no good: the newest go first by then, and the oldest wait in vain.
        1024,
        "Requests that may wait for a thread; beyond that: 503",
    )
    lifo_threshold: float = _setting(
        # A wait that a person doesn't notice. Beyond it the queue grows faster than it is served.
        0.1,
        "Queueing delay (seconds) above which the newest request is served first",
    )
    max_connections: int = _setting(
        # Whoever reaches the descriptors' limit can't open a file either.
        0,
        "Open connections, at the most; 0: as many as the limit of descriptors allows",
    )
    max_requests: int = _setting(
        # Balancers in front of many servers want connections to move; nobody else needs it.
        0,
        "Requests on one connection before it is closed; 0: unlimited",
    )
    backlog: int = _setting(
        # The standard library's 5 loses connections in any burst; the kernel caps it at somaxconn.
        1024,
        "Connections that the kernel queues before they are accepted",
        least=1,
    )
    max_request_line_size: int = _setting(
        # http.server's own figure (longer: 414).
        65536,
        "Bytes of a request line, its line end included; beyond that: 414",
        least=64,
        unlimited=True,
    )
    max_request_header_size: int = _setting(
        # Go's net/http's figure: single sign-on and Kerberos put tens of kilobytes into one field, and
        # http.server and gunicorn take some 100 such fields (more: 431).
        1024**2,
        "Bytes of a request's header fields together; beyond that: 431",
        least=256,
        unlimited=True,
    )
    max_request_fields: int = _setting(
        # http.client._MAXHEADERS, which http.server applies (more: 431).
        100,
        "Header fields of a request; beyond that: 431",
        least=1,
        unlimited=True,
    )
    max_request_field_size: int = _setting(
        # http.server's own figure again (longer: 431).
        65536,
        "Bytes of one header field; beyond that: 431",
        least=64,
        unlimited=True,
    )
    max_request_body_size: int = _setting(
        # waitress's and Apache's own figure (longer: 413).
        1024**3,
        "Bytes of a request's body; beyond that: 413",
        least=1,
        unlimited=True,
    )
    body_prefetch: int = _setting(
        # One read's worth. nginx and waitress wait for whole bodies, on disk; this bounds the memory.
        65536,
        "Bytes of a request's body to receive before its handler is called; 0: none",
    )
    max_discarded_body: int = _setting(
        # What a handler left unread is read and dropped up to here, so that the connection can be
        # kept; beyond it, a new connection is cheaper. Go's net/http uses the same 256 KiB.
        256 * 1024,
        "Bytes of an unread request body to discard in order to keep the connection",
    )
    request_header_timeout: float = _setting(
        30.0,
        "Seconds for a request's header to arrive",
        least=0.01,
    )
    handshake_timeout: float = _setting(
        # A handshake is two round trips; five over a bad line, with its losses.
        10.0,
        "Seconds for a TLS handshake",
        least=0.01,
    )
    keep_alive_timeout: float = _setting(
        # nginx's keepalive_timeout; an idle connection costs memory alone.
        75.0,
        "Seconds that an idle connection is kept open",
        least=0.01,
    )
    body_timeout: float = _setting(
        60.0, "Seconds without a byte of a request's body, while its handler waits for it", least=0.01
    )
    write_timeout: float = _setting(
        60.0, "Seconds without progress while a response is sent", least=0.01
    )
    min_data_rate: float = _setting(
        # Kestrel's figure; a modem is ten times as fast.
        240.0,
        "Bytes per second below which a client that is waited for is disconnected; 0: any",
    )
    min_data_rate_under_load: float = _setting(
        # Less than a slow mobile connection. It matters only where every thread is taken.
        16384.0,
        "The same while requests wait for a thread; 0: any",
    )
    max_held_output: int = _setting(
        # A handful of large downloads; beyond it, a thread waits for its client.
        64 * 1024 * 1024,
        "Bytes of responses to hold in memory for clients that read slowly",
    )
    linger_timeout: float = _setting(
        # Apache's and nginx's lingering closes use 2 and 5 s.
        2.0,
        "Seconds without a byte after which a lingering close ends",
        least=0.01,
    )
    linger_time: float = _setting(
        # nginx's lingering_time. Who uploads megabytes reads a 413 only when it has sent them all.
        30.0,
        "Seconds after which a lingering close ends in any case",
        least=0.01,
    )
    thread_idle_timeout: float = _setting(10.0, "Seconds after which an idle thread ends", least=0.01)
    half_close: str = _setting(
        # A client that closes its sending side alone is rare, one that leaves is not; and neither
        # is refused its answer.
        "signal",
        "Whether a FIN alone means that the client has disconnected",
        choices=("signal", "ignore"),
    )
    tcp_keepalive_idle: int = _setting(
        # With three probes, 5 s apart, a peer that vanished is noticed within half a minute.
        15,
        "Seconds of silence before TCP keep-alive probes; 0: none",
    )

    def __new__(cls, **settings: Any) -> Self:
        for name in settings.keys() & RENAMED.keys():
            raise TypeError(f"{name} is now called {RENAMED[name]}")
        return object.__new__(cls)

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
