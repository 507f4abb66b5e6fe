"""The server's own loggers: ``hangup``, its log of errors, and ``hangup.access``.

They are a library's where hangup is one: what they say propagates, and the program decides.  Where the
server is the program (``hangup serve``), they have a handler of their own, and the root logger is the
application's alone.

Applications configure logging when they are imported, in a factory, at a first request; and
``disable_existing_loggers``, which is true unless they say otherwise, would silence the server, which
they did not mean.
"""

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

from .._http1.escape import printable
from .line_writer import LineWriter, stderr_writer

__all__ = ["ErrorFormatter", "has_own_handler", "log", "log_errors_to", "protect"]


class _Protected(logging.Logger):
    """Keeps what :func:`logging.config.dictConfig` does to loggers that its configuration doesn't name.

    Whoever names such a logger, or sets anything on it, is obeyed.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not _is_incidental():
            super().__setattr__(name, value)

    def setLevel(self, level: int | str) -> None:  # noqa: N802
        if not _is_incidental():
            super().setLevel(level)

    def hasHandlers(self) -> bool:  # noqa: N802
        """Whether anybody listens but the last resort."""
        logger: logging.Logger | None = self
        while logger is not None:
            if has_own_handler(logger):
                return True
            logger = logger.parent if logger.propagate else None
        return False


def _is_incidental() -> bool:
    """Whether the caller was called by what treats the loggers that a configuration does not name."""
    frame = sys._getframe(2)  # noqa: SLF001
    return (
        frame.f_code.co_name == "_handle_existing_loggers"
        and frame.f_globals.get("__name__") == "logging.config"
    )


def protect(name: str) -> logging.Logger:
    """The logger of that name, which outlives a configuration that does not name it."""
    logger = logging.getLogger(name)
    cls = type(logger)
    if not issubclass(cls, _Protected):
        # It may be there already, and of a class that the program has chosen.
        protected = _Protected if cls is logging.Logger else type(cls.__name__, (_Protected, cls), {})
        logger.__class__ = protected
    return logger


class _LastResort(logging.Handler):
    """What :data:`logging.lastResort` does where no logging is set up, and without waiting."""

    def emit(self, record: logging.LogRecord) -> None:
        if not log.hasHandlers():
            stderr_writer().write(self.format(record) + "\n")

    def close(self) -> None:
        """Nothing: :mod:`logging.config` closes all handlers that there are, not only its own."""


_last_resort = _LastResort(logging.WARNING)


def has_own_handler(logger: logging.Logger) -> bool:
    """Whether somebody has put a handler there."""
    return any(handler is not _last_resort for handler in logger.handlers)


log = protect("hangup")


class ErrorFormatter(logging.Formatter):
    """Lines that nobody else can forge, with whatever a client has sent in them.

    A message is one line, and what can't be printed is escaped in it.  The lines of a traceback stay
    lines, but those that come from an exception's text are indented.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        told = traceback.TracebackException(*ei)
        return printable("".join(map(_indented, told.format())).rstrip("\n"), keep="\n")


def _indented(part: str) -> str:
    """A part of a traceback: what follows its first line may be anybody's."""
    if part.startswith(("\n", " ")):
        return part  # Between two exceptions, or a frame.
    first, *others = part.rstrip("\n").split("\n")
    return "\n".join((first, *(f"    {line}" for line in others))) + "\n"


class _ErrorHandler(logging.StreamHandler[Any]):
    """The server's own handler of ``hangup``."""

    def close(self) -> None:
        """Nothing: :mod:`logging.config` closes all handlers that there are, not only its own."""


@contextlib.contextmanager
def log_errors_to(stream: TextIO | None, level: str) -> Iterator[None]:
    """Within the block ``hangup`` has a handler of its own, and the root logger hears nothing of it.

    A stream that nobody reads stops nobody: see :class:`~hangup._logging.line_writer.LineWriter`.
    """
    writer = LineWriter(stream, "the error log", is_log=True, prompt=True)
    handler = _ErrorHandler(writer)
    handler.setFormatter(ErrorFormatter())
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        level_before, log.propagate = before
        log.setLevel(level_before)
        writer.close()


_last_resort.setFormatter(ErrorFormatter())
log.addHandler(_last_resort)
