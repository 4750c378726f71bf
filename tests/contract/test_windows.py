"""Moving windows: what is in one process and what Valkey counts for all pass the same."""

import asyncio
import logging
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from server.storage import memory, windows
from server.storage.windows import LocalWindow, RedisWindow, Window
from tests.conftest import RunningStack

LIMIT = 10


@pytest.fixture
async def client(stack: RunningStack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Redis]:
    """Patient: a busy machine is no Redis that is away."""
    monkeypatch.setattr(windows, "PATIENCE", 20.0)
    client = memory.connect(stack.endpoints.redis_url, timeout=20.0)
    yield client
    await client.aclose()


@pytest.fixture(params=["one process", "valkey"])
def window(request: pytest.FixtureRequest, client: Redis) -> Window:
    return LocalWindow(LIMIT) if request.param == "one process" else RedisWindow(client, "test", LIMIT)


@pytest.fixture
def who() -> tuple[str, ...]:
    return ("default", "user", str(uuid4()))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> float:
    """Windows of a second."""
    monkeypatch.setattr(windows, "SECONDS", 1)
    return 1.0


async def test_ten_are_let_in_and_the_eleventh_is_told_how_long_to_wait(window: Window, who: tuple[str, ...]) -> None:
    assert [await window.enter(who, f"r{number}") for number in range(LIMIT)] == [0.0] * LIMIT
    seconds = await window.enter(who, "r10")
    assert 0 < seconds <= windows.SECONDS


async def test_fifty_at_once_are_ten(window: Window, who: tuple[str, ...]) -> None:
    told = await asyncio.gather(*(window.enter(who, f"r{number}") for number in range(50)))
    assert told.count(0.0) == LIMIT
    assert all(0 < each <= windows.SECONDS for each in told if each)


async def test_fifty_times_the_same_at_once_count_once(window: Window, who: tuple[str, ...]) -> None:
    assert set(await asyncio.gather(*(window.enter(who, "same") for _ in range(50)))) == {0.0}
    assert [await window.enter(who, f"r{number}") for number in range(LIMIT - 1)] == [0.0] * (LIMIT - 1)
    assert await window.enter(who, "one more") > 0
    assert await window.enter(who, "same") == 0.0, "it is in"


async def test_what_has_no_name_counts_each_time(window: Window, who: tuple[str, ...]) -> None:
    assert [await window.enter(who, "") for _ in range(LIMIT)] == [0.0] * LIMIT
    assert await window.enter(who, "") > 0


async def test_each_has_a_window_of_its_own(window: Window, who: tuple[str, ...]) -> None:
    for number in range(LIMIT):
        await window.enter(who, str(number))
    for other in (("default", "user", f"{who[2]}x"), ("other", *who[1:]), (who[0], "response", who[2])):
        assert await window.enter(other, "r") == 0.0


async def test_who_waits_as_long_as_told_is_let_in(window: Window, who: tuple[str, ...], short: float) -> None:
    await window.enter(who, "first")
    await asyncio.sleep(0.3 * short)
    for number in range(LIMIT - 1):
        await window.enter(who, str(number))
    seconds = await window.enter(who, "late")
    assert seconds <= 0.7 * short, "it is the first one's leaving that is waited for"
    await asyncio.sleep(seconds + 0.001)
    assert await window.enter(who, "late") == 0.0


async def test_two_processes_share_a_window(client: Redis, who: tuple[str, ...]) -> None:
    one, other = RedisWindow(client, "test", LIMIT), RedisWindow(client, "test", LIMIT)
    told = [await (one, other)[number % 2].enter(who, str(number)) for number in range(LIMIT + 2)]
    assert told[:LIMIT] == [0.0] * LIMIT
    assert all(told[LIMIT:])


async def test_nothing_stays_behind_and_no_name_is_shown(client: Redis, who: tuple[str, ...], short: float) -> None:
    window = RedisWindow(client, "vanishing", LIMIT)
    await window.enter(who, "r")
    (key,) = [key async for key in client.scan_iter("ratchet:vanishing:*")]
    assert who[2] not in key.decode()
    assert 0 < await client.pttl(key) <= 1000
    await asyncio.sleep(1.05)
    assert await client.exists(key) == 0


async def test_without_redis_each_process_counts_for_itself(
    who: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    away = memory.connect("redis://127.0.0.1:1")
    window = RedisWindow(away, "test", LIMIT)
    with caplog.at_level(logging.WARNING):
        told = [await window.enter(who, str(number)) for number in range(LIMIT + 1)]
    await away.aclose()
    assert told[:LIMIT] == [0.0] * LIMIT
    assert told[LIMIT] > 0
    assert caplog.text.count("counts test for itself") == 1


async def test_what_one_process_counts_is_bounded(who: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "REMEMBERED", 3)
    window = LocalWindow(1)
    for name in ("a", "b", "a", "c", "d"):
        await window.enter((name,), name)
    assert await window.enter(("a",), "more") > 0, "it was used more lately than b"
    assert await window.enter(("b",), "more") == 0.0
