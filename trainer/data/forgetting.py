"""Takes erased users out of the snapshots that hold them.

An erasure marks the snapshots (`erased_at`). Here each is written anew without the users' replies; the old one stays as
a row alone, a tombstone that names the new one (`replaced_by`, "" when nothing was left). In an order that can end
anywhere and be begun again: the new row, the new files, the tombstone, and then the old files go.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from trainer.data import parquet, snapshots, tables
from trainer.data.ingest import answering
from trainer.data.records import Judgement, Preferred, Question, Response, newest
from trainer.data.users import Users, users_of
from trainer.errors import DataError

_MARKED = """
SELECT snapshot, tenant_id, path, watermark::text::bigint AS watermark, new_count, replaced_by FROM training_snapshots
WHERE erased_at IS NOT NULL AND (replaced_by IS NULL OR snapshot = ANY($1::text[])) ORDER BY erased_at, snapshot
"""
_BURY = "UPDATE training_snapshots SET replaced_by = $2 WHERE snapshot = $1 AND replaced_by IS NULL"
_KEEP = "UPDATE training_snapshots SET erased_at = NULL WHERE snapshot = $1 AND replaced_by IS NULL"
_REVIEWS = """
DELETE FROM review_items AS item USING erasures AS erased
WHERE item.digest <> '' AND item.tenant_id = erased.tenant_id AND item.digest = erased.digest
AND (item.response_id IS NULL OR item.response_id <= erased.last_response)
"""


_SPOILED = """
UPDATE training_runs AS run SET not_reproducible = true, changed = changed + 1
FROM training_snapshots AS held
WHERE held.snapshot = run.snapshot AND held.erased_at IS NOT NULL AND NOT run.not_reproducible
"""
_QUOTING = """
SELECT run.training_id, run.report, run.report_html, array_agg(encode(held.digest, 'hex')) AS users
FROM training_runs AS run
JOIN training_snapshots AS taken ON taken.snapshot = run.snapshot
JOIN training_snapshot_users AS held ON held.snapshot = run.snapshot
JOIN erasures AS erased ON erased.tenant_id = held.tenant_id AND erased.digest = held.digest
WHERE run.not_reproducible AND run.report IS NOT NULL AND erased.erased_at >= taken.created_at
GROUP BY run.training_id
HAVING run.report_html IS NULL OR EXISTS (
    SELECT FROM jsonb_path_query(run.report, '$.mistakes[*].users[*]') AS quoted
    WHERE quoted #>> '{}' = ANY(array_agg(encode(held.digest, 'hex')))
)
"""
_REPORT = """
UPDATE training_runs SET report = $2, report_html = $3, changed = changed + 1 WHERE training_id = $1 AND report = $4
"""


@dataclass(frozen=True, slots=True)
class _Remains:
    """What stays of a snapshot."""

    questions: tuple[Question, ...]
    used: tuple[tables.Used, ...]


async def forget(pool: asyncpg.Pool, home: Path) -> tuple[str, ...]:
    """Rewrites every snapshot in this home that an erasure marked, without the replies and judgements of the erased
    users; gives the hashes that went. Also deletes what asks for reviews of their replies, and takes their texts out of
    reports that runs wrote since.

    Whoever dies in the middle goes on by repeating it. Raises TrainerError when Postgres does not answer.
    """
    folder = home / snapshots.FOLDER
    here = await asyncio.to_thread(parquet.tidied, folder)
    async with answering():
        await pool.execute(_REVIEWS)
        await pool.execute(_SPOILED)
        quoting = await pool.fetch(_QUOTING)
        marked = await pool.fetch(_MARKED, here)
    for row in quoting:
        await _reworded(pool, row)
    gone = [row["snapshot"] for row in marked if _ours(row, folder) and await _forget(pool, row, home)]
    return tuple(gone)


async def _reworded(pool: asyncpg.Pool, row: Any) -> None:
    """Writes a report without the users' texts, and its page anew where the erasure has taken that."""
    from trainer.reward import report

    written, page = None, None
    with suppress(DataError):  # of another version: what can't be read can't be shown to be free of anybody
        old = report.parse(json.loads(row["report"]))
        new = report.forget(old, row["users"])
        if new == old and row["report_html"] is not None:
            return
        page = await asyncio.to_thread(report.html, new)
        written = json.dumps(report.document(new), ensure_ascii=False, allow_nan=False)
    async with answering():
        await pool.execute(_REPORT, row["training_id"], written, page, row["report"])


def _ours(row: Any, folder: Path) -> bool:
    """Whether its files are here, or should be: others' homes are their trainers' to tidy."""
    return (folder / row["snapshot"]).exists() or Path(row["path"]).parent == folder


async def _forget(pool: asyncpg.Pool, row: Any, home: Path) -> bool:
    """Rewrites one snapshot; False where nothing had to go."""
    name, path = row["snapshot"], home / snapshots.FOLDER / row["snapshot"]
    if row["replaced_by"] is None:
        async with answering():
            users = await users_of(pool, row["tenant_id"])
        remains = await asyncio.to_thread(_remains, path, users)
        rows = await asyncio.to_thread(tables.flat, remains.questions, remains.used)
        replacement = await asyncio.to_thread(tables.fingerprint, rows) if remains.questions else ""
        if replacement == name:
            async with answering():
                await pool.execute(_KEEP, name)
            return False
        if replacement and not await _written(pool, row, home, remains, rows, replacement):
            return False  # another erasure came meanwhile: the next call finds it
        async with answering():
            await pool.execute(_BURY, name, replacement)
    await asyncio.to_thread(parquet.remove, path)
    return True


async def _written(pool: asyncpg.Pool, row: Any, home: Path, remains: _Remains, rows: tables.Rows, name: str) -> bool:
    new = snapshots.Snapshot(
        hash=name,
        path=home / snapshots.FOLDER / name,
        watermark=row["watermark"],
        feedback_count=len(remains.used),
        new_count=min(row["new_count"], len(remains.used)),
        question_count=len(rows["questions"]),
        response_count=len(rows["responses"]),
    )
    return await snapshots.keep(pool, row["tenant_id"], new, remains.questions, rows)


def _remains(path: Path, users: Users) -> _Remains:
    """Nothing of files that are gone or damaged: what can't be read can't be shown to be free of anybody."""
    try:
        rows = parquet.read(path)
    except DataError:
        return _Remains((), ())
    questions = without(tables.deep(rows), users)
    kept = {each.feedback_id for question in questions for each in _said(question)}
    return _Remains(questions, tuple(tables.Used(*row) for row in rows["used"] if row[0] in kept))


def _said(question: Question) -> Iterator[Judgement | Preferred]:
    yield from question.preferences
    for response in question.responses:
        yield from response.judgements


def without(questions: Iterable[Question], users: Users) -> tuple[Question, ...]:
    """The questions without the replies that erased users asked for, and without what they said. What nobody judges
    any more goes too."""
    found = (_without(question, users) for question in questions)
    return tuple(question for question in found if question is not None)


def _without(question: Question, users: Users) -> Question | None:
    """None where nothing is left."""
    preferences = [
        each
        for each in question.preferences
        if not _gone(users, question.responses[each.chosen], each.rater)
        and not _gone(users, question.responses[each.rejected], each.rater)
    ]
    compared = {place for each in preferences for place in (each.chosen, each.rejected)}
    judged = [_kept(response, users) for response in question.responses]
    stay = [place for place, kept in enumerate(judged) if kept or place in compared]
    if not stay:
        return None
    new = {old: place for place, old in enumerate(stay)}
    responses = tuple(replace(question.responses[place], judgements=judged[place]) for place in stay)
    left = replace(
        question,
        responses=responses,
        preferences=tuple(replace(p, chosen=new[p.chosen], rejected=new[p.rejected]) for p in preferences),
        askers=tuple(sorted({each.asker for each in responses} - {""})),
    )
    return replace(left, time=newest(_said(left)))


def _kept(response: Response, users: Users) -> tuple[Judgement, ...]:
    return tuple(each for each in response.judgements if not _gone(users, response, each.rater))


def _gone(users: Users, response: Response, rater: str) -> bool:
    """Whether an erasure reached the reply through who asked for it or who judged it."""
    reply = UUID(response.response_id) if response.response_id else None
    return users.forgotten(response.asker, reply) or users.forgotten(rater, reply)
