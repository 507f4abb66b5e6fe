"""What the wheels are made of."""

import re
import tomllib
from pathlib import Path
from types import ModuleType

from click.testing import CliRunner

from conftest import COMPILED, is_compiled
from hangup._cli import main as cli
from hangup._http1 import parser as _parser

ROOT = Path(__file__).parents[1]


def compiled_files() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]
    assert not hook["enable-by-default"]
    files: list[str] = hook["include"]
    return files


def test_what_is_to_be_compiled_is_there_once_and_in_order() -> None:
    """The hook passes over a name that fits nothing."""
    files = compiled_files()
    assert files == sorted(set(files))
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_no_compiled_class_is_derived_from_where_python_runs() -> None:
    """That can't be done, and would show with the first use only."""
    compiled = {Path(name).stem for name in compiled_files()}
    for source in (ROOT / "src/hangup").glob("*.py"):
        if source.stem in compiled:
            continue
        text = source.read_text()
        names = {
            name.strip().split(" as ")[-1]
            for module, imported in re.findall(r"from \.(\w+) import (\([^)]*\)|.*)", text)
            if module in compiled
            for name in imported.strip("()").split(",")
        }
        lists = re.findall(r"^class \w+\((.*?)\):", text, re.MULTILINE)
        bases = {base.strip() for each in lists for base in each.split(",")}
        assert not names & bases, source


def test_the_version_says_how_the_engine_was_built() -> None:
    assert isinstance(_parser, ModuleType)
    assert is_compiled(_parser) == COMPILED
    shown = CliRunner().invoke(cli.main, ["--version"]).output
    assert ("compiled" in shown, "pure Python" in shown) == (COMPILED, not COMPILED)
