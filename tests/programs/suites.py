"""Test suites of other projects, on the standard library's classes and on hangup's.

A suite is the tests of a source distribution, in the version that is installed, or CPython's own.
``hangup run -m pytest`` swaps hangup's classes in.  litmus, which tests WebDAV servers, is a program
(Debian: apt install litmus).
"""

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from exchanges import HOST

from process import NotServing, Process, free_port

#: Seconds that one suite, and one test, may take.
LONGEST, ONE = 600, 60
#: Where source distributions are kept.
CACHE = Path(sys.executable).parent.parent / "suites"

#: Tests that can't pass, by the end of their names, and why that is right.
KNOWN = {
    "test_serving::test_untrusted_host": "a target with a fragment is refused (RFC 9112 §3.2)",
    "test_serving::test_chunked_request[True]": (
        "a Content-Length beside chunked is refused: so requests are smuggled (RFC 9112 §6.3)"
    ),
    "test_serving::test_multiple_headers_concatenated": (
        "white space at the end of a line is no part of its value (RFC 9110 §5.5)"
    ),
    "test_serving::test_multiline_header_folding": "folded lines are refused (RFC 9112 §5.2)",
}

#: Outcomes by the test's name: passed, failed or skipped.
Outcomes = dict[str, str]


class NoSuite(Exception):
    """The suite can't be had, or does not run; the text says why."""


@dataclass(frozen=True, slots=True)
class Suite:
    title: str
    distribution: str
    #: What pytest is given, in the folder of the source distribution.
    tests: tuple[str, ...]

    @property
    def version(self) -> str:
        if not self.distribution:
            return sys.version.split()[0]
        return importlib.metadata.version(self.distribution)


@dataclass(frozen=True, slots=True)
class Litmus:
    """litmus against ``wsgidav --server SERVER``."""

    title: str
    server: str

    @property
    def version(self) -> str:
        return importlib.metadata.version("wsgidav")


CPYTHON = ("test.test_xmlrpc", "test.test_docxmlrpc", "test.test_wsgiref", "test.test_urllib2_localnet")
#: Not those that connect to an address outside of this machine.
LOOPBACK = "not (test_connect_timeout or test_total_timeout_connect)"
SUITES: tuple[Suite | Litmus, ...] = (
    Suite("prometheus_client", "prometheus_client", ("tests",)),
    Suite("pytest-httpserver", "pytest_httpserver", ("tests",)),
    Suite("pytest-httpbin", "pytest_httpbin", ("tests",)),
    Suite("requests, on pytest-httpbin", "requests", ("tests", "-k", LOOPBACK)),
    Suite("Werkzeug, test_serving", "werkzeug", ("tests/test_serving.py",)),
    Litmus("litmus, wsgidav on ext-wsgiutils", "ext-wsgiutils"),
    Litmus("litmus, wsgidav on wsgiref", "wsgiref"),
    Suite("CPython: xmlrpc, docxmlrpc, wsgiref, urllib", "", ("--pyargs", *CPYTHON)),
)


def source(suite: Suite) -> Path:
    """The folder of its source distribution, fetched if need be."""
    pin = f"{suite.distribution}=={suite.version}"
    kept = CACHE / pin.replace("==", "-")
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
            command = [*pip, "--no-binary", suite.distribution, pin]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            archives = list(Path(folder).glob("*.tar.gz"))
            if not archives:
                raise NoSuite(
                    f"its source can't be had: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
                )
            with tarfile.open(archives[0]) as archive:
                archive.extractall(Path(folder) / "unpacked", filter="data")
            kept.parent.mkdir(exist_ok=True)
            shutil.move(next((Path(folder) / "unpacked").iterdir()), kept)
    return kept


def pytest(suite: Suite, folder: Path, log: Path, *, hangup: bool) -> Outcomes:
    """Its tests in a copy of the source."""
    if suite.distribution:
        shutil.copytree(source(suite), folder, dirs_exist_ok=True)
    report = folder / "report.xml"
    command = [sys.executable, *(("-m", "hangup", "run") if hangup else ()), "-m", "pytest"]
    command += ["-q", "-p", "no:cacheprovider", f"--timeout={ONE}", f"--junitxml={report}", *suite.tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with open(log, "w") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            raise NoSuite(f"it did not end in {LONGEST} s") from None
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
    if not report.exists():
        raise NoSuite((log.read_text().strip().splitlines() or ["it does not run"])[-1])
    return outcomes(report, str(folder))


def outcomes(report: Path, folder: str) -> Outcomes:
    """What pytest's report in JUnit's format says of each test."""
    found: Outcomes = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}".replace(folder, "…")
        tags = {child.tag for child in case}
        outcome = (
            "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        )
        # A test that fails when it is torn down stands there twice.
        found[name] = "failed" if found.get(name) == "failed" else outcome
    return found


def litmus(suite: Litmus, folder: Path, log: Path, *, hangup: bool) -> Outcomes:
    if not shutil.which("litmus"):
        raise NoSuite("litmus is not installed (Debian: apt install litmus)")
    port = free_port()
    root = folder / "root"
    root.mkdir()
    (folder / "wsgidav.yaml").write_text("property_manager: true\nlock_storage: true\n")
    words = ["-m", "wsgidav.server.server_cli", "--config", "wsgidav.yaml", "--auth", "anonymous"]
    words += ["--host", HOST, "--port", str(port), "--root", str(root), "--server", suite.server]
    try:
        process = Process(words, folder, port, hangup=hangup)
    except NotServing as error:
        raise NoSuite(str(error)) from None
    try:
        with open(log, "w") as output:
            subprocess.run(
                ["litmus", "--keep-going", f"http://{HOST}:{port}/"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LONGEST,
                check=False,
            )
    except subprocess.TimeoutExpired:
        pass  # What it has tested counts.
    finally:
        process.end()
    return litmus_outcomes(log.read_text(errors="replace"))


def litmus_outcomes(text: str) -> Outcomes:
    """`` 3. put_get.............. pass``, behind ``-> running `basic':``."""
    found: Outcomes = {}
    part = ""
    for line in text.splitlines():
        line = line.rpartition("\r")[2]
        if begun := re.search(r"running `(\w+)'", line):
            part = begun[1]
        elif tested := re.match(r"\s*\d+\. (\w+)\.+ (pass|FAIL|SKIPPED|WARNING)", line):
            said = {"pass": "passed", "WARNING": "passed", "SKIPPED": "skipped"}
            found[f"{part}::{tested[1]}"] = said.get(tested[2], "failed")
    return found


def run(suite: Suite | Litmus, keep: Path, *, hangup: bool) -> Outcomes:
    """Its outcomes.  Raises :exc:`NoSuite`."""
    name = re.sub(r"[^\w.]+", "-", suite.title)
    log = keep / f"suite-{name}.{'hangup' if hangup else 'python'}.txt"
    with tempfile.TemporaryDirectory(prefix="suite-") as folder:
        if isinstance(suite, Litmus):
            return litmus(suite, Path(folder), log, hangup=hangup)
        return pytest(suite, Path(folder), log, hangup=hangup)


def both(suite: Suite | Litmus, keep: Path) -> tuple[Outcomes, Outcomes]:
    return run(suite, keep, hangup=False), run(suite, keep, hangup=True)
