"""``docs/programs.md``: what the comparison found, as tables."""

import platform
from dataclasses import dataclass, field
from typing import Any

from differences import FACTS, SECONDS, Difference, Verdict
from suites import KNOWN

#: What stands in a program's results and is no check.
NO_CHECK = (*FACTS, *SECONDS)
HEAD = """# Programs, side by side

Programs that were written for `http.server`, `wsgiref` and `xmlrpc.server`, run twice: by `python …`,
and by `hangup run …`, nothing else changed. Clients ask the same of both: GET, HEAD, pages that are
not there, methods that are not there, several requests on a connection, twenty clients at once,
uploads with a Content-Length, in chunks and with `Expect: 100-continue`, ranges; curl, requests,
urllib3, and the client that a program has (`git`, `hg`, boto3, `xmlrpc.client`, a calendar's). Some
twenty clients disconnect at each point of a request, by FIN and by RST. A file of the program is
changed where it reloads itself. Ctrl-C and SIGTERM come while a client is connected, and the program
is started again on its port at once.

`make programs` does it again, in a quarter of an hour, and writes this page ({python}, {system}); `make
programs ARGS="--programs flask"` runs some and writes nothing.
"""
PROGRAMS = """
## Programs

*checks*: how many there are, and how many of them *differ*, in a status, a header field, a body, an exit
status or an effect, or differ *by design*, as listed below. What is better with hangup (a response where
there was none, fewer tracebacks) is no difference. *tracebacks*: what the disconnects leave in the
output. *hangup's*: whether its server (the event loop) and its handler serve the program. A program that
accepts its connections itself (`get_request`, `process_request` or `handle_request()` in a loop of its
own) has the standard library's loop with hangup's handler.

| program | version | checks | differ | by design | tracebacks: python | hangup run | hangup's |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |
"""
SUITES = """
## Test suites

The tests of each project's source distribution, run by `python -m pytest` and by `hangup run -m
pytest`.

| suite | version | python: passed | failed | hangup run: passed | failed | failed only with hangup |
| --- | --- | ---: | ---: | ---: | ---: | --- |
"""


@dataclass(frozen=True, slots=True)
class ProgramFound:
    """``failed`` says why there are no results."""

    title: str
    version: str
    plain: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    failed: str = ""

    @property
    def worse(self) -> list[Difference]:
        return [each for each in self.differences if each.verdict is Verdict.WORSE]

    @property
    def bad(self) -> bool:
        """Something is worse, it does not run, or nothing of hangup serves it."""
        served = any(self.ours.get(name) for name in FACTS)
        return bool(self.failed or self.worse or not served)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Checks: how many there are, how many differ, and how many differ as it is meant."""
        checks = [name for name in {**self.plain, **self.ours} if name not in NO_CHECK]

        def differ(verdict: Verdict) -> set[str]:
            places = [each.where for each in self.differences if each.verdict is verdict]
            return {
                name
                for name in checks
                if any(place == name or place.startswith((f"{name}.", f"{name}[")) for place in places)
            }

        worse = differ(Verdict.WORSE)
        return len(checks), len(worse), len(differ(Verdict.MEANT) - worse)

    @property
    def serves(self) -> str:
        server, handler = (self.ours.get(f"hangup's {part}") for part in ("server", "handler"))
        again = self.ours.get("hangup's server after the reload")
        parts = [name for name, has in (("server", server), ("handler", handler)) if has]
        if again is not None and bool(again) != bool(server):
            parts.append("after the reload " + ("too" if again else "no more"))
        return ", ".join(parts) or "**nothing**"

    def row(self) -> str:
        if self.failed:
            return f"| {self.title} | {self.version} | {self.failed} | | | | | |"
        before, after = (
            found.get("tracebacks of disconnects", "?") for found in (self.plain, self.ours)
        )
        cells = (self.title, self.version, *self.counts, before, after, self.serves)
        return f"| {' | '.join(map(str, cells))} |"


@dataclass(frozen=True, slots=True)
class SuiteFound:
    title: str
    version: str
    plain: dict[str, str] = field(default_factory=dict)
    ours: dict[str, str] = field(default_factory=dict)
    failed: str = ""

    @property
    def bad(self) -> bool:
        return bool(self.failed or self.worse)

    @property
    def worse(self) -> list[str]:
        """The tests that pass, but not with hangup, and nobody knows why."""
        return [name for name in self.lost if not self.reason(name)]

    @property
    def lost(self) -> list[str]:
        """The tests that pass, but not with hangup."""
        return [
            name
            for name, outcome in self.plain.items()
            if outcome == "passed" and self.ours.get(name) != "passed"
        ]

    @staticmethod
    def reason(name: str) -> str:
        """Why a test can't pass; "" if that isn't known."""
        return next((why for test, why in KNOWN.items() if name.endswith(test)), "")

    def row(self) -> str:
        if self.failed:
            return f"| {self.title} | {self.version} | {self.failed} | | | | |"
        counts = [
            str(list(found.values()).count(outcome))
            for found in (self.plain, self.ours)
            for outcome in ("passed", "failed")
        ]
        names = "; ".join(
            f"`{name.rpartition('::')[2]}`" + (f": {why}" if (why := self.reason(name)) else "")
            for name in self.lost
        )
        return f"| {self.title} | {self.version} | {' | '.join(counts)} | {names or 'none'} |"


def lines_of_differences(found: list[ProgramFound]) -> list[str]:
    """What differs and is meant, by reason; then what differs and is not."""
    meant: dict[str, dict[str, None]] = {}
    for program in found:
        for each in program.differences:
            if each.verdict is Verdict.MEANT:
                meant.setdefault(each.reason, {})[program.title] = None
    lines = ["\n## What differs\n"]
    lines += [f"- {reason}: {'; '.join(programs)}." for reason, programs in meant.items()]
    for program in found:
        lines += [
            f"- **{program.title}**: {each.where}: `{each.one}` became `{each.other}`".replace("\n", " ")
            for each in program.worse[:5]
        ]
    return lines if len(lines) > 1 else []


def report(programs: list[ProgramFound], suites: list[SuiteFound]) -> str:
    text = HEAD.format(python=f"Python {platform.python_version()}", system=platform.system())
    text += PROGRAMS + "\n".join(each.row() for each in programs) + "\n"
    text += "\n".join(lines_of_differences(programs)) + "\n"
    return text + SUITES + "\n".join(each.row() for each in suites) + "\n"
