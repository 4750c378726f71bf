"""A trainer between runs: who asks for one by itself, how often it looks, what it does before it takes one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cli import train_feedback
from tests.tenants import Tenant, rated
from tests.training_runs import NOT_BETTER, claimed, trainer, work
from trainer import child, runs, scheduler, sidecar
from trainer.data import ingest, snapshots
from trainer.leases import Lease
from trainer.reward import directory, jobs
from trainer.settings import Schedule


async def test_a_step_that_breaks_is_told_once_and_done_again(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[Exception] = [
        OSError(28, "No space left on device"),
        OSError(28, "No space left on device"),
        KeyError("x"),
    ]

    async def step() -> None:
        if not tries:
            raise asyncio.CancelledError
        raise tries.pop(0)

    with pytest.raises(asyncio.CancelledError):
        await sidecar.again(0, step)
    assert [each.message for each in caplog.records] == ["The system refused it: No space left on device.", "'x'."]


async def test_data_that_were_no_better_do_not_begin_a_run_again_by_themselves(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def train(job: Path, *_: Any) -> None:
        work = await asyncio.to_thread(jobs.read, job)
        await asyncio.to_thread(directory.keep, work.job.directory, NOT_BETTER)

    monkeypatch.setattr(child, "train", train)
    await rated(tenant, 3)
    assert await looked(pool, tenant, 3) == ("count", 3)
    assert await looked(pool, tenant, 2) == ("count", 2), "it is counted as far as it takes"
    await work(pool, tenant, trainer(tmp_path, tenant))
    assert await looked(pool, tenant, 1) == ("", 0)
    assert await ingest.unseen(pool, tenant.name, None, 9) == 3, "they stay eligible"


async def test_a_run_that_was_cancelled_is_not_asked_for_again_by_itself(pool: asyncpg.Pool, tenant: Tenant) -> None:
    await rated(tenant, 2)
    run = await claimed(pool, tenant)
    assert await looked(pool, tenant, 1) == ("", 0), "it goes on"
    await Lease(pool, run, 60).cancel()
    assert await looked(pool, tenant, 1) == ("", 0)
    assert (await looked(pool, tenant, 1, datetime.now(UTC) + scheduler.REST)) == ("count", 1)


async def looked(pool: asyncpg.Pool, tenant: Tenant, minimum: int, now: datetime | None = None) -> tuple[str, int]:
    """Who asks for a run, and how much new feedback was counted."""
    asker, found = await scheduler.look(pool, tenant.name, Schedule.COUNT, minimum, 3, now or datetime.now(UTC))
    return asker, found.unseen


async def test_of_two_trainers_one_asks_for_the_run_that_is_due(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path
) -> None:
    await rated(tenant, 2)
    settings = replace(trainer(tmp_path, tenant), minimum=2)
    await asyncio.gather(*(sidecar.Sidecar(pool, settings).schedule() for _ in range(4)))
    asked = await pool.fetch("SELECT training_id, state FROM training_runs WHERE tenant_id = $1", tenant.name)
    assert [each["state"] for each in asked] == ["QUEUED"]
    assert await runs.ask_when_due(pool, tenant.name, "count", asked[0]["training_id"]) is None, "it still waits"
    run = await runs.claim(pool, 60, asked[0]["training_id"])
    assert run is not None
    await Lease(pool, run, 60).end(NOT_BETTER, ())
    assert await runs.ask_when_due(pool, tenant.name, "count", None) is None, "who asks has not seen this one"
    assert await runs.ask_when_due(pool, tenant.name, "count", run.training_id) is not None


async def test_after_a_look_at_the_feedback_a_trainer_rests_many_times_as_long(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    async def look(*_: Any) -> tuple[str, scheduler.Situation]:
        looks.append(None)
        await asyncio.sleep(0.01)
        return "", scheduler.Situation(unseen=0)

    monkeypatch.setattr(scheduler, "look", look)
    monkeypatch.setattr(sidecar, "LOOKS", 1_000_000)
    one = sidecar.Sidecar(pool, trainer(tmp_path, tenant))
    await one.schedule()
    await one.schedule()
    assert len(looks) == 1


async def test_a_trainer_in_the_terminal_forgets_whom_the_server_erased_before_it_takes_a_run(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rated(tenant, 2)
    settings = trainer(tmp_path, tenant)
    taken, _ = await snapshots.take(pool, tenant.name, jobs.RewardConfig().data, settings.training)
    await tenant.erase("user-1")
    seen = []

    async def claim(*_: Any) -> None:
        seen.append(taken.path.exists())

    @asynccontextmanager
    async def connected(_: str) -> AsyncIterator[asyncpg.Pool]:
        yield pool

    monkeypatch.setattr(runs, "claim", claim)
    monkeypatch.setattr("trainer.database.connected", connected)
    await train_feedback._run({}, settings, detach=False, as_json=True)
    assert seen == [False]
