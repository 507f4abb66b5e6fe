"""The benchmark of real traffic: a figure is worth something only if all servers answer alike."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

import traffic_check
import traffic_loads
import traffic_report
import traffic_servers
from traffic_loads import LOADS, Cell, Figures
from wsgi_servers import NoServer

needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The applications' files; they run on this Python, not on the one that the benchmark installs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traffic_servers, "PYTHON", Path(sys.executable))
        directory = tmp_path_factory.mktemp("traffic")
        traffic_servers.prepared(directory)
        yield directory


@needs_wrk
@pytest.mark.parametrize("app", traffic_servers.TITLES)
def test_hangup_gives_the_answers_that_each_application_makes(app: str, data: Path) -> None:
    peer = next(each for each in traffic_servers.ALL if each.name == "hangup")
    cores = traffic_servers.CORES["both"]
    with traffic_servers.serving(peer, app, cores, 8, data, via="direct") as at:
        traffic_check.check_requests(at.port, traffic_loads.requests("mix"))
        with pytest.raises(NoServer, match="GET /api/items/"):
            traffic_check.check_requests(at.port, [wrong(traffic_loads.requests("json")[0])])


def wrong(request: traffic_check.Request) -> traffic_check.Request:
    """It asks for something else than the answer is checked for."""
    head = request.head.replace(b"&page=", b"&page=1", 1)
    return traffic_check.Request(
        head, request.body, request.method, request.path, request.query, request.fields
    )


@needs_wrk
@pytest.mark.parametrize("load", ["json", "mix"])
def test_no_two_requests_are_alike(load: str) -> None:
    requests = traffic_loads.requests(load)
    for name in ("X-Request-ID", "Cookie"):
        assert len({each.fields[name] for each in requests}) == len(requests)
    assert all(13 <= len(each.fields) <= 20 for each in requests)
    paths = [f"{each.path}?{each.query}" for each in requests if not each.path.startswith("/static/")]
    assert len(set(paths)) == len(paths)
    assert len({each.fields["User-Agent"] for each in requests}) > 3


@needs_wrk
def test_the_mix_is_what_the_tables_say_of_it() -> None:
    requests = traffic_loads.requests("mix")
    kinds = {
        prefix: sum(each.path.startswith(prefix) for each in requests) for prefix in traffic_check.CHECKS
    }
    assert kinds == {
        "/api/items/": 40,
        "/pages/": 9,
        "/static/": 27,
        "/feeds/": 8,
        "/api/orders": 11,
        "/contact": 5,
    }
    conditional = [
        each for each in requests if {"If-None-Match", "If-Modified-Since"} & each.fields.keys()
    ]
    assert len(conditional) == traffic_loads.UNMODIFIED * len(requests)
    sizes = sorted(len(each.body) for each in requests if each.path == "/api/orders")
    assert 900 < sizes[0] <= sizes[8] < 1_200
    assert 60_000 < sizes[9] <= sizes[10] < 70_000


@needs_wrk
def test_for_new_connections_each_request_says_that_it_is_the_last() -> None:
    with_close = traffic_check.caught("json", 10, close=True)
    assert {each.fields["Connection"] for each in with_close} == {"close"}
    assert {each.fields["Connection"] for each in traffic_loads.requests("json")} == {"keep-alive"}


def found(**differing: int) -> dict[str, Any]:
    """What wrk tells of a run of the mix in which all went well, but for what differs."""
    counts = {"requests": 10_000, "full": 7_700, "unmodified": 2_300, "bytes": 10_000_000, "example": 0}
    errors = dict.fromkeys(("other", "empty", "connect", "read", "write", "timeout", "status"), 0)
    return {**counts, **errors, **differing}


def test_a_run_in_which_all_went_well_has_no_troubles() -> None:
    assert not traffic_loads.troubles(LOADS["mix"], found(), ends_by_closing=False)


@pytest.mark.parametrize(
    "differing",
    [
        {"other": 1, "example": 302},
        {"status": 1},
        {"empty": 1},
        {"connect": 1},
        {"read": 1},
        {"write": 1},
        {"timeout": 1},
        {"unmodified": 0},
        {"requests": 0},
    ],
    ids=lambda differing: next(iter(differing)),
)
def test_an_error_is_a_trouble(differing: dict[str, int]) -> None:
    assert traffic_loads.troubles(LOADS["mix"], found(**differing), ends_by_closing=False)


def test_fewer_bytes_than_the_answers_have_are_a_trouble() -> None:
    load, run = LOADS["megabyte"], found(unmodified=0, bytes=9_999_999_999)
    assert traffic_loads.troubles(load, run, ends_by_closing=False)
    assert not traffic_loads.troubles(load, {**run, "bytes": 10_000_000_000}, ends_by_closing=False)


def test_a_round_with_an_error_leaves_no_figure() -> None:
    cell = Cell([Figures(1000, 1, 2, 3, 0.5)])
    assert traffic_report.median(cell, "rate") == 1000
    cell.failed = True
    assert traffic_report.median(cell, "rate") == 0


def test_a_round_beside_other_programs_counts_only_if_there_is_no_other() -> None:
    alone, beside = Figures(1000, 1, 2, 3, 0.5, 0.05), Figures(100, 1, 2, 3, 0.5, 0.9)
    assert traffic_report.median(Cell([beside, alone, beside]), "rate") == 1000
    assert traffic_report.median(Cell([beside]), "rate") == 100


def test_the_tables_have_the_ratio_to_the_better_setting_of_granian() -> None:
    peers = [each for each in traffic_servers.ALL if each.name in ("hangup", "granian1", "granian8")]
    scenarios = traffic_loads.product(["bare"], ["json"], ["one"], ["direct"], [32])
    results = traffic_report.Results(scenarios, peers)
    for name, rate in (("hangup", 600), ("granian1", 800), ("granian8", 500)):
        results.cells[scenarios[0]][name].rounds.append(Figures(rate, 1, 2, 3, 0.5))
    lines = results.lines()
    assert "| JSON view, 32, direct, one | 600 | 800 | 500 |" in lines
    ratio = lines.index("| ratio of rates | hangup / granian |") + 2
    assert lines[ratio].endswith("| 0.75 |")
    results.cells[scenarios[0]]["granian1"].rounds[0] = Figures(800, 1, 2, 3, 0.5, others=0.9)
    assert results.lines()[ratio].endswith("| ~0.75 |")
