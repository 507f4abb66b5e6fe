"""The soak of ``endurance.py``, for as long as a test may take; ``make soak`` takes ten minutes."""

import os

import pytest

from endurance import soak

SECONDS = 30.0


@pytest.mark.timeout(150)
def test_a_random_mix_of_clients_leaves_nothing_behind_and_no_good_one_unanswered() -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    wrong, figures = soak(SECONDS, seed=seed)
    assert wrong == [], f"seed {seed}"
    for what in ("good", "left", "malformed", "slow"):
        assert figures[what] > 50, figures
