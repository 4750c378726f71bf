"""Forgets the details of rollouts and experiments that ended long ago, in Postgres.

Each call without a reply and each answer of a shadow has a row, which only the statistics of what is under way read.
The audit keeps what they came to, for good.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from server.storage.database import bounded
from server.storage.deliveries import in_batches
from server.storage.training import as_unavailable

KEPT = timedelta(days=30)
"""After the end: for a call or an answer that is noted late (those take minutes), and for people who look into why a
rollout failed (the next one is long under way by then)."""
WORKING = 10.0
"""Seconds after which the connection is cut off on which Postgres has not answered."""
BATCH = 1000
"""Rows that one statement deletes at most."""
TABLES = ("rollout_failures", "shadow_answers")

_ENDED = """
SELECT trial FROM (
    SELECT rollout_id AS trial FROM rollouts
    WHERE state IN ('verified', 'rolled_back', 'failed') AND since < clock_timestamp() - $1::interval
    UNION ALL
    SELECT experiment_id FROM experiments
    WHERE state = 'stopped' AND stopped_at < clock_timestamp() - $1::interval
) AS ended
WHERE EXISTS (SELECT FROM {table} WHERE rollout_id = trial)
"""
_FORGET = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE rollout_id = $1 LIMIT $2)) RETURNING 1
"""


class PostgresEnded:
    """What is left of rollouts and experiments that ended."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def prune(self, age: timedelta = KEPT) -> int:
        """Forgets the rows of those that ended so long ago, batch by batch; gives how many. Raises StoreUnavailable."""
        return sum([await self._prune(table, age) for table in TABLES])

    async def _prune(self, table: str, age: timedelta) -> int:
        trials = await self._fetch(_ENDED.format(table=table), age)
        return sum([await self._forget(table, row["trial"]) for row in trials])

    async def _forget(self, table: str, trial: UUID) -> int:
        async def batch() -> int:
            return len(await self._fetch(_FORGET.format(table=table), trial, BATCH))

        return await in_batches(BATCH, batch)

    async def _fetch(self, statement: str, *values: object) -> list[Any]:
        with as_unavailable("rollouts"):
            return await bounded(self._pool, WORKING, lambda connection: connection.fetch(statement, *values))
