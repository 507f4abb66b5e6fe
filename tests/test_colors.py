"""Colours on a terminal, and nowhere else: as Python 3.15's ``http.server`` has them."""

import os
import sys
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, TextIO

import pytest

import hangup
from conftest import Serving, answer, until
from hangup._logging import colors as _colors
from hangup._logging.colors import theme_for


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TextIO, int]]:
    """What is written to a terminal, and the terminal's other end."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    master, slave = os.openpty()
    with os.fdopen(master, "rb"), os.fdopen(slave, "w") as stream:
        yield stream, master


def test_colours_are_for_terminals(
    terminal: tuple[TextIO, int], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = terminal[0]
    with open(tmp_path / "log", "w") as file:
        assert theme_for(stream).reset
        for other in (file, None, object()):
            assert not any(theme_for(other))
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert theme_for(file).reset
        monkeypatch.setenv("NO_COLOR", "1")
        assert not any(theme_for(file))
        monkeypatch.setenv("PYTHON_COLORS", "1")
        assert theme_for(file).reset
        monkeypatch.setenv("PYTHON_COLORS", "0")
        assert not any(theme_for(stream))
    for name in ("FORCE_COLOR", "NO_COLOR", "PYTHON_COLORS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "dumb")
    assert not any(theme_for(stream))


@pytest.mark.skipif(sys.version_info < (3, 15), reason="this Python has no colours for http.server")
def test_they_are_pythons_own() -> None:
    import _colorize

    stock = _colorize.get_theme(force_color=True).http_server
    assert {name: getattr(stock, name) for name in stock} == _colors._OWN._asdict()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (100, "status_informational"),
        (HTTPStatus.OK, "status_ok"),
        (304, "status_redirect"),
        ("404", "status_client_error"),
        (503, "status_server_error"),
        ("-", ""),
        (None, ""),
    ],
)
def test_each_kind_of_status_has_its_own(code: Any, name: str) -> None:
    assert _colors._OWN.of_status(code) == (getattr(_colors._OWN, name) if name else "")


def lines_of(master: int, count: int) -> list[str]:
    said = b""

    def more() -> bool:
        nonlocal said
        said += os.read(master, 65536)
        return said.count(b"\n") >= count

    until(more, "all is said")
    return said.decode().splitlines()


@pytest.mark.parametrize("own_log", [False, True], ids=["access log", "log of its own"])
def test_a_log_on_a_terminal(
    serve: Any, base: Any, terminal: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch, own_log: bool
) -> None:
    stream, master = terminal
    monkeypatch.setattr(sys, "stderr", stream)

    class Handler(base):
        def do_GET(self) -> None:
            if self.path == "/none":
                self.send_error(404)
            else:
                answer(self)

        if own_log:

            def log_request(self, code: Any = "-", size: Any = "-") -> None:
                super().log_request(code, size)

    serving: Serving = serve(Handler)
    serving.get()
    with serving.connect() as peer:
        peer.get("/none").read_to_end()
    serving.record()
    served, error, refused = lines_of(master, 3)
    t = _colors.theme_for(stream)
    assert f'{t.reset} "GET {t.path}/{t.reset} HTTP/1.1" {t.status_ok}200{t.reset} {t.size}' in served
    assert served.startswith(t.timestamp)
    assert error.endswith(f"{t.reset} {t.error}code 404, message Not Found{t.reset}")
    assert f"GET {t.path}/none{t.reset} HTTP/1.1" in refused
    assert f'" {t.status_client_error}404{t.reset} {t.size}' in refused


def test_a_terminals_lines_are_as_safe_as_others(
    serve: Any, terminal: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, master = terminal
    monkeypatch.setattr(sys, "stderr", stream)

    class Handler(hangup.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.log_error("%s", "\x1b[2J")
            answer(self)

    with serve(Handler).connect() as peer:
        peer.send(b"GET /\xff\x9b\x22 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").read_to_end()
    error, line = lines_of(master, 2)
    t = _colors.theme_for(stream)
    assert error.endswith(rf"{t.error}\x1b[2J{t.reset}")
    assert rf"GET {t.path}/\xff\x9b\"{t.reset} HTTP/1.1" in line


def test_another_stderr_gets_its_own_colours(
    serve: Any, terminal: tuple[TextIO, int], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(hangup.BaseHTTPRequestHandler):
        do_GET = answer

    serving: Serving = serve(Handler)
    stream, master = terminal
    monkeypatch.setattr(sys, "stderr", stream)
    serving.get()
    assert "\x1b[" in lines_of(master, 1)[0]
    log = tmp_path / "log"
    with open(log, "w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        serving.get()
        until(lambda: log.read_text().endswith("\n"), "the line is there")
    assert "\x1b" not in log.read_text()
