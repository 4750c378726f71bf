"""The score cache on a real Valkey: whose score it is, how alike queries must be, and what foreign bytes do to it."""

import asyncio
import math
import os
import signal
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from server.backends.embedding import hashed
from server.storage import memory, scores
from server.storage.scores import RedisScores, ScoreCacheUnavailable, Subject
from server.types import Score, ScoreSource
from tests.conftest import RunningStack
from triton_models.manifest import Release

RELEASE = Release(
    kind="reward",
    id="reward-000007",
    base_model="none",
    architecture="none",
    created_at="2026-01-01T00:00:00Z",
    code_version="0",
    serializer={"format": "bert", "max_length": 128, "token_type_ids": False},
    outputs=("score", "logit"),
    files={"model.onnx": "0" * 64},
)
SUBJECT = Subject("default", "context", "Where is my order?", (1.0, 0.0, 0.0), "three")
SCORE = Score(0.8125, 1.4663370, (0.1, 0.2, 0.3, 0.4), truncated=True)


@pytest.fixture
async def client(stack: RunningStack) -> AsyncIterator[Redis]:
    found = memory.connect(stack.endpoints.redis_url)
    await found.flushdb()
    yield found
    await found.aclose()


@pytest.fixture
async def cache(client: Redis) -> RedisScores:
    return RedisScores(client, budget=2.0)


async def remember(
    cache: RedisScores, subject: Subject = SUBJECT, score: Score = SCORE, text: str = "It is late."
) -> None:
    cache.keep(subject, RELEASE, {text: score})
    await cache.close()


async def found(
    cache: RedisScores, text: str = "It is late.", release: Release = RELEASE, **changes: Any
) -> Score | None:
    return (await cache.find(replace(SUBJECT, **changes), release, [text])).get(text)


def turned(degrees: float) -> tuple[float, float, float]:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0


async def test_the_same_again_has_the_same_score_and_says_where_from(cache: RedisScores) -> None:
    await remember(cache)
    assert await found(cache) == replace(SCORE, source=ScoreSource.CACHE)
    assert await found(cache, embedding=None) == replace(SCORE, source=ScoreSource.CACHE)


async def test_several_responses_are_looked_up_at_once(cache: RedisScores) -> None:
    cache.keep(SUBJECT, RELEASE, {f"answer {n}": Score(n / 16, 0.0) for n in range(16)})
    await cache.close()
    texts = [f"answer {n}" for n in (3, 99, 5)]
    known = await cache.find(SUBJECT, RELEASE, texts)
    assert {text: score.score for text, score in known.items()} == {"answer 3": 3 / 16, "answer 5": 5 / 16}


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant_id": "other"},
        {"tenant_id": "default:context"},
        {"context": "another context"},
        {"context": ""},
        {"text": "It is late"},
        {"text": "Nó bị trễ."},
        {"release": replace(RELEASE, id="reward-000008")},
        {"release": replace(RELEASE, files={"model.onnx": "1" * 64})},
    ],
)
async def test_a_score_is_of_one_tenant_context_response_and_release(
    cache: RedisScores, changes: dict[str, Any]
) -> None:
    await remember(cache)
    assert await found(cache, **changes) is None


async def test_texts_can_not_be_shifted_into_each_other(cache: RedisScores) -> None:
    await remember(cache, replace(SUBJECT, context="ab"), text="c")
    assert await found(cache, context="a", text="bc") is None


async def test_composed_and_decomposed_texts_are_different_inputs_of_the_model(cache: RedisScores) -> None:
    await remember(cache, text="Trễ")
    assert await found(cache, text="Tre\u0302\u0303") is None
    await remember(cache, text="half \ud800")
    assert await found(cache, text="half \ud800") is not None


async def test_a_query_nearly_the_same_shares_the_score_of_the_same_response_and_says_so(cache: RedisScores) -> None:
    await remember(cache)
    score = await found(cache, query="Where's my order?", embedding=turned(8))
    assert score is not None
    assert score.source is ScoreSource.SIMILAR_QUERY
    assert score.similarity == pytest.approx(math.cos(math.radians(8)), abs=2e-3)
    assert score.score == SCORE.score


@pytest.mark.parametrize(
    "changes",
    [
        {"embedding": turned(15)},
        {"embedding": None},
        {"embedding": turned(180)},
        {"embedding": (0.0, 0.0, 0.0)},
        {"embedding": (math.nan, 0.0, 0.0)},
        {"embedding": (1.0, 0.0)},
        {"embedding_model": "another space"},
        {"context": "another context"},
        {"text": "Another answer."},
        {"query": "Where is my order 17?"},
        {"query": "Where is my order? " * 1000},
    ],
)
async def test_nothing_less_alike_shares_a_score(cache: RedisScores, changes: dict[str, Any]) -> None:
    await remember(cache)
    assert await found(cache, **({"query": "Where's my order?"} | changes)) is None


async def test_queries_that_differ_in_a_number_share_no_score(cache: RedisScores) -> None:
    await remember(cache, replace(SUBJECT, query="Can I wash it at 30 °C?"))
    assert await found(cache, query="May I wash it at 30 °C?") is not None
    assert await found(cache, query="Can I wash it at 90 °C?") is None


async def test_the_light_embedding_is_alike_for_the_same_words_and_not_for_a_negation(cache: RedisScores) -> None:
    def asked(query: str) -> Subject:
        return Subject("default", "", query, hashed(query), "hashing-256")

    await remember(cache, asked("Khi nào đơn hàng của tôi đến?"))
    for query, alike in (("khi nao don hang cua toi den", False), ("Khi nào đơn hàng của tôi đến", True)):
        known = await cache.find(asked(query), RELEASE, ["It is late."])
        assert bool(known) is alike, query
    await remember(cache, asked("Can I return it after a month?"))
    assert await cache.find(asked("Can't I return it after a month?"), RELEASE, ["It is late."]) == {}


async def test_of_several_alike_the_nearest_counts_and_the_query_itself_before_all(cache: RedisScores) -> None:
    for degrees, value in ((9.0, 0.1), (3.0, 0.3), (6.0, 0.2)):
        await remember(
            cache, replace(SUBJECT, query=f"{'very ' * int(degrees)}near", embedding=turned(degrees)), Score(value, 0.0)
        )
    score = await found(cache)
    assert score is not None
    assert score.score == 0.3
    await remember(cache, score=Score(0.9, 0.0))
    assert await found(cache) == Score(0.9, 0.0, source=ScoreSource.CACHE)


async def test_at_similarity_one_only_the_query_itself_counts(client: Redis) -> None:
    cache = RedisScores(client, similarity=1.0, budget=2.0)
    await remember(cache)
    assert await found(cache, query="Where's my order?") is None
    assert await found(cache) is not None


async def test_a_borrowed_score_is_not_kept_as_ones_own(cache: RedisScores, client: Redis) -> None:
    await remember(cache, score=replace(SCORE, source=ScoreSource.SIMILAR_QUERY))
    assert await client.dbsize() == 0


async def test_an_entry_is_bounded_in_queries_and_in_time(cache: RedisScores, client: Redis) -> None:
    await remember(cache)
    (key,) = await client.keys("*")
    await client.expire(key, 50)
    for number in range(30):
        await remember(cache, replace(SUBJECT, query=f"query {number}"))
    assert await client.hlen(key) == scores.QUERIES
    assert 0 < await client.ttl(key) <= 50, "no later score makes an earlier one last"
    assert await found(cache, query="query 29") is not None


async def test_no_text_is_in_the_cache(cache: RedisScores, client: Redis) -> None:
    await remember(cache, replace(SUBJECT, query="secret query", context="secret context"), text="secret answer")
    (key,) = await client.keys("*")
    assert b"secret" not in key + b"".join([k + v for k, v in (await client.hgetall(key)).items()])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.tuples(st.floats(), st.floats(), st.integers(0, 255), st.binary(max_size=20)).map(
        lambda v: struct.pack("<BBdd", 1, v[2], v[0], v[1]) + v[3] + bytes(50)
    )
)
async def test_foreign_bytes_are_ignored_or_a_score_in_range(cache: RedisScores, client: Redis, value: bytes) -> None:
    await remember(cache)
    (key,) = await client.keys("*")
    for field in await client.hkeys(key):
        await client.hset(key, field, value)
    score = await found(cache)
    assert score is None or (0 <= score.score <= 1 and math.isfinite(score.logit))
    await client.flushdb()


async def test_a_foreign_key_in_the_way_is_a_miss_and_stays(cache: RedisScores, client: Redis) -> None:
    await remember(cache)
    (key,) = await client.keys("*")
    await client.set(key, b"foreign")
    assert await found(cache) is None
    cache.keep(SUBJECT, RELEASE, {"It is late.": SCORE, "another": SCORE})
    await cache.close()
    assert await client.get(key) == b"foreign"
    assert await found(cache, "another") is not None


async def test_without_redis_it_says_so_and_keeping_harms_nobody() -> None:
    nowhere = memory.connect("redis://127.0.0.1:1/0")
    cache = RedisScores(nowhere)
    with pytest.raises(ScoreCacheUnavailable):
        await found(cache)
    await remember(cache)
    await nowhere.aclose()


async def test_a_redis_that_hangs_costs_the_budget_and_no_more(stack: RunningStack, client: Redis) -> None:
    (pid,) = (part.pid for part in stack.stack.status() if part.name == "valkey")
    assert pid is not None
    cache = RedisScores(client, budget=0.05)
    await found(cache)
    os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(ScoreCacheUnavailable, match="50 ms"):
                await found(cache)
            for number in range(scores.WRITES * 2):
                cache.keep(SUBJECT, RELEASE, {f"answer {number}": SCORE})
            assert len(cache._writes) == scores.WRITES
            await cache.close()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await found(RedisScores(client, budget=2.0)) is None


async def test_a_context_of_a_mebibyte_is_hashed_off_the_event_loop(
    cache: RedisScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    real = asyncio.to_thread
    monkeypatch.setattr(asyncio, "to_thread", lambda work, *args: (sent.append(work), real(work, *args))[1])
    large = replace(SUBJECT, context="x" * (1 << 20))
    await remember(cache, large)
    assert await cache.find(large, RELEASE, ["It is late."]) != {}
    assert len(sent) == 2
