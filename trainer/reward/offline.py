"""A run from files, without a server or a database. Repeating it goes on where it stopped, or gives what came out."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data import files
from trainer.errors import TrainerError
from trainer.reward import base, directory, identity
from trainer.reward.config import RewardConfig
from trainer.reward.job import Job, Progress, Result, Stage, Stop, Tell
from triton_models import manifest

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
"""What a release may be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody asked for. `directory` None: `out` with `.run` at its end."""

    data: Sequence[Path]
    out: Path
    config: RewardConfig
    release_id: str = ""
    directory: Path | None = None
    compare_with: Path | None = None

    @property
    def place(self) -> Path:
        """The run's own directory."""
        return (self.directory or self.out.with_name(f"{self.out.name}.run")).absolute()


def train(
    request: Request,
    tell: Tell = lambda _: None,
    stop: Stop = lambda: False,
    report: Callable[[str], None] = lambda _: None,
) -> Result:
    """Trains on the files and writes the release `request.out`, whatever the gate says: its metrics have the verdict.

    Raises TrainerError.
    """
    tell(Progress(Stage.SNAPSHOT, 0.0))
    snapshot = _hash(request.data)
    found = base.find(request.config.base, report)
    config = base.suited(request.config, found)
    training_key = identity.key(snapshot, config, found.digest)
    key = _judged(training_key, request.compare_with)
    place, out = request.place, request.out.absolute()
    with directory.held(place, training_key):
        there = _run_of(out, training_key)
        # A release without a word of how the run ended is made anew, and so is one that was compared with another.
        if (done := directory.finished(place, key)) and (there == key) == bool(done.release):
            report(f"this run has ended already: {place}")
            return done
        job = Job(
            config=config,
            base=found.path,
            base_name=found.name,
            directory=place,
            out=out,
            release_id=request.release_id or _named(out, key),
            key=key,
            training_key=training_key,
            snapshot=snapshot,
            in_service=request.compare_with,
            always=True,
        )
        result = _carry_out(job, request.data, tell, stop)
        directory.keep(place, result)
        return result


def _carry_out(job: Job, data: Sequence[Path], tell: Tell, stop: Stop) -> Result:
    from trainer.reward.run import carry_out  # brings torch: what is wrong with the files is told before

    questions = tuple(question for path in data for question in files.read(path))
    return carry_out(job, questions, tell, stop)


def _hash(data: Sequence[Path]) -> str:
    """SHA-256 of the files' contents, in their order."""
    try:
        return identity.of_files(data)
    except OSError as error:
        raise TrainerError(f"{error.filename} can't be read: {error.strerror}.") from None


def _judged(training_key: str, service: Path | None) -> str:
    try:
        return identity.judged(training_key, service)
    except OSError as error:
        raise TrainerError(f"The release to compare with can't be read: {error.filename}: {error.strerror}.") from None


def _run_of(out: Path, training_key: str) -> str:
    """The run of which `out` holds the release; "" where it holds none. Raises TrainerError for anything else there."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return ""
    try:
        metrics = manifest.read(out).metrics
        if metrics.get("trained") == training_key:
            return str(metrics.get("run"))
    except manifest.ReleaseError:
        pass
    raise TrainerError(f"{out} exists already, and is not of this run: choose another --out, or remove it.")


def _named(out: Path, key: str) -> str:
    return out.name if NAME.fullmatch(out.name) else f"reward-{key[:10]}"
