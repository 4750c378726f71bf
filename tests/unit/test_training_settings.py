"""Which settings of a run are taken: those that the trainer itself takes, and no others."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from server.errors import InvalidRequest
from server.training import settings
from trainer.reward import schema
from trainer.reward.config import RewardConfig


def test_the_servers_copy_of_the_settings_is_current() -> None:
    assert settings._SCHEMA.read_text() == schema.text(), "run: python -m trainer.reward.schema"


def refusal(given: dict[str, Any]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        settings.checked(given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"train": {"lerning_rate": 1e-5}},
            "config.train.lerning_rate: is no setting here; did you mean learning_rate?",
        ),
        ({"learning_rate": 1e-5}, "config.learning_rate: is a setting of the group train"),
        ({"học": 1}, "config.học: is no setting here: there are base, seed, seeds, data, augment, train, gate, export"),
        ({"a\nb": 1}, "config: is no setting here: there are base, seed, seeds, data, augment, train, gate, export"),
        ({"train": 1e-5}, "config.train: must be a group of settings"),
        ({"train": {"batch_size": 1.5}}, "config.train.batch_size: must be a whole number"),
        ({"train": {"batch_size": 4097}}, "config.train.batch_size: must be at most 4096"),
        ({"train": {"learning_rate": 0.0}}, "config.train.learning_rate: must be more than 0"),
        ({"train": {"learning_rate": math.nan}}, "config.train.learning_rate: must be a finite number"),
        ({"train": {"precision": "fp8"}}, "config.train.precision: must be one of auto, fp32, bf16"),
        ({"train": {"bucket": 1.0}}, "config.train.bucket: must be true or false"),
        ({"seed": 1e300}, "config.seed: must be a whole number"),
        ({"seed": True}, "config.seed: must be a whole number"),
        ({"base": "a\0b"}, "config.base: must be one line without control characters"),
        ({"base": "x" * 1025}, "config.base: must have 1,024 characters at most"),
        ({"base": None}, "config.base: must be a text"),
        ({"base": ["x"]}, "config.base: must be a text"),
        ({"gate": {"confidence": 1.0, "most": 1}}, "config.gate.confidence: must be less than 1; config.gate.most: is"),
    ],
)
def test_what_is_wrong_is_said_of_each_field(given: dict[str, Any], words: str) -> None:
    assert refusal(given).startswith(words)


def test_whole_numbers_come_as_such_and_nothing_else_changes() -> None:
    asked = {"base": "đường/dẫn", "seed": 3.0, "train": {"batch_size": 8.0, "learning_rate": 2.0}, "data": {}}
    found = settings.checked(asked)
    assert found == asked
    assert [type(each) for each in (found["seed"], *found["train"].values())] == [int, int, float]
    assert RewardConfig(**found).seed == 3


_VALUES = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(-5, 5000).map(float), st.sampled_from(["auto", "bf16", "", "x"])
)
_NAMES = st.sampled_from([*schema.RewardConfig.model_fields, "learning_rate", "other"])
_GROUPS = {
    name: st.dictionaries(st.sampled_from([*field.annotation.model_fields, "seed"]), _VALUES, max_size=3)
    for name, field in RewardConfig.model_fields.items()
    if hasattr(field.annotation, "model_fields")
}


@given(st.dictionaries(_NAMES, _VALUES, max_size=2), st.fixed_dictionaries({}, optional=_GROUPS))
def test_what_the_server_takes_the_trainer_takes_and_the_other_way_round(
    values: dict[str, Any], groups: dict[str, Any]
) -> None:
    asked = values | groups
    try:
        settings.checked(asked)
    except InvalidRequest:
        assert _is_laxer(asked) or _is_refused(asked)
    else:
        RewardConfig(**settings.checked(asked))


def _is_refused(asked: dict[str, Any]) -> bool:
    try:
        RewardConfig.model_validate(asked)
    except ValidationError:
        return True
    return False


def _is_laxer(asked: dict[str, Any]) -> bool:
    """Whether pydantic takes more: truth values as numbers and the other way round, infinity, inexact whole numbers."""
    groups = (asked, *(group for group in asked.values() if isinstance(group, dict)))
    values = [value for group in groups for value in group.values()]
    numbers = [value for value in values if isinstance(value, float)]
    return any(isinstance(value, bool) for value in values) or any(
        not math.isfinite(number) or abs(number) > settings.GREATEST_WHOLE or number in (0, 1) for number in numbers
    )
