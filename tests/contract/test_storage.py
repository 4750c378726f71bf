"""The log: what is in this process for tests and the real Postgres pass the same."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from server.errors import RequestIdReused
from server.storage import database
from server.storage.journal import Journal, Log
from tests.conftest import RunningStack
from tests.inmemory import InMemoryLog
from tests.turns import a_turn, an_entry


@pytest.fixture(params=["in memory", "postgres"])
async def log(request: pytest.FixtureRequest, pool: asyncpg.Pool) -> AsyncIterator[Log]:
    if request.param == "in memory":
        yield InMemoryLog()
        return
    journal = Journal(pool)
    await journal.start()
    yield journal
    await journal.stop()


async def test_a_row_gives_its_reply_again(log: Log) -> None:
    entry = an_entry(
        a_turn(request_id="again-1", query="Đơn hàng 🎉 \u202e אבג"), text='A "quoted" answer, with \\ and \t.'
    )
    assert await log.append(entry) == entry.reply
    found = await log.find(("default", "again-1", entry.turn.fingerprint), 5.0)
    assert found is not None
    assert found.replayed
    for name in (
        "response_id",
        "response",
        "reward_score",
        "candidates",
        "choice",
        "seed",
        "latencies",
        "degradations",
    ):
        assert getattr(found, name) == getattr(entry.reply, name), name
    assert abs(found.created_at - entry.reply.created_at).total_seconds() < 0.001


@pytest.mark.usefixtures("pool")  # which makes the tables
async def test_the_insert_is_planned_once_a_connection(stack: RunningStack) -> None:
    url = stack.endpoints.database_url
    async with await database.connect(url, size=1, stateless=True, planned_once=True) as own:
        journal = Journal(own, writers=1)
        await journal.start()
        for _ in range(3):
            await journal.append(an_entry(a_turn()))
        await journal.stop()
        (plans,) = await own.fetch(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE $1",
            "%INSERT INTO conversation_logs%",
        )
        assert (plans["generic_plans"], plans["custom_plans"]) == (3, 0)


async def test_who_comes_second_gets_the_first_ones_reply(log: Log) -> None:
    turns = [a_turn(request_id="race-1") for _ in range(20)]
    replies = await asyncio.gather(*(log.append(an_entry(turn, text=f"answer {i}")) for i, turn in enumerate(turns)))
    assert len({reply.response_id for reply in replies}) == 1
    assert sum(not reply.replayed for reply in replies) == 1


async def test_the_same_request_id_of_another_tenant_is_another_request(log: Log) -> None:
    ours = await log.append(an_entry(a_turn(request_id="shared-1")))
    theirs = await log.append(an_entry(a_turn(request_id="shared-1", tenant_id="other")))
    assert ours.response_id != theirs.response_id


async def test_a_request_id_of_another_question_is_refused(log: Log) -> None:
    await log.append(an_entry(a_turn(request_id="reused-1", query="one")))
    with pytest.raises(RequestIdReused):
        await log.append(an_entry(a_turn(request_id="reused-1", query="two")))
    with pytest.raises(RequestIdReused):
        await log.find(("default", "reused-1", b"something else"), 5.0)


async def test_an_unknown_request_id_has_no_reply(log: Log) -> None:
    assert await log.find(("default", "never", b""), 5.0) is None


async def test_an_unscored_reply_stays_unscored(log: Log) -> None:
    entry = an_entry(a_turn(request_id="unscored-1"), score=None)
    await log.append(entry)
    found = await log.find(("default", "unscored-1", entry.turn.fingerprint), 5.0)
    assert found is not None
    assert found.reward_score is None
