"""Server processes that follow one Postgres: all agree on who answers whom, soon after each change."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from server.backends.fake import FakeTriton
from server.errors import DeadlineExceeded
from server.rollout import routes as routing
from server.rollout.plan import Plan
from server.rollout.registry import ReplicaModel, ReplicaState
from server.rollout.routes import Routes
from server.rollout.table import Champions
from server.rollout.types import Rollout, State, Trigger
from server.services import ROUTES, answers_everywhere
from server.storage import leases, notices
from server.storage import releases as registry
from server.storage import rollouts as store
from server.storage.journal import Journal
from server.storage.rollouts import PostgresRollouts
from tests.conftest import RunningStack
from tests.path import Path, StubPolicy, StubReward
from tests.registered import onward, settle, started, two, under_way
from tests.turns import a_turn

USERS = range(40)
AT_ONCE = Plan(shadow=None)


@pytest.fixture
async def rollouts(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresRollouts]:
    for name in ("READING", "WRITING"):
        for module in (registry, store):
            monkeypatch.setattr(module, name, 20.0)  # a busy machine is no Postgres that is away
    monkeypatch.setattr(routing, "STALE_SECONDS", 60.0)
    await settle(pool)
    yield PostgresRollouts(pool)
    await settle(pool)


@asynccontextmanager
async def process(rollouts: PostgresRollouts, url: str, *, listening: bool = True) -> AsyncIterator[Routes]:
    """A server process's routes, with stand-ins for what it opens."""
    policy: Any = StubPolicy()
    judges = replace(Path().judges, rewards=())

    async def opened(name: str) -> Any:
        made = StubReward(name)
        return SimpleNamespace(release=made.release, score=made.score)

    async def answers(name: str) -> bool:
        del name
        return True

    found = Routes(
        rollouts,
        Champions(policy, StubReward("reward-000001")),
        judges,
        open_policy=opened,
        open_reward=opened,
        answers=answers,
        digest=lambda tenant, user: f"{tenant}/{user}".encode(),
        listen=partial(notices.listen, url, ROUTES) if listening else None,
    )
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


def arms(routes: Routes) -> dict[str, str]:
    """The reward release by user."""
    turns = [a_turn(user_id=f"user-{number}") for number in USERS]
    return {turn.user_id: routes.of(turn).judges.rewards[0].release.id for turn in turns}


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.01)


async def canary(rollouts: PostgresRollouts, stage: int = 1) -> Rollout:
    """A rollout in that stage."""
    found = await under_way(rollouts, plan=AT_ONCE)
    while (found.state, found.stage) != (State.CANARY, stage):
        step = onward(found)
        await rollouts.apply(step)
        found = step.rollout
    return found


@pytest.mark.parametrize("listening", [True, False])
async def test_processes_agree_on_each_users_arm_from_stage_to_stage(
    stack: RunningStack, rollouts: PostgresRollouts, listening: bool
) -> None:
    url = stack.endpoints.database_url
    async with AsyncExitStack() as both:
        one, other = [await both.enter_async_context(process(rollouts, url, listening=listening)) for _ in range(2)]
        found = await canary(rollouts, 0)
        treated: set[str] = set()
        for _ in range(3):
            await until(lambda: all(_stage(each) == found.stage for each in (one, other)))  # noqa: B023
            assert arms(one) == arms(other)
            now = {user for user, release in arms(one).items() if release == found.challenger}
            assert treated <= now  # who is treated stays treated
            treated = now
            step = onward(found)
            await rollouts.apply(step)
            found = step.rollout
        assert found.state is State.VERIFIED
        await until(lambda: all(set(arms(each).values()) == {found.challenger} for each in (one, other)))
        await until(lambda: one.reward.release.id == found.challenger)  # with all users treated before, it may be later
        assert treated


def _stage(routes: Routes) -> int | None:
    assignments = routes.of(a_turn()).assignments
    return assignments[0].stage if assignments else None


async def test_who_starts_in_the_middle_of_a_rollout_follows_it_from_its_first_turn(
    stack: RunningStack, rollouts: PostgresRollouts
) -> None:
    found = await canary(rollouts)
    async with process(rollouts, stack.endpoints.database_url) as late:
        assert _stage(late) == found.stage
        assert set(arms(late).values()) == {found.champion, found.challenger}
        step = started(found, Trigger.ROLL_BACK)
        await rollouts.apply(step)
        await until(lambda: _stage(late) is None)
        assert set(arms(late).values()) == {found.champion}


async def test_a_champion_answers_once_each_replica_that_calls_may_come_to_is_ready(rollouts: PostgresRollouts) -> None:
    old, new = await two(rollouts)
    backend = FakeTriton()
    await backend.load(old, 1.0)
    everywhere = partial(answers_everywhere, rollouts, backend)
    assert (await everywhere(old), await everywhere(new)) == (True, False), "nobody has looked at the replicas yet"
    await backend.load(new, 1.0)

    async def noted(**states: ReplicaState) -> None:
        now = datetime.now(UTC)
        await rollouts.report(
            [
                ReplicaModel(replica=replica, release=release, state=state, since=now, checked_at=now)
                for replica, newer in states.items()
                for release, state in ((old, ReplicaState.READY), (new, newer))
            ],
            list(states),
        )

    await noted(one=ReplicaState.READY, two=ReplicaState.LOADING)
    assert not await everywhere(new)
    await noted(one=ReplicaState.READY, two=ReplicaState.READY)
    assert await everywhere(new)


async def test_a_cut_connection_is_made_again_and_what_it_missed_is_read(
    stack: RunningStack, pool: asyncpg.Pool, rollouts: PostgresRollouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "EVERY", 3600.0)  # only notices count
    await two(rollouts)
    async with process(rollouts, stack.endpoints.database_url) as routes:
        listening = "SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN \"ratchet_routes\"' OR query LIKE 'LISTEN%'"
        async with asyncio.timeout(20):
            while not (pids := await pool.fetch(listening)):
                await asyncio.sleep(0.01)
        for row in pids:
            await pool.execute("SELECT pg_terminate_backend($1)", row["pid"])
        found = await canary(rollouts)
        await until(lambda: _stage(routes) == found.stage)


async def test_a_call_without_a_reply_is_in_postgres_under_its_users_digest(
    stack: RunningStack, pool: asyncpg.Pool, rollouts: PostgresRollouts
) -> None:
    found = await canary(rollouts)
    async with process(rollouts, stack.endpoints.database_url) as routes:
        path = Path(routes=routes)
        stuck: Any = routes.policy
        stuck.stuck = set(USERS)
        turn = a_turn(deadline=asyncio.get_running_loop().time() + 0.2, user_id="user-1")
        (assignment,) = routes.of(turn).assignments
        with pytest.raises(DeadlineExceeded):
            await path.pipeline.answer(turn)
    rows = await pool.fetch("SELECT * FROM rollout_failures WHERE rollout_id = $1", found.rollout_id)
    assert [(row["digest"], row["reason"], row["challenger"], row["stage"]) for row in rows] == [
        (b"default/user-1", "DEADLINE_EXCEEDED", assignment.challenger, found.stage)
    ]


async def test_a_reply_is_logged_with_its_arm_and_what_its_experiments_gave(
    stack: RunningStack, pool: asyncpg.Pool, rollouts: PostgresRollouts
) -> None:
    found = await canary(rollouts)
    journal = Journal(pool)
    await journal.start()
    async with process(rollouts, stack.endpoints.database_url) as routes:
        path = Path(routes=routes, log=journal)
        turns = [a_turn(user_id=f"user-{number}", tenant_id="routed") for number in USERS]
        for turn in turns:
            await path.pipeline.answer(turn)
        statement = (
            "SELECT arm, arm_share, assignments @> $2::jsonb AS mine FROM conversation_logs WHERE response_id = $1"
        )
        for turn in turns:
            (assignment,) = routes.of(turn).assignments
            name = f'[{{"experiment": "{found.rollout_id}", "challenger": {str(assignment.challenger).lower()}}}]'
            (row,) = await pool.fetch(statement, turn.response_id, name)
            expected = found.challenger if assignment.challenger else "champion"
            assert (row["arm"], row["arm_share"], row["mine"]) == (expected, 0.5, True)
    await journal.stop()


async def test_a_lease_is_seen_by_others_and_taken_by_none_who_looks(stack: RunningStack) -> None:
    name = leases.of_model("one:8001", "reward-000009")
    one, other = [await asyncpg.connect(stack.endpoints.database_url) for _ in range(2)]
    try:
        assert await leases.free(one, name)
        assert await leases.free(other, name)  # looking takes nothing
        assert await leases.share(one, name)
        assert not await leases.free(other, name)
    finally:
        await one.close()
        await other.close()
