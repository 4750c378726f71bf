"""Training runs in Postgres: asked for, taken by a trainer, taken up again when one has died.

The server's API makes and cancels runs, too; both know each other by the table alone. What a trainer does with a run
that it holds is in `leases.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import uuid_utils

from trainer.database import answering

MOST_ATTEMPTS: Final = 3
"""How often a run is begun: one that takes its trainer down each time must not go on forever."""

_ASK = """
INSERT INTO training_runs (tenant_id, training_id, kind, asked, requested_by) VALUES ($1, $2, 'reward', $3, $4)
"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('ratchet training ' || $1, 0))"
"""One trainer at a time asks for a tenant's run by itself."""
_ASK_DUE = """
INSERT INTO training_runs (tenant_id, training_id, kind, asked, requested_by)
SELECT $1, $2, 'reward', $3, $4
WHERE NOT EXISTS (
    SELECT FROM training_runs WHERE tenant_id = $1 AND (state IN ('QUEUED', 'RUNNING') OR training_id > $5)
)
"""
_LEFT = """
SELECT training_id FROM training_runs
WHERE tenant_id = $1 AND asked = $2 AND requested_by = $3 AND state IN ('QUEUED', 'RUNNING') AND NOT cancel_requested
ORDER BY training_id LIMIT 1
"""
_IDLE = "(state = 'QUEUED' OR (state = 'RUNNING' AND lease_until < now()))"
_CLAIM = f"""
UPDATE training_runs SET state = 'RUNNING', lease_owner = $1, lease_until = now() + make_interval(secs => $2),
    attempts = attempts + 1, started_at = coalesce(started_at, now()), changed = changed + 1
WHERE training_id = (
    SELECT training_id FROM training_runs
    WHERE {_IDLE} AND kind = 'reward' AND NOT cancel_requested AND attempts < $3
        AND ($4::uuid IS NULL OR training_id = $4)
    ORDER BY training_id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING training_id, tenant_id, asked, attempts, snapshot, release_path, requested_by,
    fingerprint IS NOT NULL AS by_api -- of what a caller of the server asked for
"""
_BURY = f"""
UPDATE training_runs SET changed = changed + 1, ended_at = now(), lease_owner = '', lease_until = NULL,
    state = CASE WHEN cancel_requested THEN 'CANCELLED' ELSE 'FAILED' END,
    error = CASE WHEN cancel_requested THEN '' ELSE $2 END
WHERE {_IDLE} AND (cancel_requested OR attempts >= $1)
RETURNING training_id
"""
_WORN = "A trainer began this run {} times, and none came to its end: its log, or the machine's, may tell why."


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that a trainer holds as `owner`. `asked` are the settings that the request named.

    `snapshot` and `release_path` are what an earlier attempt took, "" without one. `attempts` counts this one.
    `by_api`: somebody asked for it through the server, who may be anywhere, and not on this machine.
    """

    training_id: UUID
    tenant: str
    owner: str
    asked: Mapping[str, Any]
    attempts: int
    snapshot: str
    release_path: str
    requested_by: str
    by_api: bool = False


async def ask(pool: asyncpg.Pool, tenant: str, asked: Mapping[str, Any], requested_by: str) -> UUID:
    """A new run, which waits for a trainer. Raises TrainerError."""
    training_id = new_id()
    with answering("training runs"):
        await pool.execute(_ASK, tenant, training_id, json.dumps(asked), requested_by)
    return training_id


async def ask_when_due(pool: asyncpg.Pool, tenant: str, requested_by: str, newest: UUID | None) -> UUID | None:
    """A new run that is due after the run `newest` (None: there was none), or None where another trainer, or anybody,
    asked for one meanwhile. Raises TrainerError."""
    training_id = new_id()
    with answering("training runs"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK, tenant)  # its own statement: the next one sees what was committed before it
            values = (tenant, training_id, "{}", requested_by, newest or UUID(int=0))
            made = await connection.execute(_ASK_DUE, *values)
    return training_id if made == "INSERT 0 1" else None


async def left(pool: asyncpg.Pool, tenant: str, asked: Mapping[str, Any], requested_by: str) -> UUID | None:
    """A run that was asked for in the same words by the same, and has not ended. Raises TrainerError."""
    with answering("training runs"):
        found: UUID | None = await pool.fetchval(_LEFT, tenant, json.dumps(asked), requested_by)
    return found


async def claim(pool: asyncpg.Pool, seconds: float, training_id: UUID | None = None) -> Run | None:
    """Takes the oldest run that waits, or this one, for `seconds`; None: there is none. Raises TrainerError.

    One whose lease ran out is taken up again, until it was begun too often.
    """
    owner = uuid4().hex
    with answering("training runs"):
        await pool.execute(_BURY, MOST_ATTEMPTS, _WORN.format(MOST_ATTEMPTS))
        row = await pool.fetchrow(_CLAIM, owner, seconds, MOST_ATTEMPTS, training_id)
    if row is None:
        return None
    return Run(
        training_id=row["training_id"],
        tenant=row["tenant_id"],
        owner=owner,
        asked=json.loads(row["asked"]),
        attempts=row["attempts"],
        snapshot=row["snapshot"] or "",
        release_path=row["release_path"],
        requested_by=row["requested_by"],
        by_api=row["by_api"],
    )


async def standing(pool: asyncpg.Pool, training_id: UUID) -> tuple[str, str]:
    """A run's state, and its error. Raises TrainerError."""
    with answering("training runs"):
        row = await pool.fetchrow("SELECT state, error FROM training_runs WHERE training_id = $1", training_id)
    return (row["state"], row["error"]) if row else ("CANCELLED", "")


def new_id() -> UUID:
    """A UUIDv7."""
    return UUID(int=uuid_utils.uuid7().int)
