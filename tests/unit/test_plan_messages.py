"""Plans of rollouts as messages: what is left unset is the default, what is wrong is named where the message has it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.v1 import rollout_pb2 as pb
from server.errors import InvalidRequest
from server.rollout.plan import Goals, Plan, Shadow, Stage, Strategy, Waiting
from server.rpc.plan_messages import message_of_plan, plan_of

SECONDS = st.floats(min_value=0, max_value=3600)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans that may be asked for."""
    shares = sorted(draw(st.sets(st.integers(1, 4999), max_size=4)))
    waiting: dict[str, Any] = {"minimum_samples": draw(st.integers(1, 10**9)), "minimum_seconds": draw(SECONDS)}
    stages = tuple(Stage(share=share / 10_000, **waiting) for share in shares)
    at_once = not stages and draw(st.booleans())
    return Plan(
        strategy=Strategy.AT_ONCE if at_once else Strategy.GRADUAL,
        stages=(*stages, Stage(share=1, longest_seconds=4000 + draw(SECONDS))),
        shadow=draw(st.sampled_from([None, Shadow(), Shadow(share=0.5, **waiting)])),
        holdback=draw(st.integers(1, 5000)) / 10_000,
        salt=draw(st.sampled_from(["", "muối"])),
        goals=Goals(gain=draw(st.floats(min_value=0, max_value=1)), margin=0.0),
        load_seconds=1 + draw(SECONDS),
    )


@given(plans())
def test_a_plan_comes_back_as_it_was(plan: Plan) -> None:
    message = pb.RolloutPlan.FromString(message_of_plan(plan).SerializeToString())
    assert plan_of(message) == plan


def test_what_is_left_unset_is_the_default() -> None:
    assert plan_of(pb.RolloutPlan()) == Plan()
    assert plan_of(pb.RolloutPlan(no_shadow=True)) == Plan(shadow=None)
    assert plan_of(pb.RolloutPlan(shadow=pb.RolloutShadow())) == Plan()
    at_once = pb.RolloutPlan(strategy=pb.ROLLOUT_STRATEGY_AT_ONCE)
    assert plan_of(at_once) == Plan(strategy=Strategy.AT_ONCE)
    stage = pb.RolloutStage(share=1, waiting=pb.RolloutWaiting(minimum_samples=7))
    assert plan_of(pb.RolloutPlan(stages=[stage])).stages == (Stage(share=1, minimum_samples=7),)


def test_what_is_set_to_nothing_is_not_the_default() -> None:
    waiting = pb.RolloutWaiting(minimum_seconds=0)
    found = plan_of(pb.RolloutPlan(stages=[pb.RolloutStage(share=1, waiting=waiting)], goals=pb.RolloutGoals(gain=0)))
    assert (found.stages[0].minimum_seconds, found.goals.gain) == (0, 0)


BACKWARDS = pb.RolloutWaiting(minimum_seconds=9, longest_seconds=8)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (pb.RolloutPlan(holdback=0), ["plan"]),
        (pb.RolloutPlan(holdback=0.7), ["plan.holdback"]),
        (pb.RolloutPlan(holdback=float("inf")), ["plan.holdback"]),
        (pb.RolloutPlan(load_seconds=0, unready_seconds=-1), ["plan.load_seconds", "plan.unready_seconds"]),
        (pb.RolloutPlan(goals=pb.RolloutGoals(quantile=1)), ["plan.goals.quantile"]),
        (pb.RolloutPlan(stages=[pb.RolloutStage(share=0.5)]), ["plan.stages"]),
        (pb.RolloutPlan(stages=[pb.RolloutStage(share=1), pb.RolloutStage()]), ["plan.stages[1].share"]),
        (pb.RolloutPlan(stages=[pb.RolloutStage(share=1, waiting=BACKWARDS)]), ["plan.stages[0]"]),
        (
            pb.RolloutPlan(stages=[pb.RolloutStage(share=1, waiting=pb.RolloutWaiting(minimum_samples=0))]),
            ["plan.stages[0].waiting.minimum_samples"],
        ),
        (pb.RolloutPlan(shadow=pb.RolloutShadow(share=2)), ["plan.shadow.share"]),
        (
            pb.RolloutPlan(shadow=pb.RolloutShadow(waiting=pb.RolloutWaiting(longest_seconds=-1))),
            ["plan.shadow.waiting.longest_seconds"],
        ),
        (pb.RolloutPlan(shadow=pb.RolloutShadow(), no_shadow=True), ["plan.no_shadow"]),
        (pb.RolloutPlan(strategy=pb.ROLLOUT_STRATEGY_RETURN), ["plan.strategy"]),
        (
            pb.RolloutPlan(strategy=pb.ROLLOUT_STRATEGY_AT_ONCE, stages=[pb.RolloutStage(share=s) for s in (0.5, 1)]),
            ["plan"],
        ),
    ],
)
def test_what_is_wrong_is_named_where_the_message_has_it(message: pb.RolloutPlan, fields: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        plan_of(message)
    assert [each.field for each in caught.value.violations] == fields


@pytest.mark.parametrize(
    ("part", "message", "besides"),
    [
        (Waiting, pb.RolloutWaiting, set()),
        (Goals, pb.RolloutGoals, set()),
        (Plan, pb.RolloutPlan, {"no_shadow"}),
        (Stage, pb.RolloutStage, {"waiting"}),
        (Shadow, pb.RolloutShadow, {"waiting"}),
    ],
)
def test_every_field_of_a_plan_has_one_in_the_message(part: Any, message: Any, besides: set[str]) -> None:
    waiting = set(Waiting.model_fields) if "waiting" in besides else set()
    assert set(part.model_fields) - waiting == set(message.DESCRIPTOR.fields_by_name) - besides
