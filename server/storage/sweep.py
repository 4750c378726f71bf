"""Takes a user out of the tables: what identifies is replaced by a pseudonym, texts go, numbers stay.

In transactions of a few hundred rows each, so that nobody waits long and a user with many rows is no problem. A row
that is done is not the user's any more: whoever begins again goes on where the last one stopped. Rows that others hold
are passed over and come last, so that nobody waits in a circle.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from server.storage import blanking
from server.storage.database import Connection
from server.storage.erasure import Erasure

LOGS, FEEDBACK = 200, 1000
"""Rows of one transaction."""
PAUSE = 0.05
"""Seconds to wait for rows that others hold, or for a lock."""
_LOCK_TIMEOUTS = ("100ms", "100ms", "1500ms")
"""What a table's lock is waited for, since others queue behind: the last outlasts what Postgres gives a deadlock before
it has autovacuum let go."""

_STALE_LOGS = """
SELECT response_id, session_id, all_candidates, tool_runs, citations, degradations, selection
FROM conversation_logs
WHERE tenant_id = $1 AND user_id = $2 AND response_id <= $3 AND (session_id, response_id) > ($4, $5)
ORDER BY session_id, response_id LIMIT $6 FOR UPDATE SKIP LOCKED
"""
_OBJECTS = ("all_candidates", "tool_runs", "citations", "degradations", "selection")
_BLANK_LOGS = """
UPDATE conversation_logs AS logs SET {plain},
    all_candidates = blanked.all_candidates, tool_runs = blanked.tool_runs, citations = blanked.citations,
    degradations = blanked.degradations, selection = blanked.selection
FROM unnest($2::uuid[], $3::jsonb[], $4::jsonb[], $5::jsonb[], $6::jsonb[], $7::jsonb[])
    AS blanked (response_id, all_candidates, tool_runs, citations, degradations, selection)
WHERE logs.tenant_id = $1 AND logs.response_id = blanked.response_id
"""
_KEYS = "DELETE FROM request_keys WHERE tenant_id = $1 AND response_id = ANY($2::uuid[])"

_STALE_FEEDBACK = """
SELECT feedback_id FROM feedback_data
WHERE tenant_id = $1 AND user_id = $2 AND response_id <= $3 AND feedback_id > $4
ORDER BY feedback_id LIMIT $5 FOR UPDATE SKIP LOCKED
"""
_BLANK_FEEDBACK = """
UPDATE feedback_data SET user_id = $3, session_id = '', text_feedback = '', erased = true,
    context = '{"query": "", "previous_messages": [], "user_profile": {}}'
WHERE tenant_id = $1 AND feedback_id = ANY($2::uuid[])
"""
_BLANK_REVISIONS = """
UPDATE feedback_revisions SET text_feedback = ''
WHERE tenant_id = $1 AND feedback_id = ANY($2::uuid[]) AND text_feedback <> ''
"""
_BLANK_NOTES = """
UPDATE safety_decisions SET note = '' WHERE tenant_id = $1 AND feedback_id = ANY($2::uuid[]) AND note <> ''
"""
_REPORTED = """
SELECT feedback_id FROM feedback_data
WHERE tenant_id = $1 AND response_id = ANY($2::uuid[]) AND kind = 'safety_report'
"""
_FAILURES = "UPDATE rollout_failures SET digest = $3 WHERE tenant_id = $1 AND digest = $2"
_REQUESTS = "DELETE FROM feedback_requests WHERE tenant_id = $1 AND user_id = $2"
_API_KEYS = """
UPDATE api_keys SET user_id = $3, name = '', revoked_at = coalesce(revoked_at, now())
WHERE tenant_id = $1 AND user_id = $2
"""
_LEFT = "SELECT EXISTS (SELECT FROM {table} WHERE tenant_id = $1 AND user_id = $2 AND response_id <= $3)"


async def writers_see(connection: Connection, table: str) -> None:
    """Returns once every transaction that writes to the table sees what was committed before.

    Whoever wrote with an older view of the database holds a lock that conflicts with this one until its end.
    """
    waits = list(_LOCK_TIMEOUTS)
    while True:
        seconds = waits.pop(0) if len(waits) > 1 else waits[0]
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{seconds}'")
                await connection.execute(f"LOCK TABLE ONLY {table} IN SHARE MODE")
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(PAUSE)
        else:
            return


async def logs(connection: Connection, tenant: str, user: str, erasure: Erasure) -> dict[str, int]:
    """Blanks the user's rows of the log, and deletes their request keys; gives how many of each."""
    found = {"conversation_logs": 0, "request_keys": 0}
    after = ("", UUID(int=0))
    while True:
        async with connection.transaction():
            rows = await connection.fetch(_STALE_LOGS, tenant, user, erasure.last_response, *after, LOGS)
            if rows:
                found["request_keys"] += await _blank(connection, tenant, rows, erasure.pseudonym)
        found["conversation_logs"] += len(rows)
        if rows:
            after = rows[-1]["session_id"], rows[-1]["response_id"]
        elif await connection.fetchval(_LEFT.format(table="conversation_logs"), tenant, user, erasure.last_response):
            after = ("", UUID(int=0))
            await asyncio.sleep(PAUSE)
        else:
            return found


async def _blank(connection: Connection, tenant: str, rows: Sequence[Any], pseudonym: str) -> int:
    """Blanks these rows of the log; gives how many had request keys."""
    columns = await asyncio.to_thread(lambda: [blanking.objects(dict(row)) for row in rows])
    ids = [row["response_id"] for row in rows]
    arrays = [[each[name] for each in columns] for name in _OBJECTS]
    plain = blanking.plain(pseudonym)
    names = ", ".join(f"{name} = ${place}" for place, name in enumerate(plain, 8))
    await connection.execute(_BLANK_LOGS.format(plain=names), tenant, ids, *arrays, *plain.values())
    reported = [row["feedback_id"] for row in await connection.fetch(_REPORTED, tenant, ids)]
    await connection.execute(_BLANK_NOTES, tenant, reported)
    return _count(await connection.execute(_KEYS, tenant, ids))


async def feedback(connection: Connection, tenant: str, user: str, erasure: Erasure) -> dict[str, int]:
    """Takes texts and ids out of the user's feedback and its history, where no row is added or removed; gives how many
    rows changed."""
    found = {"feedback_data": 0, "feedback_revisions": 0}
    after = UUID(int=0)
    while True:
        async with connection.transaction():
            rows = await connection.fetch(_STALE_FEEDBACK, tenant, user, erasure.last_response, after, FEEDBACK)
            ids = [row["feedback_id"] for row in rows]
            if ids:
                found["feedback_revisions"] += _count(await connection.execute(_BLANK_REVISIONS, tenant, ids))
                await connection.execute(_BLANK_FEEDBACK, tenant, ids, erasure.pseudonym)
                await connection.execute(_BLANK_NOTES, tenant, ids)
        found["feedback_data"] += len(ids)
        if ids:
            after = ids[-1]
        elif await connection.fetchval(_LEFT.format(table="feedback_data"), tenant, user, erasure.last_response):
            after = UUID(int=0)
            await asyncio.sleep(PAUSE)
        else:
            return found


async def failures(connection: Connection, tenant: str, digest: bytes, pseudonym: bytes) -> int:
    """Puts the pseudonym's digest in place of the user's in the failed calls of rollouts, so that they stay one user's;
    gives how many."""
    return _count(await connection.execute(_FAILURES, tenant, digest, pseudonym))


async def requests(connection: Connection, tenant: str, user: str) -> int:
    """Deletes what is known of the user's requests to rate; gives how many."""
    return _count(await connection.execute(_REQUESTS, tenant, user))


async def api_keys(connection: Connection, tenant: str, user: str, pseudonym: str) -> int:
    """Revokes the API keys that act for the user alone, and takes the user out of them; gives how many."""
    return _count(await connection.execute(_API_KEYS, tenant, user, pseudonym))


def _count(done: str) -> int:
    """Rows that a statement reached, of what Postgres says of it, such as "UPDATE 3"."""
    return int(done.rpartition(" ")[2])
