"""Does one run of the table: snapshot, the process that trains, the end in one transaction.

Its lease is renewed all the while. What happens within a run, from the questions on, is told in `reward/run.py`.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import asyncpg

from trainer import child, upkeep
from trainer.child import Crashed
from trainer.data import snapshots
from trainer.data.records import Exclusion
from trainer.data.tables import Used
from trainer.database import answering
from trainer.errors import Cancelled, LeaseLost, StoreAway, TooLittleData, TrainerError, unforeseen
from trainer.leases import Lease, Start
from trainer.pulse import held
from trainer.reward import base, configuring, directory, identity, jobs
from trainer.reward.admission import admitted
from trainer.reward.config import RewardConfig
from trainer.reward.findings import Outcome
from trainer.reward.job import Job, Progress, Result, Stage, Tell
from trainer.runs import MOST_ATTEMPTS, Run
from trainer.service import in_service
from trainer.settings import PATIENCE, TrainerSettings
from triton_models import manifest
from triton_models.manifest import ReleaseError

_SNAPSHOT = "SELECT path FROM training_snapshots WHERE snapshot = $1 AND erased_at IS NULL AND pruned_at IS NULL"
MOMENT = 5.0
"""Seconds to wait for a process that works where this run belongs, before the run is handed back."""
log = logging.getLogger(__name__)
LOG = "training.log"
"""What the process that trains prints when it dies; in the trainer's folder of logs."""


class How(StrEnum):
    """How a run left this trainer."""

    ENDED = "ended"
    DUPLICATE = "duplicate"
    FAILED = "failed"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed back"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a run. `result` for one that ended, `same` for a duplicate, `error` for one that failed."""

    how: How
    result: Result | None = None
    same: UUID | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Data:
    """A snapshot's hash and directory, and what stayed out of it."""

    snapshot: str
    path: Path
    exclusions: tuple[Exclusion, ...]


class Worker:
    """Does runs, one after the other; `tell` is told of their progress."""

    def __init__(self, pool: asyncpg.Pool, settings: TrainerSettings, tell: Tell = lambda _: None) -> None:
        self._pool, self._settings, self._tell = pool, settings, tell

    async def work(self, run: Run) -> Done:
        """Does a claimed run. Cancelled, it hands the run back: whoever takes it up goes on where this one stopped."""
        lease = Lease(self._pool, run, self._settings.lease)
        try:
            done = await self._attempt(run, lease)
        except asyncio.CancelledError:
            await asyncio.shield(_unless_away(lease))
            raise
        except (LeaseLost, StoreAway) as error:
            return Done(how=How.LOST, error=str(error))
        if done.how is not How.HANDED_BACK:
            release = done.result.release if done.result else ""
            await asyncio.to_thread(upkeep.put_away, self._place(run), self._settings.models, release)
        return done

    async def _attempt(self, run: Run, lease: Lease) -> Done:
        try:
            found = await held(lease, self._settings.lease, lambda tell: self._train(run, lease, tell), self._tell)
            if isinstance(found, UUID):
                return Done(how=How.DUPLICATE, same=found)
            result, used = found
            await lease.end(result, used)
            return Done(how=How.ENDED, result=result)
        except Cancelled:
            await lease.cancel()
            return Done(how=How.CANCELLED)
        except Crashed as error:
            await lease.crashed(str(error))
            again = run.attempts < MOST_ATTEMPTS
            return Done(how=How.HANDED_BACK if again else How.FAILED, error=str(error))
        except directory.Busy as error:  # of a trainer that was killed: it ends soon
            await lease.hand_back()
            return Done(how=How.HANDED_BACK, error=str(error))
        except (LeaseLost, StoreAway):
            raise
        except Exception as error:  # also a defect: while this trainer lives, nobody else would end the run
            if not isinstance(error, TrainerError | OSError | ReleaseError):  # OSError: a full disk, say
                log.exception("run %s met what nobody foresaw", run.training_id)
            sentence = str(error) if isinstance(error, TrainerError) else unforeseen(error)
            return await self._failed(run, lease, sentence)

    async def _failed(self, run: Run, lease: Lease, sentence: str) -> Done:
        """One whose snapshot was rewritten before it was read has not failed: it is begun anew, on another one."""
        if await snapshots.gone(self._pool, run.training_id):
            await lease.begin_anew()
            return Done(how=How.HANDED_BACK, error=sentence)
        await lease.fail(sentence)
        return Done(how=How.FAILED, error=sentence)

    async def _train(self, run: Run, lease: Lease, tell: Tell) -> tuple[Result, tuple[Used, ...]] | UUID:
        """What came out and which feedback is in it, or the run that is the same."""
        tell(Progress(Stage.SNAPSHOT, 0.0))
        asked = await asyncio.to_thread(admitted, run.asked, self._settings.bases) if run.by_api else run.asked
        config = configuring.configured(self._settings.defaults, asked)
        try:
            data = await self._data(run, config)
        except TooLittleData as error:
            return Result(verdict=Outcome.TOO_LITTLE_DATA, summary=str(error), reasons=(str(error),)), ()
        job = await self._begin(run, lease, config, data)
        if isinstance(job, UUID):
            return job
        used = await asyncio.to_thread(snapshots.used, data.path)  # before an erasure has the files rewritten
        file = await asyncio.to_thread(jobs.write, jobs.Work(job, data.path))
        await child.train(file, self._log(), tell, PATIENCE)
        result = await asyncio.to_thread(directory.finished, job.directory)
        if result is None:
            raise TrainerError(f"The process that trained left no result in {job.directory}.")
        return result, used

    async def _data(self, run: Run, config: RewardConfig) -> _Data:
        """The snapshot that an earlier attempt took, if it is still whole and here, or else a new one."""
        if run.snapshot:
            with answering("snapshots"):
                path: str | None = await self._pool.fetchval(_SNAPSHOT, run.snapshot)
            if path is not None and (kept := await asyncio.to_thread(self._kept, run, Path(path))):
                return kept
        taken, left_out = await snapshots.take(self._pool, run.tenant, config.data, self._settings.training)
        return _Data(taken.hash, taken.path, left_out)

    def _kept(self, run: Run, path: Path) -> _Data | None:
        job = self._place(run) / jobs.NAME
        return _Data(run.snapshot, path, jobs.read(job).job.exclusions) if path.is_dir() and job.exists() else None

    async def _begin(self, run: Run, lease: Lease, config: RewardConfig, data: _Data) -> Job | UUID:
        """The job, or the run that is the same."""
        service = await in_service(self._pool, run.tenant, self._settings.reward, self._settings.known_releases)
        found = await asyncio.to_thread(base.find, config.base)
        config = base.suited(config, found)
        compared_with = manifest.read(service).id if service else ""
        training_key = identity.key(data.snapshot, config, found.digest)
        key = await asyncio.to_thread(identity.judged, training_key, service)
        start = Start(
            key=key,
            snapshot=data.snapshot,
            config=config.model_dump(mode="json"),
            base_model=found.name,
            compared_with=compared_with,
        )
        out = await lease.begin(start, self._settings.releases, [compared_with, *self._models()])
        if isinstance(out, UUID):
            return out
        place = self._place(run)
        if not await asyncio.to_thread(directory.belongs, place, training_key):  # by other data or code, before
            await asyncio.to_thread(directory.clear, place, MOMENT)
        return Job(
            config=config,
            base=found.path,
            base_name=found.name,
            directory=place,
            out=out,
            release_id=out.name,
            key=key,
            training_key=training_key,
            snapshot=data.snapshot,
            training_id=str(run.training_id),
            in_service=service,
            exclusions=data.exclusions,
        )

    def _place(self, run: Run) -> Path:
        return self._settings.runs / str(run.training_id)

    def _log(self) -> Path:
        self._settings.training.mkdir(parents=True, exist_ok=True)
        return self._settings.training / LOG

    def _models(self) -> list[str]:
        return [path.name for path in self._settings.models.glob("*")]


async def _unless_away(lease: Lease) -> None:
    """Hands the run back; one that can't be is free once its lease has run out."""
    with suppress(TrainerError):
        await lease.hand_back()
