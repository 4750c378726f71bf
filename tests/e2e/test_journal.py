"""The journal on a real Postgres: group commit, refused rows, a Postgres that goes away, partitions, migrations."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from server.errors import ConfigurationError, LogRowRefused, LogUnavailable, Overloaded
from server.storage import database, partitions
from server.storage.journal import Journal
from tests.conftest import RunningStack
from tests.turns import a_turn, an_entry


@pytest.fixture
async def journal(pool: asyncpg.Pool) -> AsyncIterator[Journal]:
    found = Journal(pool)
    await found.start()
    yield found
    await found.stop()


async def logged(pool: asyncpg.Pool, session: str) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM conversation_logs WHERE session_id = $1", session))


async def transactions(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("SELECT txid_current()::text::bigint"))


async def test_rows_of_concurrent_replies_commit_together(journal: Journal, pool: asyncpg.Pool) -> None:
    before = await transactions(pool)
    await asyncio.gather(*(journal.append(an_entry(a_turn(session_id="together"))) for _ in range(400)))
    assert await logged(pool, "together") == 400
    assert await transactions(pool) - before < 20


async def test_one_refused_row_is_split_out_and_the_others_land(journal: Journal, pool: asyncpg.Pool) -> None:
    rows = [an_entry(a_turn(session_id="split")) for _ in range(40)]
    rows[17] = an_entry(a_turn(session_id="split", query="text can't hold \0"))
    outcomes = await asyncio.gather(*(journal.append(row) for row in rows), return_exceptions=True)
    assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, LogRowRefused)] == [17]
    assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert await logged(pool, "split") == 39


async def test_writing_a_row_twice_is_one_row(journal: Journal, pool: asyncpg.Pool) -> None:
    entry = an_entry(a_turn(session_id="twice", request_id="twice-1"))
    assert await journal.append(entry) == await journal.append(entry) == entry.reply
    assert await logged(pool, "twice") == 1


async def test_a_caller_who_left_does_not_lose_the_row(journal: Journal, pool: asyncpg.Pool) -> None:
    task = asyncio.create_task(journal.append(an_entry(a_turn(session_id="left"))))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await journal.append(an_entry(a_turn(session_id="left")))
    assert await logged(pool, "left") == 2


async def test_backends_killed_under_load_cost_no_acknowledged_row(
    journal: Journal, pool: asyncpg.Pool, stack: RunningStack
) -> None:
    async def kill() -> int:
        connection = await asyncpg.connect(stack.endpoints.database_url)
        killed = 0
        for _ in range(8):
            await asyncio.sleep(0.05)
            killed += await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND query LIKE '%WITH sent%'"
            )
        await connection.close()
        return killed

    rows = [an_entry(a_turn(session_id="killed", request_id=f"killed-{i}")) for i in range(300)]

    async def append_slowly(index: int) -> str | None:
        await asyncio.sleep(index / 700)
        try:
            return str((await journal.append(rows[index])).response_id)
        except LogUnavailable:
            return None

    killed, *acknowledged = await asyncio.gather(kill(), *(append_slowly(i) for i in range(300)))
    found = await pool.fetch("SELECT response_id FROM conversation_logs WHERE session_id = 'killed'")
    assert killed > 0
    assert {one for one in acknowledged if one} <= {str(row["response_id"]) for row in found}
    assert sum(one is not None for one in acknowledged) > 250, "a restart of a connection is no reason to give up"


async def test_two_servers_racing_with_one_request_id_give_one_reply(pool: asyncpg.Pool) -> None:
    journals = [Journal(pool) for _ in range(2)]
    for journal in journals:
        await journal.start()
    for number in range(30):
        turns = [a_turn(request_id=f"racing-{number}", session_id="race") for _ in range(2)]
        replies = await asyncio.gather(*(j.append(an_entry(t)) for j, t in zip(journals, turns, strict=True)))
        assert replies[0].response_id == replies[1].response_id
    assert await logged(pool, "race") == 30
    for journal in journals:
        await journal.stop()


async def test_a_key_whose_row_was_erased_is_taken_over_never_answered_without_a_row(
    journal: Journal, pool: asyncpg.Pool
) -> None:
    first = an_entry(a_turn(session_id="erased", request_id="erased-1"))
    await journal.append(first)
    await pool.execute("DELETE FROM conversation_logs WHERE session_id = 'erased'")
    second = an_entry(a_turn(session_id="erased", request_id="erased-1"))
    assert await journal.find(("default", "erased-1", second.turn.fingerprint), 5.0) is None
    assert (await journal.append(second)).response_id == second.turn.response_id
    assert await logged(pool, "erased") == 1


async def test_a_row_of_a_newer_version_costs_its_reader_a_retry_and_nobody_else_anything(
    journal: Journal, pool: asyncpg.Pool
) -> None:
    await journal.append(an_entry(a_turn(session_id="newer", request_id="newer-1")))
    odd = '[{"reason": "from_the_future", "detail": ""}]'
    await pool.execute("UPDATE conversation_logs SET degradations = $1 WHERE session_id = 'newer'", odd)
    for _ in range(4):
        with pytest.raises(LogUnavailable):
            await journal.append(an_entry(a_turn(session_id="newer", request_id="newer-1")))
    await journal.append(an_entry(a_turn(session_id="newer")))
    assert await logged(pool, "newer") == 2


async def test_a_read_only_database_is_away_and_not_the_rows_fault(stack: RunningStack, pool: asyncpg.Pool) -> None:
    settings = {"default_transaction_read_only": "on"}
    async with asyncpg.create_pool(
        stack.endpoints.database_url, min_size=1, max_size=2, server_settings=settings
    ) as standby:
        journal = Journal(standby)
        await journal.start()
        with pytest.raises(LogUnavailable):
            await journal.append(an_entry(a_turn()))
        await journal.stop()


async def test_what_is_refused_is_not_quoted(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(LogRowRefused) as caught:
        await journal.append(an_entry(a_turn(query="a secret"), score=7.0))
    assert "secret" not in str(caught.value) + caplog.text


async def test_large_rows_go_in_small_batches(journal: Journal, pool: asyncpg.Pool) -> None:
    rows = [an_entry(a_turn(session_id="large", context="word " * 100_000)) for _ in range(12)]
    await asyncio.gather(*(journal.append(row) for row in rows))
    assert await logged(pool, "large") == 12


async def test_a_full_queue_refuses_instead_of_growing(pool: asyncpg.Pool) -> None:
    journal = Journal(pool, pending_size=250)  # not started: nothing is taken out
    waiting = [asyncio.create_task(journal.append(an_entry(a_turn()))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await journal.append(an_entry(a_turn()))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_stopping_writes_what_waits(pool: asyncpg.Pool) -> None:
    journal = Journal(pool)
    await journal.start()
    tasks = [asyncio.create_task(journal.append(an_entry(a_turn(session_id="stopping")))) for _ in range(50)]
    await asyncio.sleep(0)
    await journal.stop()
    await asyncio.gather(*tasks)
    assert await logged(pool, "stopping") == 50


async def test_rows_lie_in_the_partition_of_their_month(journal: Journal, pool: asyncpg.Pool) -> None:
    entry = an_entry(a_turn(session_id="month"))
    await journal.append(entry)
    where = await pool.fetchval("SELECT tableoid::regclass::text FROM conversation_logs WHERE session_id = 'month'")
    assert where == f"conversation_logs_{datetime.now(UTC):%Y_%m}"


async def test_partitions_are_made_once(pool: asyncpg.Pool) -> None:
    later = datetime.now(UTC) + timedelta(days=800)
    made = await asyncio.gather(*(partitions.ensure(pool, later, ahead=1) for _ in range(3)))
    assert sum(len(names) for names in made) == 2
    assert await partitions.ensure(pool, later, ahead=1) == []


async def test_migrations_apply_once_and_a_changed_one_is_refused(pool: asyncpg.Pool) -> None:
    assert await database.migrate(pool) == []
    await pool.execute("UPDATE schema_migrations SET sha256 = 'changed' || sha256")
    with pytest.raises(ConfigurationError, match="was changed after it was applied"):
        await database.migrate(pool)
    await pool.execute("UPDATE schema_migrations SET sha256 = substr(sha256, 8)")


async def test_a_database_that_can_not_be_reached_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match="can't be reached"):
        await database.connect("postgresql://u:secret@127.0.0.1:1/none", size=1)
