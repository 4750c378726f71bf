"""A turn that experiments have a part in: who answers it, who stands in, and what its row says of that."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from server import absence
from server.errors import (
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    LogUnavailable,
    QueryTooLong,
    RatchetError,
)
from server.rollout.registry import NOT_TO_BLAME, Assignment
from server.rollout.routed import Routed
from server.rollout.types import Kind, Variation
from server.types import DegradationReason, Turn
from tests.path import Path, StubPolicy, StubReward
from tests.turns import a_turn

NEW_POLICY, NEW_REWARD = "policy-000002", "reward-000002"


def assigned(kind: Kind, *, challenger: bool = True) -> Assignment:
    return Assignment(
        experiment=f"the {kind}'s",
        kind=kind,
        stage=0,
        challenger=challenger,
        release=f"{kind}-00000{2 if challenger else 1}",
        share=0.1,
        propensity=0.1 if challenger else 0.9,
        sticky=True,
        held_back=False,
        timed=True,
    )


class Routes:
    """`server.rollout.routed.Router` that gives what a test says."""

    def __init__(self) -> None:
        self.routed: Routed | None = None
        self.noted: list[tuple[list[Kind | Variation], str]] = []

    def of(self, turn: Turn) -> Routed:
        assert self.routed is not None
        return self.routed

    def failed(self, turn: Turn, assignments: Sequence[Assignment], reason: str) -> None:
        self.noted.append(([each.kind for each in assignments], reason))


class Tried(Path):
    """The path with a challenger of each kind, to which all turns are assigned that `kinds` has."""

    def __init__(self, *kinds: Kind, **settings: Any) -> None:
        self.routes = Routes()
        super().__init__(routes=self.routes, **settings)
        self.new_policy, self.new_reward = StubPolicy(["from the challenger"]), StubReward(NEW_REWARD)
        self.new_policy.release = SimpleNamespace(id=NEW_POLICY)
        rewards = (self.new_reward, *self.judges.rewards) if Kind.REWARD in kinds else self.judges.rewards
        tried = Kind.POLICY in kinds
        self.routes.routed = Routed(
            self.new_policy if tried else self.policy,
            replace(self.judges, rewards=rewards),
            self.policy if tried else None,
            tuple(assigned(kind) for kind in kinds),
        )

    @property
    def failed(self) -> list[bool]:
        """Of the newest row's assignments."""
        return [each.failed for each in self.log.entries[-1].assignments]


async def test_the_assigned_releases_answer_and_the_row_says_so() -> None:
    path = Tried(Kind.REWARD, Kind.POLICY)
    reply = await path.pipeline.answer(a_turn())
    assert (reply.policy_release, reply.reward_release, reply.degradations) == (NEW_POLICY, NEW_REWARD, ())
    assert path.log.entries[0].assignments == (assigned(Kind.REWARD), assigned(Kind.POLICY))
    assert (path.policy.drawn, path.reward.contexts) == (0, [])


@pytest.mark.parametrize("error", [BackendUnavailable("gone"), BackendBusy("busy"), BackendError("broken")])
async def test_a_challenger_without_any_text_gives_way_to_the_champion_and_has_failed(error: BackendError) -> None:
    path = Tried(Kind.REWARD, Kind.POLICY)
    path.new_policy.failures = [error] * 3
    reply = await path.pipeline.answer(a_turn())
    assert (reply.policy_release, reply.candidates_count, reply.reward_release) == ("policy-000001", 3, NEW_REWARD)
    assert [each.reason for each in reply.degradations] == [DegradationReason.POLICY_FELL_BACK]
    assert path.failed == [False, True]
    assert path.routes.noted == []  # there was a reply, and its row has it


async def test_who_waits_for_a_policy_gets_an_answer_and_its_arm_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Triton that starts again must not speak against challengers alone, who give way at once."""
    monkeypatch.setattr(absence, "ASK_AGAIN_SECONDS", 0.01)
    path = Tried(Kind.REWARD, Kind.POLICY, policy_wait=10.0)
    path.new_policy.failures = [BackendUnavailable("gone")] * 3
    path.policy.failures = [BackendUnavailable("gone")] * 3
    reply = await path.pipeline.answer(a_turn())
    assert (reply.policy_release, reply.candidates_count, path.failed) == ("policy-000001", 3, [False, True])
    assert path.routes.routed is not None
    path.routes.routed = replace(path.routes.routed, policy=path.policy, champion=None)
    path.policy.failures = [BackendUnavailable("gone")] * 3
    reply = await path.pipeline.answer(a_turn())
    assert (reply.candidates_count, reply.degradations, path.failed) == (3, (), [False, True])


async def test_an_arm_of_which_some_texts_came_at_once_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "ASK_AGAIN_SECONDS", 0.01)
    path = Tried(Kind.POLICY, policy_wait=10.0)
    assert path.routes.routed is not None
    path.routes.routed = replace(path.routes.routed, policy=path.policy, champion=None)
    path.policy.failures = [BackendUnavailable("gone")] * 2
    await path.pipeline.answer(a_turn())
    assert path.failed == [False]


async def test_a_policy_that_is_waited_for_is_a_failure_in_experiments_on_settings_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Instructions that make it crash would slip through else."""
    monkeypatch.setattr(absence, "ASK_AGAIN_SECONDS", 0.01)
    path = Tried(Kind.REWARD, policy_wait=10.0)
    assert path.routes.routed is not None
    both = (assigned(Kind.REWARD), replace(assigned(Kind.REWARD), kind=Variation.PROMPT))
    path.routes.routed = replace(path.routes.routed, assignments=both)
    path.policy.failures = [BackendUnavailable("gone")] * 3
    await path.pipeline.answer(a_turn())
    assert path.failed == [False, True]


async def test_a_challenger_that_gives_some_texts_is_not_replaced() -> None:
    path = Tried(Kind.POLICY)
    path.new_policy.failures = [BackendError("broken")] * 2
    reply = await path.pipeline.answer(a_turn())
    assert (reply.policy_release, path.failed) == (NEW_POLICY, [False])


async def test_a_challenger_that_hangs_leaves_the_champion_enough_time() -> None:
    path = Tried(Kind.POLICY)
    path.new_policy.stuck = set(range(9))
    turn = a_turn()
    reply = await path.pipeline.answer(replace(turn, deadline=asyncio.get_running_loop().time() + 1.5))
    assert (reply.policy_release, path.failed, path.new_policy.cancelled) == ("policy-000001", [True], 3)


async def test_a_query_that_only_the_champion_can_read_is_the_champions() -> None:
    path = Tried(Kind.POLICY)
    path.new_policy.window = lambda max_output_tokens: (2, max_output_tokens)  # type: ignore[method-assign]
    reply = await path.pipeline.answer(a_turn(query="Where is my order?"))
    assert (reply.policy_release, path.failed, path.new_policy.drawn) == ("policy-000001", [True], 0)


async def test_a_reward_challenger_that_fails_is_followed_by_the_champion() -> None:
    path = Tried(Kind.REWARD, Kind.POLICY)
    path.new_reward.failures = [BackendRefused("no")] * 9
    reply = await path.pipeline.answer(a_turn())
    assert reply.reward_release == "reward-000001"
    assert [each.reason for each in reply.degradations] == [DegradationReason.SCORING_FELL_BACK]
    assert path.failed == [True, False]


async def test_without_any_reward_rules_choose_and_the_assigned_one_has_failed() -> None:
    path = Tried(Kind.REWARD)
    path.new_reward.failures = path.reward.failures = [BackendRefused("no")] * 9
    reply = await path.pipeline.answer(a_turn())
    assert (reply.reward_release, path.failed) == ("", [True])


async def test_a_release_that_could_not_even_be_asked_has_failed() -> None:
    path = Tried(Kind.REWARD)
    assert path.routes.routed is not None
    broken = replace(assigned(Kind.REWARD), failed=True)
    path.routes.routed = replace(path.routes.routed, judges=path.judges, assignments=(broken,))
    await path.pipeline.answer(a_turn())
    assert path.failed == [True]


@pytest.mark.parametrize(("given", "passes"), [(0.99, False), (0.01, True)])
async def test_the_registrys_threshold_stands_for_the_releases_own(given: float, passes: bool) -> None:
    path = Tried(Kind.REWARD, minimum_reward=None, regenerate="off")
    path.new_reward.release = SimpleNamespace(id=NEW_REWARD, threshold=0.5)
    assert path.routes.routed is not None
    judges = replace(path.routes.routed.judges, thresholds={NEW_REWARD: given})
    path.routes.routed = replace(path.routes.routed, judges=judges)
    reply = await path.pipeline.answer(a_turn())
    assert reply.refused is not passes
    assert path.log.entries[0].decided["minimum_reward"] == given


async def test_a_call_that_neither_policy_answers_is_noted_against_the_policys_experiment() -> None:
    path = Tried(Kind.REWARD, Kind.POLICY)
    path.policy.failures = path.new_policy.failures = [BackendUnavailable("gone")] * 9
    with pytest.raises(RatchetError):
        await path.pipeline.answer(a_turn())
    assert path.routes.noted == [([Kind.POLICY], "POLICY_UNAVAILABLE")]


async def test_a_call_that_is_late_is_noted_against_all_its_experiments() -> None:
    path = Tried(Kind.REWARD)
    path.policy.stuck = set(range(9))
    with pytest.raises(RatchetError):
        await path.pipeline.answer(a_turn(deadline=asyncio.get_running_loop().time() + 0.2))
    assert path.routes.noted == [([Kind.REWARD], "DEADLINE_EXCEEDED")]


async def test_a_defect_is_noted_and_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Tried(Kind.REWARD)
    monkeypatch.setattr(path.pipeline, "_choose", _broken)
    with pytest.raises(ZeroDivisionError):
        await path.pipeline.answer(a_turn())
    assert path.routes.noted == [([Kind.REWARD], "INTERNAL")]


async def _broken(*_: object) -> Any:
    raise ZeroDivisionError


async def test_neither_a_callers_mistake_nor_a_log_that_is_away_is_a_failure_of_a_release() -> None:
    path = Tried(Kind.REWARD)
    path.log.failures = [LogUnavailable("Postgres is away.")]
    with pytest.raises(LogUnavailable):
        await path.pipeline.answer(a_turn())
    with pytest.raises(RatchetError, match="tokens"):
        await path.pipeline.answer(a_turn(query="many words " * 1000))
    assert path.routes.noted == []


async def test_a_query_that_no_policy_of_its_arm_can_read_is_noted_against_the_policys_experiment() -> None:
    """Else a challenger that can read more has users whom the champion's arm lacks."""
    path = Tried(Kind.REWARD, Kind.POLICY)
    with pytest.raises(QueryTooLong):
        await path.pipeline.answer(a_turn(query="many words " * 1000))
    assert path.routes.noted == [([Kind.POLICY], "QUERY_TOO_LONG")]
    assert "QUERY_TOO_LONG" in NOT_TO_BLAME


async def test_that_a_caller_gave_too_little_time_is_no_failure_but_noted() -> None:
    path = Tried(Kind.REWARD, Kind.POLICY)
    path.policy.stuck = path.new_policy.stuck = set(range(9))
    with pytest.raises(RatchetError):
        await path.pipeline.answer(a_turn(deadline=asyncio.get_running_loop().time() + 0.05))
    ((kinds, reason),) = path.routes.noted
    assert Kind.POLICY in kinds
    assert reason in NOT_TO_BLAME


async def test_that_others_answered_a_caller_in_haste_is_no_failure_of_what_was_assigned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.journey.LEAST_SECONDS", 3600)
    path = Tried(Kind.REWARD, Kind.POLICY)
    path.new_policy.failures, path.new_reward.failures = [BackendBusy("busy")] * 3, [BackendRefused("no")] * 9
    reply = await path.pipeline.answer(a_turn())
    assert (reply.policy_release, reply.reward_release, path.failed) == ("policy-000001", "reward-000001", [False] * 2)


async def test_a_defect_is_one_however_little_time_there_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.journey.LEAST_SECONDS", 3600)
    path = Tried(Kind.REWARD)
    monkeypatch.setattr(path.pipeline, "_choose", _broken)
    with pytest.raises(ZeroDivisionError):
        await path.pipeline.answer(a_turn())
    assert path.routes.noted == [([Kind.REWARD], "INTERNAL")]


async def test_a_call_that_is_cut_off_at_its_deadline_is_noted_and_stays_cut_off() -> None:
    """gRPC is often first."""
    path = Tried(Kind.REWARD)
    path.policy.stuck = set(range(9))
    turn = a_turn(deadline=asyncio.get_running_loop().time() + 3600)
    answering = asyncio.create_task(path.pipeline.answer(turn))
    await asyncio.sleep(0.01)
    loop, ahead = asyncio.get_running_loop(), turn.deadline - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", lambda: ahead)
        answering.cancel()
        await asyncio.wait([answering])
    assert answering.cancelled()
    assert path.routes.noted == [([Kind.REWARD], "DEADLINE_EXCEEDED")]


async def test_who_leaves_is_no_failure() -> None:
    path = Tried(Kind.REWARD)
    path.policy.stuck = set(range(9))
    answering = asyncio.create_task(path.pipeline.answer(a_turn()))
    await asyncio.sleep(0.01)
    answering.cancel()
    await asyncio.wait([answering])
    assert path.routes.noted == []
