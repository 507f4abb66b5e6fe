"""The page of a probe's run, in a browser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chromium import Chromium, Tab
from hangup.probe.page import page
from hangup.probe.points import pairs
from hangup.probe.results import Cell, Evidence, Fault, Run, Usage, Verdict

HOSTILE = (
    "<script>alert(1)</script>",
    "</pre></dialog><img src=http://127.0.0.1:9/picture onerror=alert(2)>",
    "\x1b[31mred\x1b[0m and \x00 and \x9b1m",
    "[red]no markup[/red] &amp; \u202eturned round \udcff",
)
BEFORE, AFTER = Usage(2, 14, 9, 52 << 20, 0), Usage(2, 17, 9, 53 << 20, 3)
BAD = {
    ("waiting", "half-close"): (
        Verdict.UNSERVED, Fault.UNSERVED, "A half-closed client did not get what it was due",
        Evidence(0.001, 0.002, 0, 3, served=False, seen=["half-closed, and not served: [b]0 bytes"]),
    ),
    ("waiting", "rst"): (
        Verdict.NOISY, Fault.TRACEBACK, "3 tracebacks for 3 departures",
        Evidence(0.001, 0.002, 3, 72, list(HOSTILE), HOSTILE[0], BEFORE, BEFORE, wasted=1.8, began=3),
    ),
    ("idle", "fin"): (
        Verdict.NOISY, Fault.NOISE, "41 lines for 3 departures in the log", Evidence(0.1, 0.1, 0, 41),
    ),
    ("stream", "rst"): (
        Verdict.LEAKS, Fault.LEAK, "Sockets in CLOSE_WAIT: 9 more after 9 departures",
        Evidence(0.001, 0.002, 0, 3, before=BEFORE, after=AFTER),
    ),
    ("head", "silence"): (
        Verdict.WEDGED, Fault.WEDGED, "Behind the departures a healthy client had no answer",
        Evidence(None, None, 0, 3),
    ),
    ("connect", "silence"): (
        Verdict.WEDGED, Fault.WEDGED, "Right behind the departures, a healthy client had no answer",
        Evidence(None, 0.01, 0, 3),
    ),
    ("body", "rst"): (
        Verdict.CRASHED, Fault.CRASHED, "The command ended with signal 11", Evidence(restarts=1),
    ),
}  # fmt: skip


def a_cell(point: str, manner: str) -> Cell:
    if point in {"handshake", "goodbye", "truncation"}:
        return Cell(point, manner, Verdict.SKIPPED, ["the target is not asked over TLS"])
    if (point, manner) == ("idle", "half-close"):
        return Cell(point, manner, Verdict.SKIPPED, ["the server no longer answered"])
    if (point, manner) in BAD:
        verdict, fault, why, evidence = BAD[point, manner]
        leaked = {"sockets in CLOSE_WAIT": 9} if fault is Fault.LEAK else {}
        return Cell(point, manner, verdict, [why], [fault], 3, evidence, leaked)
    return Cell(point, manner, Verdict.CLEAN, [], [], 3, Evidence(0.001, 0.002, 0, 3, wasted=0.0))


def a_run(title: str = "a [red]server[/red] <b>", **changed: Any) -> Run:
    """A run in which each verdict occurs, and all that is said is hostile."""
    run = Run(
        title=title,
        target="serve '<i>' [bold]--port[/bold]",
        began="2026-11-25T14:31:20+00:00",
        seconds=26.1,
        repeat=3,
        cells=[a_cell(point.name, manner.value) for point, manner in pairs()],
        paths={"plain": "/", "slow": "/slow?<q>"},
        notes=["A note of <the> run."],
        version="1.2.3",
    )
    for name, value in changed.items():
        setattr(run, name, value)
    return run


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as chromium:
        yield chromium


@pytest.fixture
def tab(browser: Chromium) -> Iterator[Tab]:
    with browser.tab() as one:
        one.resize(1280, 900)
        yield one


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The page's address."""
    path = tmp_path / "run.html"
    path.write_text(page(a_run()), encoding="utf-8")
    return path.as_uri()


def text_of(tab: Tab, selector: str) -> str:
    text = tab.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
    return " ".join(text.split())


def test_a_browser_has_nothing_against_it_and_asks_for_nothing_else(tab: Tab, file: str) -> None:
    tab.open(file)
    tab.evaluate("document.querySelectorAll('[popover]').forEach(e => { e.showPopover() })")
    asked = [event["request"]["url"] for event in tab.of("Network.requestWillBeSent")]
    assert [url for url in asked if url != "data:,"] == [file]
    assert tab.complaints() == []
    assert tab.of("Page.javascriptDialogOpening") == []
    assert tab.evaluate("document.compatMode") == "CSS1Compat"


def test_each_cell_says_what_it_is(tab: Tab, file: str) -> None:
    tab.open(file)
    labels = tab.evaluate("[...document.querySelectorAll('.cell')].map(e => e.ariaLabel)")
    assert "connect, fin: clean" in labels
    assert "waiting, rst: noisy, 3 tracebacks" in labels
    assert "idle, fin: noisy, 41 log lines" in labels
    assert "stream, rst: leaks, +9 CLOSE_WAIT" in labels
    assert "head, silence: wedged, no answer" in labels
    assert "connect, silence: wedged, held up" in labels
    assert "idle, half-close: skipped" in labels
    assert len(labels) == 44
    assert tab.evaluate("document.querySelectorAll('.matrix .whole').length") == 3
    assert "the target is not asked over TLS" in text_of(tab, ".whole")
    assert "the server no longer answered" in text_of(tab, "#cell-idle-half-close")


def test_each_button_opens_the_evidence_of_its_own_cell(tab: Tab, file: str) -> None:
    tab.open(file)
    wrong = tab.evaluate("""[...document.querySelectorAll('.cell')].filter(button => {
        const [point, manner] = button.ariaLabel.split(':')[0].split(', ')
        return button.popoverTargetElement?.querySelector('h3').textContent !== `${point}, ${manner}`
    }).length""")
    assert wrong == 0
    evidence = text_of(tab, "#cell-waiting-rst")
    assert "3 tracebacks for 3 departures" in evidence
    assert "1.80 s" in evidence
    assert "3 began, 0 told, 0 stopped early" in evidence
    assert "memory52.0 MiB53.0 MiB+1.0 MiB" in text_of(tab, "#cell-stream-rst .usage").replace(
        " M", " M"
    )
    assert "half-closed, and not served: [b]0 bytes" in text_of(tab, "#cell-waiting-half-close")


def toggled(tab: Tab, what: str) -> None:
    """Do something, and wait until the evidence has opened or closed."""
    tab.evaluate("""void (window.toggled = new Promise(done => document.querySelectorAll('[popover]')
        .forEach(e => e.addEventListener('toggle', event => done(event.newState), {once: true}))))""")
    tab.press(*{"Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27)}[what])
    tab.evaluate("window.toggled")


def test_the_keyboard_opens_and_closes_evidence(tab: Tab, file: str) -> None:
    tab.open(file)
    tab.press("Tab", 9)
    assert tab.evaluate("document.activeElement.ariaLabel") == "connect, fin: clean"
    tab.press("Tab", 9)
    assert tab.evaluate("document.activeElement.ariaLabel") == "connect, rst: clean"
    toggled(tab, "Enter")
    shown = "[...document.querySelectorAll(':popover-open')].map(e => e.id)"
    assert tab.evaluate(shown) == ["cell-connect-rst"]
    assert tab.evaluate("document.activeElement.textContent") == "Close"
    toggled(tab, "Escape")
    assert tab.evaluate(shown) == []
    assert tab.evaluate("document.activeElement.ariaLabel") == "connect, rst: clean"


@pytest.mark.parametrize("width", [320, 390, 640, 641, 800, 801, 1280])
def test_it_fits_any_screen(tab: Tab, file: str, width: int) -> None:
    tab.resize(width, 844, mobile=True)
    tab.open(file)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("innerWidth") == width
    cut = "[...document.querySelectorAll('.cell')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert tab.evaluate(cut) == 0
    tab.evaluate("document.querySelector('#cell-waiting-rst').showPopover()")
    inside = "(({left, right}) => left >= 0 && right <= innerWidth)"
    assert tab.evaluate(f"{inside}(document.querySelector(':popover-open').getBoundingClientRect())")


def test_hostile_words_are_shown_and_do_nothing(tab: Tab, file: str) -> None:
    tab.open(file)
    assert tab.evaluate("document.scripts.length + document.images.length") == 0
    assert tab.evaluate("document.querySelectorAll('b, i, q').length") == 0
    assert tab.evaluate("document.title") == "a [red]server[/red] <b>: hangup probe"
    log = tab.evaluate("document.querySelector('#cell-waiting-rst pre').textContent")
    assert log.splitlines() == [
        *HOSTILE[:2],
        "␛[31mred␛[0m and ␀ and <U+009B>1m",
        "[red]no markup[/red] &amp; <U+202E>turned round <U+DCFF>",
    ]


#: Relative luminance and contrast as WCAG 2 has them.
CONTRASTS = """
(() => {
    const part = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(value => part(value / 255))
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const behind = element => {
        const colour = getComputedStyle(element).backgroundColor
        return colour === 'rgba(0, 0, 0, 0)' ? behind(element.parentElement) : colour
    }
    document.querySelector('#cell-waiting-rst').showPopover()
    return [...document.querySelectorAll('body *')].filter(element =>
        [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
    ).map(element => {
        const both = [light(getComputedStyle(element).color), light(behind(element))]
        const name = element.closest('.chip, .cell, .strip > *')?.className ?? element.localName
        return [name, (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05)]
    })
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(tab: Tab, file: str, scheme: str) -> None:
    tab.prefer(scheme)
    tab.open(file)
    found = tab.evaluate(CONTRASTS)
    assert [(name, ratio) for name, ratio in found if ratio < 4.5] == []
    assert {f"cell {verdict}" for verdict in Verdict} <= {name for name, _ in found}


def test_light_and_dark_differ(tab: Tab, file: str) -> None:
    seen = set()
    for scheme in ("light", "dark"):
        tab.prefer(scheme)
        tab.open(file)
        seen.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(seen) == 2


# -- without a browser


def test_a_bar_is_as_long_as_the_waste() -> None:
    run = a_run()
    idle = run.cell("idle", "rst")
    assert idle is not None
    idle.evidence.wasted = 0.9
    text = page(run)
    assert re.findall(r'style="width:([\d.]+)%"', text) == ["100.0", "50.0"]
    assert '<span class="value">2.70 s</span></td></tr></tfoot>' in text


def test_a_run_that_saw_little_says_so() -> None:
    cells = [Cell("connect", "fin", Verdict.CLEAN, departures=3, evidence=Evidence(0.01, 0.01))]
    text = page(a_run(cells=cells, notes=[], paths={}, began="some <time>"))
    assert text.count("not seen") == 4  # Of the run, and of the cell.
    assert "all of them" in text
    assert 'class="bars' not in text
    assert "rst" not in text.partition("</table>")[0].partition("<table")[2]
    assert "some &lt;time&gt;" in text


def test_a_run_that_tried_nothing_says_so() -> None:
    cells = [Cell("connect", "fin", Verdict.SKIPPED, ["the server no longer answered"])]
    assert "Nothing was tried." in page(a_run(cells=cells))
    assert "Nothing was tried." in page(a_run(cells=[]))


def test_points_of_another_version_are_shown_by_their_names() -> None:
    cells = [Cell("a <point>", "a manner", Verdict.CLEAN, departures=1), a_cell("connect", "fin")]
    text = page(a_run(cells=cells))
    assert 'aria-label="a &lt;point&gt;, a manner: clean"' in text
    assert "no such cell" in text
