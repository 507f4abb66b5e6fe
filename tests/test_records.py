"""The record of a request, and the access log's line for it."""

import io
import logging
import re
import time
from typing import Any

import pytest

from hangup import Outcome, Phase, RequestRecord
from hangup._logging.access_log import access_logger, common, log_access


def record(**changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "client": "192.0.2.1",
        "method": "GET",
        "target": "/x",
        "protocol": "HTTP/1.1",
        "status": 200,
        "outcome": Outcome.COMPLETED,
        "phase": Phase.COMPLETE,
        "bytes_in": 20,
        "bytes_out": 120,
        "body_out": 5,
        "began": 1_700_000_000.5,
        "took": 0.25,
        "queued": 0.0,
        "disconnected_at": None,
        "wasted": 0.0,
        "thread": "hangup-1",
    }
    return RequestRecord(**{**values, **changes})


def test_the_common_format() -> None:
    line = common(record())
    assert re.fullmatch(
        r'192\.0\.2\.1 - - \[\d\d/Nov/2023:\d\d:\d\d:20 [+-]\d{4}\] "GET /x HTTP/1\.1" 200 5', line
    )
    assert time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(1_700_000_000)) in line


@pytest.mark.parametrize("zone", ["UTC0", "XYZ+3:30", "ABC-5:45"])
def test_the_time_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        at = 1_700_000_000 + sum(zone.encode())  # a second that no other test has asked for
        expected = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(at))
        assert f"[{expected}]" in common(record(began=float(at)))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_departure_adds_where_and_for_how_long() -> None:
    left = record(status=499, outcome=Outcome.DISCONNECTED, phase=Phase.HANDLER, body_out=0, wasted=1.5)
    assert common(left).endswith(
        '"GET /x HTTP/1.1" 499 - client disconnected while the handler ran, 1.500 s wasted'
    )
    at_once = left._replace(wasted=0.0, phase=Phase.QUEUED)
    assert common(at_once).endswith("499 - client disconnected while it was queued")


def test_a_client_cannot_forge_a_line() -> None:
    line = common(record(target='/"\n1.2.3.4 - - \x1b[2J\x85\\'))
    assert line.isprintable()
    assert r"/\"\x0a1.2.3.4 - - \x1b[2J\x85\\" in line


def test_what_is_not_known_is_a_dash() -> None:
    line = common(record(client="", method="", status=0, body_out=0))
    assert line.startswith("- - - [")
    assert line.endswith('"-" - -')


def test_without_logging_the_line_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(access_logger, "hasHandlers", lambda: False)
    log_access(record())
    assert capsys.readouterr().err.endswith('"GET /x HTTP/1.1" 200 5\n')
    monkeypatch.setattr(access_logger, "level", logging.WARNING)
    log_access(record())
    monkeypatch.setattr(access_logger, "level", logging.NOTSET)
    monkeypatch.setattr("sys.stderr", None)
    log_access(record())
    monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_a_root_logger_that_hides_it_says_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``logging.basicConfig()`` is about a program's own words; ``http.server``'s lines go to stderr."""
    assert logging.root.handlers
    log_access(record())
    assert capsys.readouterr().err.endswith('"GET /x HTTP/1.1" 200 5\n')
    logging.disable()
    try:
        log_access(record())
    finally:
        logging.disable(logging.NOTSET)
    assert capsys.readouterr().err.endswith('"GET /x HTTP/1.1" 200 5\n')
    for logger in (access_logger, logging.getLogger("hangup")):
        monkeypatch.setattr(logger, "level", logging.WARNING)
        log_access(record())
        monkeypatch.undo()
    monkeypatch.setattr(access_logger, "disabled", True)
    log_access(record())
    assert capsys.readouterr().err == ""


def test_a_handler_on_the_logger_is_heard_whatever_the_roots_level_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for logger in (access_logger, logging.getLogger("hangup")):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        logger.addHandler(handler)
        try:
            log_access(record())
        finally:
            logger.removeHandler(handler)
        assert stream.getvalue() == common(record()) + "\n"
    assert capsys.readouterr().err == ""


def test_a_refused_line_that_is_no_request_line_is_shown_as_it_is() -> None:
    line = common(record(method="", target="\x16\x03\x01 x", protocol="", status=400, reason="Bad"))
    assert line.endswith(r'"\x16\x03\x01 x" 400 5')
    refused = record(status=400, outcome=Outcome.REJECTED, reason='Bad "\x1b"')
    assert common(refused).endswith(r" 400 5 rejected: Bad \"\x1b\"")


def test_with_logging_it_goes_where_logging_says(caplog: pytest.LogCaptureFixture) -> None:
    log_access(record())
    assert not caplog.records  # the root logger's level is WARNING
    caplog.set_level(logging.INFO, "hangup.access")
    log_access(record())
    (line,) = caplog.records
    assert (line.name, line.levelname) == ("hangup.access", "INFO")
    assert line.request == record()  # type: ignore[attr-defined]
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s|%(threadName)s"))
    assert handler.format(line).startswith("192.0.2.1")
