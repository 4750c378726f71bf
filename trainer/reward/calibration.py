"""Turns logits into scores that can be taken at their word, and says how far they can. Pure, on arrays.

Temperature scaling (Guo et al. 2017): one number, which keeps every order of responses. It is fitted by the weighted
cross-entropy against ratings of 0..1, which is least where scores are the ratings' means. Isotonic regression (Zadrozny
and Elkan 2002) is reported beside it; it is not served, since its steps would make ties of responses that differ.
"""

from typing import Final

import numpy as np

from trainer.reward.bootstrap import Codes, Draws, Floats, compact
from trainer.reward.findings import Bin, Calibration, Reliability
from trainer.reward.scales import sigmoid

FOLDS: Final = 5
LEAST_RATINGS: Final = 30
"""Below this a temperature can't be told, and stays 1."""
LEAST_ISOTONIC: Final = 1000
MOST_BINS: Final = 15
LEAST_IN_BIN: Final = 50
RANGE: Final = (0.05, 20.0)
"""Temperatures that are looked at."""


def temperature(logits: Floats, ratings: Floats, weights: Floats) -> float:
    """The temperature of the least weighted cross-entropy, within `RANGE`. It is convex in 1 / temperature."""
    from scipy import optimize

    def loss(inverse: float) -> float:
        scaled = logits * inverse
        return float(weights @ (np.logaddexp(0.0, scaled) - ratings * scaled))

    bounds = (1 / RANGE[1], 1 / RANGE[0])
    return float(1 / optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def isotonic(scores: Floats, ratings: Floats, weights: Floats) -> tuple[tuple[float, float], ...]:
    """Knots (score, rating) of the best non-decreasing map; between them it goes straight."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, ratings, sample_weight=weights)
    return tuple(zip(map(float, fitted.X_thresholds_), map(float, fitted.y_thresholds_), strict=True))


def reliability(scores: Floats, ratings: Floats, weights: Floats) -> Reliability:
    """The ECE over bins of equally many rows (Nguyen and O'Connor 2015), the Brier score, and chance's own ECE."""
    if not len(scores) or weights.sum() <= 0:
        return Reliability(ece=None, brier=None, floor=None)
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, min(MOST_BINS, max(1, len(order) // LEAST_IN_BIN)))
    ece = floor = 0.0
    bins = []
    for part in parts:
        found, share = _bin(scores[part], ratings[part], weights[part]), weights[part].sum() / weights.sum()
        deviation = 0.0 if found.high is None else (found.high - found.rating) / 1.96
        ece += share * abs(found.score - found.rating)
        floor += share * deviation * np.sqrt(2 / np.pi)  # the mean distance of a normal value from its mean
        bins.append(found)
    brier = float(weights @ (scores - ratings) ** 2 / weights.sum())
    return Reliability(ece=float(ece), brier=brier, floor=float(floor), bins=tuple(bins))


def _bin(scores: Floats, ratings: Floats, weights: Floats) -> Bin:
    total = weights.sum()
    if total <= 0:
        return Bin(score=float(scores.mean()), rating=float(scores.mean()), count=len(scores))
    score, rating = float(weights @ scores / total), float(weights @ ratings / total)
    half = 1.96 * float(np.sqrt((weights**2) @ (ratings - rating) ** 2)) / total
    return Bin(score=score, rating=rating, count=len(scores), low=rating - half, high=rating + half)


def folds(codes: Codes, seed: int, count: int = FOLDS) -> Codes:
    """[N] a fold for each row; rows of one cluster share theirs. Fewer clusters than folds make fewer folds."""
    compacted, clusters = compact(codes)
    shuffled = np.random.default_rng(seed).permutation(clusters)
    chosen: Codes = (shuffled % min(count, max(clusters, 1)))[compacted]
    return chosen


def cross_fitted(logits: Floats, ratings: Floats, weights: Floats, fold: Codes) -> tuple[Floats, Floats | None]:
    """[N] scores by temperatures, and by isotonic maps on top, that never saw the row; None: too few for the latter."""
    scores, mapped = sigmoid(logits), sigmoid(logits)
    enough = len(logits) >= LEAST_ISOTONIC
    for each in np.unique(fold):
        inside, outside = fold == each, fold != each
        if not outside.any() or weights[outside].sum() <= 0:
            continue
        scaled = sigmoid(logits / temperature(logits[outside], ratings[outside], weights[outside]))
        scores[inside] = scaled[inside]
        if enough:
            knots = np.asarray(isotonic(scaled[outside], ratings[outside], weights[outside]))
            mapped[inside] = np.interp(scaled[inside], knots[:, 0], knots[:, 1])
    return scores, mapped if enough else None


def fit(
    logits: Floats, ratings: Floats, weights: Floats, codes: Codes, draws: Draws, on: str = "ratings"
) -> tuple[Calibration, Floats]:
    """The calibration of logits [N] to ratings [N] of 0..1, and the cross-fitted scores [N] that it is judged by."""
    before = reliability(sigmoid(logits), ratings, weights)
    if len(logits) < LEAST_RATINGS or np.ptp(logits) == 0:
        return Calibration(temperature=1.0, on="nothing", count=len(logits), before=before, after=before), sigmoid(
            logits
        )
    scores, mapped = cross_fitted(logits, ratings, weights, folds(codes, draws.seed))
    found = temperature(logits, ratings, weights)
    calibration = Calibration(
        temperature=found,
        on=on,
        count=len(logits),
        before=before,
        after=reliability(scores, ratings, weights),
        isotonic=None if mapped is None else reliability(mapped, ratings, weights),
        isotonic_knots=() if mapped is None else isotonic(sigmoid(logits / found), ratings, weights),
        isotonic_better=mapped is not None and _better(mapped, scores, ratings, weights, codes, draws),
    )
    return calibration, scores


def of_preferences(gaps: Floats, weights: Floats, codes: Codes, draws: Draws) -> Calibration:
    """The temperature by which sigmoid(gap / temperature) is the probability of the preferred one (Bradley and Terry
    1952). `gaps` [N] are logits of the preferred minus the other; each also counts turned round, or it would all be 1.
    """
    both = np.concatenate([gaps, -gaps])
    preferred = np.concatenate([np.ones_like(gaps), np.zeros_like(gaps)])
    calibration, _ = fit(both, preferred, np.tile(weights, 2), np.tile(codes, 2), draws, on="preferences")
    return calibration


def _better(found: Floats, than: Floats, ratings: Floats, weights: Floats, codes: Codes, draws: Draws) -> bool:
    gained = draws.mean((than - ratings) ** 2 - (found - ratings) ** 2, weights, codes)
    return gained.low is not None and gained.low > 0
