"""What challengers in shadow gave, in Postgres: kept once, read as it was given."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest

from server.errors import StoreUnavailable
from server.rollout.shadowing import ShadowAnswer
from server.storage import evidence
from server.storage import shadows as store
from server.storage.evidence import PostgresEvidence
from server.storage.rollouts import PostgresRollouts
from server.storage.shadows import PostgresShadows
from server.storage.training import new_id
from tests.registered import drafted, settle, two

AT = datetime(2026, 9, 15, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
async def rollout_id(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setattr(store, "WRITING", 20.0)  # a busy machine is no Postgres that is away
    monkeypatch.setattr(evidence, "READING", 20.0)
    await settle(pool)
    rollouts = PostgresRollouts(pool)
    yield (await rollouts.create(drafted(*await two(rollouts)))).rollout_id
    await settle(pool)


def an_answer(rollout_id: str) -> ShadowAnswer:
    return ShadowAnswer(
        rollout_id=rollout_id,
        response_id=new_id(),
        tenant_id="t",
        scores=(0.25, 0.5),
        champion_scores=(0.75, 0.1),
        same_choice=False,
        seconds=0.125,
        champion_seconds=0.0625,
        at=AT,
    )


async def read(pool: asyncpg.Pool, rollout_id: str) -> list[ShadowAnswer]:
    return await PostgresEvidence(pool, lambda tenant, user: f"{tenant}/{user}".encode()).shadow(rollout_id)


async def test_answers_are_read_as_they_were_kept_newest_first(pool: asyncpg.Pool, rollout_id: str) -> None:
    kept = PostgresShadows(pool)
    scored = an_answer(rollout_id)
    failed = replace(an_answer(rollout_id), scores=(), same_choice=None, error="It did not answer: “hết giờ”.")
    for answer in (scored, failed):
        await kept.add(answer)
    assert await read(pool, rollout_id) == [failed, scored]


async def test_an_answer_that_comes_twice_is_kept_once(pool: asyncpg.Pool, rollout_id: str) -> None:
    kept, answer = PostgresShadows(pool), an_answer(rollout_id)
    await kept.add(answer)
    await kept.add(replace(answer, seconds=9.0))
    assert await read(pool, rollout_id) == [answer]


async def test_without_a_time_it_is_the_databases(pool: asyncpg.Pool, rollout_id: str) -> None:
    kept = PostgresShadows(pool)
    await kept.add(replace(an_answer(rollout_id), at=None))
    found = (await read(pool, rollout_id))[0].at
    assert found is not None
    assert abs((found - datetime.now(UTC)).total_seconds()) < 60


async def test_other_rollouts_answers_are_not_among_them_and_a_rollout_that_is_not_there_takes_none(
    pool: asyncpg.Pool, rollout_id: str
) -> None:
    kept, nobody = PostgresShadows(pool), str(new_id())
    await kept.add(an_answer(rollout_id))
    assert await read(pool, nobody) == []
    with pytest.raises(StoreUnavailable):
        await kept.add(an_answer(nobody))
