"""What is routed and loaded while a rollout stands as it does."""

import pytest

from server.rollout.assignment import CHAMPION, assign
from server.rollout.effects import Shadowing, loaded, routing
from server.rollout.plan import Plan
from server.rollout.types import Cause, State
from tests.rollouts import NEW, OLD, at, paused, rollout

S = State
ONLY_OLD = {OLD: 1.0}


@pytest.mark.parametrize("state", [S.DRAFT, S.PUBLISHED, S.LOADED, S.SHADOW, S.ROLLING_BACK, S.ROLLED_BACK, S.FAILED])
def test_outside_the_canary_all_users_have_the_champion(state: State) -> None:
    assert routing(rollout(state)).shares == ONLY_OLD


@pytest.mark.parametrize(("stage", "share"), [(0, 0.1), (1, 0.5), (2, 0.95)])
def test_each_stage_gives_its_share_and_the_last_all_but_the_holdback(stage: int, share: float) -> None:
    assert routing(rollout(S.CANARY, stage=stage)).shares == {NEW: share, OLD: pytest.approx(1 - share)}


def test_once_verified_the_challenger_is_the_champion_of_all_and_nobody_is_held_back() -> None:
    after = routing(rollout(S.VERIFIED, stage=2))
    assert (after.champion, after.shares, after.split.holdback) == (NEW, {NEW: 1.0}, 0)


@pytest.mark.parametrize("cause", Cause)
def test_only_the_pause_of_a_person_keeps_users_on_the_challenger(cause: Cause) -> None:
    shares = {NEW: 0.1, OLD: 0.9} if cause is Cause.PERSON else ONLY_OLD
    assert routing(paused(cause)).shares == shares
    shadow = routing(paused(cause, S.SHADOW)).shadow
    assert shadow == (Shadowing(NEW, 0.1) if cause is Cause.PERSON else None)


def test_a_shadow_answers_its_share_of_requests_and_no_user() -> None:
    assert routing(rollout(S.SHADOW)).shadow == Shadowing(NEW, 0.1)
    assert routing(rollout(S.CANARY)).shadow is None


def test_users_keep_their_arm_from_stage_to_stage_and_the_held_back_until_the_end() -> None:
    splits = [routing(rollout(S.CANARY, stage=stage)).split for stage in range(3)]
    for number in range(300):
        of = [assign(s, tenant_id="t", user_id=f"u{number}", session_id="", request_id="r") for s in splits]
        arms = [each.arm for each in of]
        treated = arms.count(NEW)
        assert arms == [CHAMPION] * (3 - treated) + [NEW] * treated
        assert (treated == 0) == of[0].held_back


@pytest.mark.parametrize(
    ("state", "releases"),
    [
        (S.DRAFT, {OLD}),
        (S.PUBLISHED, {OLD, NEW}),
        (S.LOADED, {OLD, NEW}),
        (S.SHADOW, {OLD, NEW}),
        (S.CANARY, {OLD, NEW}),
        (S.PAUSED, {OLD, NEW}),
        (S.ROLLING_BACK, {OLD, NEW}),
        (S.ROLLED_BACK, {OLD}),
        (S.FAILED, {OLD}),
    ],
)
def test_what_may_get_calls_is_loaded(state: State, releases: set[str]) -> None:
    assert loaded(rollout(state), at(1e6)) == releases


def test_the_former_champion_is_unloaded_once_its_calls_must_have_ended() -> None:
    verified = rollout(S.VERIFIED)
    assert loaded(verified, at(129)) == {OLD, NEW}
    assert loaded(verified, at(130)) == {NEW}
    assert loaded(verified, at(-1000)) == {OLD, NEW}


def test_a_plan_without_a_shadow_has_none_in_any_state() -> None:
    for state in S:
        assert routing(rollout(state, plan=Plan(salt="s", shadow=None))).shadow is None
