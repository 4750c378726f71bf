"""Experiments: who gets which variant, what the path makes of it, and what becomes of an experiment at a look."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ratchet.v1 import experiment_pb2 as pb
from ratchet.v1 import inference_pb2, rollout_pb2
from server.deliberation import Judges
from server.errors import InvalidRequest, PolicyUnavailable
from server.experiments import decision
from server.experiments.types import Experiment, State, Step, Trigger
from server.rollout.registry import Assignment
from server.rollout.routed import Routed
from server.rollout.table import Champions, Known, Opened, Table
from server.rollout.types import CONTROLLER, Finding, Guardrail, Kind, Outcome, Safety, Variation
from server.rollout.types import State as RolloutState
from server.rpc.experiment_messages import experiment_of, plan_of, variant_of
from server.rpc.messages import response_of
from server.rpc.validation import require_clean
from server.storage.rows import arm_of
from server.types import SelectionMethod, Shown, Turn
from tests.experiments import experiment, known
from tests.path import Path, StubPolicy, StubReward
from tests.rollouts import LAN, MET, NEW, OLD, at, rollout
from tests.turns import a_turn

DAY = 86_400.0


def table(*experiments: Experiment, rollouts: Sequence[Any] = ()) -> Table:
    opened = Opened({}, {OLD: StubReward(OLD), NEW: StubReward(NEW)})
    judges: Any = Judges((), None, "", *([None] * 3))  # type: ignore[arg-type]
    champions = Champions(StubPolicy(), opened.rewards[OLD])
    return Table(Known({Kind.REWARD: OLD}, rollouts, {}, experiments), opened, judges, champions)


def of(found: Table, number: int) -> Routed:
    return found.of(a_turn(user_id=f"u{number}"))


# Who gets which


async def test_without_an_experiment_nothing_is_made_for_a_turn() -> None:
    found = table()
    assert not found.has_parts
    assert found.of(a_turn()) is found.of(a_turn(user_id="bo"))


async def test_users_are_split_by_the_share_and_stay_where_they_are() -> None:
    same = experiment()
    found, again = table(same), table(same)
    parts = [of(found, number).assignments[0] for number in range(400)]
    assert 150 < sum(each.challenger for each in parts) < 250
    assert parts == [of(again, number).assignments[0] for number in range(400)]
    assert {(each.release, each.propensity, each.share) for each in parts} == {
        ("other-selection", 0.5, 0.5),
        ("control", 0.5, 0.5),
    }


async def test_only_the_variants_users_have_its_settings() -> None:
    found = table(experiment())
    for number in range(50):
        routed = of(found, number)
        (part,) = routed.assignments
        assert bool(routed.overrides) is part.challenger
        assert routed.shown == ()


async def test_experiments_of_different_kinds_run_at_once_and_are_drawn_independently() -> None:
    found = table(*(experiment(kind) for kind in Variation))
    arms = [tuple(each.challenger for each in of(found, number).assignments) for number in range(800)]
    assert len(set(arms)) == 8
    assert all(50 < arms.count(each) < 150 for each in set(arms))
    routed = next(of(found, number) for number, arm in enumerate(arms) if all(arm))
    assert set(routed.overrides) == {"selection", "selection_temperature", "instructions"}
    assert arm_of(routed.assignments) == "other-selection+other-prompt+other-interface"


async def test_an_experiment_runs_beside_a_rollout() -> None:
    found = table(experiment(), rollouts=[rollout(RolloutState.CANARY, stage=1)])
    arms = [tuple(each.challenger for each in of(found, number).assignments) for number in range(400)]
    assert len(set(arms)) == 4


@pytest.mark.parametrize("state", [State.HELD, State.STOPPED])
async def test_nobody_is_part_of_one_that_is_held_or_stopped(state: State) -> None:
    found = table(experiment(state=state))
    assert not found.has_parts
    assert of(found, 1).assignments == ()


async def test_an_interface_is_told_to_the_caller_with_each_reply_to_both_arms() -> None:
    found = table(experiment(Variation.INTERFACE))
    seen = {of(found, number).shown for number in range(50)}
    assert seen == {(Shown("try-interface", "other-interface"),), (Shown("try-interface", ""),)}


# What the path makes of it


class Routes:
    """Every turn with the same experiments' part."""

    def __init__(self, path: Path, **routed: Any) -> None:
        self._path, self._routed = path, routed
        self.noted: list[Sequence[Assignment]] = []

    def of(self, turn: Turn) -> Routed:
        return Routed(self._path.policy, self._path.judges, **self._routed)

    def failed(self, turn: Turn, assignments: Sequence[Assignment], reason: str) -> None:
        self.noted.append(assignments)


def varied(path: Path, **routed: Any) -> Routes:
    routes = Routes(path, **routed)
    path.pipeline._services = replace(path.pipeline._services, routes=routes)
    return routes


PART = Assignment(
    experiment="0193",
    kind=Variation.SELECTION,
    stage=0,
    challenger=True,
    release="other",
    share=0.5,
    propensity=0.5,
    sticky=True,
    held_back=False,
    timed=True,
)


async def test_the_variants_selection_chooses_where_the_request_leaves_it_open() -> None:
    path = Path()
    varied(path, overrides={"selection": "weighted", "selection_temperature": 5.0}, assignments=(PART,))
    reply = await path.pipeline.answer(a_turn(selection_method=None))
    assert reply.choice.method is SelectionMethod.WEIGHTED
    (entry,) = path.log.entries
    assert (entry.decided["method"], entry.decided["temperature"]) == ("weighted", 5.0)
    assert entry.assignments == (PART,)
    named = await path.pipeline.answer(a_turn(selection_method=SelectionMethod.BEST))
    assert named.choice.method is SelectionMethod.BEST


async def test_the_variants_candidates_are_drawn_where_the_request_leaves_that_open() -> None:
    path = Path()
    varied(path, overrides={"candidates": 6})
    assert len((await path.pipeline.answer(a_turn(candidate_count=2, count_given=False))).candidates) == 6
    assert len((await path.pipeline.answer(a_turn(candidate_count=2))).candidates) == 2


async def test_the_variants_least_reward_refuses_what_the_usual_one_would_not() -> None:
    path = Path()
    varied(path, overrides={"minimum_reward": 1.0})
    assert (await path.pipeline.answer(a_turn())).refused
    assert not (await path.pipeline.answer(a_turn(minimum_reward=0.0))).refused, "it names its own"


async def test_instructions_reach_the_policy_and_no_judge() -> None:
    path = Path()
    plain = await path.pipeline.answer(a_turn(session_id=""))
    varied(path, overrides={"instructions": "Answer in rhymes."})
    await path.pipeline.answer(a_turn(session_id=""))
    first, second = path.policy.prompts[0], path.policy.prompts[-1]
    assert "Answer in rhymes." in second
    assert "Answer in rhymes." not in first
    assert len({entry.reward_context for entry in path.log.entries}) == 1
    assert [entry.decided["instructions"] for entry in path.log.entries] == ["", "Answer in rhymes."]
    assert not plain.shown


async def test_the_reply_says_what_to_show_and_the_message_too() -> None:
    path = Path()
    varied(path, shown=(Shown("buttons", "big"), Shown("colours", "")))
    reply = await path.pipeline.answer(a_turn())
    arms = [(each.experiment, each.variant, each.challenger) for each in response_of(reply).experiments]
    assert arms == [("buttons", "big", True), ("colours", "", False)]


async def test_a_turn_without_a_reply_counts_for_its_experiments() -> None:
    path = Path()
    routes = varied(path, assignments=(PART, replace(PART, kind=Kind.REWARD)))
    path.policy.failures = [PolicyUnavailable("It is away.")] * 10
    with pytest.raises(PolicyUnavailable):
        await path.pipeline.answer(a_turn())
    assert routes.noted == [[PART]]


# What becomes of it


def step(found: Step | str) -> Step:
    assert isinstance(found, Step)
    return found


def test_it_goes_on_and_says_what_to_set_once_all_criteria_are_met() -> None:
    made = experiment()
    said = decision.decide(made, known(made), at(DAY))
    assert said == (
        "All success criteria are met: set RATCHET_SELECTION=weighted, RATCHET_SELECTION_TEMPERATURE=0.5, and stop."
    )


def test_it_says_which_criteria_are_not_met() -> None:
    made = experiment()
    criteria = (replace(MET[0], outcome=Outcome.UNDECIDED, sentence="Satisfaction is open."), *MET[1:])
    assert decision.decide(made, known(made, criteria=criteria), at(DAY)) == "Satisfaction is open."
    assert "Too little" in str(decision.decide(made, known(made, criteria=()), at(DAY)))


@pytest.mark.parametrize(
    ("changes", "seconds", "why"),
    [
        ({"safety": Safety(confirmed=1)}, 1, "confirmed"),
        ({"findings": (Finding(Guardrail.LATENCY, "It is slow."),)}, 1, "It is slow."),
        ({"mismatch": "Users are lost."}, 1, "Users are lost."),
        ({}, 28 * DAY, "longest time"),
    ],
)
@pytest.mark.parametrize("state", [State.RUNNING, State.HELD])
def test_what_ends_it(changes: dict[str, Any], seconds: float, why: str, state: State) -> None:
    made = experiment(state=state)
    found = step(decision.decide(made, known(made, **changes), at(seconds)))
    assert (found.experiment.state, found.experiment.version, found.event.trigger) == (State.STOPPED, 2, Trigger.STOP)
    assert why in found.event.reason
    assert found.experiment.reason == found.event.reason
    assert (found.experiment.stopped_at, found.event.actor) == (at(seconds), CONTROLLER)
    assert found.experiment.split.treated == 0


def test_evidence_of_before_the_last_change_takes_the_variant_away_as_well() -> None:
    made = experiment(version=3)
    assert (
        step(decision.decide(made, known(made, version=0, safety=Safety(confirmed=1)), at(1))).experiment.version == 4
    )


def test_a_report_that_waits_takes_the_variant_away_until_a_person_dismisses_it() -> None:
    made = experiment()
    held = step(decision.decide(made, known(made, safety=Safety(pending=1)), at(1))).experiment
    assert (held.state, held.split.treated) == (State.HELD, 0)
    assert "waiting for a person" in held.reason
    assert decision.decide(held, known(held, safety=Safety(pending=1)), at(2)) == held.reason
    back = step(decision.decide(held, known(held, safety=Safety(dismissed=1)), at(3)))
    assert (back.experiment.state, back.experiment.reason, back.event.trigger) == (State.RUNNING, "", Trigger.RELEASE)


def test_while_nobody_can_read_what_users_did_nobody_has_the_variant() -> None:
    made, unread = experiment(), "What users did can't be read for 6 min: Postgres is away."
    held = step(decision.decide(made, known(made, version=0, unread=unread), at(1))).experiment
    assert (held.state, held.reason) == (State.HELD, f"{unread[:-1]}: everybody has what is in force.")
    assert decision.decide(held, known(held, version=0), at(2)) == held.reason  # nothing newer is known yet
    assert step(decision.decide(held, known(held), at(3))).experiment.state is State.RUNNING


def test_a_person_stops_it_with_what_was_seen_last() -> None:
    made = experiment()
    seen = known(made)
    found = decision.stop(made, LAN, "", seen, at(5))
    assert (found.experiment.state, found.event.actor, found.event.evidence) == (State.STOPPED, LAN, seen)
    assert decision.decide(found.experiment, seen, at(6)) == "It has stopped."


# Messages


def asked(**fields: Any) -> pb.StartExperimentRequest:
    return pb.StartExperimentRequest(**{"name": "a", "variant": pb.ExperimentVariant(interface={}), **fields})


@pytest.mark.parametrize("kind", list(Variation))
def test_an_experiment_is_told_as_it_was_asked_for(kind: Variation) -> None:
    made = experiment(kind)
    message = experiment_of(made)
    assert variant_of(message.variant) == (kind, made.variant, made.overrides)
    assert (message.share, message.longest_seconds, message.goals.gain) == (0.5, 28 * DAY, 0.05)
    assert len(message.to_set) == len(made.overrides)


def test_every_setting_of_a_selection_is_asked_for_and_told() -> None:
    selection = pb.SelectionVariant(
        method=inference_pb2.SELECTION_METHOD_ENSEMBLE,
        temperature=0.2,
        exploration=0.0,
        ensemble_weight=0.5,
        candidates=8,
        minimum_reward=0.4,
    )
    kind, name, overrides = variant_of(pb.ExperimentVariant(selection=selection))
    assert overrides == {
        "selection": "ensemble",
        "selection_temperature": 0.2,
        "exploration": 0.0,
        "ensemble_weight": 0.5,
        "candidates": 8,
        "minimum_reward": 0.4,
    }
    assert experiment_of(experiment(kind, variant=name, overrides=overrides)).variant.selection == selection


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"variant": pb.ExperimentVariant()}, "variant.what"),
        ({"variant": None}, "variant"),
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"share": 1.0}, "share"),
        ({"share": float("nan")}, "share"),
        ({"longest_seconds": 1.0}, "longest_seconds"),
        ({"variant": pb.ExperimentVariant(selection={"candidates": 17})}, "variant.selection.candidates"),
        ({"variant": pb.ExperimentVariant(selection={"method": 4})}, "variant.selection.method"),
        ({"variant": pb.ExperimentVariant(selection={})}, "variant.selection"),
        ({"variant": pb.ExperimentVariant(prompt={"instructions": " "})}, "variant.prompt.instructions"),
        ({"variant": pb.ExperimentVariant(prompt={"instructions": "a\0b"})}, "variant.prompt.instructions"),
        ({"variant": pb.ExperimentVariant(name="Control", interface={})}, "variant.name"),
        ({"goals": rollout_pb2.RolloutGoals(gain=-1)}, "goals.gain"),
    ],
)
def test_what_can_not_be_asked_for_is_told_by_its_field(fields: dict[str, Any], field: str) -> None:
    def read(request: pb.StartExperimentRequest) -> None:
        require_clean(request)
        variant_of(request.variant)
        plan_of(request)

    with pytest.raises(InvalidRequest) as refusal:
        read(asked(**fields))
    assert [each.field for each in refusal.value.violations] == [field]
