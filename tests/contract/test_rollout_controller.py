"""The controller moves rollouts by what users did: onward, back, to a pause, and on after any death."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from server.rollout import evidence
from server.rollout.commands import Command, obey, undo
from server.rollout.controller import Controller
from server.rollout.plan import Goals, Plan, Shadow, Stage, Strategy
from server.rollout.registry import ReplicaModel, ReplicaState
from server.rollout.types import Cause, Kind, Rollout, State, Trigger, Verdict
from server.storage.erasure import Erasures
from server.storage.evidence import PostgresEvidence
from server.storage.rollouts import PostgresRollouts
from tests.arms import Arm, log, part_of, plant, row, say, thumbs
from tests.conftest import RunningStack
from tests.registered import LAN, a_release, drafted, settle, started

QUICK: dict[str, Any] = {"minimum_samples": 100, "minimum_seconds": 0, "longest_seconds": 3600}
STAGES = tuple(Stage(share=share, **QUICK) for share in (0.1, 0.5, 1))
PLAN = Plan(stages=STAGES, shadow=None, holdback=0.1, goals=Goals(margin=0.1))
GOOD = Arm(liked=0.85, quality=0.92)
USERS = 2400


@pytest.fixture
async def rollouts(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresRollouts]:
    for name, seconds in (("AT_ONCE", 60.0), ("REFRESH", 0.0), ("RESTING", 0.0)):  # each look has statistics of its own
        monkeypatch.setattr(evidence, name, seconds)
    await settle(pool)
    yield PostgresRollouts(pool)
    await settle(pool)


@pytest.fixture
async def source(pool: asyncpg.Pool) -> PostgresEvidence:
    return PostgresEvidence(pool, (await Erasures.open(pool)).digest)


class Watched:
    """A rollout under way, and the controller that looks at it."""

    def __init__(self, pool: asyncpg.Pool, rollouts: PostgresRollouts, source: PostgresEvidence, made: Rollout) -> None:
        self.pool, self.rollouts, self.rollout = pool, rollouts, made
        self.controller = Controller(rollouts, source)

    async def look(self) -> Rollout:
        await self.controller.look()
        self.rollout = await self.rollouts.get(self.rollout.rollout_id)
        return self.rollout

    async def looks(self, number: int) -> Rollout:
        for _ in range(number):
            await self.look()
        return self.rollout

    async def ready(self, *, state: ReplicaState = ReplicaState.READY, refusal: str = "") -> None:
        now = datetime.now(UTC)
        model = ReplicaModel(
            replica="a:1",
            release=self.rollout.challenger,
            state=state,
            since=now,
            checked_at=now,
            refusal=refusal,
        )
        await self.rollouts.report([model], ["a:1"])

    async def reason(self) -> str:
        (event,) = await self.rollouts.events(self.rollout.rollout_id, size=1, before=0)
        return event.reason


@pytest.fixture
async def watched(pool: asyncpg.Pool, rollouts: PostgresRollouts, source: PostgresEvidence) -> AsyncIterator[Watched]:
    found = await watch(pool, rollouts, source)
    yield found
    await found.controller.close()


async def watch(
    pool: asyncpg.Pool, rollouts: PostgresRollouts, source: PostgresEvidence, plan: Plan = PLAN, **champion: Any
) -> Watched:
    old, new = a_release(**champion), a_release()
    for each in (old, new):
        await rollouts.publish(each)
    await rollouts.crown_first(Kind.REWARD, old.release)
    made = await rollouts.create(drafted(old.release, new.release, plan=plan))
    step = started(made)
    await rollouts.apply(step)
    return Watched(pool, rollouts, source, step.rollout)


async def in_canary(watched: Watched) -> Rollout:
    await watched.ready()
    found = await watched.looks(2)
    assert (found.state, found.stage) == (State.CANARY, 0)
    return found


async def test_a_good_challenger_walks_to_the_end_by_itself(watched: Watched) -> None:
    assert (await watched.look()).state is State.PUBLISHED
    looked = await watched.rollouts.looked(watched.rollout.rollout_id)
    assert looked is not None
    assert "ready on 0 of 0 replicas" in looked.reason
    await in_canary(watched)
    for stage in range(3):
        assert (await watched.look()).stage == stage
        await plant(watched.pool, watched.rollout, USERS, GOOD, seed=stage)
        await watched.look()
    assert watched.rollout.state is State.VERIFIED
    champions = await watched.rollouts.champions()
    assert champions[Kind.REWARD].release == watched.rollout.challenger
    events = await watched.rollouts.events(watched.rollout.rollout_id, size=20, before=0)
    assert [event.after.state for event in reversed(events)] == [
        *(State.DRAFT, State.PUBLISHED, State.LOADED, State.CANARY, State.CANARY, State.CANARY, State.VERIFIED)
    ]
    last = events[0].evidence
    assert last is not None
    assert last.satisfaction is Verdict.SUPERIOR
    names = {(each["name"], each["guardrail"]) for each in last.figures["measures"]}  # type: ignore[attr-defined]
    assert {("satisfaction", False), ("shares", True), ("failures", True), ("safety", False)} <= names


async def test_without_ratings_it_waits_and_says_for_what(watched: Watched) -> None:
    await in_canary(watched)
    assert (await watched.looks(3)).version == 4
    looked = await watched.rollouts.looked(watched.rollout.rollout_id)
    assert looked is not None
    assert looked.reason == "There are 0 of at least 100 samples: no verdict yet."
    assert looked.evidence["figures"]["days_left"] is None


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        (Arm(liked=0.5), "Satisfaction"),
        (Arm(quality=0.7), "Quality"),
        (Arm(seconds=1.25), "latency"),
        (Arm(failed=0.15), "Failed calls"),
    ],
    ids=["worse liked", "worse quality", "slower", "failing"],
)
async def test_what_is_worse_goes_back_by_itself(watched: Watched, arm: Arm, said: str) -> None:
    await in_canary(watched)
    await plant(watched.pool, watched.rollout, USERS, arm)
    assert (await watched.look()).state is State.ROLLING_BACK
    assert said in await watched.reason()


async def test_a_champion_that_finds_its_scores_in_the_cache_makes_no_challenger_slow(watched: Watched) -> None:
    await in_canary(watched)
    own = await plant(watched.pool, watched.rollout, USERS, Arm())
    untimed = "assignments = jsonb_set(assignments, '{0,timed}', 'false')"
    every_other = "get_byte(uuid_send(response_id), 15) % 2 = 0 AND assignments <> '[]'"
    await watched.pool.execute(f"UPDATE conversation_logs SET {untimed} WHERE {every_other}")
    await watched.pool.execute(
        "UPDATE conversation_logs SET latencies = '[[\"scoring\", 0.001]]', total_seconds = 0.5,"
        """ all_candidates = jsonb_set(all_candidates, '{0,score_source}', '"cache"')"""
        f" WHERE response_id <> ALL($1) AND {every_other}",
        own,
    )
    assert (await watched.looks(2)).state is State.CANARY


async def test_a_challenger_like_the_champion_is_not_taken_back(watched: Watched) -> None:
    await in_canary(watched)
    await plant(watched.pool, watched.rollout, USERS, Arm())
    assert (await watched.looks(2)).state is State.CANARY


async def test_one_safety_report_takes_all_traffic_at_the_next_look(watched: Watched) -> None:
    await in_canary(watched)
    reply = row(part_of(watched.rollout, True))
    await log(watched.pool, [reply])
    report = thumbs(reply, kind="safety_report", reaction_type=None)
    await say(watched.pool, [report])
    found = await watched.look()
    assert (found.state, *found.causes) == (State.PAUSED, Cause.SAFETY)
    assert (await watched.looks(2)).version == found.version
    of = found.rollout_id, "acme", report["feedback_id"]
    await watched.rollouts.decide_report(*of, confirmed=True, by="lan", note="")
    assert (await watched.look()).state is State.ROLLING_BACK


async def test_lost_users_of_one_arm_stop_it(watched: Watched) -> None:
    await in_canary(watched)
    planted = await plant(watched.pool, watched.rollout, USERS, GOOD)
    await watched.pool.execute("DELETE FROM conversation_logs WHERE response_id = ANY($1)", planted[::2])
    found = await watched.look()
    assert (found.state, *found.causes) == (State.PAUSED, Cause.SAMPLE_RATIO)


async def test_what_a_replica_loses_is_paused_and_goes_on_once_it_is_back(watched: Watched) -> None:
    await in_canary(watched)
    await watched.ready(state=ReplicaState.LOADING)
    assert (await watched.look()).causes == {Cause.UNREADY}
    await watched.ready()
    assert (await watched.look()).state is State.CANARY


async def test_what_a_replica_refuses_never_has_users(watched: Watched) -> None:
    await watched.ready(state=ReplicaState.REFUSED, refusal="There is no room for it.")
    assert (await watched.look()).state is State.FAILED
    assert "There is no room for it." in await watched.reason()


async def test_replies_given_during_a_pause_compare_with_nothing(watched: Watched) -> None:
    """All users have the champion then: those of the challenger's buckets too, which would look like a mismatch."""
    await in_canary(watched)
    await plant(watched.pool, watched.rollout, USERS, GOOD, Arm(liked=0.1), share=0.0)
    assert (await watched.looks(2)).version == 4


async def test_a_step_of_somebody_else_comes_first(watched: Watched) -> None:
    """The controller's own is dropped then, and the next look goes by what is there now."""
    rollout = await in_canary(watched)
    apply = watched.rollouts.apply

    async def late(move: Any) -> None:
        watched.rollouts.apply = apply  # type: ignore[method-assign]
        pause = obey(rollout, Command(Trigger.PAUSE, LAN, "Wait."), move.event.evidence, datetime.now(UTC))
        await apply(pause)  # type: ignore[arg-type]
        await apply(move)

    await plant(watched.pool, rollout, USERS, GOOD)
    watched.rollouts.apply = late  # type: ignore[method-assign]
    found = await watched.look()
    assert (found.state, found.stage, *found.causes) == (State.PAUSED, 0, Cause.PERSON)
    assert (await watched.look()).version == found.version


async def test_a_return_needs_no_comparison_and_waits_for_a_person_when_its_calls_fail(
    pool: asyncpg.Pool, rollouts: PostgresRollouts, source: PostgresEvidence
) -> None:
    first = await watch(pool, rollouts, source)
    verified = replace(first.rollout, state=State.VERIFIED)
    await pool.execute("UPDATE rollouts SET state = 'verified' WHERE rollout_id = $1", verified.rollout_id)
    await pool.execute("UPDATE champions SET release = $1", verified.challenger)
    stage = Stage(share=1, minimum_samples=1, minimum_seconds=0, longest_seconds=3600)
    plan = Plan(strategy=Strategy.RETURN, stages=(stage,), shadow=None, holdback=0)
    for failed, ends in ((0.0, State.VERIFIED), (0.2, State.CANARY)):
        made = undo(
            verified,
            rollout_id=drafted("a", "b").rollout.rollout_id,
            plan=plan,
            actor=LAN,
            reason="Back.",
            now=datetime.now(UTC),
        )
        step = started(await rollouts.create(made))
        await rollouts.apply(step)
        again = Watched(pool, rollouts, source, step.rollout)
        await again.ready()
        await again.looks(2)
        await plant(pool, again.rollout, 600, Arm(failed=failed), share=1.0)
        assert (await again.look()).state is ends
        await settle(pool)
        await rollouts.crown_first(Kind.REWARD, verified.challenger)


async def test_the_threshold_is_matched_before_a_reward_has_users(
    pool: asyncpg.Pool, rollouts: PostgresRollouts, source: PostgresEvidence
) -> None:
    plan = PLAN.model_copy(update={"shadow": Shadow(**QUICK)})
    watched = await watch(pool, rollouts, source, plan, threshold=0.5)
    await watched.ready()
    assert (await watched.looks(2)).state is State.SHADOW
    for place in range(150):  # the challenger gives 0.2 less to everything
        score = 0.2 + 0.6 * place / 150
        reply = row(None, reward_score=score)
        await log(pool, [reply])
        await say(pool, [thumbs(reply)])
        await pool.execute(
            "INSERT INTO shadow_answers (rollout_id, response_id, tenant_id, scores, champion_scores, same_choice,"
            " seconds, champion_seconds) VALUES ($1, $2, 'acme', $3, $4, true, 0.1, 0.1)",
            *(watched.rollout.rollout_id, reply["response_id"], [score - 0.2, 0.05], [score, 0.25]),
        )
    rated = await source.rated(watched.rollout.rollout_id)
    assert len(rated) == 150
    assert {each.rating for each in rated} == {1.0}
    assert min(each.score for each in rated) == pytest.approx(0.0)
    assert (await watched.look()).state is State.CANARY
    release = await rollouts.release(watched.rollout.challenger)
    assert release.threshold == pytest.approx(0.3, abs=0.01)
    assert release.continuity is not None
    assert release.continuity["method"] == "matched"


async def test_a_shadow_that_fails_goes_back_unseen(
    pool: asyncpg.Pool, rollouts: PostgresRollouts, source: PostgresEvidence
) -> None:
    plan = PLAN.model_copy(update={"shadow": Shadow(**QUICK)})
    watched = await watch(pool, rollouts, source, plan)
    await watched.ready()
    await watched.looks(2)
    await pool.execute(
        "INSERT INTO shadow_answers (rollout_id, response_id, tenant_id, scores, champion_scores, seconds,"
        " champion_seconds, error) SELECT $1, gen_random_uuid(), 'acme', '{}', '{}', 0.1, 0.1, 'It broke.'"
        " FROM generate_series(1, 300)",
        watched.rollout.rollout_id,
    )
    assert (await watched.look()).state is State.ROLLING_BACK


# Deaths

DYING = """
import asyncio, os, signal, sys
from server.rollout.controller import Controller
from server.storage import database
from server.storage.erasure import Erasures
from server.storage.evidence import PostgresEvidence
from server.storage.rollouts import PostgresRollouts

class Dying(PostgresRollouts):
    async def apply(self, move):
        if sys.argv[2] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await super().apply(move)
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with await database.connect(sys.argv[1], size=2) as pool:
        source = PostgresEvidence(pool, (await Erasures.open(pool)).digest)
        controller = Controller(Dying(pool), source)
        while True:
            await controller.look()

asyncio.run(main())
"""


async def die(stack: RunningStack, moment: str) -> None:
    """A leader that is killed right before, or right after, its first step."""
    arguments = [sys.executable, "-c", DYING, stack.endpoints.database_url, moment]
    died = subprocess.run(arguments, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL


async def test_after_a_death_at_any_step_the_next_leader_goes_on(watched: Watched, stack: RunningStack) -> None:
    """Each step of the whole way is begun by a leader that dies before it and by one that dies after it."""
    await watched.ready()
    for step, expected in enumerate(
        [
            (State.LOADED, 0),
            (State.CANARY, 0),
            (State.CANARY, 1),
            (State.CANARY, 2),
            (State.VERIFIED, 2),
        ]
    ):
        before = await watched.rollouts.get(watched.rollout.rollout_id)
        if before.state is State.CANARY:
            await plant(watched.pool, before, USERS, GOOD, seed=step)
        await die(stack, "before")
        assert await watched.rollouts.get(before.rollout_id) == before
        await die(stack, "after")
        after = await watched.rollouts.get(before.rollout_id)
        assert (after.state, after.stage, after.version) == (*expected, before.version + 1)
    events = await watched.rollouts.events(watched.rollout.rollout_id, size=20, before=0)
    assert [event.version for event in events] == list(range(7, 0, -1))
    assert (await watched.rollouts.champions())[Kind.REWARD].release == watched.rollout.challenger


async def test_after_a_death_at_any_other_step_the_next_leader_takes_it(watched: Watched, stack: RunningStack) -> None:
    """Suspended, recovered, its clock set, rolled back, drained: begun by leaders that die."""
    rollout, pool, name = await in_canary(watched), watched.pool, watched.rollout.rollout_id

    async def taken(trigger: Trigger, state: State) -> None:
        version = (await watched.rollouts.get(name)).version
        await die(stack, "before")
        assert (await watched.rollouts.get(name)).version == version
        await die(stack, "after")
        (event,) = await watched.rollouts.events(name, size=1, before=0)
        assert (event.trigger, event.after.state, event.version) == (trigger, state, version + 1)
        assert (await watched.rollouts.get(name)).state is state

    await watched.ready(state=ReplicaState.LOADING)
    await taken(Trigger.SUSPEND, State.PAUSED)
    await watched.ready()
    await taken(Trigger.RECOVER, State.CANARY)
    await pool.execute("UPDATE rollouts SET since = now() + interval '1 hour' WHERE rollout_id = $1", name)
    await taken(Trigger.SET_CLOCK, State.CANARY)
    await plant(pool, rollout, USERS, Arm(liked=0.4))
    await taken(Trigger.ROLL_BACK, State.ROLLING_BACK)
    await pool.execute("UPDATE rollouts SET drain_seconds = 0 WHERE rollout_id = $1", name)
    await taken(Trigger.DRAIN, State.ROLLED_BACK)


async def test_after_a_death_at_a_failure_it_fails_all_the_same(watched: Watched, stack: RunningStack) -> None:
    await watched.ready(state=ReplicaState.REFUSED, refusal="It is torn.")
    await die(stack, "before")
    assert (await watched.rollouts.get(watched.rollout.rollout_id)).state is State.PUBLISHED
    await die(stack, "after")
    assert (await watched.rollouts.get(watched.rollout.rollout_id)).state is State.FAILED


async def test_what_was_seen_is_kept_as_json(watched: Watched) -> None:
    await in_canary(watched)
    await plant(watched.pool, watched.rollout, 300, GOOD)
    await watched.look()
    looked = await watched.rollouts.looked(watched.rollout.rollout_id)
    assert looked is not None
    for each in looked.evidence["figures"]["measures"]:
        assert set(each) == {"name", "subject", "value", "lower", "upper", "state", "sentence", "guardrail"}
    assert json.dumps(looked.evidence, allow_nan=False)
