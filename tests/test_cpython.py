"""CPython's own tests pass on hangup's classes; ``make cpython`` asks every Python that is here."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_cpythons_own_tests_pass_or_are_listed_with_a_reason() -> None:
    suite = Path(__file__).parent / "cpython_suite.py"
    result = subprocess.run(
        [sys.executable, str(suite)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    if result.returncode == 2:
        pytest.skip(result.stdout.strip())
    assert result.returncode == 0, result.stdout
