"""One process leads at a time, and another one when it is gone, whatever became of it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from server.errors import UnreadableRow
from server.rollout import holding, leading
from server.rollout.holding import Holder
from server.rollout.leading import LOCK, Job, Leader
from server.storage import leases
from server.trouble import Trouble
from tests.conftest import RunningStack

HOLDER = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objid = (hashtextextended($1, 0) & x'ffffffff'::bigint)::oid
"""

DYING = """
import asyncio, os, signal, sys
from server.rollout.leading import Leader

async def die():
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(Leader(sys.argv[1], lambda stack: [(die, 1.0, "dying")]).run())
"""


class Process:
    """A process that would lead, of one job: it counts. `ended` tells that its jobs' things were given back."""

    def __init__(self, url: str) -> None:
        self.done, self.ended = 0, 0
        self.leader = Leader(url, self.jobs)
        self.task = asyncio.create_task(self.leader.run())

    def jobs(self, stack: AsyncExitStack) -> list[Job]:
        stack.callback(self._end)
        return [(self._work, 0.01, "counting")]

    async def _work(self) -> None:
        self.done += 1

    def _end(self) -> None:
        self.ended += 1

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "BEAT", 0.05)


@pytest.fixture
async def processes(stack: RunningStack) -> AsyncIterator[list[Process]]:
    found = [Process(stack.endpoints.database_url) for _ in range(2)]
    yield found
    for each in found:
        await each.stop()


async def until(true: Any) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def leaders(processes: list[Process]) -> list[Process]:
    return [each for each in processes if each.leader.leads]


async def test_one_of_two_leads_and_does_its_jobs(processes: list[Process]) -> None:
    await until(lambda: leaders(processes))
    (first,) = leaders(processes)
    await until(lambda: first.done > 20)
    (other,) = (each for each in processes if each is not first)
    assert (other.done, other.leader.leads) == (0, False)


async def test_a_leader_that_stops_is_followed_by_the_other(processes: list[Process]) -> None:
    await until(lambda: leaders(processes))
    (first,) = leaders(processes)
    await first.stop()
    assert (first.ended, first.leader.leads) == (1, False)
    done = first.done
    await until(lambda: leaders(processes) and leaders(processes) != [first])
    await until(lambda: leaders(processes)[0].done > 3)
    assert first.done == done


async def test_a_leader_whose_connection_is_cut_ends_its_jobs(processes: list[Process], pool: asyncpg.Pool) -> None:
    await until(lambda: leaders(processes))
    (first,) = leaders(processes)
    assert await pool.fetchval(f"SELECT pg_terminate_backend(({HOLDER}))", LOCK)
    await until(lambda: first.ended)
    await until(lambda: leaders(processes) and sum(each.done for each in leaders(processes)))


async def test_a_killed_leader_is_followed_by_another(stack: RunningStack) -> None:
    died = subprocess.run([sys.executable, "-c", DYING, stack.endpoints.database_url], timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    next_one = Process(stack.endpoints.database_url)
    await until(lambda: next_one.done)
    await next_one.stop()


async def test_a_job_that_fails_keeps_none_of_the_others_waiting(stack: RunningStack, caplog: Any) -> None:
    counted = 0

    async def fail() -> None:
        raise RuntimeError("a defect")

    async def count() -> None:
        nonlocal counted
        counted += 1

    leader = Leader(stack.endpoints.database_url, lambda _: [(fail, 0.01, "failing"), (count, 0.01, "counting")])
    task = asyncio.create_task(leader.run())
    await until(lambda: counted > 10)
    assert leader.leads
    assert "failing failed and is tried again" in caplog.text
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


STUCK = """
import asyncio, os, signal, sys
from server.errors import UnreadableRow
from server.rollout import leading

leading.SILENCE = 1.0

async def stop():
    os.kill(os.getpid(), signal.SIGSTOP)

asyncio.run(leading.Leader(sys.argv[1], lambda stack: [(stop, 1.0, "stopping")]).run())
"""


async def test_a_leader_that_says_nothing_any_more_is_followed_by_another(stack: RunningStack) -> None:
    """It keeps its connection: only Postgres can end it."""
    stuck = subprocess.Popen([sys.executable, "-c", STUCK, stack.endpoints.database_url])
    try:
        _, status = await asyncio.to_thread(os.waitpid, stuck.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        next_one = Process(stack.endpoints.database_url)
        await until(lambda: next_one.done)
        await next_one.stop()
    finally:
        stuck.kill()
        stuck.wait()


async def test_jobs_are_begun_anew_when_one_ends(stack: RunningStack, monkeypatch: pytest.MonkeyPatch) -> None:
    true, ended = leading._again, 0

    async def again(job: Job, trouble: Trouble) -> None:
        nonlocal ended
        ended += 1
        if ended == 1:
            raise OverflowError("a defect")
        await true(job, trouble)

    monkeypatch.setattr(leading, "_again", again)
    process = Process(stack.endpoints.database_url)
    await until(lambda: process.done)
    assert process.ended == 1
    await process.stop()


async def test_what_makes_the_jobs_may_fail_once(stack: RunningStack) -> None:
    tries, counted = 0, asyncio.Event()

    async def count() -> None:
        counted.set()

    def jobs(_: AsyncExitStack) -> list[Job]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("a defect")
        return [(count, 0.01, "counting")]

    task = asyncio.create_task(Leader(stack.endpoints.database_url, jobs).run())
    async with asyncio.timeout(30):
        await counted.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_who_can_not_read_what_a_newer_server_wrote_leaves_the_lead_to_it(
    stack: RunningStack, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """And asks again later, for there may be no newer one."""
    monkeypatch.setattr(leading, "LONGEST_RETRY", 0.05)
    monkeypatch.setattr(leading, "UNREADABLE_SECONDS", 0.2)
    monkeypatch.setattr(leading, "LEFT_SECONDS", 3.0)
    tries = 0

    async def read() -> None:
        nonlocal tries
        tries += 1
        raise UnreadableRow("The rollout 1 was written by a newer Ratchet.")

    older = Leader(stack.endpoints.database_url, lambda _: [(read, 0.01, "looking after the rollouts")])
    task = asyncio.create_task(older.run())
    await until(lambda: older.leads)
    newer = Process(stack.endpoints.database_url)
    await until(lambda: newer.done)
    assert (older.leads, newer.leader.leads) == (False, True)
    assert tries > 1, "something else may have gone wrong for a moment"
    assert "leading is left to a newer server" in caplog.text
    assert "a job of who leads ended" not in caplog.text
    await newer.stop()
    await until(lambda: older.leads)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_can_not_be_read_once_in_a_while_costs_nobody_the_lead(
    stack: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "LONGEST_RETRY", 0.05)
    monkeypatch.setattr(leading, "UNREADABLE_SECONDS", 0.2)
    tries, ended = 0, 0

    async def read() -> None:
        nonlocal tries
        tries += 1
        if tries % 2:
            raise UnreadableRow("The rollout 1 was written by a newer Ratchet.")
        await asyncio.sleep(0.3)

    def jobs(stack: AsyncExitStack) -> list[Job]:
        def end() -> None:
            nonlocal ended
            ended += 1

        stack.callback(end)
        return [(read, 0.01, "reading")]

    task = asyncio.create_task(Leader(stack.endpoints.database_url, jobs).run())
    await until(lambda: tries > 4)
    assert ended == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_a_server_wants_is_held_beside_others_and_again_after_its_connection_ended(
    stack: RunningStack, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "BEAT", 0.05)
    models = ["reward-000008", "embedding-000001"]
    holders = [Holder(stack.endpoints.database_url, models) for _ in range(2)]

    async def held_by(count: int) -> list[int]:
        """The connections that hold the first, once each has so many."""
        async with asyncio.timeout(30):
            while True:
                rows = [await pool.fetch(HOLDER, leases.of_server(model)) for model in models]
                if all(len(each) == count for each in rows):
                    return [row["pid"] for row in rows[0]]
                await asyncio.sleep(0.02)

    before = await held_by(2)
    await holders[0].close()
    (left,) = await held_by(1)
    assert left in before
    await pool.execute("SELECT pg_terminate_backend($1)", left)
    async with asyncio.timeout(30):
        while await held_by(1) == [left]:
            await asyncio.sleep(0.02)
    await holders[1].close()
    assert await held_by(0) == []
