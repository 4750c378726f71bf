"""Runs in Postgres: held by one trainer at a time, taken up again, known when repeated, ended once and as a whole."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.tenants import Tenant, rated, used
from tests.training_runs import NOT_BETTER, PROGRESS, claimed, row
from trainer import runs
from trainer.data import ingest
from trainer.errors import Cancelled, LeaseLost, StoreAway, TrainerError
from trainer.leases import Lease, Start
from trainer.points import MOST, Point
from trainer.reward import jobs
from trainer.reward.findings import Outcome
from trainer.reward.job import Result
from trainer.runs import Run

NOWHERE = Path("/nowhere/releases")
SNAPSHOT = "5" * 64
BETTER = Result(verdict=Outcome.BETTER, summary="Better.", release="reward-000002", metrics={"mse": 0.1})


@pytest.fixture
async def tenant(tenant: Tenant) -> Tenant:
    """Its runs may name SNAPSHOT."""
    await tenant.pool.execute(
        "INSERT INTO training_snapshots (snapshot, tenant_id, path, watermark, feedback_count, new_count)"
        " VALUES ($1, 'nobody', '/nowhere', '1', 0, 0) ON CONFLICT DO NOTHING",
        SNAPSHOT,
    )
    return tenant


def a_start(key: str = "") -> Start:
    return Start(key=key or uuid4().hex * 2, snapshot=SNAPSHOT, config={}, base_model="tiny", compared_with="")


async def begin(pool: asyncpg.Pool, run: Run, key: str = "") -> Path | UUID:
    return await Lease(pool, run, 60).begin(a_start(key), NOWHERE, [])


async def test_only_one_of_many_trainers_gets_a_run(pool: asyncpg.Pool, tenant: Tenant) -> None:
    training_id = await runs.ask(pool, tenant.name, {}, "somebody")
    found = await asyncio.gather(*(runs.claim(pool, 60, training_id) for _ in range(8)))
    assert [run.training_id for run in found if run is not None] == [training_id]


async def test_a_run_whose_trainer_fell_silent_is_taken_up_and_the_silent_one_learns_of_it(
    pool: asyncpg.Pool, tenant: Tenant
) -> None:
    first = await claimed(pool, tenant, seconds=-1)
    second = await runs.claim(pool, 60, first.training_id)
    assert second is not None
    assert (second.attempts, second.asked) == (2, {"train": {"max_epochs": 1}})
    await Lease(pool, second, 60).renew(PROGRESS)
    late = Lease(pool, first, 60)
    for says in (late.renew(PROGRESS), late.end(BETTER, ()), late.fail("late"), late.hand_back()):
        with pytest.raises(LeaseLost):
            await says
    found = await row(pool, first.training_id)
    assert (found["state"], found["stage"], found["progress"]) == ("RUNNING", "training", 0.5)


async def test_a_run_that_is_held_is_nobody_else_s(pool: asyncpg.Pool, tenant: Tenant) -> None:
    run = await claimed(pool, tenant)
    assert await runs.claim(pool, 60, run.training_id) is None


async def test_the_same_run_ends_as_a_duplicate_of_the_first_one(pool: asyncpg.Pool, tenant: Tenant) -> None:
    key = uuid4().hex * 2
    first, second, third = [await claimed(pool, tenant) for _ in range(3)]
    assert await begin(pool, first, key) != first.training_id
    assert await begin(pool, second, key) == first.training_id
    await Lease(pool, first, 60).end(NOT_BETTER, ())
    assert await begin(pool, third, key) == first.training_id
    found = await row(pool, third.training_id)
    assert (found["state"], found["duplicate_of"], found["lease_owner"]) == ("DUPLICATE", first.training_id, "")


async def test_what_failed_or_was_cancelled_may_be_asked_for_again(pool: asyncpg.Pool, tenant: Tenant) -> None:
    key = uuid4().hex * 2
    first, second = await claimed(pool, tenant), await claimed(pool, tenant)
    await begin(pool, first, key)
    await Lease(pool, first, 60).fail("The disk is full.")
    assert isinstance(await begin(pool, second, key), Path)


async def test_runs_that_begin_at_once_get_releases_of_different_numbers(pool: asyncpg.Pool, tenant: Tenant) -> None:
    held = [await claimed(pool, tenant) for _ in range(4)]
    places = await asyncio.gather(*(begin(pool, run) for run in held))
    names = {place.name for place in places if isinstance(place, Path)}
    assert len(names) == 4
    again = Run(**{**_fields(held[0]), "release_path": str(places[0])})
    assert await begin(pool, again) == places[0], "a run that is taken up keeps its number"


async def test_the_number_of_a_run_that_was_not_better_is_nobody_else_s(pool: asyncpg.Pool, tenant: Tenant) -> None:
    """Whoever clears its directory away deletes the release that it names."""
    first, second = await claimed(pool, tenant), await claimed(pool, tenant)
    place = await begin(pool, first)
    await Lease(pool, first, 60).end(NOT_BETTER, ())
    assert await begin(pool, second) != place


def _fields(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in Run.__slots__}


async def test_a_number_follows_all_that_are_known(pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path) -> None:
    (tmp_path / "reward-900041").mkdir()
    place = await Lease(pool, await claimed(pool, tenant), 60).begin(a_start(), tmp_path, ["reward-900040", "mine"])
    assert place == tmp_path / "reward-900042"


async def test_a_run_that_crashes_each_time_fails_after_three_attempts(pool: asyncpg.Pool, tenant: Tenant) -> None:
    run: Run | None = await claimed(pool, tenant)
    training_id = run.training_id if run else None
    for attempt in (1, 2, 3):
        assert run is not None
        assert run.attempts == attempt
        await Lease(pool, run, 60).crashed("It was killed.")
        run = await runs.claim(pool, 60, training_id)
    assert run is None
    found = await row(pool, training_id)
    assert (found["state"], found["error"]) == ("FAILED", "It was killed.")


async def test_a_run_that_kills_its_trainers_fails_too(pool: asyncpg.Pool, tenant: Tenant) -> None:
    training_id = (await claimed(pool, tenant, seconds=-1)).training_id
    for _ in range(2):
        assert await runs.claim(pool, -1, training_id) is not None
    assert await runs.claim(pool, 60, training_id) is None
    found = await row(pool, training_id)
    assert found["state"] == "FAILED"
    assert "began this run 3 times" in found["error"]


async def test_a_run_that_was_handed_back_has_not_failed(pool: asyncpg.Pool, tenant: Tenant) -> None:
    run = await claimed(pool, tenant)
    for _ in range(5):
        await begin(pool, run)
        await Lease(pool, run, 60).hand_back()
        again = await runs.claim(pool, 60, run.training_id)
        assert again is not None
        assert again.attempts == 1
        run = again


async def test_a_cancelled_run_stops_at_its_next_word_and_comes_to_no_other_end(
    pool: asyncpg.Pool, tenant: Tenant
) -> None:
    run = await claimed(pool, tenant)
    lease = Lease(pool, run, 60)
    await pool.execute("UPDATE training_runs SET cancel_requested = true WHERE training_id = $1", run.training_id)
    with pytest.raises(Cancelled):
        await lease.renew(PROGRESS)
    with pytest.raises(Cancelled):
        await lease.end(BETTER, ())
    await lease.cancel()
    assert (await row(pool, run.training_id))["state"] == "CANCELLED"


async def test_a_cancelled_run_whose_trainer_died_is_not_taken_up(pool: asyncpg.Pool, tenant: Tenant) -> None:
    run = await claimed(pool, tenant, seconds=-1)
    await pool.execute("UPDATE training_runs SET cancel_requested = true WHERE training_id = $1", run.training_id)
    assert await runs.claim(pool, 60, run.training_id) is None
    assert (await row(pool, run.training_id))["state"] == "CANCELLED"


@pytest.mark.parametrize(("result", "marked"), [(BETTER, 3), (NOT_BETTER, 0)])
async def test_data_count_as_used_once_there_is_a_release(
    pool: asyncpg.Pool, tenant: Tenant, result: Result, marked: int
) -> None:
    await rated(tenant, 3)
    data = await ingest.ingest(pool, tenant.name, jobs.RewardConfig().data)
    run = await claimed(pool, tenant)
    await Lease(pool, run, 60).end(result, data.used)
    assert await used(tenant) == marked
    found = await row(pool, run.training_id)
    assert (found["state"], found["verdict"], found["lease_owner"]) == ("SUCCEEDED", str(result.verdict), "")
    assert json.loads(found["reasons"]) == list(result.reasons)


async def test_an_end_that_fails_midway_leaves_nothing_of_it(pool: asyncpg.Pool, tenant: Tenant) -> None:
    await rated(tenant, 2)
    data = await ingest.ingest(pool, tenant.name, jobs.RewardConfig().data)
    run = await claimed(pool, tenant)
    broken = [*data.used, ingest.Used("no uuid", 1)]
    with pytest.raises(ValueError, match="badly formed"):
        await Lease(pool, run, 60).end(BETTER, broken)
    assert await used(tenant) == 0
    assert (await row(pool, run.training_id))["state"] == "RUNNING"


async def test_a_curve_stays_short_and_an_attempt_begins_where_its_checkpoint_was(
    pool: asyncpg.Pool, tenant: Tenant
) -> None:
    run = await claimed(pool, tenant)
    lease = Lease(pool, run, 60)
    for start in range(0, 5000, 250):
        await lease.renew(PROGRESS, [Point(step, {"loss": 1.0}) for step in range(start, start + 250)])
    await lease.renew(PROGRESS, [Point(5001, {"loss": 1.0, "validation_loss": 0.5})])
    steps = await curve(pool, run)
    assert len(steps) <= MOST + 1
    assert steps[0] == 0
    assert steps[-1] == 5001
    assert {later - earlier for earlier, later in itertools.pairwise(steps[:-1])} == {8}
    await Lease(pool, run, 60).renew(PROGRESS, [Point(step, {"loss": 2.0}) for step in range(4000, 4100)])
    assert max(await curve(pool, run)) < 4100


async def test_steps_that_are_made_again_after_a_kill_count_as_they_were_made_last(
    pool: asyncpg.Pool, tenant: Tenant
) -> None:
    run = await claimed(pool, tenant)
    before = [Point(step, {"loss": 1.0}) for step in range(6)]
    again = [Point(step, {"loss": 2.0}) for step in range(4, 8)]
    await Lease(pool, run, 60).renew(PROGRESS, [*before, *again])
    found = await pool.fetch(
        "SELECT step, \"values\" ->> 'loss' AS loss FROM training_points WHERE training_id = $1 ORDER BY step",
        run.training_id,
    )
    assert [(each["step"], each["loss"]) for each in found] == [
        (step, "1.0" if step < 4 else "2.0") for step in range(8)
    ]


async def test_what_postgres_can_t_take_is_no_absence_of_postgres(pool: asyncpg.Pool, tenant: Tenant) -> None:
    """Else the run would wait for it until its lease ran out, and begin again with the same."""
    run = await claimed(pool, tenant)
    with pytest.raises(TrainerError, match="can't take it") as caught:
        await Lease(pool, run, 60).renew(PROGRESS, [Point(0, {"loss": float("nan")})])
    assert not isinstance(caught.value, StoreAway)


async def curve(pool: asyncpg.Pool, run: Run) -> list[int]:
    found = await pool.fetch("SELECT step FROM training_points WHERE training_id = $1 ORDER BY step", run.training_id)
    return [each["step"] for each in found]
