"""Monthly partitions of the log, made ahead of time. UUIDv7 begins with 48 bits of milliseconds (RFC 9562, 5.7)."""

from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from server.storage.database import Connection

PARENT = "conversation_logs"
LOCK_TIMEOUT = "500ms"
_LOCK = 0x52415450  # any constant of our own: one process at a time makes partitions


def month_start(moment: datetime, ahead: int = 0) -> datetime:
    """The first instant, in UTC, of the month `ahead` months after that of `moment`."""
    months = moment.astimezone(UTC).year * 12 + moment.astimezone(UTC).month - 1 + ahead
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def lower_bound(moment: datetime) -> UUID:
    """The least UUID whose first 48 bits are the moment's milliseconds."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


async def ensure(pool: asyncpg.Pool, now: datetime, *, ahead: int = 2) -> list[str]:
    """Makes the partitions of this month and the next `ahead` ones where they are missing; gives the names made.

    One process at a time does it, the others find nothing to do. Waits LOCK_TIMEOUT for a lock at most, because
    statements of others queue behind whoever waits: LockNotAvailableError says to come again later. A month whose rows
    already lie in the default partition stays there: moving them would lock the log.
    """
    async with pool.acquire() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            return []  # the pool unlocks what comes back to it
        names = [await _make(connection, month_start(now, offset)) for offset in range(ahead + 1)]
    return [name for name in names if name]


async def _make(connection: Connection, start: datetime) -> str:
    """The name of the partition of the month that begins at `start`; "" where it was there, or can't be made."""
    name = f"{PARENT}_{start:%Y_%m}"
    if await connection.fetchval("SELECT to_regclass($1)", name) is not None:
        return ""
    bounds = f"FROM ('{lower_bound(start)}') TO ('{lower_bound(month_start(start, 1))}')"
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            # Attaching takes a weaker lock than CREATE TABLE ... PARTITION OF: inserts and readers of the log go on.
            await connection.execute(f"CREATE TABLE {name} (LIKE {PARENT} INCLUDING ALL)")
            await connection.execute(f"ALTER TABLE {PARENT} ATTACH PARTITION {name} FOR VALUES {bounds}")
    except (asyncpg.CheckViolationError, asyncpg.DuplicateTableError):
        return ""  # rows of the month are in the default partition, or a server without our lock was first
    return name
