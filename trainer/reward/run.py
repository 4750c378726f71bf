"""The story of a reward training run, in order: split, clean, pair, augment, encode, train, export, score, judge,
conclude. What is judged is the release that would be served, not the model that it was made of.

The questions come from files (`offline.py`) or from Postgres (`trainer/worker.py`, which also marks them as used).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from exporters.reward_model import serializer
from trainer.data import inputs, pairs, quality, splits
from trainer.data.augment import augment
from trainer.data.inputs import Rows
from trainer.data.records import ASPECTS, Dataset, Exclusion, Place, Question
from trainer.data.thinning import thinned
from trainer.errors import TooLittleData
from trainer.reward import baselines, candidates
from trainer.reward.candidates import Candidate
from trainer.reward.conclusion import about, conclude, in_service, points
from trainer.reward.evaluation import evaluate
from trainer.reward.findings import LONGEST, SERVICE, TFIDF, Outcome, Raters, Report, Scored
from trainer.reward.gate import gate
from trainer.reward.job import Heed, Job, Progress, Result, Stage, Stop, Tell, heeding, unheeding
from trainer.reward.loop import Point, Trained, train
from trainer.reward.prediction import Predictions, predict
from trainer.reward.raters import summed
from trainer.reward.scales import calibrated

SHARES = {Stage.QUALITY: 0.01, Stage.PAIRS: 0.03, Stage.TRAINING: 0.05, Stage.EXPORT: 0.85, Stage.EVALUATION: 0.92}
"""How much of a run is behind when a stage begins."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data to train on and to judge by, and what was left out. Only `train_rows` have what was made up beside.

    `watched_rows` are validated after each epoch: no more responses of a question than an epoch trains on.
    """

    train: Dataset
    validation: Dataset
    train_rows: Rows
    watched_rows: Rows
    validation_rows: Rows
    exclusions: tuple[Exclusion, ...]
    raters: Raters


def carry_out(
    job: Job, questions: Sequence[Question], tell: Tell = lambda _: None, stop: Stop = lambda: False
) -> Result:
    """Does the run, or goes on with it where `job.directory` has checkpoints of it.

    Raises TrainerError: Cancelled once `stop` is true. Too little data is a result, not an error.
    """
    heed = heeding(stop)
    candidates.require(job.config.export)  # what is wrong is told before hours of training
    service = in_service(job)
    try:
        prepared = prepare(job, questions, tell, heed)
        old = service.places(prepared.validation, prepared.validation_rows.places, heed) if service else {}
        models = learn(job, prepared, tell, stop)
    except TooLittleData as error:
        return Result(verdict=Outcome.TOO_LITTLE_DATA, summary=str(error), run=job.key, reasons=(str(error),))
    _go_on(Stage.EXPORT, tell, heed)
    rows, threads = prepared.validation_rows, job.config.train.threads
    trained = [predict(each.best, rows, threads=threads, heed=heed) for each in models]
    candidate = candidates.make(job, models[0].best, rows, trained[0], heed)
    _go_on(Stage.EVALUATION, tell, heed)
    scored = score(candidate, rows, trained[1:])
    found = judge(job, prepared, models[0], candidate, scored, old)
    heed()
    return conclude(job, models[0], candidate, prepared.validation, found, scored, old)


def prepare(job: Job, questions: Sequence[Question], tell: Tell, heed: Heed = unheeding) -> Prepared:
    """Splits, cleans, pairs and encodes. Raises TooLittleData, and what `heed` raises."""
    config, seed = job.config.data, job.config.seed
    _go_on(Stage.QUALITY, tell, heed)
    split = splits.split(questions, config, seed)  # first: nothing of what is judged by may be learned from
    clean = quality.clean(split.train, split.validation, config, seed)
    _go_on(Stage.PAIRS, tell, heed)
    train, unpaired = pairs.build(clean.train, config, seed)
    validation, unjudged = pairs.build(clean.validation, config, seed, judging=True)
    more = augment(train, validation, job.config.augment, seed, heed)
    heed()
    rows = serializer(job.base, job.config.train.max_length)
    watched = thinned(validation, job.config.train.responses_per_question, seed)
    left_out = (
        *job.exclusions,
        *split.exclusions,
        *clean.exclusions,
        *pairs.added_up(unpaired, unjudged),
        *more.dropped,
    )
    return Prepared(
        train,
        validation,
        inputs.encode(more.dataset, rows),
        inputs.encode(watched, rows),
        inputs.encode(validation, rows),
        left_out,
        summed(clean.report),
    )


def learn(job: Job, prepared: Prepared, tell: Tell, stop: Stop) -> tuple[Trained, ...]:
    """A model for each seed; the first one is what will be served."""
    _go_on(Stage.TRAINING, tell, heeding(stop))
    config = job.config
    observers = [_Observer(tell, member, config.seeds, config.train.max_epochs) for member in range(config.seeds)]
    for point in points(job):  # a trainer that was killed may not have handed on its last ones
        observers[0](Point(int(point["step"]), {name: value for name, value in point.items() if name != "step"}))
    return tuple(
        train(
            job.base,
            prepared.train_rows,
            prepared.watched_rows,
            config.train,
            job.directory / f"seed-{config.seed + member}",
            seed=config.seed + member,
            observe=observe,
            stop=stop,
            embedding_noise=config.augment.embedding_noise,
        )
        for member, observe in enumerate(observers)
    )


def score(candidate: Candidate, rows: Rows, others: Sequence[Predictions]) -> dict[Place, Scored]:
    """What each validation response is given by the candidate, and by the `others` of its ensemble as they are."""
    return {place: _scored(candidate.logits[place], others, row) for row, place in enumerate(rows.places)}


def judge(
    job: Job,
    prepared: Prepared,
    trained: Trained,
    candidate: Candidate,
    scored: Mapping[Place, Scored],
    old: Mapping[Place, float],
) -> Report:
    """The report with its verdict. The simple baselines are trained on the same split."""
    tfidf = baselines.tfidf(prepared.train, prepared.validation, job.config.seed)
    compared = {LONGEST: baselines.longest(prepared.validation), TFIDF: tfidf, SERVICE: old}
    found = evaluate(
        prepared.validation,
        scored,
        baselines={name: scores for name, scores in compared.items() if scores},
        config=job.config.gate,
        train=prepared.train,
        exclusions=prepared.exclusions,
        raters=prepared.raters,
        served=candidate.served,
        points=points(job),
        about=about(job, trained),
        seed=job.config.seed,
    )
    return replace(found, verdict=gate(found, job.config.gate))


def _go_on(stage: Stage, tell: Tell, heed: Heed) -> None:
    heed()
    tell(Progress(stage, SHARES[stage]))


def _scored(logits: NDArray[np.float64], others: Sequence[Predictions], row: int) -> Scored:
    own, *aspects = logits.tolist()
    return Scored(
        logit=own,
        aspects={name: calibrated(logit) for name, logit in zip(ASPECTS, aspects, strict=False)},
        members=(own, *(float(each.logits[row]) for each in others)) if others else (),
    )


@dataclass(frozen=True, slots=True)
class _Observer:
    """Tells of one model's steps as a share of the whole run; the curves are those of the first one alone."""

    tell: Tell
    member: int
    members: int
    epochs: int

    def __call__(self, point: Point) -> None:
        """One step was made."""
        begin, end = SHARES[Stage.TRAINING], SHARES[Stage.EXPORT]
        done = (self.member + min(point.values.get("epoch", 0.0) / self.epochs, 1.0)) / self.members
        self.tell(Progress(Stage.TRAINING, begin + done * (end - begin), None if self.member else point))
