"""What a rollout's plan may say."""

from typing import Any

import pytest

from server.errors import InvalidRequest
from server.rollout.plan import Plan, Strategy, read


def test_by_default_it_goes_10_50_100_after_a_shadow_with_5_percent_held_back() -> None:
    plan = Plan()
    assert [(stage.share, stage.minimum_samples) for stage in plan.stages] == [(0.1, 200), (0.5, 200), (1, 200)]
    assert [stage.minimum_seconds for stage in plan.stages] == [3600, 3600, 86_400]
    assert (plan.holdback, plan.held_back) == (0.05, 500)
    assert plan.shadow is not None
    assert plan.shadow.share == 0.1


def test_at_once_has_one_stage_and_a_return_neither_holdback_nor_shadow() -> None:
    assert [stage.share for stage in read({"strategy": "at_once"}).stages] == [1]
    back = read({"strategy": "return", "holdback": 0, "shadow": None})
    assert ([stage.share for stage in back.stages], back.compares) == ([1], False)


def test_what_is_not_said_has_its_default() -> None:
    plan = read({"stages": [{"share": 0.2, "minimum_samples": 50}, {"share": 1}], "goals": {"failures": 0.02}})
    assert (plan.stages[0].minimum_samples, plan.stages[0].minimum_seconds) == (50, 3600)
    assert (plan.goals.failures, plan.goals.slower) == (0.02, 0.10)


def test_a_plan_survives_json() -> None:
    plan = read({"strategy": "at_once", "salt": "mùa xuân", "holdback": 0.123})
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.strategy is Strategy.AT_ONCE


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"strategy": "fast"}, "strategy", "input should be 'gradual', 'at_once' or 'return'"),
        ({"holdbak": 0.1}, "holdbak", "extra inputs are not permitted"),
        ({"holdback": 0}, "", "a holdback of at least 0.01 % is needed"),
        ({"holdback": 0.00004}, "", "a holdback of at least 0.01 % is needed"),
        ({"holdback": 0.6}, "holdback", "less than or equal to 0.5"),
        ({"holdback": float("nan")}, "holdback", "finite"),
        ({"stages": []}, "stages", "there must be 1 to 20 stages, not 0"),
        ({"stages": [{"share": 0.5}]}, "stages", "the last stage must have a share of 100 %"),
        ({"stages": [{"share": 0.5}, {"share": 0.5}, {"share": 1}]}, "stages", "a larger share than the one before"),
        ({"stages": [{"share": 0.95}, {"share": 1}]}, "", "a stage of 95 % reaches into the holdback of 5 %"),
        ({"stages": [{"share": 0}, {"share": 1}]}, "stages.0.share", "greater than or equal to 0.0001"),
        ({"stages": [{"share": 1, "minimum_samples": 0}]}, "stages.0.minimum_samples", "greater than or equal to 1"),
        (
            {"stages": [{"share": 1, "minimum_seconds": 60, "longest_seconds": 60}]},
            "stages.0",
            "longest_seconds (60) must be more than minimum_seconds (60)",
        ),
        ({"strategy": "at_once", "stages": [{"share": 0.5}, {"share": 1}]}, "", "at_once has one stage"),
        ({"strategy": "return", "shadow": None}, "", "a return has no holdback"),
        ({"strategy": "return", "holdback": 0}, "", "a return has no shadow"),
        ({"shadow": {"share": 0}}, "shadow.share", "greater than 0"),
        ({"goals": {"failures": 0}}, "goals.failures", "greater than 0"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(values: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(values)
    (violation,) = refused.value.violations
    assert violation.field == field
    assert says in violation.description


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as refused:
        read({"holdback": 2, "salt": 7})
    assert [violation.field for violation in refused.value.violations] == ["holdback", "salt"]
