"""Everything that is measured of a new reward model on the validation part: `evaluate` puts the parts together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from trainer.data.records import ASPECTS, Dataset, Exclusion, Labelled, PairKind, Place
from trainer.errors import TrainerError
from trainer.reward import best_of, bias, calibration, ensembles, metrics, mistakes
from trainer.reward.bootstrap import Draws, Floats
from trainer.reward.columns import Columns, columns
from trainer.reward.config import GateConfig
from trainer.reward.findings import (
    BASELINES,
    SERVICE,
    About,
    Calibration,
    Compared,
    Data,
    Estimate,
    Fit,
    Ranking,
    Raters,
    Report,
    Scored,
    Served,
)
from trainer.reward.scales import sigmoid

MOST_POINTS: Final = 400
LEAST_SIMILAR: Final = 10
"""Pairs of similar length, below which the share of them that is right tells nothing."""
LEAST_PREFERENCES: Final = 30
"""Pairs, below which they calibrate nothing."""


def evaluate(
    validation: Dataset,
    scored: Mapping[Place, Scored],
    *,
    baselines: Mapping[str, Mapping[Place, float]],
    config: GateConfig,
    train: Dataset | None = None,
    exclusions: Sequence[Exclusion] = (),
    raters: Raters | None = None,
    served: Served | None = None,
    points: Sequence[Mapping[str, float]] = (),
    about: About | None = None,
    seed: int = 1,
) -> Report:
    """The report on `scored`, still without a verdict: `dataclasses.replace(report, verdict=gate(report, config))`.

    `baselines` maps names of `findings.BASELINES` to scores of the same places (any monotone scale; the release in
    service's are 0..1). `train` is only counted, and tells which users are new; `raters` and `served` are
    reported. An empty validation part gives a report whose figures are None. Raises DataError for responses without a
    score, TrainerError for logits that are no numbers.
    """
    found = columns(validation)
    measure = Measure(found, Draws(confidence=config.confidence, seed=seed))
    logits = _logits(found, scored)
    calibrated, rated_scores = _calibrated(found, logits, measure.draws)
    scores = sigmoid(logits / calibrated.temperature)
    others = {name: found.pick(values, BASELINES[name]) for name, values in baselines.items()}
    judged = bias.Judged(scores=logits, rated_scores=rated_scores, service=others.get(SERVICE))
    categories, worst = mistakes.analyse(found, scores, measure.draws)
    return Report(
        about=about or About(),
        served=served,
        data=_data(found, train, exclusions, raters),
        confidence=config.confidence,
        ranking=measure.ranking(logits),
        fit=measure.fit(rated_scores),
        aspects=measure.aspects(scored),
        aspect_errors=measure.aspect_errors(scored),
        calibration=calibrated,
        baselines=tuple(measure.compared(name, others[name], logits, about) for name in BASELINES if name in others),
        groups=bias.groups(found, judged, measure.draws, config.group_minimum, _users(train)),
        categories=categories,
        mistakes=worst,
        ensemble=ensembles.agreement(found, scored, calibrated),
        points=spread_out(points),
    )


def spread_out(points: Sequence[Mapping[str, float]], most: int = MOST_POINTS) -> tuple[Mapping[str, float], ...]:
    """At most `most` of the points, evenly, the first and the last among them. Points of an epoch's end all stay."""
    kept = {round(index) for index in np.linspace(0, len(points) - 1, min(most, len(points)))}
    return tuple(
        {name: float(value) for name, value in point.items() if np.isfinite(value)}
        for index, point in enumerate(points)
        if index in kept or any(name.startswith("validation") for name in point)
    )


@dataclass(frozen=True, slots=True)
class Measure:
    """Measures any scores on the same rows with the same draws, so that differences are paired."""

    columns: Columns
    draws: Draws

    def ranking(self, scores: Floats) -> Ranking:
        """How well `scores` [P] order responses."""
        found, right = self.columns, self.right(scores)
        kinds = np.array([pair.kind.value for pair in found.dataset.pairs], dtype=str)
        rows, clusters = found.questions()
        rated = scores[found.rated]
        return Ranking(
            accuracy=self.over_pairs(right),
            similar=self.of_similar(right),
            spearman=metrics.spearman(rated, found.ratings, found.weights, found.rated_clusters, self.draws),
            gain=best_of.gain(rows, rated, found.ratings, clusters, self.draws),
            kinds={
                kind.value: self.over_pairs(right, kinds == kind.value) for kind in PairKind if kind.value in set(kinds)
            },
        )

    def fit(self, rated_scores: Floats) -> Fit:
        """How near scores of the rated responses [L] are to their ratings."""
        found = self.columns
        rows = found.weights, found.rated_clusters
        residual = rated_scores - found.ratings
        return Fit(
            mse=self.draws.mean(residual**2, *rows),
            mae=self.draws.mean(np.abs(residual), *rows),
            pearson=metrics.pearson(rated_scores, found.ratings, *rows, self.draws),
            residual=self.draws.mean(residual, *rows),
        )

    def compared(self, name: str, scores: Floats, logits: Floats, about: About | None) -> Compared:
        """A baseline's `scores` [P] beside the new model's `logits` [P]."""
        gained = self.right(logits) - self.right(scores)
        return Compared(
            name=name,
            label=(about.compared_with if about and name == SERVICE else "") or BASELINES[name],
            ranking=self.ranking(scores),
            difference=self.over_pairs(gained),
            difference_similar=self.of_similar(gained),
            fit=self.fit(scores[self.columns.rated]) if name == SERVICE else None,
        )

    def aspects(self, scored: Mapping[Place, Scored]) -> dict[str, Estimate]:
        """The accuracy of each aspect's head, on known pairs whose ratings of that aspect differ."""
        return {name: one for name in ASPECTS if (one := self._aspect(name, scored)).count}

    def aspect_errors(self, scored: Mapping[Place, Scored]) -> dict[str, Estimate]:
        """The mean absolute error of each aspect's head."""
        found = {}
        for name in ASPECTS:
            rows = [
                (abs(scored[one.question, one.response].aspects[name] - one.aspects[name]), _weight(one), cluster)
                for one, cluster in self._rated_aspects(name, scored)
            ]
            if rows:
                errors, weights, clusters = np.asarray(rows, dtype=np.float64).T
                found[name] = self.draws.mean(errors, weights, clusters.astype(np.int64))
        return found

    def right(self, scores: Floats) -> Floats:
        """[N] 1 for pairs in the right order, 0.5 for ties."""
        return metrics.ordered(scores[self.columns.chosen], scores[self.columns.rejected])

    def similar(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """[N] which pairs are of similar length."""
        return metrics.similar(self.columns.lengths[self.columns.chosen], self.columns.lengths[self.columns.rejected])

    def of_similar(self, values: Floats) -> Estimate:
        """Of the pairs of similar length; without a value where these are too few."""
        found = self.over_pairs(values, self.similar())
        return found if found.count >= LEAST_SIMILAR else Estimate(count=found.count, clusters=found.clusters)

    def over_pairs(self, values: Floats, inside: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None) -> Estimate:
        """The weighted mean of `values` [N], of those pairs only that are `inside`."""
        return self.columns.mean_of_pairs(values if inside is None else values[inside], inside, self.draws)

    def _aspect(self, name: str, scored: Mapping[Place, Scored]) -> Estimate:
        told = {(one.question, one.response): one.aspects[name] for one, _ in self._rated_aspects(name, scored)}
        rows, seen = [], set()
        for index, pair in enumerate(self.columns.dataset.pairs):
            sides = frozenset((pair.chosen, pair.rejected))
            if sides in seen or not sides <= told.keys() or told[pair.chosen] == told[pair.rejected]:
                continue
            seen.add(sides)
            better, worse = sorted(sides, key=told.__getitem__, reverse=True)
            rows.append((scored[better].aspects[name], scored[worse].aspects[name], index))
        if not rows:
            return Estimate()
        better_scores, worse_scores, kept = np.asarray(rows, dtype=np.float64).T
        right = metrics.ordered(better_scores, worse_scores)
        return self.columns.mean_of_pairs(right, kept.astype(np.int64), self.draws)

    def _rated_aspects(self, name: str, scored: Mapping[Place, Scored]) -> list[tuple[Labelled, int]]:
        """The labels that speak of the aspect where its head does, too, and each one's cluster."""
        owned = zip(self.columns.dataset.labels, self.columns.label_clusters.tolist(), strict=True)
        return [
            (one, cluster)
            for one, cluster in owned
            if name in one.aspects and name in scored[one.question, one.response].aspects
        ]


def _weight(label: Labelled) -> float:
    """Of its aspects; one without a rating has no weight of its own, and counts like the others on the whole."""
    return 1.0 if label.rating is None else label.weight


def _logits(found: Columns, scored: Mapping[Place, Scored]) -> Floats:
    if any(not np.isfinite(one.logit) for one in scored.values()):
        raise TrainerError("The model's scores are no numbers: training diverged. Try a smaller learning_rate.")
    return found.pick({place: one.logit for place, one in scored.items()}, "the new model")


def _calibrated(found: Columns, logits: Floats, draws: Draws) -> tuple[Calibration, Floats]:
    """By ratings where there are enough, else by preferences; with the scores [L] of the rated responses."""
    rated = logits[found.rated]
    fitted, scores = calibration.fit(rated, found.ratings, found.weights, found.rated_clusters, draws)
    outright = ~found.absolute
    gaps = (logits[found.chosen] - logits[found.rejected])[outright]
    if fitted.on == "nothing" and len(gaps) >= LEAST_PREFERENCES:
        owners = found.pair_clusters[outright, 0]  # both sides' are the same, but where few ratings decided
        fitted = calibration.of_preferences(gaps, found.pair_weights[outright], owners, draws)
        scores = sigmoid(rated / fitted.temperature)
    return fitted, scores


def _data(found: Columns, train: Dataset | None, exclusions: Sequence[Exclusion], raters: Raters | None) -> Data:
    kinds = np.array([pair.kind.value for pair in found.dataset.pairs], dtype=str)
    return Data(
        train_questions=len(train.questions) if train else 0,
        train_responses=len(train.places) if train else 0,
        train_pairs=len(train.pairs) if train else 0,
        validation_questions=len(found.dataset.questions),
        validation_responses=len(found.places),
        validation_pairs=found.count(np.arange(len(kinds))),
        validation_ratings=len(found.ratings),
        validation_users=found.users,
        clustered_by=found.clustered_by,
        kinds={
            kind.value: found.count(np.flatnonzero(kinds == kind.value)) for kind in PairKind if kind.value in kinds
        },
        exclusions=tuple(exclusions),
        raters=raters,
    )


def _users(train: Dataset | None) -> set[str] | None:
    if train is None:
        return None
    judged = {rater for label in train.labels for rater in label.raters}
    return judged | {rater for pair in train.pairs for rater in pair.raters}
