"""Limits: each has a unit, a default, and a range."""

import dataclasses
from typing import Any

import pytest

from hangup import Config, ConfigError


def test_the_defaults_are_good_and_explained() -> None:
    config = Config()
    for field in dataclasses.fields(config):
        assert field.metadata["help"]
        if choices := field.metadata["choices"]:
            assert getattr(config, field.name) in choices
        else:
            assert getattr(config, field.name) >= field.metadata["least"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_threads": 0}, "max_threads must be at least 1, not 0"),
        ({"max_threads": 1.5}, "max_threads must be a whole number, not 1.5"),
        ({"max_threads": True}, "max_threads must be a whole number, not True"),
        ({"request_header_timeout": "5"}, "request_header_timeout must be a number, not '5'"),
        (
            {"request_header_timeout": float("nan")},
            "request_header_timeout must be at least 0.01, not nan",
        ),
        ({"write_timeout": -1}, "write_timeout must be at least 0.01, not -1"),
    ],
)
def test_a_bad_value_is_refused_by_name(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**setting)
    assert str(error.value) == message
    assert isinstance(error.value, ValueError)


def test_it_is_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().max_threads = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        Config(5)  # type: ignore[call-arg,misc]
