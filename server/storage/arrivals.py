"""What training made and what became of it, in Postgres: `server.rollout.arrivals.Arriving`."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from server.rollout.arrivals import REQUEST, Made, Refused
from server.rollout.documents import plain
from server.rollout.types import Kind
from server.storage.database import Connection, bounded
from server.storage.releases import READING, WRITING
from server.storage.training import as_unavailable

MOST = 10
"""Releases that one look takes up."""
T = TypeVar("T")

_MADE = f"""
SELECT training_id, release, release_path FROM training_runs AS run
WHERE state = 'SUCCEEDED' AND verdict = 'BETTER' AND release <> ''
    AND NOT EXISTS (SELECT FROM releases AS known WHERE known.training_id = run.training_id)
    AND NOT EXISTS (SELECT FROM refused_releases AS refused WHERE refused.training_id = run.training_id)
ORDER BY ended_at, training_id LIMIT {MOST}
"""
_REFUSE = """
INSERT INTO refused_releases (training_id, release, reason) VALUES ($1, $2, $3)
ON CONFLICT (training_id) DO UPDATE SET reason = excluded.reason, at = now()
"""
_UNROLLED = """
WITH known AS (
    SELECT r.*, coalesce(run.ended_at, r.published_at) AS made_at
    FROM releases AS r LEFT JOIN training_runs AS run USING (training_id)
)
SELECT newest.training_id, newest.release, '' AS release_path
FROM champions AS crowned
JOIN known AS champion ON champion.release = crowned.release
JOIN LATERAL (
    SELECT * FROM known AS made WHERE made.kind = crowned.kind AND made.training_id IS NOT NULL
    ORDER BY made.made_at DESC, made.release DESC LIMIT 1
) AS newest ON newest.made_at > champion.made_at AND newest.retired_at IS NULL
WHERE NOT EXISTS (
    SELECT FROM rollouts AS of_it WHERE of_it.challenger = newest.release
        AND NOT (of_it.state = 'draft' AND of_it.request_id IS NOT DISTINCT FROM $1 || newest.training_id::text)
) AND NOT EXISTS (
    SELECT FROM rollouts AS other WHERE other.kind = crowned.kind
        AND other.state NOT IN ('draft', 'verified', 'rolled_back', 'failed')
)
"""
"""New is what a run ended with late: what came before may be published later, when a server first looks."""
_REFUSED = """
SELECT refused.*, coalesce(run.release_path, '') AS directory, run.kind,
    run.ended_at IS NULL OR champion.release IS NULL
        OR run.ended_at > coalesce(its_run.ended_at, champion.published_at) AS newer
FROM refused_releases AS refused
LEFT JOIN training_runs AS run USING (training_id)
LEFT JOIN champions AS crowned ON crowned.kind = run.kind
LEFT JOIN releases AS champion ON champion.release = crowned.release
LEFT JOIN training_runs AS its_run ON its_run.training_id = champion.training_id
WHERE NOT EXISTS (SELECT FROM releases AS known WHERE known.training_id = refused.training_id) AND (
    $1::uuid IS NULL
    OR (refused.at, refused.training_id) < (SELECT at, training_id FROM refused_releases WHERE training_id = $1)
)
ORDER BY refused.at DESC, refused.training_id DESC LIMIT $2
"""


class PostgresArrivals:
    """Every method raises StoreUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def made(self) -> list[Made]:
        """What training made that is neither published nor refused, oldest first."""
        return [_made(row) for row in await self._do(READING, lambda connection: connection.fetch(_MADE))]

    async def refuse(self, made: Made, reason: str) -> None:
        """Keeps why a release can't be published."""
        values = made.training_id, made.release, plain(reason)
        await self._do(WRITING, lambda connection: connection.execute(_REFUSE, *values))

    async def refused(self, *, size: int, before: str) -> list[Refused]:
        """Newest first: see the protocol."""
        values = UUID(before) if before else None, size
        rows = await self._do(READING, lambda connection: connection.fetch(_REFUSED, *values))
        return [_refused(row) for row in rows]

    async def unrolled(self) -> list[Made]:
        """By kind the newest release of training's, where it may be rolled out: see the protocol."""
        return [_made(row) for row in await self._do(READING, lambda connection: connection.fetch(_UNROLLED, REQUEST))]

    async def _do(self, seconds: float, work: Callable[[Connection], Awaitable[T]]) -> T:
        with as_unavailable("releases"):
            return await bounded(self._pool, seconds, work)


def _made(row: Any) -> Made:
    return Made(row["training_id"], row["release"], Path(row["release_path"]))


def _refused(row: Any) -> Refused:
    return Refused(
        training_id=row["training_id"],
        release=row["release"],
        kind=Kind(row["kind"]) if row["kind"] else None,
        reason=row["reason"],
        directory=row["directory"],
        at=row["at"],
        newer=row["newer"],
    )
