"""Who answers whom in one process, while champions, rollouts and what is open change."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from server.deliberation import Judges
from server.errors import ConfigurationError, StoreUnavailable
from server.rollout import routes as routing
from server.rollout.registry import Champion
from server.rollout.routed import Shadowed
from server.rollout.routes import Routes
from server.rollout.table import Champions
from server.rollout.types import Cause, Kind, Rollout, State
from server.types import DegradationReason
from tests.path import StubPolicy, StubReward
from tests.rollouts import BEGAN, NEW, OLD, paused, rollout
from tests.turns import a_turn

OLD_POLICY, NEW_POLICY, FALLBACK = "policy-000003", "policy-000004", "reward-000001"
USERS = range(60)


class Store:
    """What routes read of `server.rollout.store.Rollouts`, as a test says."""

    def __init__(self, *rollouts: Rollout, reward: str = OLD, policy: str = OLD_POLICY) -> None:
        self.rollouts = list(rollouts)
        self.by_kind = {Kind.REWARD: reward, Kind.POLICY: policy}
        self.thresholds: dict[str, float | None] = {}
        self.away = False
        self.noted: list[tuple[Any, ...]] = []
        self.held = asyncio.Event()
        self.held.set()

    async def active(self) -> list[Rollout]:
        if self.away:
            raise StoreUnavailable("Postgres is away.")
        return list(self.rollouts)

    async def champions(self) -> dict[Kind, Champion]:
        return {kind: Champion(kind, name, BEGAN) for kind, name in self.by_kind.items()}

    async def release(self, name: str) -> Any:
        return SimpleNamespace(threshold=self.thresholds.get(name))

    async def failed(self, *note: Any) -> None:
        await self.held.wait()
        self.noted.append(note)


def policy(name: str) -> StubPolicy:
    made = StubPolicy()
    made.release = SimpleNamespace(id=name)
    return made


class Process:
    """Routes of one server process. What is in `broken` can't be opened, what is in `slow` waits for its event, what is
    `unloaded` does not answer, of what is `away` nothing can be told."""

    def __init__(self, store: Store) -> None:
        self.broken: set[str] = set()
        self.slow: dict[str, asyncio.Event] = {}
        self.unloaded: set[str] = set()
        self.away: set[str] = set()
        self.opened: list[str] = []
        judges: Any = Judges((StubReward(FALLBACK),), None, "", *([None] * 3))  # type: ignore[arg-type]
        self.hear: Callable[[], None] = lambda: None
        self.routes = Routes(
            store,  # type: ignore[arg-type]
            Champions(policy(OLD_POLICY), StubReward(OLD)),
            judges,
            open_policy=self._open_policy,
            open_reward=self._open_reward,
            answers=self._answers,
            digest=lambda tenant, user: f"{tenant}/{user}".encode(),
            listen=self._listen,
        )

    async def _open(self, name: str) -> None:
        self.opened.append(name)
        if name in self.slow:
            await self.slow[name].wait()
        if name in self.broken:
            raise ConfigurationError(f"{name} is torn.")

    async def _open_policy(self, name: str) -> StubPolicy:
        await self._open(name)
        return policy(name)

    async def _open_reward(self, name: str) -> StubReward:
        await self._open(name)
        return StubReward(name)

    async def _answers(self, name: str) -> bool:
        if name in self.away:
            raise StoreUnavailable("Postgres is away.")
        return name not in self.unloaded

    async def _listen(self, heard: Callable[[], None]) -> None:
        self.hear = heard
        await asyncio.Event().wait()

    async def catch_up(self) -> None:
        """Returns when a notice was followed."""
        self.hear()
        for _ in range(20):
            await asyncio.sleep(0)

    def given(self) -> dict[str, list[str]]:
        """Users by the releases (policy, reward) that answer them."""
        found: dict[str, list[str]] = {}
        for number in USERS:
            routed = self.routes.of(a_turn(user_id=f"u{number}"))
            name = f"{routed.policy.release.id} {routed.judges.rewards[0].release.id}"
            found.setdefault(name, []).append(f"u{number}")
        return found


@asynccontextmanager
async def serving(store: Store, *broken: str, slow: str = "") -> AsyncIterator[Process]:
    process = Process(store)
    process.broken |= set(broken)
    await process.routes.start()
    try:
        await process.catch_up()
        if slow:
            process.slow[slow] = asyncio.Event()
        yield process
    finally:
        await process.routes.stop()


async def test_without_a_rollout_the_champions_answer_all_and_nothing_is_made_for_a_turn() -> None:
    async with serving(Store()) as process:
        routed = process.routes.of(a_turn())
        assert routed is process.routes.of(a_turn(user_id="bo"))
        assert (routed.policy.release.id, routed.champion, routed.assignments) == (OLD_POLICY, None, ())
        assert [each.release.id for each in routed.judges.rewards] == [OLD, FALLBACK]


@pytest.mark.parametrize("stage", [0, 1, 2])
async def test_a_stage_gives_its_users_the_challenger_and_each_turn_its_assignment(stage: int) -> None:
    store = Store(rollout(State.CANARY, stage=stage))
    async with serving(store) as process, serving(store) as other:
        given = process.given()
        assert given == other.given()  # whichever process they meet
        for user in given[f"{OLD_POLICY} {NEW}"]:
            routed = process.routes.of(a_turn(user_id=user))
            assert [each.release.id for each in routed.judges.rewards] == [NEW, OLD, FALLBACK]
            (assignment,) = routed.assignments
            share = (0.1, 0.5, 0.95)[stage]
            assert (assignment.release, assignment.challenger, assignment.stage) == (NEW, True, stage)
            assert (assignment.experiment, assignment.propensity, assignment.share) == ("0193", share, share)
        (assignment,) = process.routes.of(a_turn(user_id=given[f"{OLD_POLICY} {OLD}"][0])).assignments
        assert (assignment.release, assignment.challenger, assignment.failed) == (OLD, False, False)
        assert assignment.propensity == pytest.approx(1 - share)


async def test_a_policy_and_a_reward_are_tried_side_by_side_independently() -> None:
    second = rollout(State.CANARY, stage=1, kind=Kind.POLICY, champion=OLD_POLICY, challenger=NEW_POLICY)
    second = replace(second, rollout_id="0194", plan=second.plan.model_copy(update={"salt": "other"}))
    async with serving(Store(rollout(State.CANARY, stage=1), second)) as process:
        given = process.given()
        assert len(given) == 4
        both = process.routes.of(a_turn(user_id=given[f"{NEW_POLICY} {NEW}"][0]))
        assert [(each.kind, each.challenger) for each in both.assignments] == [(Kind.REWARD, True), (Kind.POLICY, True)]
        assert both.champion is not None
        assert both.champion.release.id == OLD_POLICY


async def test_requests_of_nobody_are_assigned_one_by_one() -> None:
    async with serving(Store(rollout(State.CANARY, stage=1))) as process:
        turns = [a_turn(user_id="", session_id="") for _ in range(40)]
        given = [process.routes.of(turn).assignments[0] for turn in turns]
        assert {each.challenger for each in given} == {True, False}
        assert not any(each.sticky for each in given)
        again = [process.routes.of(turn).assignments[0] for turn in turns]
        assert given == again


@pytest.mark.parametrize(
    "standing",
    [
        rollout(State.PUBLISHED),
        rollout(State.LOADED),
        rollout(State.SHADOW),
        rollout(State.ROLLING_BACK, stage=1),
        paused(Cause.SAFETY, stage=1),
    ],
)
async def test_where_a_rollout_has_no_users_turns_are_in_no_experiment(standing: Rollout) -> None:
    async with serving(Store(standing)) as process:
        assert list(process.given()) == [f"{OLD_POLICY} {OLD}"]
        assert process.routes.of(a_turn()).assignments == ()
        assert NEW in process.opened  # ahead of its first user


async def test_a_shadow_is_offered_with_each_turn() -> None:
    async with serving(Store(rollout(State.SHADOW))) as process:
        (shadow,) = process.routes.of(a_turn()).shadows
        assert isinstance(shadow, Shadowed)
        assert shadow.reward is not None
        assert (shadow.rollout_id, shadow.share, shadow.reward.release.id) == ("0193", 0.1, NEW)


async def test_a_change_is_followed_as_soon_as_it_is_heard_of() -> None:
    store = Store()
    async with serving(store) as process:
        store.rollouts = [rollout(State.CANARY, stage=2)]
        await process.catch_up()
        assert len(process.given()[f"{OLD_POLICY} {NEW}"]) > 50
        store.rollouts, store.by_kind[Kind.REWARD] = [rollout(State.VERIFIED, stage=2)], NEW
        await process.catch_up()
        assert list(process.given()) == [f"{OLD_POLICY} {NEW}"]
        assert process.routes.of(a_turn()).assignments == ()
        assert process.routes.reward.release.id == NEW


async def test_a_change_that_nobody_told_of_is_found_by_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "EVERY", 0.01)
    store = Store()
    async with serving(store) as process:
        store.by_kind[Kind.POLICY] = NEW_POLICY
        async with asyncio.timeout(5):
            while process.routes.policy.release.id != NEW_POLICY:
                await asyncio.sleep(0.01)


async def test_while_a_challenger_is_being_opened_its_process_is_outside_of_the_rollout() -> None:
    store = Store()
    async with serving(store, slow=NEW) as process:
        store.rollouts = [rollout(State.CANARY, stage=2)]
        await process.catch_up()
        assert process.routes.of(a_turn()).assignments == ()
        process.slow[NEW].set()
        await process.catch_up()
        assert f"{OLD_POLICY} {NEW}" in process.given()


async def test_a_champion_goes_on_until_the_next_one_is_open() -> None:
    store = Store()
    async with serving(store, slow=NEW) as process:
        store.by_kind[Kind.REWARD] = NEW
        await process.catch_up()
        assert process.routes.reward.release.id == OLD
        process.slow[NEW].set()
        await process.catch_up()
        assert process.routes.reward.release.id == NEW


@pytest.mark.parametrize(("kind", "name"), [(Kind.REWARD, NEW), (Kind.POLICY, NEW_POLICY)])
async def test_a_champion_that_no_rollout_brought_is_taken_once_it_answers(
    kind: Kind, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "READY_EVERY", 0.0)
    store = Store()
    async with serving(store) as process:
        process.unloaded.add(name)
        store.by_kind[kind] = name
        await process.catch_up()
        assert name in process.opened
        assert list(process.given()) == [f"{OLD_POLICY} {OLD}"]
        process.unloaded.clear()
        await process.catch_up()
        assert name in (process.routes.reward.release.id, process.routes.policy.release.id)


async def test_a_start_waits_for_no_champion_that_is_not_loaded() -> None:
    process = Process(Store(reward=NEW))
    process.unloaded.add(NEW)
    async with asyncio.timeout(5):
        await process.routes.start()
    assert process.routes.reward.release.id == OLD
    await process.routes.stop()


async def test_a_new_champion_that_is_none_any_more_before_it_answers_is_never_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "READY_EVERY", 0.0)
    store = Store()
    async with serving(store) as process:
        process.unloaded.add(NEW)
        store.by_kind[Kind.REWARD] = NEW
        await process.catch_up()
        store.by_kind[Kind.REWARD] = OLD
        await process.catch_up()
        store.by_kind[Kind.REWARD] = NEW
        await process.catch_up()
        assert process.routes.reward.release.id == OLD


@pytest.mark.parametrize(
    ("kind", "names", "reason"),
    [
        (Kind.REWARD, (OLD, NEW), DegradationReason.SCORING_FELL_BACK),
        (Kind.POLICY, (OLD_POLICY, NEW_POLICY), DegradationReason.POLICY_FELL_BACK),
    ],
)
async def test_a_challenger_that_can_not_be_opened_has_failed_at_each_of_its_turns(
    kind: Kind, names: tuple[str, str], reason: DegradationReason
) -> None:
    old, new = names
    store = Store(rollout(State.CANARY, stage=1, kind=kind, champion=old, challenger=new))
    async with serving(store, new) as process:
        assert list(process.given()) == [f"{OLD_POLICY} {OLD}"]
        routed = [process.routes.of(a_turn(user_id=f"u{number}")) for number in USERS]
        treated = [each for each in routed if each.assignments[0].challenger]
        assert len(treated) > 10
        for each in routed:
            assert each.assignments[0].failed == each.assignments[0].challenger == bool(each.lost)
        assert treated[0].assignments[0].release == new
        assert (treated[0].lost[0].reason, "is torn" in treated[0].lost[0].detail) == (reason, True)


async def test_what_could_not_be_opened_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "AGAIN_SECONDS", 0.0)
    async with serving(Store(rollout(State.CANARY, stage=2)), NEW) as process:
        process.broken.clear()
        await process.catch_up()
        await process.catch_up()
        assert not process.routes.of(a_turn()).assignments[0].failed


async def test_who_has_not_heard_from_postgres_serves_the_champions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(rollout(State.CANARY, stage=2))
    async with serving(store) as process:
        store.away = True
        await process.catch_up()
        assert process.routes.of(a_turn()).assignments  # for a while what was known holds
        monkeypatch.setattr(routing, "STALE_SECONDS", -1.0)
        assert list(process.given()) == [f"{OLD_POLICY} {OLD}"]
        routed = process.routes.of(a_turn())
        assert (routed.assignments, routed.shadows) == ((), ())
        monkeypatch.undo()
        store.away = False
        await process.catch_up()
        assert process.routes.of(a_turn()).assignments


async def test_thresholds_come_from_the_registry() -> None:
    store = Store(rollout(State.CANARY, stage=1))
    store.thresholds = {OLD: 0.6, NEW: 0.55}
    async with serving(store) as process:
        assert process.routes.of(a_turn()).judges.thresholds == {OLD: 0.6, NEW: 0.55}
        store.thresholds[NEW] = None  # its own
        await process.catch_up()
        assert process.routes.of(a_turn()).judges.thresholds == {OLD: 0.6}


async def test_what_is_not_wanted_any_more_is_let_go_and_opened_again_when_it_is() -> None:
    store = Store(rollout(State.PUBLISHED))
    async with serving(store) as process:
        store.rollouts = []
        await process.catch_up()
        store.rollouts = [rollout(State.PUBLISHED)]
        await process.catch_up()
        assert process.opened == [NEW, NEW]


async def test_a_stored_champion_that_can_not_be_opened_is_not_pretended(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(rollout(State.CANARY, stage=2, champion="reward-000009"), reward="reward-000009")
    async with serving(store, "reward-000009") as process:
        monkeypatch.setattr(routing, "UNFOLLOWED_SECONDS", 0.0)
        assert process.routes.reward.release.id == OLD
        assert process.routes.of(a_turn()).assignments == ()  # its comparison would be with another one
        await process.catch_up()
        assert len([text for text in caplog.messages if "0193 has no users here" in text and "is torn" in text]) == 1


async def test_a_rollout_whose_champion_is_waited_for_is_said_to_have_no_users(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "READY_EVERY", 0.0)
    store, told = Store(), "the rollout 0193 has no users here: it compares with reward-000009, which is not ready"
    async with serving(store) as process:
        process.unloaded.add("reward-000009")
        store.by_kind[Kind.REWARD] = "reward-000009"
        store.rollouts = [rollout(State.CANARY, stage=2, champion="reward-000009")]
        await process.catch_up()
        assert process.routes.of(a_turn()).assignments == ()
        assert told not in caplog.text, "it may be there in a moment"
        monkeypatch.setattr(routing, "UNFOLLOWED_SECONDS", 0.0)
        for _ in range(3):
            await process.catch_up()
        assert caplog.text.count(told) == 1
        process.unloaded.clear()
        await process.catch_up()
        assert process.routes.of(a_turn()).assignments
        caplog.clear()
        await process.catch_up()
        assert told not in caplog.text


async def test_a_champion_that_can_not_be_asked_for_while_postgres_is_away_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "READY_EVERY", 0.0)
    store = Store()
    async with serving(store) as process:
        process.away.add(NEW)
        store.by_kind[Kind.REWARD] = NEW
        await process.catch_up()
        assert process.routes.reward.release.id == OLD
        process.away.clear()
        await process.catch_up()
        assert process.routes.reward.release.id == NEW
        assert process.opened.count(NEW) == 1, "it was no failure"


async def test_a_call_without_a_reply_is_noted_under_its_digest_and_holds_nobody_up() -> None:
    store = Store(rollout(State.CANARY, stage=2))
    async with serving(store) as process:
        store.held.clear()
        for number in range(routing.NOTES + 5):
            turn = a_turn(user_id=f"u{number}")
            process.routes.failed(turn, process.routes.of(turn).assignments, "POLICY_UNAVAILABLE")
        process.routes.failed(a_turn(), (), "INTERNAL")
        store.held.set()
        await process.catch_up()
        assert len(store.noted) == routing.NOTES
        tenant, digest, assignments, reason = store.noted[0]
        assert (tenant, digest, reason) == ("default", b"default/u0", "POLICY_UNAVAILABLE")
        assert assignments[0].experiment == "0193"


async def test_tries_of_one_request_of_nobody_are_one_unit() -> None:
    store = Store(rollout(State.CANARY, stage=2))
    async with serving(store) as process:
        for request, tries in (("r1", 3), ("", 2)):
            for _ in range(tries):
                turn = a_turn(user_id="", session_id="", request_id=request)
                process.routes.failed(turn, process.routes.of(turn).assignments, "POLICY_UNAVAILABLE")
        await process.catch_up()
        digests = [digest for _, digest, _, _ in store.noted]
        assert digests.count(b"default/r1") == 3
        assert len(set(digests)) == 3
