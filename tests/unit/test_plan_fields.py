"""What a plan of a rollout that people write may hold, in the names and words of the documentation."""

from typing import Any

import click
import pytest

from cli import rollout_plan


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"goals": {"gian": 1}},
            "goals.gian is no field of a plan: goals has gain, margin, slower, quantile, failures, failure_ratio.",
        ),
        (
            {"foo": 1},
            "foo is no field of a plan: a plan has strategy, stages, shadow, holdback, salt, goals, load_seconds, "
            "unready_seconds.",
        ),
        (
            {"stages": [{"share": 1}, {"shares": 1}]},
            "stages.1.shares is no field of a plan: stages.1 has share, minimum_samples, minimum_seconds, "
            "longest_seconds.",
        ),
        ({"goals": {"failure_ratio": "x"}}, "goals.failure_ratio takes a number, not 'x'."),
        ({"shadow": {"share": "abc"}}, "shadow.share takes a number, not 'abc'."),
        ({"shadow": 3}, "shadow takes fields of its own, not 3."),
        ({"goals": None}, "goals takes fields of its own, not None."),
        ({"stages": 3}, "stages takes a list, not 3."),
        ({"stages": [1]}, "stages.0 takes fields of its own, not 1."),
        (
            {"stages": [{"minimum_samples": 1.5}]},
            "stages.0.minimum_samples takes a whole number of 0 or more, not 1.5.",
        ),
        ({"stages": [{"minimum_samples": -1}]}, "stages.0.minimum_samples takes a whole number of 0 or more, not -1."),
        ({"strategy": "fast"}, "strategy takes gradual or at_once, not 'fast'."),
        ({"holdback": True}, "holdback takes a number, not True."),
        ({"salt": 3}, "salt takes text, not 3."),
        ({"no_shadow": "nein"}, "no_shadow takes true or false, not 'nein'."),
    ],
)
def test_what_is_wrong_is_said_by_its_field_in_our_words(values: dict[str, Any], told: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        rollout_plan.of_values(values)
    assert refused.value.message == told


def test_what_is_documented_is_taken() -> None:
    plan = rollout_plan.of_values(
        {
            "strategy": "at-once",
            "stages": [{"share": 1, "minimum_samples": 9}],
            "shadow": {"share": 0.2, "minimum_seconds": 5},
            "goals": {"failure_ratio": 2},
            "salt": "muối",
        }
    )
    assert (plan.stages[0].waiting.minimum_samples, plan.goals.failure_ratio, plan.shadow.share) == (9, 2, 0.2)
    assert rollout_plan.of_values({"shadow": None}).no_shadow
    assert not rollout_plan.of_values({"shadow": True}).no_shadow
