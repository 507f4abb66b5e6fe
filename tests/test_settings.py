"""Settings: one name for each, in Config, on the command line, in the environment and in Python."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

import hangup
from hangup import Config, ConfigError
from hangup._cli.main import main
from hangup._system.binding import Address, parse_bind
from hangup.config import RENAMED


def app(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("204 No Content", [])
    return []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:81", Address("127.0.0.1", 81)),
        ("localhost", Address("localhost", 8000)),
        (":0", Address("", 0)),
        ("[::1]:443", Address("::1", 443)),
        ("[::1]", Address("::1", 8000)),
        ("unix:/run/a:b", Address("", 0, uds="/run/a:b")),
        ("fd://3", Address("", 0, fd=3)),
    ],
)
def test_an_address_to_bind_is_gunicorns(text: str, address: Address) -> None:
    assert parse_bind(text) == address


@pytest.mark.parametrize(
    "text", ["::1", "a:b", "a:70000", "a:-1", "unix:", "fd://x", "http://a:80", "a:²"]
)
def test_what_is_no_address_is_said_so(text: str) -> None:
    with pytest.raises(ConfigError, match="bind"):
        parse_bind(text)


def test_bind_stands_by_itself() -> None:
    with pytest.raises(ConfigError, match="can't be given besides"):
        hangup.WSGIServer(app, bind="127.0.0.1:0", uds="x")
    result = CliRunner().invoke(main, ["serve", "--bind", ":0", "--fd", "9", "x:y"])
    assert (result.exit_code, result.output) == (
        2,
        "Error: --bind says where to listen: --uds and --fd can't be given besides\n",
    )


def test_a_server_takes_each_limit_by_its_name() -> None:
    with hangup.WSGIServer(
        app, bind="127.0.0.1:0", access_log="off", threads=3, body_timeout=4.0, config=Config(backlog=7)
    ) as server:
        assert server.port
        assert (server.config.max_threads, server.config.body_timeout, server.config.backlog) == (
            3,
            4.0,
            7,
        )


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_says_the_new_one(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    new = RENAMED[old]
    if new in {field.name for field in dataclasses.fields(Config)}:
        with pytest.raises(TypeError, match=f"^{old} is now called {new}$"):
            Config(**{old: 1})
    with pytest.raises(TypeError, match=f"^{old} is now called {new}$"):
        hangup.serve(app, port=0, **{old: 1})
    option = "--" + old.replace("_", "-")
    shown = CliRunner().invoke(main, ["serve", option, "1", "x:y"])
    assert shown.output == f"Error: {option} is now called --{new.replace('_', '-')}\n"
    monkeypatch.setenv(f"HANGUP_{old.upper()}", "1")
    shown = CliRunner().invoke(main, ["serve", "x:y"])
    assert shown.output == f"Error: HANGUP_{old.upper()} is now called HANGUP_{new.upper()}\n"


def test_each_option_is_in_one_group_of_the_help_and_on_few_lines() -> None:
    command = [sys.executable, "-m", "hangup", "serve", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for field in dataclasses.fields(Config):
        name = {"max_threads": "threads"}.get(field.name, field.name).replace("_", "-")
        assert shown.count(f"  --{name} ") == 1, name
    for title in ("Server:", "TLS:", "Logging:", "Limits:", "Time-outs:", "Development:"):
        assert f"\n{title}\n" in shown


@pytest.mark.parametrize(("old", "new"), hangup._RENAMED.items())
def test_an_old_class_says_the_new_one(old: str, new: str) -> None:
    assert getattr(hangup, new)
    with pytest.raises(AttributeError, match=f"^hangup.{old} is now called hangup.{new}$"):
        getattr(hangup, old)
    assert not hasattr(hangup, "Nothing")
