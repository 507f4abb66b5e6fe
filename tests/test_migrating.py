"""docs/migrating.md names no option that there is not."""

import re
from pathlib import Path

from hangup._cli.main import serve_command

PAGE = Path(__file__).parents[1] / "docs/migrating.md"


def test_each_option_that_is_named_for_hangup_exists() -> None:
    options = {option for parameter in serve_command.params for option in parameter.opts}
    heads = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    assert len(heads) == 5
    checked = 0
    for section in heads:
        for row in re.findall(r"^\| (?!---)(.*) \|$", section, re.MULTILINE):
            ours = row.split(" | ")[-1]
            for option in re.findall(r"`(--[a-z-]+)", ours):
                assert option in options, row
                checked += 1
    assert checked > 40
