"""Feedback joined with the replies that it is about, as questions to train on: what Postgres holds below a watermark.

Reads the views of the schema, the review queue's labels, and who was erased; writes only which feedback a run used.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from trainer.data import rows
from trainer.data.assembly import Reply, Said, assemble
from trainer.data.records import Exclusion, Question
from trainer.data.tables import Used as Used  # noqa: PLC0414  # the other modules have it from here
from trainer.data.users import Connection, Users, users_of
from trainer.errors import StoreAway
from trainer.reward.config import DataConfig

_BATCH: Final = 2000
"""Rows that are marked at a time."""
_UNMARKED = "SELECT feedback_id FROM training_feedback_v1 WHERE tenant_id = $1 AND NOT is_training_data"
_MARK = """
UPDATE feedback_data AS f SET is_training_data = true
FROM unnest($2::uuid[], $3::integer[]) AS used (feedback_id, revision)
WHERE f.tenant_id = $1 AND f.feedback_id = used.feedback_id AND f.revision = used.revision AND NOT f.is_training_data
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What there is to train on. All of it lies in transactions below `watermark`.

    `used` is every feedback in `questions` (without review labels); `new_count` of them no run had used.
    """

    tenant: str
    questions: tuple[Question, ...]
    used: tuple[Used, ...]
    watermark: int
    exclusions: tuple[Exclusion, ...]
    new_count: int


async def ingest(pool: asyncpg.Pool, tenant: str, config: DataConfig) -> Ingested:
    """The newest `config.most_feedback` eligible feedback of a tenant, with their replies. Raises TrainerError when
    Postgres does not answer.

    200,000 take minutes: whatever computes does it in threads, so that the event loop goes on.
    """
    async with _reading(pool) as connection:
        users = await users_of(connection, tenant)
        watermark = await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        counts = Counter(await rows.count(connection, tenant))
        found = await rows.newest(connection, users, config.most_feedback)
        replies = await rows.replies(connection, users, found)
        labels = await rows.labels(connection, tenant)
    counts["older"] = counts.pop("", 0) - len(found)

    def joined() -> Ingested:
        said, lost = _usable(found, replies, users)
        known = [each for each in labels if not users.forgotten(each.asker, _uuid(each.response_id))]
        return Ingested(
            tenant=tenant,
            questions=assemble(tenant, replies.values(), said, known, config.reviewer_weight),
            used=tuple(Used(each.feedback_id, each.revision) for each in said),
            watermark=watermark,
            exclusions=_exclusions(counts + lost),
            new_count=sum(each.new for each in said),
        )

    return await asyncio.to_thread(joined)


async def unseen(pool: asyncpg.Pool, tenant: str, since: int | None, most: int) -> int:
    """How much eligible feedback no run has used, of what was given or changed in transactions from `since` on (None:
    ever), counted up to `most`. Raises TrainerError when Postgres does not answer."""
    async with _reading(pool) as connection:
        return await rows.unseen(connection, tenant, since, most)


async def mark_used(pool: asyncpg.Pool | Connection, tenant: str, used: Sequence[Used]) -> int:
    """Sets `is_training_data` of what was not edited meanwhile; how many rows that were. For a run that completed.

    Of a snapshot most is marked since earlier runs: only the rest is sent. In batches, which are one where `pool` is a
    connection in a transaction. Raises TrainerError when Postgres does not answer.
    """
    marked = 0
    async with answering():
        open_ = {row["feedback_id"] for row in await pool.fetch(_UNMARKED, tenant)}
        left = await asyncio.to_thread(lambda: [each for each in used if UUID(each.feedback_id) in open_])
        for start in range(0, len(left), _BATCH):
            batch = left[start : start + _BATCH]
            ids, revisions = [UUID(each.feedback_id) for each in batch], [each.revision for each in batch]
            marked += int((await pool.execute(_MARK, tenant, ids, revisions)).rpartition(" ")[2])
    return marked


@asynccontextmanager
async def _reading(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """One view of the database, for all that is read."""
    async with (
        answering(),
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Says in a sentence that Postgres did not answer: raises StoreAway."""
    try:
        yield
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError, TimeoutError) as error:
        raise StoreAway(f"The training data can't be read or noted, as Postgres did not answer: {error}.") from error


def _usable(found: Sequence[Said], replies: Mapping[str, Reply], users: Users) -> tuple[list[Said], Counter[str]]:
    """By id, what speaks of candidates that are there, of users whose erasure has not come as far as the tables yet;
    and how many do not, by reason."""
    lost: Counter[str] = Counter()
    kept = []
    for each in sorted(found, key=lambda each: each.feedback_id):
        reply = replies.get(each.response_id)
        if users.forgotten(each.rater, UUID(each.response_id)):
            lost["erased"] += 1
        elif reply is None or not each.indexes <= reply.candidates.keys():
            lost["not_found"] += 1
        else:
            kept.append(each)
    return kept, lost


def _exclusions(counts: Mapping[str, int]) -> tuple[Exclusion, ...]:
    return tuple(Exclusion(reason=each, count=n, detail=rows.REASONS[each]) for each, n in sorted(counts.items()) if n)


def _uuid(text: str) -> UUID | None:
    return UUID(text) if text else None
