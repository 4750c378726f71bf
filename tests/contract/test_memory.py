"""The memory of conversations: what is in this process for tests and the real Valkey pass the same."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from uuid import UUID, uuid4

import pytest

from server.storage import memory
from server.storage.memory import FALLEN, SUMMARY, Memory, MemoryUnavailable, RedisMemory, size
from server.types import Exchange, Recollection
from tests.conftest import RunningStack
from tests.inmemory import InMemoryMemory

TURNS, TOKENS = 3, 100
SESSION = ("t", "u", "s")


@pytest.fixture(params=["in memory", "valkey"])
async def remembering(request: pytest.FixtureRequest, stack: RunningStack) -> AsyncIterator[Memory]:
    if request.param == "in memory":
        yield InMemoryMemory(turns=TURNS, tokens=TOKENS)
        return
    client = memory.connect(stack.endpoints.redis_url)
    await client.flushdb()
    yield RedisMemory(client, turns=TURNS, tokens=TOKENS)
    await client.aclose()


@pytest.fixture
async def valkey(stack: RunningStack) -> AsyncIterator[memory.Redis]:
    client = memory.connect(stack.endpoints.redis_url)
    await client.flushdb()
    yield client
    await client.aclose()


async def test_a_session_keeps_its_newest_exchanges_in_order(remembering: Memory) -> None:
    for number in range(5):
        await remembering.remember(*SESSION, uuid4(), Exchange(f"q{number}", f"Trả lời {number} 🎉"))
    found = await remembering.recall(*SESSION)
    assert [e.query for e in found.exchanges] == ["q2", "q3", "q4"]
    assert found.exchanges[0].response == "Trả lời 2 🎉"


async def test_what_fell_out_is_summed_up_by_its_questions(remembering: Memory) -> None:
    await remembering.remember(*SESSION, uuid4(), Exchange("Đổi trả\n  thế nào?", "Trong 30 ngày."))
    assert (await remembering.recall(*SESSION)).summary == ""
    for number in range(4):
        await remembering.remember(*SESSION, uuid4(), Exchange(f"q{number}", "r"))
    assert (await remembering.recall(*SESSION)).summary == "Asked before: Đổi trả thế nào? / q0"


async def test_a_session_is_bounded_by_tokens_too(remembering: Memory) -> None:
    for number in range(3):
        await remembering.remember(*SESSION, uuid4(), Exchange(f"q{number}", "x" * 190))  # 48 tokens each, about
    found = await remembering.recall(*SESSION)
    assert [e.query for e in found.exchanges] == ["q1", "q2"]
    assert found.summary == "Asked before: q0"


async def test_the_newest_exchange_stays_however_long_it_is(remembering: Memory) -> None:
    await remembering.remember(*SESSION, uuid4(), Exchange("small", "r"))
    await remembering.remember(*SESSION, uuid4(), Exchange("q" * 50_000, "r" * 50_000))
    found = await remembering.recall(*SESSION)
    assert found.exchanges == (Exchange("q" * 200, "r" * 200),)
    assert size(found.exchanges[0]) == TOKENS
    assert found.summary == "Asked before: small"


async def test_a_long_session_stays_bounded_and_its_summary_has_the_newest(remembering: Memory) -> None:
    for number in range(60):
        await remembering.remember(*SESSION, uuid4(), Exchange(f"{number:02d} " + "word " * 30, "r"))
    found = await remembering.recall(*SESSION)
    assert sum(map(size, found.exchanges)) <= TOKENS
    assert len(found.summary) <= SUMMARY + len("Asked before: ")
    kept = len(found.exchanges)
    assert f"{59 - kept:02d} word" in found.summary
    assert "00 word" not in found.summary


async def test_an_exchange_is_remembered_once_however_often_it_is_tried(remembering: Memory) -> None:
    response_id = uuid4()
    tries = (remembering.remember("t", "u", "once", response_id, Exchange("q", "r")) for _ in range(10))
    await asyncio.gather(*tries)
    assert await remembering.recall("t", "u", "once") == Recollection((Exchange("q", "r"),))


async def test_a_late_retry_of_what_fell_out_adds_nothing(remembering: Memory) -> None:
    ids = [uuid4() for _ in range(8)]
    for number, each in enumerate(ids):
        await remembering.remember(*SESSION, each, Exchange(f"q{number}", "r"))
    before = await remembering.recall(*SESSION)
    await asyncio.gather(*(remembering.remember(*SESSION, each, Exchange("again", "r")) for each in ids))
    assert await remembering.recall(*SESSION) == before
    assert before.summary == "Asked before: q0 / q1 / q2 / q3 / q4"


async def test_exchanges_at_once_are_each_remembered_or_summed_up_once(remembering: Memory) -> None:
    names = [f"q{number:02d}" for number in range(20)]
    calls = [remembering.remember(*SESSION, uuid4(), Exchange(name, "r")) for name in names]
    await asyncio.gather(*calls)
    found = await remembering.recall(*SESSION)
    fallen = found.summary.removeprefix("Asked before: ").split(" / ")
    assert sorted([*fallen, *(e.query for e in found.exchanges)]) == names


async def test_no_other_tenant_user_or_session_reads_it(remembering: Memory) -> None:
    await remembering.remember(*SESSION, uuid4(), Exchange("mine", "yours"))
    for key in (("t2", "u", "s"), ("t", "u2", "s"), ("t", "u", "s2"), ("t", "u:1.s", ""), ("t", "", "u:s")):
        assert await remembering.recall(*key) == Recollection()


async def test_a_user_may_be_asked_once_a_while(remembering: Memory) -> None:
    assert [await remembering.claim_feedback_prompt("t", "u") for _ in range(3)] == [True, False, False]
    assert await remembering.claim_feedback_prompt("t", "u2")
    assert [await remembering.claim_feedback_prompt("t", "") for _ in range(2)] == [True, True]


async def test_both_remember_the_same_of_any_conversation(valkey: memory.Redis) -> None:
    texts = [
        "",
        "a",
        "Việt " * 30,
        "Vie\u0323\u0302t" * 40,
        "x" * 399,
        "\t\n ",
        "emoji 🎉" * 9,
        'a "quoted" \\ / line\n' * 3,
    ]
    one, other = InMemoryMemory(turns=TURNS, tokens=TOKENS), RedisMemory(valkey, turns=TURNS, tokens=TOKENS)
    for number, place in zip(range(90), count(step=7), strict=False):
        exchange = Exchange(texts[place % len(texts)], texts[(place * 3 + number) % len(texts)])
        response_id = UUID(int=number - 3 if number % 5 == 4 else number)  # some come twice
        await one.remember(*SESSION, response_id, exchange)
        await other.remember(*SESSION, response_id, exchange)
        assert await one.recall(*SESSION) == await other.recall(*SESSION), number


async def test_a_session_is_forgotten_some_time_after_its_last_exchange(valkey: memory.Redis) -> None:
    remembering = RedisMemory(valkey, ttl=1000)
    await remembering.remember(*SESSION, uuid4(), Exchange("q", "r"))
    (key,) = await valkey.keys("*")
    assert 0 < await valkey.ttl(key) <= 1000
    await valkey.expire(key, 5)
    await remembering.remember(*SESSION, uuid4(), Exchange("q", "r"))
    assert await valkey.ttl(key) > 900, "each exchange renews it"


async def test_ids_of_what_fell_out_are_bounded(valkey: memory.Redis) -> None:
    remembering = RedisMemory(valkey, turns=2)
    for number in range(FALLEN + 20):
        await remembering.remember(*SESSION, uuid4(), Exchange("q" * 8_000, f"{number}"))
    (key,) = await valkey.keys("*")
    assert await valkey.llen(key) == 2
    head = await valkey.lindex(key, 0)
    assert head.count(b"qqq") <= FALLEN * 40
    assert len(head) < FALLEN * 200


@pytest.mark.parametrize(
    "garbage", [b"", b"x", b"-" * 32 + b"{", b"-" * 32 + b'{"a": 1}', b"\xff" * 50, b"1" * 40 + b"[]"]
)
async def test_what_another_version_wrote_is_skipped_and_heals(valkey: memory.Redis, garbage: bytes) -> None:
    remembering = RedisMemory(valkey, turns=2)
    await remembering.remember(*SESSION, uuid4(), Exchange("q", "r"))
    (key,) = await valkey.keys("*")
    await valkey.lpush(key, garbage)
    assert (await remembering.recall(*SESSION)).exchanges == (Exchange("q", "r"),)
    for number in range(3):
        await remembering.remember(*SESSION, uuid4(), Exchange(f"q{number}", "r"))
    assert [e.query for e in (await remembering.recall(*SESSION)).exchanges] == ["q1", "q2"]


async def test_a_server_that_is_away_makes_the_memory_unavailable() -> None:
    client = memory.connect("redis://127.0.0.1:9", timeout=1)
    remembering = RedisMemory(client)
    for call in (
        remembering.recall(*SESSION),
        remembering.remember(*SESSION, uuid4(), Exchange("q", "r")),
        remembering.claim_feedback_prompt("t", "u"),
    ):
        with pytest.raises(MemoryUnavailable):
            await call
    await client.aclose()
