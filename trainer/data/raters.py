"""How far each rater can be trusted, and how their scale differs from others'. Pure.

Raters are attentive, or rate at random ("hammers and spammers": Karger, Oh and Shah 2011, after Dawid and Skene 1979).
Which one somebody is shows in how their ratings go along with what is expected of the same responses without them: by
what others said of the same text, of other answers to the same query, and by the score that the reply was given when it
was chosen. Correlations are compared by Fisher's z (1921); how well attentive raters agree with the expectation, and
how many there are, is found by EM. An old model's score is a witness that may be wrong in the way the new model is to
mend: where nobody else judged the same text, it counts for half, and takes nobody's trust below LEAST_BY_SCORE.

A rater's habit of rating high or low is estimated by empirical Bayes (James and Stein 1961; Efron and Morris 1973): who
rated little is taken to be like the others.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from trainer.data.records import Exclusion
from trainer.reward.scales import sigmoid

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

ROUNDS: Final = 5
"""Times that trust and habits are estimated anew from each other."""
LEAST_BY_SCORE: Final = 0.25
LEAST: Final = 0.05
"""Trust that anybody keeps who is not left out."""
FEWEST: Final = 5
"""Ratings from which on a correlation says anything."""
INFORMATIVE: Final = 0.1
"""Fisher's z of attentive raters, below which the expectation tells nobody apart: then all are trusted alike."""
_PRIOR: Final = (9.0, 3.0)
"""Attentive and random raters that are thought of beside the real ones: Beta(9, 3), mean 0.75."""
_SPREAD: Final = 0.25
"""How attentive raters' agreement differs, as a share of its mean."""
_TOPIC, _ITEM = 2.0, 1.0
"""Ratings of a topic or a text that count as much as nothing being known of it."""
_STEPS: Final = 50
"""Of EM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rater:
    """What is known of one rater: `weight` 0..1 is how far they are trusted, `offset` what their ratings lie above
    others' (taken off), `agreement` -1..1 with what was expected without them (None: too few ratings, or all alike).
    `shared` of their ratings are of texts that others rated too."""

    id: str
    judgements: int
    weight: float = 1.0
    offset: float = 0.0
    agreement: float | None = None
    shared: int = 0
    excluded: str = ""  # why: a reason of `Exclusion`, or "" for those that stay


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterReport:
    """All raters, who judged most first, and what was left out.

    `attentive` is the share of raters that are, `informative` Fisher's z of theirs; None: too few could be compared.
    """

    raters: tuple[Rater, ...]
    exclusions: tuple[Exclusion, ...] = ()
    attentive: float | None = None
    informative: float | None = None


@dataclass(frozen=True, slots=True)
class Ratings:
    """Ratings as columns of the same length. `rater`, `item` and `topic` are numbers from 0; `value` is 0..1, `score`
    0..1 or NaN; `prior` is what the rating counts before anything is known of its rater. `known`, by rater: whose
    trust and scale are not in question, such as reviewers'."""

    rater: Places
    item: Places
    topic: Places
    value: Numbers
    score: Numbers
    prior: Numbers
    known: npt.NDArray[np.bool_]

    @property
    def raters(self) -> int:
        """How many there are."""
        return len(self.known)


@dataclass(frozen=True, slots=True)
class Trust:
    """By rater. `agreement` is NaN where it can't be told."""

    weight: Numbers
    offset: Numbers
    agreement: Numbers
    shared: Places
    attentive: Numbers  # the probability that a rater is, from all evidence at its full weight
    share: float
    informative: float


def trust(ratings: Ratings) -> Trust:
    """How far each rater is to be trusted, from these ratings alone."""
    weight, offset = np.ones(ratings.raters), np.zeros(ratings.raters)
    found = _nothing(ratings)
    for _ in range(ROUNDS if len(ratings.value) else 0):
        expected = expectation(ratings, weight, offset)
        weight = np.where(ratings.known, 1.0, (found := judged(ratings, expected)).weight)
        offset = np.where(ratings.known, 0.0, offsets(ratings, expected, weight))
        found = replace(found, weight=weight, offset=offset)
    return found


def _nothing(ratings: Ratings) -> Trust:
    """Of raters of whom there are no ratings."""
    ones, zeros = np.ones(ratings.raters), np.zeros(ratings.raters)
    return Trust(ones, zeros, np.full_like(ones, np.nan), zeros.astype(np.int64), ones, 1.0, 0.0)


def expectation(ratings: Ratings, weight: Numbers, offset: Numbers) -> Numbers:
    """What each rating would be thought to be without its rater: 0..1 about, whatever the rater's scale."""
    trusted = ratings.prior * weight[ratings.rater]
    value = ratings.value - offset[ratings.rater]
    base = _line(ratings.score, value, trusted)
    parts = [
        _others(group, ratings.rater, value - base, trusted, doubt)
        for group, doubt in ((ratings.topic, _TOPIC), (ratings.item, _ITEM))
    ]
    shares = _regressed(np.column_stack(parts), value - base, trusted)
    return np.asarray(base + np.column_stack(parts) @ shares, dtype=np.float64)


def _line(score: Numbers, value: Numbers, weight: Numbers) -> Numbers:
    """The mean of the ratings, or where there is a score, the rating that goes with it: weighted least squares."""
    mean = np.average(value, weights=weight)
    known = ~np.isnan(score)
    if not known.any():
        return np.full(len(value), mean)
    x, y, w = score[known], value[known], weight[known]
    middle, level = np.average(x, weights=w), np.average(y, weights=w)
    spread = np.average((x - middle) ** 2, weights=w)
    slope = np.average((x - middle) * (y - level), weights=w) / spread if spread > 0 else 0.0
    return np.where(known, level + slope * (np.where(known, score, 0.0) - middle), mean)


def _others(group: Places, rater: Places, value: Numbers, weight: Numbers, doubt: float) -> Numbers:
    """For each rating the mean of the others' in its group, drawn towards 0 as if `doubt` of them had been 0."""
    own = _pairs(group, rater)[1]
    amount = np.bincount(group, weight)[group] - np.bincount(own, weight)[own]
    total = np.bincount(group, weight * value)[group] - np.bincount(own, weight * value)[own]
    return np.asarray(total / (amount + doubt), dtype=np.float64)


def _regressed(parts: Numbers, value: Numbers, weight: Numbers) -> Numbers:
    """How much each part explains, at least 0 (ridge regression; parts that say nothing get nothing)."""
    weighted = parts * weight[:, None]
    left = parts.T @ weighted + np.eye(parts.shape[1]) * 1e-6
    return np.clip(np.linalg.solve(left, weighted.T @ value), 0.0, None)


def judged(ratings: Ratings, expected: Numbers) -> Trust:
    """Who is attentive, by the correlation of their ratings with what was expected."""
    agreement, counts = _correlations(ratings, expected)
    shared = np.bincount(ratings.rater, _has_others(ratings), minlength=ratings.raters).astype(np.int64)
    told = ~np.isnan(agreement)
    z = np.arctanh(np.clip(agreement[told], -0.999, 0.999))
    noise = 1.0 / (counts[told] - 3.0)
    share, informative = mixture(z, noise)
    odds = np.zeros(ratings.raters)
    if informative >= INFORMATIVE:
        odds[told] = _log_odds(z, noise, informative)
    rated = np.bincount(ratings.rater, minlength=ratings.raters)
    by_people = shared / np.maximum(rated, 1)
    prior = np.log(share / (1 - share))
    weight = np.maximum(sigmoid(prior + odds * (0.5 + 0.5 * by_people)), _floor(by_people))
    if informative < INFORMATIVE:
        weight = np.ones(ratings.raters)
    return Trust(
        weight, np.zeros(ratings.raters), agreement, shared, sigmoid(prior + odds), float(share), float(informative)
    )


def _floor(by_people: Numbers) -> Numbers:
    return LEAST_BY_SCORE + (LEAST - LEAST_BY_SCORE) * by_people


def _has_others(ratings: Ratings) -> Numbers:
    """1 where somebody else rated the same text."""
    first, _ = _pairs(ratings.item, ratings.rater)
    return (np.bincount(ratings.item[first])[ratings.item] > 1).astype(np.float64)


def _pairs(group: Places, rater: Places) -> tuple[Places, Places]:
    """Of each pair of group and rater: where it is first, and by row which one it is."""
    _, first, own = np.unique(group * (rater.max() + 1) + rater, return_index=True, return_inverse=True)
    return first, own


def _correlations(ratings: Ratings, expected: Numbers) -> tuple[Numbers, Numbers]:
    """Pearson's correlation of each rater's values with what was expected, and from how many; NaN where none."""
    rater, size = ratings.rater, ratings.raters

    def mean(values: Numbers) -> Numbers:
        return np.asarray(np.bincount(rater, values, minlength=size) / np.maximum(counts, 1), dtype=np.float64)

    counts = np.bincount(rater, minlength=size).astype(np.float64)
    x, y = ratings.value - mean(ratings.value)[rater], expected - mean(expected)[rater]
    scale = np.sqrt(mean(x * x) * mean(y * y))
    fine = (counts >= FEWEST) & (scale > 1e-9) & ~ratings.known
    return np.where(fine, mean(x * y) / np.where(fine, scale, 1.0), np.nan), counts


def mixture(z: Numbers, noise: Numbers) -> tuple[float, float]:
    """(share of attentive raters, their mean z): EM over raters whose z has the variance `noise` about 0, or about the
    mean of the attentive, who differ a little."""
    attentive, mean = (
        _PRIOR[0] / sum(_PRIOR),
        max(float(np.average(z, weights=1 / noise)) if len(z) else 0.0, 0.0) / 0.7,
    )
    for _ in range(_STEPS if len(z) else 0):
        belongs = sigmoid(np.log(attentive / (1 - attentive)) + _log_odds(z, noise, mean))
        attentive = float((belongs.sum() + _PRIOR[0]) / (len(z) + sum(_PRIOR)))
        precision = belongs / (noise + (_SPREAD * mean) ** 2)
        mean = max(float((precision * z).sum() / precision.sum()), 0.0)
    return attentive, mean


def _log_odds(z: Numbers, noise: Numbers, mean: float) -> Numbers:
    """How much more probable z is of an attentive rater than of a random one: the logarithm of the ratio."""
    wide = noise + (_SPREAD * mean) ** 2
    return np.asarray(z**2 / (2 * noise) - (z - mean) ** 2 / (2 * wide) + np.log(noise / wide) / 2, dtype=np.float64)


def offsets(ratings: Ratings, expected: Numbers, weight: Numbers) -> Numbers:
    """How far each rater's ratings lie above what was expected, drawn towards 0 by how little they rated.

    A one-way random-effects model: the variances within and between raters by the method of moments, each mean times
    between / (between + within / n). Centred: no scale is the right one but the mean of all.
    """
    rater, size = ratings.rater, ratings.raters
    rest = ratings.value - expected
    counts = np.bincount(rater, minlength=size).astype(np.float64)
    means = np.bincount(rater, rest, minlength=size) / np.maximum(counts, 1)
    within = float(((rest - means[rater]) ** 2).sum() / max(len(rest) - (counts > 0).sum(), 1))
    total = counts.sum()
    level = (counts * means).sum() / total
    scale = total - (counts**2).sum() / total
    between = ((counts * (means - level) ** 2).sum() - (size - 1) * within) / scale if scale > 0 else 0.0
    if between <= 0:
        return np.zeros(size)
    shrunk = (means - level) * between / (between + within / np.maximum(counts, 1))
    return np.asarray(shrunk - np.average(shrunk, weights=counts * weight), dtype=np.float64)
