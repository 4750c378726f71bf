"""Immutable files of training data, known by the SHA-256 of their rows: the same rows are the same snapshot.

Users are digests in them. The row that says whose data a snapshot holds is in Postgres before the files are there, so
that an erasure finds every file; and an erasure that came meanwhile is looked for before they are written. Of the two,
whoever is later sees the other.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from trainer.data import parquet, tables
from trainer.data.ingest import Ingested, answering, ingest
from trainer.data.records import Exclusion, Question
from trainer.data.tables import Used
from trainer.data.users import Connection, Users, users_of
from trainer.errors import TooLittleData, TrainerError
from trainer.reward.config import DataConfig

FOLDER: Final = "snapshots"
"""Under the trainer's home: a directory for each snapshot, named by its hash."""
_TRIES, _PAUSE = 5, 0.2
"""How often, and after how many seconds, it is begun again when users are erased meanwhile."""
_DIGEST = re.compile("[0-9a-f]{64}")

_RECORD = """
INSERT INTO training_snapshots (snapshot, tenant_id, path, watermark, feedback_count, new_count)
VALUES ($1, $2, $3, $4::text::xid8, $5, $6)
ON CONFLICT (snapshot) DO UPDATE SET watermark = greatest(training_snapshots.watermark, excluded.watermark),
    taken_at = now(), pruned_at = NULL,
    path = CASE WHEN training_snapshots.pruned_at IS NULL THEN training_snapshots.path ELSE excluded.path END
RETURNING erased_at IS NULL
"""
_RECORD_USERS = """
INSERT INTO training_snapshot_users (snapshot, tenant_id, digest)
SELECT $1, $2, decode(digest, 'hex') FROM unnest($3::text[]) AS digest ON CONFLICT DO NOTHING
"""
_VOID = """
UPDATE training_snapshots SET erased_at = coalesce(erased_at, now()) WHERE snapshot = $1 AND replaced_by IS NULL
"""
_GONE = """
SELECT erased_at IS NOT NULL OR pruned_at IS NOT NULL FROM training_runs JOIN training_snapshots USING (snapshot)
WHERE training_id = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One snapshot: `hash` is SHA-256 in hexadecimal, `path` its directory."""

    hash: str
    path: Path
    watermark: int
    feedback_count: int
    new_count: int
    question_count: int
    response_count: int


async def take(
    pool: asyncpg.Pool, tenant: str, config: DataConfig, home: Path
) -> tuple[Snapshot, tuple[Exclusion, ...]]:
    """What there is to train on now, as files that appear whole or not at all, and as a row of `training_snapshots`.

    Raises TooLittleData when there is nothing, TrainerError when Postgres does not answer, or users were erased all the
    while.
    """
    for _ in range(_TRIES):
        ingested = await ingest(pool, tenant, config)
        if not ingested.questions:
            raise TooLittleData("There is no feedback to train on.")
        rows = await asyncio.to_thread(tables.flat, ingested.questions, ingested.used)
        found = await asyncio.to_thread(_described, ingested, rows, home)
        if await keep(pool, tenant, found, ingested.questions, rows):
            return found, ingested.exclusions
        await asyncio.sleep(_PAUSE)
    raise TrainerError("Users were erased while the snapshot was taken: try again.")


def write(ingested: Ingested, home: Path) -> Snapshot:
    """The files alone, without a row: they are there already, and whole, where the same rows were written before."""
    rows = tables.flat(ingested.questions, ingested.used)
    found = _described(ingested, rows, home)
    parquet.write(rows, found.hash, home / FOLDER)
    return found


def read(path: Path) -> tuple[Question, ...]:
    """The questions of a snapshot's directory. Raises DataError when a file is missing or was changed."""
    return tables.deep(parquet.read(path))


def used(path: Path) -> tuple[Used, ...]:
    """The feedback in it, for `mark_used`. Raises DataError."""
    return tuple(Used(*row) for row in parquet.read(path)["used"])


async def keep(
    pool: asyncpg.Pool, tenant: str, snapshot: Snapshot, questions: Sequence[Question], rows: tables.Rows
) -> bool:
    """Records a snapshot, and then writes its files; False where that may not be, as `record` has it."""
    folder = snapshot.path.parent
    with ExitStack() as held:
        await asyncio.to_thread(held.enter_context, parquet.kept(folder))
        if fresh := await record(pool, tenant, snapshot, questions):
            await asyncio.to_thread(parquet.write, rows, snapshot.hash, folder)
        return fresh


async def gone(pool: asyncpg.Pool, training_id: UUID) -> bool:
    """Whether the files of a run's snapshot are to be rewritten, or were: a user in it was erased, or they were pruned.
    Raises TrainerError."""
    async with answering():
        return bool(await pool.fetchval(_GONE, training_id))


async def record(pool: asyncpg.Pool, tenant: str, snapshot: Snapshot, questions: Sequence[Question]) -> bool:
    """Says in Postgres that there is such a snapshot, and whose data it holds; whether it may be written.

    It may not when a user of it was erased, or when it is a tombstone. Raises TrainerError.
    """
    counted = (str(snapshot.watermark), snapshot.feedback_count, snapshot.new_count)
    whose = await asyncio.to_thread(lambda: sorted(digests(questions)))
    async with answering(), pool.acquire() as connection:
        async with connection.transaction():
            fresh = await connection.fetchval(_RECORD, snapshot.hash, tenant, str(snapshot.path), *counted)
            await connection.execute(_RECORD_USERS, snapshot.hash, tenant, whose)
        return fresh and not await _overtaken(connection, await users_of(connection, tenant), snapshot, questions)


async def _overtaken(connection: Connection, users: Users, snapshot: Snapshot, questions: Iterable[Question]) -> bool:
    """Whether an erasure reached a reply in it. Then it is marked, since that erasure may have come too early to."""

    def reached() -> bool:
        return any(users.forgotten(digest, reply) for digest, reply in holders(questions))

    overtaken = await asyncio.to_thread(reached)
    if overtaken:
        await connection.execute(_VOID, snapshot.hash)
    return overtaken


def digests(questions: Iterable[Question]) -> set[str]:
    """Whose data the questions hold: all who have a name."""
    return {digest for digest, _ in holders(questions)}


def holders(questions: Iterable[Question]) -> Iterator[tuple[str, UUID | None]]:
    """(user's digest, reply that they asked for or judged) of all who have a name; some more than once."""
    for question in questions:
        for response in question.responses:
            reply = UUID(response.response_id) if response.response_id else None
            yield from ((each, reply) for each in _named(response.asker, *(j.rater for j in response.judgements)))
        for preferred in question.preferences:
            chosen = question.responses[preferred.chosen].response_id
            yield from ((each, UUID(chosen) if chosen else None) for each in _named(preferred.rater))


def _named(*raters: str) -> Iterator[str]:
    return (each for each in raters if _DIGEST.fullmatch(each))


def _described(ingested: Ingested, rows: tables.Rows, home: Path) -> Snapshot:
    name = tables.fingerprint(rows)
    return Snapshot(
        hash=name,
        path=home / FOLDER / name,
        watermark=ingested.watermark,
        feedback_count=len(ingested.used),
        new_count=ingested.new_count,
        question_count=len(rows["questions"]),
        response_count=len(rows["responses"]),
    )
