"""Where the records of requests go: to each sink, and to the access log."""

from collections.abc import Callable, Sequence
from threading import current_thread, main_thread

from .._logging.repeated import Trouble
from ..records import RequestRecord

__all__ = ["Sinks"]

_Sink = Callable[[RequestRecord], None]


class Sinks:
    """Those who want to know of each request's end.  Any thread calls :meth:`emit`."""

    def __init__(self, sinks: Sequence[_Sink] = (), access_sink: _Sink | None = None) -> None:
        self.sinks = sinks
        self._access_sink = access_sink
        #: Whether anybody wants to know: a record costs half a microsecond.
        self.are_there = bool(sinks) or access_sink is not None
        #: Does the program write its own log? Then what never reached a handler is not in it.
        self.program_logs = False
        # By sink. Of the dict only single operations are used, each atomic.
        self._troubles: dict[int, Trouble] = {}

    def emit(self, record: RequestRecord, *, reported: bool, handled: bool) -> None:
        """A request has ended: its record goes to all who want to know.

        ``reported`` says that its handler has written its own line, ``handled`` that one was called.
        """
        for sink in self.sinks:
            self._call(sink, "a sink", record)
        told_by_program = reported or (self.program_logs and not handled)
        if self._access_sink is not None and not told_by_program:
            self._call(self._access_sink, "the access log", record)

    def _call(self, sink: _Sink, what: str, record: RequestRecord) -> None:
        """One that fails costs nobody anything, and the log a line now and then, without the record."""
        try:
            sink(record)
        except BaseException as error:
            if not isinstance(error, Exception) and current_thread() is main_thread():
                raise  # Ctrl-C, or sys.exit(), in a server whose handlers run there.
            self._troubles.setdefault(id(sink), Trouble(what, "records")).failed(error)
        else:
            if self._troubles and (trouble := self._troubles.get(id(sink))) is not None:
                trouble.over()
