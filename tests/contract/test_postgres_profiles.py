"""What the profile store in Postgres does beyond the common contract."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from server.errors import ConfigurationError, StoreUnavailable
from server.storage import database
from server.storage.profiles import Change, PostgresProfiles
from tests.conftest import RunningStack

EAST = (1.0, 0.0, 0.0)


async def test_neighbours_are_found_through_the_models_index(pool: asyncpg.Pool) -> None:
    profiles = PostgresProfiles(pool)
    await asyncio.gather(*(profiles.prepare("it's-a-model", 3) for _ in range(4)))
    await profiles.learn("indexed", "ann", EAST, 1.0, "it's-a-model")
    plans = []
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        await connection.execute("SET LOCAL enable_sort = off")
        plans = await connection.fetch(
            "EXPLAIN SELECT user_id FROM profiles WHERE tenant_id = 'indexed' AND model = 'it''s-a-model'"
            " ORDER BY mean::vector(3) <=> '[1,0,0]'::vector(3) LIMIT 3"
        )
    assert any("profiles_near_" in row[0] for row in plans), plans
    assert [each.user_id for each in await profiles.nearest("indexed", EAST, "it's-a-model", 3)] == ["ann"]


async def test_dimensions_that_no_index_takes_are_searched_without_one(pool: asyncpg.Pool) -> None:
    profiles = PostgresProfiles(pool)
    await profiles.prepare("wide", 3072)
    wide = (1.0, *([0.0] * 3071))
    await profiles.learn("wide", "ann", wide, 1.0, "wide")
    assert [each.user_id for each in await profiles.nearest("wide", wide, "wide", 3)] == ["ann"]


async def test_the_same_model_with_other_dimensions_starts_anew(pool: asyncpg.Pool) -> None:
    profiles = PostgresProfiles(pool)
    await profiles.learn("reshaped", "ann", EAST, 3.0, "m")
    await profiles.learn("reshaped", "ann", (0.0, 1.0), 1.0, "m")
    found = await profiles.get("reshaped", "ann")
    assert found is not None
    assert (found.preference, found.weight) == ((0.0, 1.0), 1.0)


async def test_a_refused_change_leaves_no_lock_behind(pool: asyncpg.Pool) -> None:
    profiles = PostgresProfiles(pool)
    await profiles.put("locks", "ann", Change({"a": "b"}))
    for _ in range(12):  # more than the pool has connections
        with pytest.raises(Exception, match="read it again"):
            await profiles.put("locks", "ann", Change({"a": "c"}, etag="0" * 16))
    async with asyncio.timeout(10):
        assert (await profiles.put("locks", "ann", Change({"a": "d"}))).attributes == {"a": "d"}


async def test_a_postgres_that_is_away_makes_the_store_unavailable(stack: RunningStack) -> None:
    gone = await asyncpg.create_pool(stack.endpoints.database_url, min_size=1, max_size=1)
    await gone.close()
    profiles = PostgresProfiles(gone)
    for call in (
        profiles.get("t", "u"),
        profiles.put("t", "u", Change({})),
        profiles.learn("t", "u", EAST, 1.0, "m"),
        profiles.delete("t", "u"),
        profiles.nearest("t", EAST, "m", 1),
        profiles.prepare("m", 3),
    ):
        with pytest.raises(StoreUnavailable):
            await call


async def test_a_postgres_without_the_extension_is_named_at_the_start(
    stack: RunningStack, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tmp_path.joinpath("0001_missing.sql").write_text("CREATE EXTENSION no_such_extension")
    monkeypatch.setattr(database, "MIGRATIONS", tmp_path)
    await pool.execute("CREATE DATABASE without_extension")
    url = stack.endpoints.database_url
    async with asyncpg.create_pool(url, database="without_extension", min_size=1, max_size=1) as other:
        with pytest.raises(ConfigurationError, match="pgvector"):
            await database.migrate(other)
    await pool.execute("DROP DATABASE without_extension")
