"""A job as a file: what a trainer hands to the process that trains."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from trainer.data import snapshots
from trainer.data.records import Exclusion
from trainer.reward import directory
from trainer.reward.config import RewardConfig
from trainer.reward.job import Job, Result, Stop, Tell
from triton_models.manifest import write_whole

NAME: Final = directory.JOB
"""In the run's directory."""


@dataclass(frozen=True, slots=True)
class Work:
    """A job, and the directory of the snapshot that it trains on."""

    job: Job
    data: Path


def write(work: Work) -> Path:
    """The file, in the run's directory, whole or not at all."""
    path = work.job.directory / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    found = asdict(work.job) | {"config": work.job.config.model_dump(mode="json")}
    write_whole(path, json.dumps({"job": found, "data": work.data}, default=str).encode())
    return path


def read(path: Path) -> Work:
    """What `write` wrote."""
    found = json.loads(path.read_bytes())
    job = found["job"]
    places = {name: Path(job[name]) for name in ("base", "directory", "out")}
    in_service = Path(job["in_service"]) if job["in_service"] else None
    exclusions = tuple(Exclusion(**each) for each in job["exclusions"])
    config = RewardConfig.model_validate(job["config"])
    changed = {**places, "in_service": in_service, "exclusions": exclusions, "config": config}
    return Work(Job(**{**job, **changed}), Path(found["data"]))


def carry_out(work: Work, tell: Tell, stop: Stop) -> Result:
    """Does the job. A release that an earlier attempt left, without a word of how the run ended, is made anew."""
    from trainer.reward import run  # brings torch

    # First: it may tell of the release, judged beside another one, which a later attempt would look for in vain.
    (work.job.directory / directory.RESULT).unlink(missing_ok=True)
    if work.job.out.exists():
        shutil.rmtree(work.job.out)
    return run.carry_out(work.job, snapshots.read(work.data), tell, stop)
