"""Limits on work that does not heed its cancellation."""

import asyncio
import time

import pytest

from server.patience import within


async def test_what_comes_in_time_is_given() -> None:
    async def soon() -> int:
        await asyncio.sleep(0)
        return 7

    assert await within(5, soon()) == 7


async def test_what_fails_in_time_raises_its_own_error() -> None:
    async def failing() -> None:
        raise KeyError("own")

    with pytest.raises(KeyError):
        await within(5, failing())


async def test_late_work_is_cancelled() -> None:
    ended = asyncio.Event()

    async def late() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await within(0.01, late())
    assert ended.is_set()


async def test_work_that_ignores_its_cancellation_is_left_alone() -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    before = time.monotonic()
    with pytest.raises(TimeoutError):
        await within(0.01, stubborn())
    assert time.monotonic() - before < 30, "it would never have ended"
    release.set()


async def test_a_cancelled_caller_cancels_the_work() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    caller = asyncio.create_task(within(60, work()))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()
