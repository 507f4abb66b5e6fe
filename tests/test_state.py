"""The table of a connection's states: it is what the code does, and what the documentation shows."""

import re
from pathlib import Path

import pytest

from hangup._connection.state import OWNERS, TRANSITIONS, State

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/hangup"
PAGE = ROOT / "docs/architecture.md"
# `_IDLE, _HANDLED = State.IDLE, State.HANDLED`
NAMES = re.compile(r"^([\w, ]+) = (State\.[\w., ]+?)(?:  #.*)?$", re.MULTILINE)
BEGIN, END = "<!-- states: begin -->\n", "<!-- states: end -->"


def drawn() -> str:
    """The table, as the documentation has it."""
    lines = ["| from | to | thread | with | when |", "| --- | --- | --- | --- | --- |"]
    for one in TRANSITIONS:
        edge = f"{one.source.name} | {one.target.name} | {one.thread}"
        lines.append(f"| {edge} | {one.lock or 'no lock'} | {one.event} |")
    owners = ", ".join(f"{state.name} {owner}" for state, owner in OWNERS.items())
    return "\n".join(lines) + f"\n\nOwners: {owners}.\n"


def assigned() -> set[State]:
    """The states that some module gives a connection, by their own names or a global one."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        short: dict[str, str] = {}
        for names, values in re.findall(
            r"^([\w, ]+) = (State\.[\w., ]+?)(?:  #.*)?$", text, re.MULTILINE
        ):
            short.update(zip(names.split(", "), values.split(", "), strict=True))
        given = re.findall(r"\.state = (\S+)", text)
        found |= {one.removeprefix("State.") for name in given if (one := short.get(name, name))}
    return {state for state in State if state.name in found}


def test_each_state_has_an_owner_and_can_be_left_but_the_last() -> None:
    assert set(OWNERS) == set(State)
    assert {one.source for one in TRANSITIONS} == set(State) - {State.CLOSED}
    assert {one.target for one in TRANSITIONS} == set(State)


def test_the_state_changes_by_its_owners_hand() -> None:
    for one in TRANSITIONS:
        assert one.thread == OWNERS[one.source], one


def test_a_change_of_hands_to_the_event_loop_has_the_lock() -> None:
    """It may look at once: what the owner did before is to be seen then."""
    for one in TRANSITIONS:
        if OWNERS[one.source] == "worker" and OWNERS[one.target] == "event loop":
            assert one.lock, one


def test_the_code_gives_the_states_of_the_table() -> None:
    assert assigned() == set(State)


def test_the_documentation_shows_this_table() -> None:
    page = PAGE.read_text()
    assert BEGIN in page
    shown = page.partition(BEGIN)[2].partition(END)[0]
    if shown != drawn():
        pytest.fail(f"docs/architecture.md is to have, between its marks:\n{drawn()}")
