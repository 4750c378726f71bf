"""A database that has served without rollouts takes them on, with all that is in it."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from server.errors import ConfigurationError
from server.storage import database, partitions
from tests.analytics import INSERT, replies
from tests.conftest import RunningStack


async def test_a_log_of_before_rollouts_is_taken_over_as_outside_of_them(
    pool: asyncpg.Pool, stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _before_rollouts(pool, stack, tmp_path, monkeypatch) as own:
        made, values = replies(random.Random(1), 200, "khách hàng", datetime.now(UTC))
        await own.execute(INSERT, *values)
        await _rate(own, made[0].response_id)
        monkeypatch.undo()
        assert "0011_rollouts.sql" in await database.migrate(own)
        await partitions.ensure(own, datetime(2027, 9, 15, tzinfo=UTC))  # months that come later have it as well
        assert await own.fetchval("SELECT count(*) FROM conversation_logs WHERE assignments = '[]'") == 200
        assert await own.fetchval("SELECT exclusion FROM training_eligibility_v1") in ("no_context", "refused")
        months = await own.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'conversation_logs'::regclass")
        assert months > 4
        assert await own.fetchval(_INDEXED) == ["true", str(months), str(months + 1)], (
            "each month's is part of it, and the only one"
        )


async def test_an_upgrade_keeps_nobody_waiting_behind_who_reads_the_log_for_long(
    pool: asyncpg.Pool, stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _before_rollouts(pool, stack, tmp_path, monkeypatch) as own:
        monkeypatch.undo()
        monkeypatch.setattr(database, "LOCK_TIMEOUT", "50ms")
        monkeypatch.setattr(database, "LOCK_PAUSE", 0.05)
        async with own.acquire() as reader:
            reading = reader.transaction()
            await reading.start()
            await reader.fetchval("SELECT count(*) FROM conversation_logs")
            with monkeypatch.context() as briefly:
                briefly.setattr(database, "LOCK_ATTEMPTS", 2)
                with pytest.raises(ConfigurationError, match=r"^Migration 0011_rollouts\.sql changes a table"):
                    await database.migrate(own)
            upgrading = asyncio.create_task(database.migrate(own))
            for _ in range(5):
                _, values = replies(random.Random(1), 5, "khách hàng", datetime.now(UTC))
                await own.execute(INSERT, *values)
            assert not upgrading.done()
            await reading.rollback()
        assert "0011_rollouts.sql" in await upgrading


_INDEXED = """
SELECT ARRAY[
    (SELECT indisvalid FROM pg_index WHERE indexrelid = 'conversation_logs_assignments'::regclass)::text,
    (SELECT count(*) FROM pg_inherits WHERE inhparent = 'conversation_logs_assignments'::regclass)::text,
    (SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%USING gin (assignments %')::text
]
"""


@asynccontextmanager
async def _before_rollouts(
    pool: asyncpg.Pool, stack: RunningStack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncpg.Pool]:
    """A database of its own as it was before them, with this month's partition and the next ones'."""
    name = f"before_{uuid4().hex}"
    url = urlunsplit(urlsplit(stack.endpoints.database_url)._replace(path=f"/{name}"))
    await pool.execute(f"CREATE DATABASE {name}")
    try:
        async with await asyncpg.create_pool(url, min_size=1, max_size=4) as own:
            _until(folder, "0010", monkeypatch)
            await database.migrate(own)
            await partitions.ensure(own, datetime.now(UTC))
            yield own
    finally:
        await pool.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _until(folder: Path, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the migrations up to one alone."""
    for path in database.MIGRATIONS.glob("[0-9]*.sql"):
        if path.name[:4] <= last:
            shutil.copy(path, folder)
    monkeypatch.setattr(database, "MIGRATIONS", folder)


async def _rate(pool: asyncpg.Pool, response_id: object) -> None:
    await pool.execute(
        "INSERT INTO feedback_data (tenant_id, feedback_id, response_id, kind, rating_overall, timestamp, updated_at,"
        " policy_release) VALUES ('khách hàng', gen_random_uuid(), $1, 'rating', 4, now(), now(), 'policy-000001')",
        response_id,
    )
