"""What a trainer clears away: directories of ended runs, and data and models that were kept long enough."""

import asyncio
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.logged import NOW
from tests.tenants import CONFIG, Tenant, a_run
from trainer import upkeep
from trainer.data import parquet, snapshots
from trainer.data.snapshots import Snapshot
from trainer.reward import directory, jobs
from trainer.reward.config import RewardConfig
from trainer.reward.job import Job
from trainer.runs import new_id
from trainer.settings import TrainerSettings


@dataclass
class Home:
    """A trainer's home, and a tenant whose runs lie there."""

    tenant: Tenant
    settings: TrainerSettings

    @property
    def pool(self) -> asyncpg.Pool:
        return self.tenant.pool

    async def snapshot(self) -> Snapshot:
        """One of all feedback up to now and of one more, taken two hours ago."""
        await self.tenant.say(await self.tenant.reply(), rating_overall=3)
        await self.tenant.say(await self.tenant.reply("bob"), "bob", rating_overall=3)
        found, _ = await snapshots.take(self.pool, self.tenant.name, CONFIG, self.settings.training)
        await self.age()
        return found

    async def age(self) -> None:
        older = "UPDATE training_snapshots SET taken_at = now() - interval '2 hours' WHERE tenant_id = $1"
        await self.pool.execute(older, self.tenant.name)

    async def run(self, snapshot: Snapshot, state: str = "SUCCEEDED", **columns: Any) -> UUID:
        return await a_run(self.tenant, training_id=new_id(), snapshot=snapshot.hash, state=state, **columns)

    async def users(self, snapshot: Snapshot) -> set[str]:
        rows = await self.pool.fetch("SELECT digest FROM training_snapshot_users WHERE snapshot = $1", snapshot.hash)
        return {row["digest"].hex() for row in rows}

    def here(self) -> set[str]:
        return set(parquet.tidied(self.settings.training / snapshots.FOLDER))


@pytest.fixture
async def place(tenant: Tenant, tmp_path: Path) -> Home:
    return Home(tenant, TrainerSettings(home=tmp_path, database_url="", tenant=tenant.name, keep=1))


async def test_data_stay_of_open_runs_of_runs_with_a_release_and_of_the_newest(place: Home) -> None:
    columns: list[dict[str, Any]] = [
        {},
        {"release": "reward-000001"},
        {"state": "RUNNING"},
        {"state": "FAILED"},
        {"state": "CANCELLED"},
        {},
        {},
    ]
    taken = [await place.snapshot() for _ in columns]
    made = [await place.run(one, **values) for one, values in zip(taken, columns, strict=True)]
    fresh, _ = await fresh_one(place)
    for run in made:
        await place.pool.execute("INSERT INTO training_points VALUES ($1, 0, '{}')", run)
    gone = await upkeep.prune(place.pool, place.settings)
    stay = {taken[number].hash for number in (1, 2, 4, 6)} | {fresh.hash}
    assert set(gone) == {one.hash for one in taken} - stay
    assert place.here() == stay
    kept = await place.pool.fetch("SELECT training_id FROM training_points WHERE training_id = ANY($1)", made)
    assert {row["training_id"] for row in kept} == {made[number] for number in (1, 2, 4, 6)}
    assert await place.users(taken[0]) == set()
    assert await upkeep.prune(place.pool, place.settings) == ()


async def fresh_one(place: Home) -> Any:
    """A snapshot that no run has yet, taken just now."""
    await place.tenant.say(await place.tenant.reply(), rating_overall=1)
    return await snapshots.take(place.pool, place.tenant.name, CONFIG, place.settings.training)


async def test_an_erasure_finds_the_report_of_a_run_whose_data_were_not_kept(place: Home) -> None:
    snapshot = await place.snapshot()
    report = json.dumps({"mistakes": [{"users": [place.tenant.digest("ann")]}]})
    await place.run(snapshot, report=report)
    await place.run(await place.snapshot())
    await upkeep.prune(place.pool, place.settings)
    assert await place.users(snapshot) == {place.tenant.digest("ann")}, "bob is quoted nowhere"


async def test_what_replaced_the_data_of_a_kept_run_is_kept_and_tombstones_forget_who_is_quoted_nowhere(
    place: Home,
) -> None:
    from trainer.data.forgetting import forget

    old, kept = await place.snapshot(), await place.snapshot()
    await place.run(old)
    await place.run(kept)
    await place.tenant.erase("bob")
    await forget(place.pool, place.settings.training)
    await place.age()
    assert len(place.here()) == 2
    await upkeep.prune(place.pool, place.settings)
    replaced = "SELECT replaced_by FROM training_snapshots WHERE snapshot = $1"
    assert place.here() == {await place.pool.fetchval(replaced, kept.hash)}
    assert (await place.users(old), len(await place.users(kept))) == (set(), 2)


async def test_data_that_were_not_kept_come_back_when_they_are_taken_again(place: Home) -> None:
    first = await place.snapshot()
    await upkeep.prune(place.pool, place.settings)
    assert place.here() == set()
    again, _ = await snapshots.take(place.pool, place.tenant.name, CONFIG, place.settings.training)
    assert (again.hash, place.here()) == (first.hash, {first.hash})
    assert len(await place.users(first)) == 2
    assert await upkeep.prune(place.pool, place.settings) == ()


async def test_nothing_is_deleted_while_somebody_writes_a_snapshot(place: Home) -> None:
    snapshot = await place.snapshot()
    partial = snapshot.path.with_name(f".{snapshot.hash}-0123{parquet.PARTIAL}")
    partial.mkdir()
    with parquet.kept(snapshot.path.parent):
        assert await upkeep.prune(place.pool, place.settings) == ()
        assert partial.exists(), "it may be the writer's"
    assert len(await place.users(snapshot)) == 2, "an erasure must find files that are there"
    assert await upkeep.prune(place.pool, place.settings) == (snapshot.hash,)
    assert not partial.exists()
    assert await place.users(snapshot) == set()


async def test_whose_data_another_home_holds_is_known_until_its_own_trainer_has_deleted_them(
    place: Home, tmp_path: Path
) -> None:
    snapshot = await place.snapshot()
    other = replace(place.settings, home=tmp_path / "other")
    assert await upkeep.prune(place.pool, other) == ()
    assert len(await place.users(snapshot)) == 2
    assert await upkeep.prune(place.pool, place.settings) == (snapshot.hash,)
    assert await place.users(snapshot) == set()


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[list[int]]:
    """Ends whoever makes the `step`-th change of the disk; a transaction of Postgres is whole or not at all."""
    left = [step]

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*given, **named)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "rename"), (Path, "unlink"), (shutil, "rmtree")):
            patch.setattr(owner, name, dying(getattr(owner, name)))
        yield left


async def test_pruning_that_is_killed_anywhere_is_finished_by_the_next(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = await place.snapshot()
    shutil.copytree(snapshot.path, place.settings.home / "before")
    for step in range(12):
        if not snapshot.path.exists():
            shutil.copytree(place.settings.home / "before", snapshot.path)
        await place.pool.execute("UPDATE training_snapshots SET pruned_at = NULL WHERE snapshot = $1", snapshot.hash)
        for user in ("ann", "bob"):
            digest = bytes.fromhex(place.tenant.digest(user))
            held = "INSERT INTO training_snapshot_users VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
            await place.pool.execute(held, snapshot.hash, place.tenant.name, digest)
        with killed(monkeypatch, step) as left, suppress(Killed):
            await upkeep.prune(place.pool, place.settings)
        assert any(snapshot.path.glob("*.parquet")) <= (len(await place.users(snapshot)) == 2)
        await upkeep.prune(place.pool, place.settings)
        assert (place.here(), await place.users(snapshot)) == (set(), set())
        if left[0] >= 0:
            break
    assert step > 1, "it was killed at as many places"


def a_directory(place: Home, run: UUID, release: str = "reward-000003") -> Job:
    """Of a run that has made a release, and not been put away."""
    where = place.settings.runs / str(run)
    out = place.settings.releases / release
    job = Job(
        config=RewardConfig(),
        base=Path("base"),
        base_name="base",
        directory=where,
        out=out,
        release_id=release,
        key="k",
        snapshot="s",
    )
    jobs.write(jobs.Work(job, Path("data")))
    for made in (out, out.with_name(f".{release}.half-made"), where / "model"):
        made.mkdir(parents=True, exist_ok=True)
    (where / directory.RESULT).write_text(json.dumps({"release": release, "model": str(where / "model")}))
    return job


def aged(job: Job) -> None:
    """As if nobody had worked in its directory for two days."""
    for path in (*job.directory.iterdir(), job.directory):
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        ({"state": "SUCCEEDED", "release": "reward-000003"}, {"models", "releases"}),
        ({"state": "CANCELLED"}, set()),
        ({"state": "FAILED"}, set()),
        ({"state": "QUEUED", "ended_at": None}, {"runs", "releases"}),
        (None, {"releases"}),
    ],
)
async def test_the_directory_of_a_run_that_ended_elsewhere_is_put_away_wherever_that_is_killed(
    place: Home, monkeypatch: pytest.MonkeyPatch, columns: dict[str, Any] | None, left: set[str]
) -> None:
    run = new_id()
    if columns is not None:
        await a_run(place.tenant, training_id=run, **{"ended_at": NOW, **columns})

    def found() -> set[str]:
        folders = {name: getattr(place.settings, name) for name in ("runs", "models", "releases")}
        return {name for name, folder in folders.items() if folder.is_dir() and any(folder.iterdir())}

    for step in range(9):
        shutil.rmtree(place.settings.training, ignore_errors=True)
        job = a_directory(place, run)
        aged(job)
        with killed(monkeypatch, step) as steps, suppress(Killed):
            await upkeep.tidy(place.pool, place.settings)
        await upkeep.tidy(place.pool, place.settings)
        assert found() == left
        assert (place.settings.models / "reward-000003").is_dir() == ("models" in left)
        assert not job.directory.exists() or "runs" in left
        half_made = [path.name for path in job.out.parent.glob(".*")]
        assert bool(half_made) == (columns is None or "runs" in left)
        if steps[0] >= 0:
            break


async def test_the_directory_of_a_run_of_another_database_stays_while_somebody_may_work_in_it(place: Home) -> None:
    job = a_directory(place, new_id())
    await upkeep.tidy(place.pool, place.settings)
    assert job.directory.exists(), "it was just begun"
    with (job.directory / directory.LOCK).open("w") as lock:
        aged(job)
        fcntl.flock(lock, fcntl.LOCK_EX)
        await upkeep.tidy(place.pool, place.settings)
        assert job.directory.exists(), "it is worked in"
    await upkeep.tidy(place.pool, place.settings)
    assert (job.directory.exists(), job.out.exists()) == (False, True)


async def test_no_model_is_kept_under_the_name_of_another_release(place: Home) -> None:
    run = await a_run(place.tenant, training_id=new_id(), state="SUCCEEDED", release="reward-000004", ended_at=NOW)
    job = a_directory(place, run)
    await upkeep.tidy(place.pool, place.settings)
    assert not (place.settings.models / "reward-000004").exists()
    assert not job.directory.exists()


async def test_a_directory_in_which_a_killed_trainer_s_process_still_works_waits(place: Home) -> None:
    job = a_directory(place, await a_run(place.tenant, training_id=new_id(), state="FAILED", ended_at=NOW))
    with (job.directory / directory.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await upkeep.tidy(place.pool, place.settings)
        assert job.out.exists()
    await upkeep.tidy(place.pool, place.settings)
    assert not job.out.exists()


async def test_the_newest_models_stay_and_those_that_serve_or_are_begun_from(place: Home) -> None:
    models = place.settings.models
    for number in range(1, 6):
        (models / f"reward-00000{number}" / "part").mkdir(parents=True)
    (models / ".reward-000000.going" / "part").mkdir(parents=True)
    (models / "mine").mkdir()
    await a_run(place.tenant, training_id=new_id(), state="SUCCEEDED", compared_with="reward-000002")
    await a_run(place.tenant, training_id=new_id(), state="SUCCEEDED", verdict="TOO_LITTLE_DATA")
    await a_run(place.tenant, training_id=new_id(), asked=json.dumps({"base": str(models / "reward-000003")}))
    settings = replace(place.settings, keep=1)
    await upkeep.prune_models(place.pool, settings)
    names = {path.name for path in await asyncio.to_thread(sorted, models.iterdir())}
    assert names == {"mine", *(f"reward-00000{number}" for number in (2, 3, 5))}
