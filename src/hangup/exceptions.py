"""The errors that hangup raises.

::

    OSError
     └─ ConnectionError
         ├─ BrokenPipeError ────────┐
         ├─ ConnectionResetError ───┼─ ClientDisconnected   the client's doing: an ordinary event
         └─ ConnectionAbortedError ─┘
    Exception
     └─ HangupError
         ├─ BadRequest                                      the client's doing: carries the answer
         ├─ BodyTimeout (also a TimeoutError)               the client's doing: its body stopped
         └─ ConfigError (also a ValueError)                 the operator's doing
"""

import errno

__all__ = ["BadRequest", "BodyTimeout", "ClientDisconnected", "ConfigError", "HangupError"]


class ClientDisconnected(BrokenPipeError, ConnectionResetError, ConnectionAbortedError):
    """The client left before its answer was complete.

    It is each of the three errors that people already catch around a socket, so every ``except``
    clause that has been written for a departed client matches it.  ``errno`` is ``EPIPE`` unless
    the operating system gave another.
    """

    def __init__(self, why: str = "the client left", errno_: int = errno.EPIPE) -> None:
        super().__init__(errno_, why)


class HangupError(Exception):
    """The base of the errors that are hangup's own."""


class BadRequest(HangupError):
    """A request that hangup refuses to hand to anybody.

    ``status`` is the answer's status code, ``reason`` one line of text that is safe to send.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


class BodyTimeout(HangupError, TimeoutError):
    """No byte of a request's body came within the time that the server, or the handler, allows."""


class ConfigError(HangupError, ValueError):
    """A setting has a value that can't work; the message names both and says what would."""
