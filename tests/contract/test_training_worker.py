"""What a trainer does with a run that it holds: takes data, has a process train on them, ends it, hands it back."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.tenants import Tenant, rated, used
from tests.training_runs import PROGRESS, row, trainer, work
from trainer import child, runs
from trainer.data.forgetting import forget
from trainer.errors import TrainerError
from trainer.reward import directory, jobs
from trainer.reward.findings import Outcome
from trainer.reward.job import Result
from trainer.service import STARTER, in_service
from trainer.worker import How, Worker


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> list[jobs.Work]:
    """The process that trains finds what it trains on good, and says so."""
    done: list[jobs.Work] = []

    async def train(job: Path, log: Path, tell: Any, patience: float) -> None:
        work = await asyncio.to_thread(jobs.read, job)
        done.append(work)
        tell(PROGRESS)
        model = work.job.directory / "model"
        await asyncio.to_thread(model.mkdir)
        released = {"release": work.job.release_id, "release_path": str(work.job.out), "model": str(model)}
        result = Result(verdict=Outcome.BETTER, summary="Better.", report={"version": 1}, **released)
        await asyncio.to_thread(directory.keep, work.job.directory, result)

    monkeypatch.setattr(child, "train", train)
    return done


async def test_a_run_takes_a_snapshot_trains_on_it_and_uses_it_up(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path, trains: list[jobs.Work]
) -> None:
    await rated(tenant, 3)
    settings = trainer(tmp_path, tenant)
    training_id, done = await work(pool, tenant, settings)
    assert done.how is How.ENDED
    found = await row(pool, training_id)
    assert found["snapshot"] == trains[0].job.snapshot
    assert found["key"] == trains[0].job.key
    assert found["release"] == trains[0].job.out.name
    assert json.loads(found["report"]) == {"version": 1}
    assert trains[0].job.out.parent == tmp_path / "training" / "releases"
    assert await used(tenant) == 3
    assert list(settings.runs.iterdir()) == [], "it held texts of users"
    assert [path.name for path in settings.models.iterdir()] == [found["release"]], "the model stays, to go on from"


async def test_a_run_fails_before_it_trains_where_the_release_in_service_is_on_another_machine(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path, trains: list[jobs.Work]
) -> None:
    await rated(tenant, 3)
    await tenant.reply(reward_release="reward-000077")
    _, done = await work(pool, tenant, trainer(tmp_path, tenant))
    assert done.how is How.FAILED
    assert "The release in service, reward-000077, is not on this machine" in done.error
    assert (trains, await used(tenant)) == ([], 0)


async def test_the_release_in_service_is_that_of_the_newest_reply_or_else_the_named_one(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path
) -> None:
    named = STARTER / "reward-000001"
    assert await in_service(pool, tenant.name, None, [STARTER]) is None, "nothing scores"
    assert await in_service(pool, tenant.name, named, [tmp_path]) == named
    with pytest.raises(TrainerError, match="torn, is not on this machine"):
        await in_service(pool, tenant.name, tmp_path / "torn", [STARTER])
    await tenant.reply(reward_release="reward-000077")
    with pytest.raises(TrainerError, match="reward-000077, is not on this machine"):
        await in_service(pool, tenant.name, named, [STARTER])
    await tenant.reply(reward_release="reward-000001")
    assert await in_service(pool, tenant.name, None, [tmp_path, STARTER]) == named


async def test_a_run_of_the_same_data_is_a_duplicate_and_new_feedback_makes_another(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path, trains: list[jobs.Work]
) -> None:
    await rated(tenant, 3)
    settings = trainer(tmp_path, tenant)
    first, _ = await work(pool, tenant, settings)
    _, again = await work(pool, tenant, settings)
    assert (again.how, again.same) == (How.DUPLICATE, first), "that its data were used meanwhile changes nothing"
    await tenant.say(await tenant.reply("eve"), "eve", rating_overall=2)
    _, other = await work(pool, tenant, settings)
    assert other.how is How.ENDED
    assert len(trains) == 2


async def test_without_feedback_a_run_says_so_in_words(pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path) -> None:
    training_id, done = await work(pool, tenant, trainer(tmp_path, tenant))
    assert done.how is How.ENDED
    assert done.result.verdict is Outcome.TOO_LITTLE_DATA
    found = await row(pool, training_id)
    assert (found["state"], found["verdict"]) == ("SUCCEEDED", "TOO_LITTLE_DATA")
    assert json.loads(found["reasons"]) == ["There is no feedback to train on."]


@pytest.mark.parametrize(
    ("error", "how", "state"),
    [
        (TrainerError("The loss is no number any more."), How.FAILED, "FAILED"),
        (RuntimeError("A defect."), How.FAILED, "FAILED"),
        (child.Crashed("It was killed."), How.HANDED_BACK, "QUEUED"),
        (directory.Busy("Another process works at it."), How.HANDED_BACK, "QUEUED"),
    ],
)
async def test_what_fails_consumes_nothing(
    pool: asyncpg.Pool,
    tenant: Tenant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    how: How,
    state: str,
) -> None:
    async def train(*_: Any) -> None:
        raise error

    monkeypatch.setattr(child, "train", train)
    await rated(tenant, 2)
    training_id, done = await work(pool, tenant, trainer(tmp_path, tenant))
    assert (done.how, done.error) == (how, str(error))
    assert (await row(pool, training_id))["state"] == state
    assert await used(tenant) == 0


async def test_a_run_of_the_api_names_no_path_of_this_machine_and_is_told_nothing_of_it(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path, trains: list[jobs.Work]
) -> None:
    await rated(tenant, 3)
    here = str(Path(__file__).parents[2] / "starter" / "encoder")
    settings, errors = trainer(tmp_path, tenant), set()
    for asked in ({"base": here}, {"base": "/nowhere"}, {"augment": {"paraphrase_model": here}}):
        training_id = await runs.ask(pool, tenant.name, asked, "terminal")
        await pool.execute("UPDATE training_runs SET fingerprint = '' WHERE training_id = $1", training_id)
        run = await runs.claim(pool, 60, training_id)
        assert run is not None
        done = await Worker(pool, settings).work(run)
        assert done.how is How.FAILED
        errors.add(done.error.partition(":")[2])
    assert len(errors) == 1
    _, done = await work(pool, tenant, settings)
    assert (done.how, len(trains)) == (How.ENDED, 1), "the trainer's own settings may"


async def test_a_disk_that_refuses_fails_the_run_in_a_sentence_and_the_trainer_goes_on(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path
) -> None:
    await rated(tenant, 2)
    (tmp_path / "training").write_text("a file where a folder belongs")
    training_id, done = await work(pool, tenant, trainer(tmp_path, tenant))
    assert done.how is How.FAILED
    found = await row(pool, training_id)
    assert (found["state"], found["lease_owner"]) == ("FAILED", "")
    assert found["error"].startswith("The system refused it: Not a directory (")


async def test_a_trainer_that_is_told_to_stop_hands_its_run_back_and_the_next_one_trains_on_the_same_snapshot(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trains: list[jobs.Work]
) -> None:
    await rated(tenant, 2)
    ends, began = child.train, asyncio.Event()

    async def endless(job: Path, *_: Any) -> None:
        began.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(child, "train", endless)
    training_id = await runs.ask(pool, tenant.name, {}, "somebody")
    run = await runs.claim(pool, 60, training_id)
    assert run is not None
    task = asyncio.create_task(Worker(pool, trainer(tmp_path, tenant)).work(run))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await row(pool, training_id))["state"] == "QUEUED"

    await tenant.say(await tenant.reply("eve"), "eve", rating_overall=2)
    monkeypatch.setattr(child, "train", ends)
    run = await runs.claim(pool, 60, training_id)
    assert run is not None
    assert run.attempts == 1
    done = await Worker(pool, trainer(tmp_path, tenant)).work(run)
    assert done.how is How.ENDED
    assert trains[0].job.snapshot == run.snapshot
    assert await used(tenant) == 2, "what came later waits for the next run"


async def test_a_run_that_is_cancelled_while_it_trains_ends_and_leaves_nothing(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rated(tenant, 2)

    async def cancelled(job: Path, *_: Any) -> None:
        await pool.execute("UPDATE training_runs SET cancel_requested = true WHERE tenant_id = $1", tenant.name)
        out = (await asyncio.to_thread(jobs.read, job)).job.out
        for made in (out, out.with_name(f".{out.name}.half-made")):
            await asyncio.to_thread(made.mkdir, parents=True)
        await asyncio.sleep(60)

    monkeypatch.setattr(child, "train", cancelled)
    settings = trainer(tmp_path, tenant)
    training_id, done = await work(pool, tenant, settings)
    assert done.how is How.CANCELLED
    assert (await row(pool, training_id))["state"] == "CANCELLED"
    assert list(settings.runs.iterdir()) == []
    assert list(settings.releases.iterdir()) == [], "nor of a release that it had made by then"


async def test_a_run_whose_snapshot_an_erasure_takes_before_it_is_read_begins_anew(
    pool: asyncpg.Pool, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trains: list[jobs.Work]
) -> None:
    await rated(tenant, 3)
    ends = child.train

    async def overtaken(job: Path, *_: Any) -> None:
        await tenant.erase("user-1")
        await forget(pool, tmp_path / "training")
        raise TrainerError("The snapshot is not there.")

    monkeypatch.setattr(child, "train", overtaken)
    training_id, done = await work(pool, tenant, trainer(tmp_path, tenant))
    assert done.how is How.HANDED_BACK
    found = await row(pool, training_id)
    assert (found["state"], found["snapshot"], found["attempts"]) == ("QUEUED", None, 0)
    monkeypatch.setattr(child, "train", ends)
    run = await runs.claim(pool, 60, training_id)
    assert run is not None
    assert (await Worker(pool, trainer(tmp_path, tenant)).work(run)).how is How.ENDED
    assert await used(tenant) == 2

    async def broken(*_: Any) -> None:
        raise TrainerError("The loss is no number any more.")

    monkeypatch.setattr(child, "train", broken)
    await tenant.say(await tenant.reply("eve"), "eve", rating_overall=2)
    _, done = await work(pool, tenant, trainer(tmp_path, tenant))
    assert done.how is How.FAILED, "what an erasure has no part in is not tried again"
