"""The errors that hangup raises.

::

    OSError
     └─ ConnectionError
         ├─ BrokenPipeError ────────┐
         ├─ ConnectionResetError ───┼─ ClientDisconnected   the client's doing: an ordinary event
         └─ ConnectionAbortedError ─┘
    Exception
     └─ HangupError
         ├─ RequestRejected                                      the client's doing: carries the answer
         ├─ BodyTimeout (also a TimeoutError)               the client's doing: its body stopped
         └─ ConfigError (also a ValueError)                 the operator's doing
    RuntimeError
     └─ WSGIError                                           the application's doing
"""

import errno

__all__ = [
    "BodyTimeout",
    "ClientDisconnected",
    "ConfigError",
    "HangupError",
    "RequestRejected",
    "WSGIError",
]


class ClientDisconnected(BrokenPipeError, ConnectionResetError, ConnectionAbortedError):
    """The client disconnected before its response was complete.

    It is each of the three errors that people already catch around a socket, so every ``except``
    clause that has been written for a departed client matches it.  ``errno`` is ``EPIPE`` unless
    the operating system gave another.
    """

    def __init__(self, why: str = "the client disconnected", errno_: int = errno.EPIPE) -> None:
        super().__init__(errno_, why)


class HangupError(Exception):
    """The base of the errors that are hangup's own."""


class RequestRejected(HangupError):
    """A request that hangup refuses to hand to anybody.

    A program may raise it, too.  ``status`` is the answer's status code, 400 to 599; ``reason`` is what
    its client is told.  Any text may be in it, a client's own too: what a status line can't carry is
    left out when it is sent (RFC 9112 §4).

    Raises :exc:`ValueError` for a status that is no error.
    """

    def __init__(self, status: int, reason: str) -> None:
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise ValueError(f"a refusal's status is 400 to 599 (RFC 9110 §15), not {status!r}")
        super().__init__(f"{status:d} {reason}")
        self.status = int(status)
        self.reason = str(reason)


class BodyTimeout(HangupError, TimeoutError):
    """No byte of a request's body came within the time that the server, or the handler, allows."""


class ConfigError(HangupError, ValueError):
    """A setting has a value that can't work; the message names both and says what would."""


class WSGIError(RuntimeError):
    """An application does what PEP 3333 rules out; the message says what."""
