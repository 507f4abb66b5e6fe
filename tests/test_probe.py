"""The probe: what it finds of servers whose faults are known, and what it says if it can't."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE, until
from hangup.probe import subject
from hangup.probe.log import Log, accounts_for_departure, tracebacks
from hangup.probe.points import Manner, pairs
from hangup.probe.results import Fault, Run, Verdict
from hangup.probe.subject import Command
from hangup.probe.usage import Census

#: Probes share what they find, and look at time: one after the other, beside other tests.
pytestmark = pytest.mark.xdist_group("probe")

PROBE = [sys.executable, "-m", "hangup", "probe"]
HERE = Path(__file__).parent
PATHS = ["--slow-path", "/slow", "--large-path", "/large", "--stream-path", "/stream"]
PATHS += ["--upload-path", "/upload"]
TARGET = "hangup.probe.target"
DOORS = {
    "stock": [sys.executable, "-m", TARGET, "--port", "{port}"],
    "handler": [sys.executable, "-m", TARGET, "--module", "hangup", "--port", "{port}"],
    "serve": [sys.executable, "-m", "hangup", "serve", f"{TARGET}:app", "--port", "{port}"],
    "gunicorn": [
        *(sys.executable, "-m", "gunicorn", "-k", "hangup.gunicorn.Worker", "--no-control-socket"),
        *("-b", "127.0.0.1:{port}", "--access-logfile", "-", f"{TARGET}:app"),
    ],
}


def broken(fault: str) -> list[str]:
    return [sys.executable, str(HERE / "broken_server.py"), fault, "{port}"]


def probe(*args: str, timeout: float = 50) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROBE, *args], capture_output=True, text=True, timeout=timeout, check=False)


def found(*args: str, command: list[str]) -> Run:
    """The run that a command's probe wrote."""
    done = probe("--json", "-", *args, "--", *command, timeout=150)
    assert done.returncode == 0, done.stderr
    return Run.from_json(done.stdout)


# -- servers that are known


@pytest.fixture(scope="module")
def doors(certificate: Any) -> Callable[[str], Run]:
    """The whole matrix against each of them; they are probed at once, as most of it is waiting."""
    tls = ["--certfile", certificate.rsa.cert, "--keyfile", certificate.rsa.key]
    work = {name: (["--app"], command) for name, command in DOORS.items()}
    work["tls"] = (["--app", "https://localhost:{port}/"], [*DOORS["serve"], *tls])
    with ThreadPoolExecutor(len(work)) as pool:
        runs = {
            name: pool.submit(found, *args, command=command) for name, (args, command) in work.items()
        }
    return lambda name: runs[name].result()


@pytest.mark.timeout(170)
@pytest.mark.parametrize("door", ["handler", "serve", "gunicorn", "tls"])
def test_of_hangup_nothing_is_found_in_any_cell(doors: Callable[[str], Run], door: str) -> None:
    run = doors(door)
    assert {cell.name: (cell.why, cell.faults) for cell in run.tried if cell.faults} == {}
    assert {cell.verdict for cell in run.tried} == {Verdict.CLEAN}
    assert len(run.tried) == len(pairs()) if door == "tls" else len(pairs()) - 6
    assert all(cell.departures == run.repeat for cell in run.tried)
    for name in ("waiting", "pipelined", "answer-head", "body", "stream"):
        cell = run.cell(name, "half-close")
        assert cell is not None
        assert cell.evidence.served
    waiting = run.cell("waiting", "fin")
    assert waiting is not None
    assert waiting.evidence.stopped == 3
    assert waiting.evidence.told == 3


@pytest.mark.timeout(170)
def test_the_stock_server_gives_a_traceback_for_most_departures(doors: Callable[[str], Run]) -> None:
    run = doors("stock")
    gone = [cell for cell in run.tried if cell.manner in {Manner.FIN, Manner.RST}]
    share = sum(cell.evidence.tracebacks or 0 for cell in gone) / sum(cell.departures for cell in gone)
    assert 0.75 < share <= 1.0
    assert {cell.verdict for cell in run.tried} == {Verdict.CLEAN, Verdict.NOISY}
    waiting = run.cell("waiting", "rst")
    assert waiting is not None
    assert waiting.faults == [Fault.TRACEBACK, Fault.WASTED]
    assert waiting.evidence.stopped == 0
    assert 1.0 < (waiting.evidence.wasted or 0.0) < 3.0
    half = run.cell("waiting", "half-close")
    assert half is not None
    assert half.evidence.served


@pytest.mark.parametrize(
    ("fault", "verdict", "is_found"),
    [
        ("descriptor", Verdict.LEAKS, Fault.LEAK),
        ("thread", Verdict.LEAKS, Fault.LEAK),
        ("wedge", Verdict.WEDGED, Fault.WEDGED),
        ("crash", Verdict.CRASHED, Fault.CRASHED),
        ("spam", Verdict.NOISY, Fault.NOISE),
        ("traceback", Verdict.NOISY, Fault.TRACEBACK),
        ("unserved", Verdict.UNSERVED, Fault.UNSERVED),
    ],
)
def test_a_broken_server_is_convicted_of_its_own_fault_and_of_nothing_else(
    fault: str, verdict: Verdict, is_found: Fault
) -> None:
    only = "head,waiting,body/fin,body/rst"
    run = found("--repeat", "2", "--patience", "1.5", "--only", only, *PATHS, command=broken(fault))
    guilty = {cell.name: cell for cell in run.cells if cell.verdict is not Verdict.CLEAN}
    assert {cell.verdict for cell in guilty.values()} == {verdict}
    assert {each for cell in guilty.values() for each in cell.faults} == {is_found}
    if fault in {"wedge", "crash"}:
        assert {"head/rst", "waiting/rst", "body/rst"} <= set(guilty)
        assert not {"head/fin", "head/half-close", "waiting/fin"} & set(guilty)
    elif fault == "unserved":
        assert set(guilty) == {"waiting/half-close"}
    else:
        assert len(guilty) >= len(run.cells) - 1
    if verdict is Verdict.LEAKS:
        what = {"descriptor": "Descriptors", "thread": "Threads"}[fault]
        assert all(
            re.fullmatch(rf"{what}: \d+ more after \d+ departures", *c.why) for c in guilty.values()
        )


def test_a_server_without_a_fault_is_found_to_have_none() -> None:
    run = found("--repeat", "2", *PATHS, command=broken("none"))
    assert {cell.name: cell.why for cell in run.tried if cell.verdict is not Verdict.CLEAN} == {}
    skipped = {cell.point: cell.why for cell in run.cells if cell.verdict is Verdict.SKIPPED}
    assert set(skipped) == {"handshake", "goodbye", "truncation"}
    assert skipped["handshake"] == ["the target is not asked over TLS"]


class Running:
    """A server that somebody else has started, and what it logs."""

    def __init__(self, fault: str, log: Path) -> None:
        self.log = log
        with log.open("wb") as target:
            command = [*broken(fault)[:-1], "0"]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=target)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    started = []

    def start(fault: str) -> Running:
        started.append(Running(fault, tmp_path / "server.log"))
        return started[-1]

    yield start
    for each in started:
        with each.process:
            each.process.kill()


def test_a_server_that_runs_is_judged_by_its_answers_and_its_log(running: Any) -> None:
    server = running("spam")
    done = probe(
        server.url, "--json", "-", "--only", "head/rst,idle", "--repeat", "1", "--log", server.log
    )
    assert done.returncode == 0, done.stderr
    run = Run.from_json(done.stdout)
    assert {cell.verdict for cell in run.cells} == {Verdict.NOISY}
    assert {tuple(cell.why) for cell in run.cells} == {("20 lines of log for 1 departure",)}
    assert run.cells[0].evidence.before is None
    assert any("descriptors and threads were not seen" in note for note in run.notes)


def test_of_a_server_that_runs_and_is_wedged_the_rest_is_skipped(running: Any) -> None:
    server = running("wedge")
    only = ["--only", "head/rst,idle/fin", "--repeat", "1", "--patience", "0.3"]
    run = Run.from_json(probe(server.url, "--json", "-", *only).stdout)
    assert [cell.verdict for cell in run.cells] == [Verdict.WEDGED, Verdict.SKIPPED]
    assert run.cells[1].why == ["the server no longer answered"]


# -- what can't be probed


def refused(*args: str) -> str:
    """The one line that is said of it."""
    done = probe(*args, timeout=PATIENCE)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


EXITS = [sys.executable, "-c", "import sys; print('no such thing'); sys.exit(7)", "{port}"]
SILENT = [sys.executable, "-c", "import threading; threading.Event().wait()", "{port}"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "what is to be probed? Give a URL, or a command behind --"),
        (
            ["http://127.0.0.1:1/"],
            "nothing listens on 127.0.0.1:1: start the server, or give its command",
        ),
        (["127.0.0.1:1"], "127.0.0.1:1 is no URL: it begins with http:// or https://"),
        (["ftp://127.0.0.1/"], "ftp://127.0.0.1/ is no URL: it begins with http:// or https://"),
        (["http://127.0.0.1:99999/"], "http://127.0.0.1:99999/ is no URL: Port out of range"),
        (["http://nowhere.invalid/"], "nowhere.invalid is not known: "),
        (["http://a/", "http://b/"], "one URL at a time, not http://a/ and http://b/"),
        (["--", *EXITS], "the command exited with status 7 before it answered: no such thing"),
        (["--start-timeout", "0.3", "--", *SILENT], "the command did not answer within 0.3 s"),
        (["--", "/no/such/program", "{port}"], "/no/such/program can't be started: No such file"),
        (["--", "true"], "the command has no {port}: say where its port belongs"),
        (["--"], "there is no command behind --"),
        (["--only", "nowhere", "--app"], "--only nowhere: there is no such cell (--list shows which"),
        (["--fail-on", "rain", "--app"], "--fail-on knows no rain: it knows traceback, noise, leak,"),
        (["--app", "--json", "/no/such/x.json"], "/no/such/x.json can't be written: name a file in a"),
        (["--app", "--log", "/no/such.log"], "--log /no/such.log can't be read: No such file"),
        (["--app", "--slow-path", "slow"], "--slow-path slow: a path begins with a slash"),
        (["--compare", "a.json"], "--compare takes two files that --json wrote, or more"),
        (
            ["--compare", "/no/such/a", "/no/such/b"],
            "/no/such/a can't be read: No such file or directory",
        ),
        (
            ["--compare", "pyproject.toml", "pyproject.toml"],
            "pyproject.toml is not what --json writes: ",
        ),
    ],
)
def test_what_can_not_be_probed_is_one_line_that_says_what_to_do(args: list[str], says: str) -> None:
    assert refused(*args).startswith(says)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ["--slow-path", "/none"],
            "--slow-path /none answers 404: name a path that exists, or leave it",
        ),
        (["--upload-path", "/none"], "--upload-path /none answers 404: name a path that exists"),
        (["--slow-path", "/quick"], "--slow-path /quick answers after 0.0"),
        (["--large-path", "/"], "--large-path / answers with 5 bytes: name a path with 1 MiB at least"),
    ],
)
def test_a_path_that_does_not_fit_is_one_line(running: Any, args: list[str], says: str) -> None:
    assert refused(running("none").url, *args).startswith(says)


def test_a_url_whose_path_does_not_exist_is_one_line(running: Any) -> None:
    said = refused(running("none").url + "none")
    assert said == "/none answers 404: give a URL whose path exists"


def test_http_where_tls_is_spoken_and_the_reverse_is_one_line(running: Any) -> None:
    url = running("none").url.replace("http:", "https:")
    assert "speaks no TLS that the probe understands" in refused(url)


# -- what is done with what was found


@pytest.mark.parametrize(
    ("faults", "status"),
    [("traceback", 0), ("noise", 1), ("noisy", 1), ("any", 1), ("leak,wedged,crashed", 0)],
)
def test_the_exit_status_is_for_what_was_named(running: Any, faults: str, status: int) -> None:
    server = running("spam")
    args = ["--only", "head/rst", "--repeat", "1", "--log", str(server.log), "--fail-on", faults]
    done = probe(server.url, *args)
    assert done.returncode == status, done.stderr
    assert ("Found, and not wanted: noise" in done.stderr) == bool(status)
    assert "20 lines of log for 1 departure" in done.stdout


def test_a_run_can_be_kept_shown_and_compared(running: Any, tmp_path: Path) -> None:
    server = running("spam")
    first, second, page = (str(tmp_path / name) for name in ("a.json", "b.json", "page.html"))
    args = [server.url, "--only", "head/rst,idle/fin", "--repeat", "1", "--html", page]
    assert probe(*args, "--json", first, "--title", "calm").returncode == 0
    assert probe(*args, "--json", second, "--title", "loud", "--log", str(server.log)).returncode == 0
    assert Path(page).read_text().startswith("<!DOCTYPE html>")
    done = probe("--compare", first, second)
    assert done.returncode == 0, done.stderr
    assert re.search(r"calm +.*loud", done.stdout)
    assert "noisy" in done.stdout
    run = Run.from_json(Path(second).read_text())
    assert Run.from_json(run.to_json()) == run
    assert json.loads(Path(second).read_text())["title"] == "loud"


def test_the_list_names_what_only_takes() -> None:
    done = probe("--list")
    assert done.returncode == 0
    names = set(re.findall(r"^  (\S+) ", done.stdout, re.MULTILINE))
    assert names == {point.name for point, _ in pairs()} | set(Manner)


def test_the_help_shows_how_it_is_used() -> None:
    done = probe("--help")
    assert done.returncode == 0
    assert "hangup probe --app -- gunicorn -b 127.0.0.1:{port} hangup.probe.target:app" in done.stdout


def test_without_rich_it_says_what_to_install(running: Any) -> None:
    code = "import sys; sys.modules['rich'] = None; from hangup._cli.main import main; main()"
    command = [sys.executable, "-c", code, "probe", running("none").url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert done.stderr == "Error: hangup probe needs rich: pip install 'hangup[probe]'\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_the_probe_ends_the_command_too(tmp_path: Path, number: signal.Signals) -> None:
    told = tmp_path / "pid"
    os.mkfifo(told)
    command = [*PROBE, "--app", "--", "sh", "-c", f'echo $$ > {told}; exec "$@"', "sh", *DOORS["serve"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        descriptor = os.pidfd_open(int(told.read_text()))
        try:
            process.send_signal(number)
            assert process.wait(PATIENCE) == (130 if number == signal.SIGINT else 143)
            assert select.select([descriptor], [], [], 0)[0], "the command runs on"
        finally:
            os.close(descriptor)


# -- logs


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (
            "Traceback (most recent call last):\n  File\nOSError\nTraceback (most recent call last):",
            2,
        ),
        ("http: panic serving 127.0.0.1:1: x\ngoroutine 1 [running]:", 1),
        ("thread 'main' panicked at src/main.rs:1:1:", 1),
        ("java.io.IOException: Broken pipe\n\tat java.base/x.y(Z.java:1)\n\tat z", 1),
        ("Segmentation fault (core dumped)", 2),
        ("127.0.0.1 - - GET / 200", 0),
        ("an Error: was it", 0),
    ],
)
def test_uncaught_errors_are_known_in_several_languages(text: str, count: int) -> None:
    assert tracebacks(text.split("\n")) == count


def test_a_line_that_accounts_for_a_departure_is_found() -> None:
    nginx = '127.0.0.1 - - [25/Nov/2026] "GET /slow HTTP/1.1" 499 0 "-"'
    assert accounts_for_departure(["GET /4990 200 14995", "peer closed connection", nginx]) == nginx
    assert accounts_for_departure(["GET /4990 200 14995"]) is None


def test_a_log_file_is_read_as_it_grows_and_half_lines_wait(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    log = Log([str(path)])
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert log.since(0) == ["one"]
        file.write('o\nhangup-probe {"event": "began", "at": 1.5, "mark": "7"}\nhangup-probe no event\n')
        file.flush()
        assert log.since(1) == ["two", "hangup-probe no event"]
    assert log.events_of("7") == [{"event": "began", "at": 1.5, "mark": "7"}]
    assert log.wait_for_events("began", ["7"], PATIENCE)
    assert not log.wait_for_events("ended", ["7"], 0.01)
    log.close()


def test_a_thread_that_ends_in_the_middle_of_a_look_is_no_process_that_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server with a thread for each connection was called crashed, now and then."""
    listdir = os.listdir

    def with_one_that_has_ended(path: Any) -> list[str]:
        return [*listdir(path), "999999999"] if str(path).endswith("/task") else listdir(path)

    monkeypatch.setattr(os, "listdir", with_one_that_has_ended)
    assert os.getpid() in {pid for pid, _ in Census(os.getpid()).members}


@pytest.fixture
def family() -> Iterator[tuple[Command, set[int]]]:
    """A command with a process that it has started, and both of their ids."""
    log = Log()
    command = Command(["sh", "-c", "sleep 300 & wait"], 0, log)
    command.start()
    try:
        until(lambda: len(Census(command._running.pid).members) == 2, "its process has begun")
        yield command, {pid for pid, _ in Census(command._running.pid).members}
    finally:
        os.kill(command._running.pid, signal.SIGCONT)
        command.stop()
        log.close()


def test_a_process_that_no_list_of_children_names_has_not_ended(
    family: tuple[Command, set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where children end while the kernel writes such a list, it may leave others out (proc(5))."""
    command, pids = family
    monkeypatch.setattr(subject, "_ESTABLISHED", 0.0)
    command.settled()
    assert {pid for pid, _ in command._known} == pids
    read = Path.read_text

    def unnamed(path: Path, *args: Any, **options: Any) -> str:
        return "" if path.name == "children" else read(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", unnamed)
    assert len(Census(command._running.pid).members) == 1
    assert command.lost() is None


def end_child(
    command: Command, pids: set[int], monkeypatch: pytest.MonkeyPatch, established: float
) -> int:
    """End the process that the command has started; ``established``: the age that counts, in seconds."""
    monkeypatch.setattr(subject, "_ESTABLISHED", established)
    command.settled()
    (child,) = pids - {command._running.pid}
    # Its parent stands still, and so can neither follow it nor take note of its end.
    os.kill(command._running.pid, signal.SIGSTOP)
    os.kill(child, signal.SIGKILL)
    until(lambda: len(Census(command._running.pid).members) == 1, "it has ended")
    return child


def test_a_process_that_has_ended_is_named(
    family: tuple[Command, set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = end_child(*family, monkeypatch, 0.0)
    assert family[0].lost() == f"process {child} ended"


def test_a_process_that_began_just_now_may_end(
    family: tuple[Command, set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server starts for a moment, and happens to be there when the probe looks, is no server."""
    end_child(*family, monkeypatch, 3600.0)
    assert family[0].lost() is None
