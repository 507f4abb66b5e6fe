"""The probe on a terminal, in a pipe, and runs side by side."""

import io
import re

import pytest
from rich.console import Console

from hangup.probe.comparing import compare_as_markdown, compare_on_screen
from hangup.probe.points import pairs
from hangup.probe.results import Cell, Evidence, Fault, Run, Verdict
from hangup.probe.screen import Screen, report
from hangup.probe.words import plain, seconds, short
from test_probe_page import a_cell, a_run

ESCAPE = "\x1b"


def a_console(width: int = 80, *, terminal: bool = False) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    console = Console(
        file=file, width=width, height=50, force_terminal=terminal, color_system=None, _environ={}
    )
    return console, file


def reported(run: Run, width: int = 80) -> str:
    console, file = a_console(width)
    report(run, console)
    return file.getvalue()


def compared(runs: list[Run], width: int = 80) -> str:
    console, file = a_console(width)
    compare_on_screen(runs, console)
    return file.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


def row(text: str, name: str) -> str:
    """A table's row, up to the next one."""
    found = re.search(rf"^{re.escape(name)} .*(?:\n .*)*", text, re.MULTILINE)
    assert found, text
    return words(found[0])


# -- the report


@pytest.mark.parametrize("width", [80, 120])
def test_the_report_tells_all_that_is_wrong(width: int) -> None:
    text = reported(a_run(), width)
    assert max(map(len, text.splitlines())) <= width
    for verdict in Verdict:
        assert verdict in text.lower()
    for cell in a_run().tried:
        if cell.verdict is not Verdict.CLEAN:
            assert f"\n{cell.name}  {cell.verdict}" in text
            assert words(cell.why[0]) in words(text)
    assert "connect/fin" not in text
    assert "half-closed, and not served: [b]0 bytes" in text
    assert "A note of <the> run." in text


def test_the_report_has_a_table() -> None:
    text = reported(a_run(), 120)
    assert row(text, "waiting") == "waiting clean noisy 3 tracebacks unserved not answered clean"
    assert row(text, "stream") == "stream clean leaks +9 CLOSE_WAIT clean clean"
    assert row(text, "body") == "body clean crashed process ended clean clean"
    assert row(text, "idle") == f"idle noisy 41 log lines clean {chr(0x2013)} clean"


def test_the_report_has_totals() -> None:
    text = words(reported(a_run(), 120))
    assert "129 departures in 43 cells, 3 tracebacks" in text
    assert "1.80 s worked for nobody; in 26.1 s." in text
    assert "36 clean, 1 unserved, 2 noisy, 1 leaks, 2 wedged, 1 crashed" in text


def test_what_was_skipped_takes_a_line_for_each_reason() -> None:
    text = reported(a_run(), 120)
    assert text.count("the target is not asked over TLS") == 1
    assert "Skipped: handshake, goodbye, truncation (the target is not asked over TLS)" in text
    assert "Skipped: idle/half-close (the server no longer answered)" in text


def test_nothing_that_others_say_is_interpreted() -> None:
    run = a_run(title="[red]a[/red] \x1b[31mtitle\x00", target="[/] [link=x]y")
    run.cells[0].verdict, run.cells[0].why = Verdict.NOISY, ["[bold]Why[/bold] \x1b]0;t\x07"]
    text = reported(run)
    assert "[red]a[/red] ␛[31mtitle␀" in text
    assert "[/] [link=x]y" in text
    assert "[bold]Why[/bold] ␛]0;t␇" in text
    assert ESCAPE not in text


def test_a_run_that_tried_and_saw_nothing() -> None:
    cells = [Cell("connect", "fin", Verdict.SKIPPED, ["it is not there"])]
    text = words(reported(a_run(cells=cells, title="x", target="x", notes=[])))
    assert text == "x Skipped: connect (it is not there) 0 departures in 0 cells; in 26.1 s."


# -- while it runs


def show(screen: Screen) -> None:
    with screen:
        for point, manner in pairs()[:8]:
            screen.started(point, manner)
            screen.finished(a_cell(point.name, manner.value))


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_what_is_found(width: int) -> None:
    console, file = a_console(width, terminal=True)
    show(Screen("[red]title", 44, console))
    text = file.getvalue()
    assert "[red]title" in text
    assert "8/44" in text
    assert "request-line, silence" in text
    assert "wedged" in text
    assert ("held up" in text) == (width == 120)


def test_the_terminal_is_left_as_it_was_when_a_run_is_broken_off() -> None:
    console, file = a_console(terminal=True)
    with pytest.raises(KeyboardInterrupt), Screen("title", 44, console):
        raise KeyboardInterrupt
    assert file.getvalue().rfind(f"{ESCAPE}[?25h") > file.getvalue().rfind(f"{ESCAPE}[?25l") >= 0


def test_a_pipe_gets_nothing_while_it_runs() -> None:
    console, file = a_console()
    show(Screen("title", 44, console))
    assert file.getvalue() == ""


# -- words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"), (0.0004, "under 1 ms"), (0.0032, "3 ms"), (0.0994, "99 ms"), (0.0996, "0.10 s"),
        (1.8, "1.80 s"), (9.994, "9.99 s"), (9.996, "10.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"),
        (125.2, "2 min 5 s"),
    ],
)  # fmt: skip
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


def test_plain_leaves_words_and_shows_the_rest() -> None:
    assert plain("a\tb\nc é …") == "a\tb\nc é …"
    assert plain("\r\x7f\x85\u200f\ud800") == "␍<U+007F><U+0085><U+200F><U+D800>"


def test_short_of_a_leak_names_what_leaked() -> None:
    cell = Cell("idle", "fin", Verdict.LEAKS)
    assert short(cell) == ""
    cell.leaked = {"descriptors": 9, "sockets in CLOSE_WAIT": 9}
    assert short(cell) == "+9 descriptors, +9 CLOSE_WAIT"


def test_short_of_a_clean_cell_tells_of_waste() -> None:
    evidence = Evidence(wasted=1.8)
    assert short(Cell("idle", "fin", Verdict.CLEAN, [], [Fault.WASTED], 3, evidence)) == "1.80 s wasted"
    assert short(Cell("idle", "fin", Verdict.CLEAN, [], [], 3, evidence)) == ""


# -- side by side


def a_clean_run(title: str) -> Run:
    run = a_run(title=title)
    run.cells = [
        Cell(point.name, manner.value, Verdict.CLEAN, [], [], 3, Evidence(0.01, 0.01, 0, 3))
        for point, manner in pairs()
    ]
    return run


@pytest.mark.parametrize("width", [80, 120])
def test_runs_side_by_side_show_where_they_differ(width: int) -> None:
    text = compared([a_clean_run("one [red]"), a_run(title="two")], width)
    assert max(map(len, text.splitlines())) <= width
    assert "one [red]" in text
    assert row(text, "waiting/rst") == "waiting/rst clean noisy 3 tracebacks"
    assert row(text, "handshake/fin") == "handshake/fin clean skipped"
    assert "connect/fin" not in text
    assert "36 cells more: clean in all runs." in text


def test_runs_side_by_side_have_totals() -> None:
    text = compared([a_clean_run("one"), a_run(title="two")], 120)
    assert row(text, "departures") == "departures 150 129"
    assert row(text, "tracebacks") == "tracebacks 0 3"
    assert row(text, "log lines for each departure") == "log lines for each departure 1.0 1.8"
    assert row(text, "worked for nobody") == f"worked for nobody {chr(0x2013)} 1.80 s"
    assert row(text, "cells crashed") == "cells crashed 0 1"


def test_runs_that_are_clean_alike_take_one_line() -> None:
    text = compared([a_clean_run("one"), a_clean_run("two")])
    assert "50 cells: clean in all runs." in text
    assert "idle/fin" not in text


def test_a_cell_that_a_run_lacks_is_a_dash() -> None:
    run = a_clean_run("one")
    less = a_clean_run("two")
    less.cells = [cell for cell in less.cells if cell.name != "idle/fin"]
    more = Cell("another", "x", Verdict.CLEAN, [], [], 1)
    run.cells.append(more)
    text = compared([run, less])
    assert row(text, "idle/fin") == f"idle/fin clean {chr(0x2013)}"
    assert row(text, "another/x") == f"another/x clean {chr(0x2013)}"


def test_markdown_has_all_cells_and_the_totals() -> None:
    lines = compare_as_markdown([a_clean_run("a|b <i> _x_"), a_run(title="two")]).splitlines()
    assert lines[0] == r"| clients leave | a\|b \<i\> \_x\_ | two |"
    assert lines[1] == "| --- | --- | --- |"
    assert "| connect, fin | clean | clean |" in lines
    assert "| waiting, rst | clean | noisy, 3 tracebacks |" in lines
    assert r"| stream, rst | clean | leaks, +9 CLOSE\_WAIT |" in lines
    assert f"| handshake, fin | clean | {chr(0x2013)} |" in lines
    totals = lines.index("| --- | ---: | ---: |")
    assert lines[totals - 2] == ""
    assert "| departures | 150 | 129 |" in lines[totals:]
    assert "| cells crashed | 0 | 1 |" in lines[totals:]
    assert all(line.count("|") - line.count(r"\|") == 4 for line in lines if line)


def test_markdown_leaves_out_what_no_run_tried() -> None:
    run = a_run(title="one")
    assert "handshake" not in compare_as_markdown([run, run])
