"""The log and the memory: what is in this process for tests and the real Postgres and Valkey pass the same."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from server.errors import RequestIdReused
from server.storage import memory
from server.storage.journal import Journal, Log
from server.storage.memory import Memory, RedisMemory
from server.types import Exchange
from tests.conftest import RunningStack
from tests.inmemory import InMemoryLog, InMemoryMemory
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


@pytest.fixture(params=["in memory", "valkey"])
async def remembering(request: pytest.FixtureRequest, stack: RunningStack) -> AsyncIterator[Memory]:
    if request.param == "in memory":
        yield InMemoryMemory(turns=3)
        return
    client = memory.connect(stack.endpoints.redis_url)
    await client.flushdb()
    yield RedisMemory(client, turns=3)
    await client.aclose()


async def test_a_row_gives_its_reply_again(log: Log) -> None:
    entry = an_entry(
        a_turn(request_id="again-1", query="Đơn hàng 🎉 \u202e אבג"), text='A "quoted" answer, with \\ and \t.'
    )
    assert await log.append(entry) == entry.reply
    found = await log.find(("default", "again-1", entry.turn.fingerprint))
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
        await log.find(("default", "reused-1", b"something else"))


async def test_an_unknown_request_id_has_no_reply(log: Log) -> None:
    assert await log.find(("default", "never", b"")) is None


async def test_an_unscored_reply_stays_unscored(log: Log) -> None:
    entry = an_entry(a_turn(request_id="unscored-1"), score=None)
    await log.append(entry)
    found = await log.find(("default", "unscored-1", entry.turn.fingerprint))
    assert found is not None
    assert found.reward_score is None


async def test_a_session_keeps_its_newest_exchanges_in_order(remembering: Memory) -> None:
    for number in range(5):
        await remembering.remember("t", "u", "s", uuid4(), Exchange(f"q{number}", f"Trả lời {number} 🎉"))
    assert [e.query for e in await remembering.recall("t", "u", "s")] == ["q2", "q3", "q4"]
    assert (await remembering.recall("t", "u", "s"))[0].response == "Trả lời 2 🎉"


async def test_an_exchange_is_remembered_once_however_often_it_is_tried(remembering: Memory) -> None:
    response_id = uuid4()
    tries = (remembering.remember("t", "u", "once", response_id, Exchange("q", "r")) for _ in range(10))
    await asyncio.gather(*tries)
    assert await remembering.recall("t", "u", "once") == (Exchange("q", "r"),)


async def test_no_other_tenant_user_or_session_reads_it(remembering: Memory) -> None:
    await remembering.remember("t", "u", "s", uuid4(), Exchange("mine", "yours"))
    for key in (("t2", "u", "s"), ("t", "u2", "s"), ("t", "u", "s2"), ("t", "u:1.s", ""), ("t", "", "u:s")):
        assert await remembering.recall(*key) == ()


async def test_a_user_may_be_asked_once_a_while(remembering: Memory) -> None:
    assert [await remembering.claim_feedback_prompt("t", "u") for _ in range(3)] == [True, False, False]
    assert await remembering.claim_feedback_prompt("t", "u2")
    assert [await remembering.claim_feedback_prompt("t", "") for _ in range(2)] == [True, True]
