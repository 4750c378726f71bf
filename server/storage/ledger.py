"""The log in Postgres: statements on `conversation_logs` and `request_keys`, each within bounded time.

A statement whose connection was cut off may still take effect later, so each of them may be done twice. Rows of users
who were erased meanwhile lose their texts here, on their way in: the same statement that writes looks for them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from server.errors import LogUnavailable, RequestIdReused
from server.storage import rows
from server.storage.blanking import blank
from server.storage.database import GONE, WAIT_AND_RETRY, Connection, bounded
from server.storage.erasure import Digest, nobody
from server.storage.records import Row
from server.storage.rows import COLUMNS
from server.types import Reply

T = TypeVar("T")
Key = tuple[str, str, bytes]
"""Tenant, request id, fingerprint."""

_ENTRY = """
WITH sent AS (
    SELECT * FROM unnest({arrays}) AS sent ({names}, fingerprint, digest)
), known AS (
    SELECT *, (
        SELECT pseudonym FROM erasures
        WHERE erasures.tenant_id = sent.tenant_id AND erasures.digest = sent.digest
            AND erasures.last_response >= sent.response_id
    ) AS pseudonym
    FROM sent
), blanked AS (
    SELECT response_id, pseudonym FROM known WHERE pseudonym IS NOT NULL
), entry AS (
    SELECT * FROM known WHERE pseudonym IS NULL
), first AS (
    INSERT INTO request_keys (tenant_id, request_id, response_id, fingerprint)
    SELECT tenant_id, request_id, response_id, fingerprint FROM entry WHERE request_id <> ''
    ON CONFLICT DO NOTHING
    RETURNING response_id
)
"""

_INSERT = (
    _ENTRY
    + """, logged AS (
    INSERT INTO conversation_logs ({names})
    SELECT {names} FROM entry WHERE request_id = '' OR response_id IN (SELECT response_id FROM first)
    ON CONFLICT DO NOTHING
    RETURNING response_id
)
SELECT response_id, NULL AS pseudonym FROM entry
WHERE request_id <> '' AND response_id NOT IN (SELECT response_id FROM first)
UNION ALL SELECT response_id, pseudonym FROM blanked
"""
)
"""Inserts rows and their request keys in one statement; gives the response ids that came second, and those of erased
users, which it leaves out, with the users' pseudonyms."""

_RESTORE = (
    _ENTRY
    + """, logged AS (
    INSERT INTO conversation_logs AS there ({names}) SELECT DISTINCT ON (tenant_id, response_id) {names} FROM entry
    ON CONFLICT (tenant_id, response_id) DO UPDATE SET spooled = excluded.spooled, degradations = excluded.degradations
    WHERE NOT there.spooled
)
SELECT response_id, pseudonym FROM blanked
"""
)
"""Inserts rows whose replies have left already: also where another reply took the request id meanwhile. A row that an
insert had left there before says what its reply did: that it was spooled. Gives those of erased users, left out."""

_FIRST = """
SELECT keys.response_id AS first_id, keys.fingerprint, logs.*
FROM request_keys AS keys LEFT JOIN conversation_logs AS logs USING (tenant_id, response_id)
WHERE keys.tenant_id = $1 AND keys.request_id = $2
"""
"""Who came first with a request id; the log's columns are null when its row was erased."""

_FORGET = "DELETE FROM request_keys WHERE tenant_id = $1 AND request_id = $2 AND response_id = $3"

_RETRIES = (0.05, 0.2, 0.5, 1.0)
"""Seconds to wait before each further try while Postgres is away: embedded Postgres is back within these."""
_ROW_FAULTS = ("22", "23", "54")
"""SQLSTATE classes that are a row's own fault (data, constraint, limit); all others are the server's state."""


class Ledger:
    """Each statement takes at most `patience` seconds, a lookup `lookup_patience`. Raises what asyncpg raises.

    `digest` finds the rows of erased users.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        lookups: asyncpg.Pool,
        *,
        patience: float = 30.0,
        lookup_patience: float = 30.0,
        digest: Digest = nobody,
    ) -> None:
        self._pool, self._lookups, self._digest = pool, lookups, digest
        self._patience, self._lookup_patience = patience, lookup_patience

    async def insert(self, entries: Sequence[Row]) -> set[UUID]:
        """Makes rows durable; gives the response ids of those whose request id was taken, which are not written."""
        found = await self._write(_INSERT, entries)
        await self._write_blank(entries, found)
        return {row["response_id"] for row in found if row["pseudonym"] is None}

    async def restore(self, entries: Sequence[Row]) -> None:
        """Makes rows durable whose replies have left. All have the same columns; the table's defaults fill others."""
        await self._write_blank(entries, await self._write(_RESTORE, entries))

    async def _write(self, template: str, entries: Sequence[Row]) -> Sequence[Mapping[str, Any]]:
        statement = _statement(template, tuple(entries[0].columns))
        digests = [self._digest(row.columns["tenant_id"], row.columns["user_id"]) for row in entries]
        arguments = (*_arrays(entries), digests)
        found: list[Any] = await _patiently(self._pool, self._patience, lambda c: c.fetch(statement, *arguments))
        return found

    async def _write_blank(self, entries: Sequence[Row], found: Sequence[Mapping[str, Any]]) -> None:
        """Writes the rows of erased users without their texts. Their pseudonyms are nobody's ids: nothing is left out
        again."""
        erased = {row["response_id"]: row["pseudonym"] for row in found if row["pseudonym"] is not None}
        blanked = [blank(row, erased[row.response_id]) for row in entries if row.response_id in erased]
        if blanked:
            await self._write(_RESTORE, blanked)

    async def first(self, key: Key, seconds: float | None = None) -> tuple[UUID, Reply | None] | None:
        """Who came first with the key: the response id and, unless its row was erased, the reply.

        `seconds`, if any, stand for the patience in looking up. Raises RequestIdReused, and
        LogUnavailable for a reply that only a newer version can read.
        """
        patience = self._lookup_patience if seconds is None else seconds
        row = await _patiently(self._lookups, patience, lambda c: c.fetchrow(_FIRST, key[0], key[1]))
        if row is None:
            return None
        require_same(key, bytes(row["fingerprint"]))
        if row["selected_response"] is None:
            return row["first_id"], None
        try:
            return row["first_id"], rows.reply_of(dict(row) | {"response_id": row["first_id"]})
        except (KeyError, TypeError, ValueError) as error:
            raise LogUnavailable("A newer Ratchet wrote the first reply to this request id; ask that one.") from error

    async def forget(self, key: Key, response_id: UUID) -> None:
        """Drops the key whose row was erased."""
        await _patiently(self._pool, self._patience, lambda c: c.execute(_FORGET, key[0], key[1], response_id))

    async def ping(self) -> None:
        """Returns when Postgres answers."""
        await bounded(self._pool, self._patience, lambda c: c.fetchval("SELECT 1"))


def require_same(key: Key, fingerprint: bytes) -> None:
    """Raises RequestIdReused when the key's request is not the one that had this fingerprint."""
    if fingerprint != key[2]:
        raise RequestIdReused(f"The request_id {key[1]!r} was used before for a different request; use a new one.")


def is_rows_fault(error: Exception) -> bool:
    """Whether a statement failed because of what is in its rows, so that it would fail again."""
    if isinstance(error, asyncpg.InterfaceError):
        return isinstance(error, ValueError)  # asyncpg itself can't encode the value
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in _ROW_FAULTS


@lru_cache(maxsize=8)
def _statement(template: str, names: tuple[str, ...]) -> str:
    arrays = [f"${index}::{COLUMNS[name]}[]" for index, name in enumerate(names, 1)]
    quoted = ", ".join(f'"{name}"' for name in names)
    keys = [f"${len(names) + place}::bytea[]" for place in (1, 2)]
    return template.format(arrays=", ".join([*arrays, *keys]), names=quoted)


def _arrays(entries: Sequence[Row]) -> list[list[Any]]:
    """One array a column, then the fingerprints."""
    columns = [[row.columns[name] for row in entries] for name in entries[0].columns]
    return [*columns, [row.fingerprint for row in entries]]


async def _patiently(pool: asyncpg.Pool, seconds: float, call: Callable[[Connection], Awaitable[T]]) -> T:
    """What `call` gives; it is tried again while Postgres is away, for `seconds` in all."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    for delay in _RETRIES:
        try:
            return await bounded(pool, ends - loop.time(), call)
        except (*GONE, *WAIT_AND_RETRY, asyncpg.DeadlockDetectedError) as error:
            if is_rows_fault(error) or loop.time() + delay >= ends:
                raise
            await asyncio.sleep(delay)
    return await bounded(pool, ends - loop.time(), call)
