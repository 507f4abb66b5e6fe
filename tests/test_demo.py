"""The demonstration: what it shows is what happened."""

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from hangup._cli import demo as _demo
from hangup._cli.main import main


def run(*args: str, **environment: str) -> Any:
    return CliRunner().invoke(main, ["demo", "--work", "0.7", *args], env=environment)


@pytest.mark.parametrize("columns", ["140", "80"])
def test_the_stock_server_crashes_and_hangup_does_not(columns: str) -> None:
    result = run(COLUMNS=columns)
    assert result.exit_code == 0, result.output
    assert "BrokenPipeError" in result.output
    rows = dict(re.findall(r"^ *(\w.*?)  +(\S.*\S)$", result.output, re.MULTILINE))
    assert rows["measured in this run"].split() == ["http.server", "hangup", "hangup.sleep"]
    assert rows["answers served to who waited"].split("  ")[0] == "1 of 1"
    assert rows["tracebacks"].split() == ["1", "0", "0"]
    assert rows["handler threads that died"].split() == ["1", "0", "0"]
    assert int(rows["log lines for the departure"].split()[0]) > 10
    assert rows["log lines for the departure"].split()[1:] == ["1", "1"]
    freed = rows["and its thread was free in"]
    assert re.fullmatch(r"\d\.\d\d s +\d\.\d\d s +\d+\.\d ms", freed), "one did not work on for nobody"
    assert " 499 " in result.output


def test_without_curl_a_built_in_client_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo.shutil, "which", lambda _: None)
    result = run()
    assert result.exit_code == 0, result.output
    assert "built-in clients (curl is not installed)" in result.output


def test_it_fails_if_hangups_side_is_not_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo._Side, "clean", False)
    assert run().exit_code == 1


def test_a_service_that_says_nothing_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo, "_GRACE", 0.05)
    monkeypatch.setattr(_demo.sys, "executable", "/bin/cat")
    result = run()
    assert result.exit_code == 1
    assert "Error: the http.server side said nothing of 'listening'" in result.output


def test_the_commands_help_and_version() -> None:
    for command in ([sys.executable, "-m", "hangup"], ["hangup"]):
        environment = {
            **os.environ,
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        }
        for args, expected in (["--help"], "demo"), (["--version"], "hangup, version"):
            result = subprocess.run(
                [*command, *args], capture_output=True, text=True, env=environment, check=True
            )
            assert expected in result.stdout
