"""Whether another wave of candidates is worth its cost. Pure arithmetic, and a small memory of scores seen.

Drawing costs; the gain of one more draw over the best so far shrinks with every draw. Stopping when the expected gain
falls below the cost is optimal where the distribution of scores is known (Weitzman, 1979; Chow & Robbins, 1963), and a
good one-step rule where it is learned on the way, as in Bayesian optimisation (expected improvement: Jones, Schonlau &
Welch, 1998).

Scores of one query are alike: an easy query's are all high. So two variances are kept apart, that of queries (which
tells where this query's next score will lie) and that within a query (from which alone choosing gains). The prior says
what is usual for this reward release, the query's own scores then move it: a normal-inverse-gamma model, whose
prediction of the next score is Student's t (Murphy, 2007, "Conjugate Bayesian analysis of the Gaussian distribution").
"""

import math
import statistics
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

LEARNED_QUERIES = 30
"""Until so many queries were seen, there is no prior and nothing stops early."""
REMEMBERED_QUERIES = 2_000
"""About so many recent queries make the prior: it follows what people ask."""
REMEMBERED_RELEASES = 8
FREEDOM = 4
"""Degrees of freedom of the prior on the variance within a query: what it is worth in observations. Even."""
LEAST_VARIANCE = 1e-8


@dataclass(frozen=True, slots=True)
class Prior:
    """What is usual for one reward release: the mean score, the variance of queries' means, and that within a query."""

    mean: float
    between: float
    within: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Student's t of the next score: `freedom` (an integer, 2 or more), `location`, `scale`."""

    freedom: int
    location: float
    scale: float


def worth_drawing(scores: Sequence[float], best: float | None, cost: float, prior: Prior | None) -> bool:
    """Whether one more candidate is expected to gain at least `cost` (in reward, 0 to 1) over `best`.

    `scores` are all of this query so far, `best` the highest of one that passed: with None there is no answer yet, and
    without a prior no expectation, so drawing goes on. Cost 0 never stops.
    """
    if best is None or prior is None or cost <= 0:
        return True
    return expected_gain(predict(prior, scores), best) >= cost


def waves(count: int, first: int) -> tuple[int, ...]:
    """The sizes of the waves that `count` candidates are drawn in: `first` each, the last one what is left."""
    step = max(1, first)
    return tuple(min(step, count - start) for start in range(0, count, step))


def predict(prior: Prior, scores: Sequence[float]) -> Prediction:
    """The distribution of the next score of a query that has these."""
    within = max(prior.within, LEAST_VARIANCE)
    worth = within / max(prior.between, LEAST_VARIANCE)
    count = len(scores)
    mean = statistics.fmean(scores) if scores else prior.mean
    total = worth + count
    spread = math.fsum((score - mean) ** 2 for score in scores)
    spread += worth * count / total * (mean - prior.mean) ** 2
    freedom = FREEDOM + count
    # FREEDOM - 2, so that the prior's mean of the variance is what was measured.
    variance = ((FREEDOM - 2) * within + spread) / freedom
    return Prediction(freedom, (worth * prior.mean + math.fsum(scores)) / total, math.sqrt(variance * (1 + 1 / total)))


def expected_gain(prediction: Prediction, best: float) -> float:
    """E[max(0, min(X, 1) - best)], 0 to 1: no score passes 1, so neither does a gain."""
    if best >= 1:
        return 0.0
    return max(0.0, _excess(prediction, best) - _excess(prediction, 1.0))


def _excess(prediction: Prediction, bound: float) -> float:
    """E[max(0, X - bound)] in closed form."""
    freedom, scale = prediction.freedom, prediction.scale
    z = (bound - prediction.location) / scale
    density = math.exp(
        math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - (freedom + 1) / 2 * math.log1p(z * z / freedom)
    ) / math.sqrt(freedom * math.pi)
    return scale * ((freedom + z * z) / (freedom - 1) * density - z * upper_tail(z, freedom))


def upper_tail(z: float, freedom: int) -> float:
    """P(T > z) of Student's t with an integer number of degrees of freedom (Abramowitz & Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan2(z, math.sqrt(freedom))
    cosine, term, total = math.cos(angle), 1.0, 0.0
    odd = freedom % 2
    if odd:
        term = cosine
    for k in range(freedom // 2):
        total += term
        term *= cosine**2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    inside = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return min(1.0, max(0.0, (1 - inside) / 2))


@dataclass(slots=True)
class _Moments:
    """Sums over queries, older ones weighing less and less."""

    weight: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    within: float = 0.0
    noise: float = 0.0
    """Mean of within / n: how much of the spread of the means is chance."""

    def add(self, scores: Sequence[float]) -> None:
        keep = 1 - 1 / REMEMBERED_QUERIES
        self.weight = self.weight * keep + 1
        step, variance = 1 / self.weight, statistics.variance(scores)
        off = statistics.fmean(scores) - self.mean
        self.mean += step * off
        self.squares = (1 - step) * (self.squares + step * off * off)
        self.within += step * (variance - self.within)
        self.noise += step * (variance / len(scores) - self.noise)


class Priors:
    """What is usual for each reward release, learned from what it scored. Bounded; for one event loop."""

    def __init__(self) -> None:
        self._moments: OrderedDict[str, _Moments] = OrderedDict()

    def learn(self, release: str, scores: Sequence[float]) -> None:
        """Takes in the scores of a query's **first** wave.

        Those of later waves would mislead: whether they were drawn depended on the scores before. Fewer than two say
        nothing of the spread and are left out.
        """
        if len(scores) < 2 or not all(math.isfinite(score) for score in scores):
            return
        self._moments.setdefault(release, _Moments()).add(scores)
        self._moments.move_to_end(release)
        while len(self._moments) > REMEMBERED_RELEASES:
            self._moments.popitem(last=False)

    def of(self, release: str) -> Prior | None:
        """The prior; None while too few queries were seen."""
        found = self._moments.get(release)
        if found is None or found.weight < LEARNED_QUERIES:
            return None
        between = max(found.squares - found.noise, LEAST_VARIANCE)
        return Prior(found.mean, between, max(found.within, LEAST_VARIANCE))
