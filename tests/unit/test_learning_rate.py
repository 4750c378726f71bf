"""How high the learning rate goes for encoders of which width, and when it is taken as asked."""

import pytest

from trainer.reward.config import RewardConfig, TrainConfig
from trainer.reward.schedule import peak


@pytest.mark.parametrize(
    ("asked", "width", "expected"),
    [
        (2e-5, 768, 2e-5),  # RoBERTa-base
        (2e-5, 1024, 2e-5),  # RoBERTa-large
        (2e-5, 384, 8e-5),  # MiniLM
        (2e-5, 512, 4.5e-5),
        (2e-5, 128, 1e-4),  # 36 times as much would be too much
        (1e-5, 384, 4e-5),
        (3e-4, 384, 3e-4),  # what somebody asks for is never lowered
    ],
)
def test_narrow_encoders_learn_faster_up_to_a_bound(asked: float, width: int, expected: float) -> None:
    assert peak(asked, width) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("asked", "scaled"),
    [
        ({}, True),
        ({"batch_size": 8}, True),
        ({"learning_rate": 2e-5}, False),  # the default, but by somebody's word
        ({"learning_rate": 1e-5, "scale_rate": True}, True),
        ({"scale_rate": False}, False),
    ],
)
def test_a_rate_that_somebody_names_is_not_raised_unless_that_is_named_too(
    asked: dict[str, float], scaled: bool
) -> None:
    found = RewardConfig.model_validate({"train": asked})
    assert found.train.scale_rate is scaled
    assert RewardConfig.model_validate(found.model_dump(mode="json")) == found  # as a job is kept
    assert TrainConfig(**asked).scale_rate is scaled  # type: ignore[arg-type]
