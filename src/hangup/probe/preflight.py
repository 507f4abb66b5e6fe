"""What is looked at before the first client leaves: whether the target is there, and what it has."""

import ssl
import time

from .exceptions import ProbeError
from .paths import NEEDED
from .points import POINTS
from .trial import Setting, ask
from .visitor import Answer, Broken, Visitor

__all__ = ["look"]

#: Statuses of the plain path that are answers like others: who asks is not let in.
_FINE = {401, 403}
#: The least that a slow path works for, and the least that a long answer has, in seconds and in bytes.
_LEAST_WORK, _LEAST_LENGTH = 0.2, 1 << 20
#: What a kernel may take of an answer though nobody reads it.
_SWALLOWED = 8 << 20
#: Seconds after which a stream is taken for one without an end.
_ENDLESS = 3.0
#: Seconds that any first answer may take.
_FIRST = 30.0
_SAMPLES = 4


def look(setting: Setting) -> tuple[dict[str, str], list[str]]:
    """Look at what the target has; return the points that don't fit, with their reasons, and notes.

    What is found out about the paths is kept in ``setting``.  Raises :exc:`ProbeError` for a target that
    can't be probed.
    """
    return _Look(setting).run()


class _Look:
    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._paths = setting.paths
        self._notes: list[str] = []
        self._skipped: dict[str, str] = {}

    def run(self) -> tuple[dict[str, str], list[str]]:
        self._plain()
        for point in POINTS:
            if point.tls and not self._setting.place.tls:
                self._skipped[point.name] = "the target is not asked over TLS"
            elif not self._paths.has(point.path):
                self._skipped[point.name] = f"no {NEEDED[point.path]}"
        if self._paths.has("slow"):
            self._slow()
        if self._paths.has("large"):
            self._large()
        if self._paths.has("stream"):
            self._stream()
        if self._paths.has("upload"):
            self._upload()
        self._warm_up()
        self._sample_log()
        return self._skipped, self._notes

    def _plain(self) -> None:
        place = self._setting.place
        try:
            answer = self._answer("plain")
        except ConnectionRefusedError:
            raise ProbeError(
                f"nothing listens on {place.authority}: start the server, or give its command behind --"
            ) from None
        except ssl.SSLError as error:
            raise ProbeError(
                f"{place.authority} speaks no TLS that the probe understands ({error.reason}):"
                " is it an http:// URL?"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise ProbeError(f"{place.authority} does not answer: {reason}") from None
        except Broken as error:
            hint = "" if place.tls else "; does it speak TLS? (https://)"
            raise ProbeError(f"{place.authority} does not answer in HTTP: {error}{hint}") from None
        if answer.status >= 400 and answer.status not in _FINE:
            raise ProbeError(
                f"{self._paths.named['plain']} answers {answer.status}: give a URL whose path exists"
            )
        self._setting.status = answer.status

    def _slow(self) -> None:
        began = time.monotonic()
        self._checked("slow")
        work = time.monotonic() - began
        if work < _LEAST_WORK:
            raise ProbeError(
                f"{self._named('slow')} answers after {work:.2f} s: name a path that works for"
                f" {_LEAST_WORK:g} s at least, or nobody can leave meanwhile"
            )
        self._paths.work = work

    def _large(self) -> None:
        length = self._checked("large").got
        if length < _LEAST_LENGTH:
            raise ProbeError(
                f"{self._named('large')} answers with {length} bytes: name a path with 1 MiB at least,"
                " or nobody can leave in its midst (16 MiB are better)"
            )
        if length < _SWALLOWED:
            self._notes.append(
                f"{self._paths.named['large']} answers with {length / (1 << 20):.1f} MiB: the kernel may"
                " take that whole, and the server not notice who left in its midst."
            )
        self._paths.lengths["large"] = length

    def _stream(self) -> None:
        began = time.monotonic()
        with Visitor(self._setting.place, _FIRST) as visitor:
            try:
                visitor.connect()
                visitor.send(visitor.head("GET", self._paths.of("stream")))
                self._check_status("stream", visitor.read_head())
                visitor.read_some(1)
                visitor.hurry(_ENDLESS)
                self._paths.lengths["stream"] = visitor.read_answer().got
            except TimeoutError:
                if visitor.answer is None or not visitor.answer.got:
                    raise ProbeError(f"{self._named('stream')} sends nothing in {_FIRST:g} s") from None
                self._paths.lengths["stream"] = None
            except (OSError, Broken) as error:
                raise ProbeError(f"{self._named('stream')} is not answered: {error}") from None
        self._paths.streaming = time.monotonic() - began

    def _upload(self) -> None:
        self._checked("upload", "POST", ["Content-Length: 5"], b"hello")
        try:
            answer = self._answer(
                "upload", "POST", ["Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n"
            )
            if answer.status < 400:
                return
            reason = f"{self._paths.named['upload']} answers {answer.status} to a chunked body"
        except (OSError, Broken) as error:
            reason = f"{self._paths.named['upload']} does not answer to a chunked body: {error}"
        self._skipped["upload-chunked"] = reason

    # -- asking

    def _answer(
        self, use: str, method: str = "GET", fields: list[str] | None = None, body: bytes = b""
    ) -> Answer:
        with Visitor(self._setting.place, _FIRST) as visitor:
            visitor.connect()
            head = visitor.head(method, self._paths.of(use), *(fields or []), "Connection: close")
            visitor.send(head + body)
            return visitor.read_answer()

    def _checked(
        self, use: str, method: str = "GET", fields: list[str] | None = None, body: bytes = b""
    ) -> Answer:
        try:
            answer = self._answer(use, method, fields, body)
        except (OSError, Broken) as error:
            raise ProbeError(f"{self._named(use)} is not answered: {error}") from None
        self._check_status(use, answer)
        return answer

    def _check_status(self, use: str, answer: Answer) -> None:
        if answer.status >= 400:
            raise ProbeError(
                f"{self._named(use)} answers {answer.status}: name a path that exists, or leave it out"
            )

    def _named(self, use: str) -> str:
        return f"{NEEDED[use]} {self._paths.named[use]}"

    # -- getting used to it

    def _warm_up(self) -> None:
        """Have as many clients at once as there will be, for pools to fill, and threads to start."""
        use = "slow" if self._paths.has("slow") else "plain"
        for _ in range(2):
            visitors = [Visitor(self._setting.place, _FIRST) for _ in range(self._setting.repeat + 1)]
            try:
                for visitor in visitors:
                    visitor.connect()
                    visitor.send(visitor.head("GET", self._paths.of(use)))
                for visitor in visitors:
                    visitor.read_answer()
            except (OSError, Broken) as error:
                raise ProbeError(
                    f"of {len(visitors)} clients at once not all are answered: {error}"
                ) from None
            finally:
                for visitor in visitors:
                    visitor.close()

    def _sample_log(self) -> None:
        """How many lines the log has for each healthy request."""
        log = self._setting.log
        log.wait_quiet(0.3, 3.0)
        position = log.position()
        for _ in range(_SAMPLES):
            ask(self._setting, _FIRST)
        log.wait_quiet(0.3, 3.0)
        self._setting.lines_each = len(log.since(position)) / _SAMPLES
