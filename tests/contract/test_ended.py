"""Details of rollouts and experiments that ended long ago are forgotten, batch by batch; nothing else is."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from server.storage import ended
from server.storage.ended import KEPT, TABLES, PostgresEnded
from server.storage.rollouts import PostgresRollouts
from server.storage.training import new_id
from tests.registered import drafted, settle, two, under_way

ROWS = 7


@pytest.fixture
async def rollouts(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresRollouts]:
    monkeypatch.setattr(ended, "BATCH", 3)
    monkeypatch.setattr(ended, "WORKING", 30.0)  # a busy machine is no Postgres that is away
    await settle(pool)
    for table in TABLES:
        await pool.execute(f"DELETE FROM {table}")
    yield PostgresRollouts(pool)
    await settle(pool)


async def noted(pool: asyncpg.Pool, trial: UUID) -> None:
    """ROWS calls without a reply, and as many answers of a shadow."""
    await pool.execute(
        "INSERT INTO rollout_failures (rollout_id, stage, challenger, sticky, tenant_id, digest, reason)"
        " SELECT $1, 0, true, true, 'acme', 'x', 'OVERLOADED' FROM generate_series(1, $2)",
        *(trial, ROWS),
    )
    if await pool.fetchval("SELECT EXISTS (SELECT FROM rollouts WHERE rollout_id = $1)", trial):
        await pool.execute(
            "INSERT INTO shadow_answers (rollout_id, response_id, tenant_id, scores, champion_scores, seconds,"
            " champion_seconds) SELECT $1, gen_random_uuid(), 'acme', '{}', '{}', 0.1, 0.1 FROM generate_series(1, $2)",
            *(trial, ROWS),
        )


async def left(pool: asyncpg.Pool) -> dict[str, set[UUID]]:
    """By table the rollouts and experiments that have rows."""
    return {table: {row[0] for row in await pool.fetch(f"SELECT DISTINCT rollout_id FROM {table}")} for table in TABLES}


async def test_rows_of_rollouts_go_when_these_ended_long_ago_and_the_audit_stays(
    pool: asyncpg.Pool, rollouts: PostgresRollouts
) -> None:
    now: datetime = await rollouts.now()
    long_ago, lately = now - KEPT - timedelta(hours=1), now - KEPT + timedelta(hours=1)
    made = {}
    for state in ("verified", "rolled_back", "failed", "draft"):
        for since in (long_ago, lately):
            champion, challenger = await two(rollouts)
            rollout = await rollouts.create(drafted(champion, challenger))
            made[state, since] = UUID(rollout.rollout_id)
            await pool.execute(
                "UPDATE rollouts SET state = $2, since = $3 WHERE rollout_id = $1", made[state, since], state, since
            )
    active = await under_way(rollouts)
    made["published", long_ago] = UUID(active.rollout_id)
    await pool.execute("UPDATE rollouts SET since = $2 WHERE rollout_id = $1", UUID(active.rollout_id), long_ago)
    for trial in made.values():
        await noted(pool, trial)
    events = await pool.fetchval("SELECT count(*) FROM rollout_events")
    gone = {made[state, long_ago] for state in ("verified", "rolled_back", "failed")}
    assert await PostgresEnded(pool).prune() == 2 * ROWS * len(gone)
    assert await left(pool) == dict.fromkeys(TABLES, set(made.values()) - gone)
    assert await pool.fetchval("SELECT count(*) FROM rollout_events") == events
    assert await PostgresEnded(pool).prune() == 0


async def test_failed_calls_of_experiments_go_when_these_stopped_long_ago(
    pool: asyncpg.Pool, rollouts: PostgresRollouts
) -> None:
    now: datetime = await rollouts.now()
    long_ago, lately = now - KEPT - timedelta(hours=1), now - KEPT + timedelta(hours=1)
    await pool.execute("UPDATE experiments SET state = 'stopped', stopped_at = now() WHERE state <> 'stopped'")
    made = {}
    for state, stopped in (("stopped", long_ago), ("stopped", lately), ("held", None)):
        made[state, stopped] = new_id()
        await pool.execute(
            "INSERT INTO experiments (experiment_id, name, kind, variant, overrides, plan, state, started_at,"
            " started_by, stopped_at) VALUES ($1, 'x', 'prompt', 'y', '{}', '{}', $2, $3, 'lan', $4)",
            *(made[state, stopped], state, long_ago, stopped),
        )
        await noted(pool, made[state, stopped])
    assert await PostgresEnded(pool).prune() == ROWS
    assert (await left(pool))["rollout_failures"] == set(made.values()) - {made["stopped", long_ago]}
    await pool.execute("DELETE FROM experiments WHERE experiment_id = ANY($1)", list(made.values()))
