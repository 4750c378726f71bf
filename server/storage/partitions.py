"""Monthly partitions of the log, made ahead of time. UUIDv7 begins with 48 bits of milliseconds (RFC 9562, 5.7)."""

from datetime import UTC, datetime
from uuid import UUID

import asyncpg

PARENT = "conversation_logs"


def month_start(moment: datetime, ahead: int = 0) -> datetime:
    """The first instant, in UTC, of the month `ahead` months after that of `moment`."""
    months = moment.astimezone(UTC).year * 12 + moment.astimezone(UTC).month - 1 + ahead
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def lower_bound(moment: datetime) -> UUID:
    """The least UUID whose first 48 bits are the moment's milliseconds."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


async def ensure(pool: asyncpg.Pool, now: datetime, *, ahead: int = 2) -> list[str]:
    """Makes the partitions of this month and the next `ahead` ones where they are missing; gives the names made.

    A month whose rows already lie in the default partition stays there: moving them would lock the log.
    """
    made = []
    for offset in range(ahead + 1):
        start, end = month_start(now, offset), month_start(now, offset + 1)
        name = f"{PARENT}_{start:%Y_%m}"
        if await pool.fetchval("SELECT to_regclass($1)", name) is not None:
            continue
        try:
            await pool.execute(
                f"CREATE TABLE {name} PARTITION OF {PARENT}"
                f" FOR VALUES FROM ('{lower_bound(start)}') TO ('{lower_bound(end)}')"
            )
        except (asyncpg.CheckViolationError, asyncpg.DuplicateTableError, asyncpg.UniqueViolationError):
            continue  # rows of the month are in the default partition, or another server was first
        made.append(name)
    return made
