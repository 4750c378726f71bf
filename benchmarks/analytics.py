"""Live counters: how many rows a second the follower reads, counts and puts into Redis, a step at a time and in a
rebuild, beside how many Postgres alone hands out. With an embedded Postgres and Valkey of its own, no Triton.
"""

import asyncio
import json
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import uuid_utils
from redis.asyncio import Redis
from rich.table import Table

from benchmarks.ratchets import a_home
from server.analytics.figures import Figures
from server.analytics.live import PATIENCE, live
from server.embedded import EmbeddedSettings, Stack
from server.storage import database, memory

ROWS = 40_000
"""Replies, of the last two hours; a quarter of them rated, and half of those edited."""
BATCH = 100
"""Replies of one transaction: what a busy server commits together."""
_REPLIES = """
INSERT INTO conversation_logs (tenant_id, response_id, user_id, "timestamp", query, context, selected_response,
    reward_score, all_candidates, generation_method, feedback_prompt, selection_method, selection_probability,
    policy_release, reward_release, seed, seed_honored, latencies, total_seconds, degradations)
SELECT 'default', id, 'ann', now() - interval '2 hours' * random(), repeat('q', 200), '{}', repeat('r', 500), random(),
    to_jsonb(repeat('c', 4000)), 'm', true, 'best', 1, 'policy-000001', 'reward-000001', 1, true, $2, random(), '[]'
FROM unnest($1::uuid[]) AS row (id)
"""
_RATINGS = """
INSERT INTO feedback_data (tenant_id, feedback_id, response_id, user_id, kind, rating_overall, "timestamp", updated_at,
    revision, policy_release, reward_release)
SELECT tenant_id, response_id, response_id, user_id, 'rating', 4, "timestamp", now(), 2, policy_release, reward_release
FROM conversation_logs WHERE random() < 0.25
"""
_REVISIONS = """
INSERT INTO feedback_revisions (tenant_id, feedback_id, revision, rating_overall, reaction_type, recorded_at)
SELECT tenant_id, feedback_id, $1, $2, 'thumbs_up', now() FROM feedback_data WHERE $1 = 1 OR random() < 0.5
"""
_STAGES = ("lookup", "context", "tools", "prompt", "candidates", "scoring", "quality", "selection", "log")


def measure() -> dict[str, Any]:
    """The figures."""
    with a_home() as home:
        return asyncio.run(_measure(home))


async def _measure(home: Path) -> dict[str, Any]:
    stack = Stack(EmbeddedSettings(home=home, triton=False))
    endpoints = await stack.start()
    try:
        async with await database.connect(endpoints.database_url, size=4, patience=None) as pool:
            await database.migrate(pool)
            redis = memory.connect(endpoints.redis_url, timeout=PATIENCE)
            try:
                return await _figures(pool, redis)
            finally:
                await redis.aclose()
    finally:
        await stack.stop()


async def _figures(pool: asyncpg.Pool, redis: Redis) -> dict[str, Any]:
    found = live(redis, pool)
    await found.follower.follow()
    rows = await _fill(pool)
    reading = await _seconds(_read(pool))
    following = await _seconds(found.follower.follow())
    rebuilding = (await found.follower.rebuild()).seconds
    idle = await _seconds(_often(found.follower.follow)) / _TIMES
    window = await _seconds(_often(lambda: _window(found.figures))) / _TIMES
    return {
        "rows": rows,
        "postgres_rows_per_second": rows / reading,
        "followed_rows_per_second": rows / following,
        "rebuilt_rows_per_second": rows / rebuilding,
        "share_of_postgres": reading / following,
        "idle_look_ms": idle * 1000,
        "hour_window_ms": window * 1000,
        "redis_mb": (await redis.info("memory"))["used_memory"] / 2**20,
    }


_TIMES = 50


async def _fill(pool: asyncpg.Pool) -> int:
    dice = random.Random(1)
    for _ in range(ROWS // BATCH):
        ids = [UUID(int=uuid_utils.uuid7().int) for _ in range(BATCH)]
        stages = json.dumps([[stage, round(dice.random(), 4)] for stage in _STAGES])
        await pool.execute(_REPLIES, ids, stages)
    await pool.execute(_RATINGS)
    for revision, stars in ((1, 2), (2, 4)):
        await pool.execute(_REVISIONS, revision, stars)
    await pool.execute("ANALYZE")
    return int(
        await pool.fetchval(
            "SELECT (SELECT count(*) FROM conversation_logs) + (SELECT count(*) FROM feedback_revisions)"
        )
    )


async def _read(pool: asyncpg.Pool) -> None:
    """The baseline: the same rows, and nothing done with them."""
    columns = "tenant_id, policy_release, reward_release, reward_score, total_seconds, latencies, degradations"
    await pool.fetch(f'SELECT {columns}, "timestamp" FROM conversation_logs ORDER BY transaction_id')
    await pool.fetch("SELECT * FROM feedback_revisions JOIN feedback_data USING (tenant_id, feedback_id)")


async def _window(figures: Figures) -> None:
    await figures.window("default", datetime.now(UTC), 3600)


async def _often(call: Any) -> None:
    for _ in range(_TIMES):
        await call()


async def _seconds(work: Any) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def table(found: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title=f"Live counters, {found['rows']:,} rows", title_justify="left", box=None)
    for name in ("", "rows/s"):
        shown.add_column(name, justify="right" if name else "left")
    shown.add_row("Postgres alone", f"{found['postgres_rows_per_second']:,.0f}")
    shown.add_row("followed", f"{found['followed_rows_per_second']:,.0f}")
    shown.add_row("rebuilt", f"{found['rebuilt_rows_per_second']:,.0f}")
    shown.add_row("a look when nothing is new", f"{found['idle_look_ms']:.1f} ms")
    shown.add_row("an hour's figures", f"{found['hour_window_ms']:.1f} ms")
    shown.add_row("memory of Redis", f"{found['redis_mb']:.1f} MB")
    return shown
