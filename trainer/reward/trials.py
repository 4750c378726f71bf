"""Trains a reward model with and without each way of augmenting, so that `ablation.py` can compare them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainer.data import files
from trainer.data.records import Question
from trainer.errors import TooLittleData
from trainer.reward import base, directory, identity, run
from trainer.reward.ablation import Ablation, Trial, arms, compared
from trainer.reward.bootstrap import Draws
from trainer.reward.columns import columns
from trainer.reward.config import RewardConfig
from trainer.reward.evaluation import Measure
from trainer.reward.job import Job, Progress, Stop, Tell, heeding
from trainer.reward.prediction import predict


def of_files(
    data: Sequence[Path],
    config: RewardConfig,
    place: Path,
    tell: Tell = lambda _: None,
    stop: Stop = lambda: False,
    report: Callable[[str], None] = lambda _: None,
) -> Ablation:
    """`ablate` on files as `ratchet train reward` takes them; models and checkpoints stay in `place`."""
    found = base.find(config.base, report)
    config = base.suited(config, found)
    snapshot = identity.of_files(data)
    key = identity.key(snapshot, config, found.digest)
    with directory.held(place, key):
        job = Job(
            config=config,
            base=found.path,
            base_name=found.name,
            directory=place,
            out=place / "release",
            release_id=place.name,
            key=key,
            snapshot=snapshot,
        )
        return ablate(job, [question for path in data for question in files.read(path)], tell, stop)


def ablate(
    job: Job, questions: Sequence[Question], tell: Tell = lambda _: None, stop: Stop = lambda: False
) -> Ablation:
    """Trains every arm of `job.config` by each of its seeds; goes on where it was stopped. Raises TrainerError.

    All arms share the split, since that is drawn by `job.config.seed`.
    """
    wanted = arms(job.config.augment)
    trained = {}
    for place, (name, augment) in enumerate(wanted.items()):
        config = job.config.model_copy(update={"augment": augment})
        arm = replace(job, config=config, directory=job.directory / name.replace(" ", "-"))
        trained[name] = _train(arm, questions, _Within(tell, place, len(wanted)), stop)
    return compared(trained, job.config)


def _train(job: Job, questions: Sequence[Question], tell: Tell, stop: Stop) -> Trial:
    prepared = run.prepare(job, questions, tell, heeding(stop))
    if not prepared.validation.pairs:
        raise TooLittleData("The validation part has no pairs to compare by: give more data.")
    rows = prepared.validation_rows
    found = columns(prepared.validation)
    measure = Measure(found, Draws(confidence=job.config.gate.confidence, seed=job.config.seed))
    right = []
    for model in run.learn(job, prepared, tell, stop):
        logits = predict(model.best, rows, threads=job.config.train.threads, heed=heeding(stop)).logits
        scores = found.pick(dict(zip(rows.places, map(float, logits), strict=True)), "the new model")
        right.append(measure.right(scores))
    return Trial(np.stack(right), len(prepared.train_rows.dataset.questions), measure)


@dataclass(frozen=True, slots=True)
class _Within:
    """One arm's progress as a share of all."""

    tell: Tell
    place: int
    arms: int

    def __call__(self, progress: Progress) -> None:
        """How far this arm is."""
        self.tell(replace(progress, share=(self.place + progress.share) / self.arms))
