"""What challengers in shadow gave, in Postgres: figures only."""

import asyncpg

from server.rollout.shadowing import ShadowAnswer
from server.storage.database import Connection, bounded
from server.storage.training import as_unavailable

WRITING = 5.0
"""Seconds after which the connection is cut off on which Postgres has not answered."""

_ADD = """
INSERT INTO shadow_answers (
    rollout_id, response_id, tenant_id, at, scores, champion_scores, same_choice, seconds, champion_seconds, error
) VALUES ($1, $2, $3, coalesce($4, now()), $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING
"""


class PostgresShadows:
    """Keeps shadows' answers; `server.storage.evidence` reads them."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def add(self, answer: ShadowAnswer) -> None:
        """Keeps one. A repeated one changes nothing. Raises StoreUnavailable."""
        values = (
            answer.rollout_id,
            answer.response_id,
            answer.tenant_id,
            answer.at,
            answer.scores,
            answer.champion_scores,
            answer.same_choice,
            answer.seconds,
            answer.champion_seconds,
            answer.error,
        )

        async def insert(connection: Connection) -> None:
            await connection.execute(_ADD, *values)

        with as_unavailable("shadows' answers"):
            await bounded(self._pool, WRITING, insert)
