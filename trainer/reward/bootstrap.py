"""Intervals of figures whose parts are not independent: whole clusters (users, or questions) are drawn anew.

Ratings of one user are alike, and so are pairs of one question: drawing single rows would make every interval too
narrow (Davison and Hinkley 1997, section 3.8). Pure: the seed is part of `Draws`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.reward.findings import Estimate

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.integer[Any]]
"""[N] the cluster of each row, 0 .. clusters - 1; or [N, 2], of rows that compare something of two clusters."""

RESAMPLES: Final = 1000
CHUNK: Final = 1 << 21
"""Drawn clusters that are held at once, in all resamples of a chunk together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """How intervals are drawn. The same draws of the same clusters belong together, so differences are paired."""

    confidence: float = 0.95
    seed: int = 1
    resamples: int = RESAMPLES

    def counts(self, clusters: int) -> Iterator[Floats]:
        """How often each cluster was drawn: chunks of [resamples of the chunk, clusters]."""
        rng, left = np.random.default_rng(self.seed), self.resamples
        while left:
            chunk = min(left, max(1, CHUNK // clusters))
            drawn = rng.integers(0, clusters, (chunk, clusters)) + np.arange(chunk)[:, None] * clusters
            yield np.bincount(drawn.ravel(), minlength=chunk * clusters).reshape(chunk, clusters).astype(np.float64)
            left -= chunk

    def of_sums(self, parts: Floats, codes: Codes, figure: Callable[[Floats], Floats]) -> Estimate:
        """A figure of sums over rows. `parts` [N, K] are added up; `figure` maps sums [..., K] to values [...].

        A row of two clusters, drawn n and m times, is there n * m times: the interval of a two-sample statistic, both
        of whose sides are drawn anew (Owen 2007, the pigeonhole bootstrap).
        """
        if not len(parts):
            return Estimate()
        codes, clusters = compact(codes)
        added = _one_way(parts, codes, clusters) if codes.ndim == 1 else _two_way(parts, codes, clusters)
        value = float(figure(parts.sum(axis=0)[None])[0])
        drawn = np.concatenate([figure(added(counts)) for counts in self.counts(clusters)])
        return self.estimate(value, drawn, len(parts), clusters)

    def mean(self, values: Floats, weights: Floats, codes: Codes, scale: Floats | None = None) -> Estimate:
        """The weighted mean of `values` [N]; with `scale` [N], the weighted sum of values over that of `scale`."""
        over = np.ones_like(values) if scale is None else scale
        return self.of_sums(np.stack([weights * values, weights * over], axis=1), codes, ratio)

    def estimate(self, value: float, drawn: Floats, count: int, clusters: int) -> Estimate:
        """The estimate of a figure from its value on all rows and on each resample; NaN is what can't be told."""
        if not np.isfinite(value):
            return Estimate(count=count, clusters=clusters)
        low, high = interval(drawn[np.isfinite(drawn)], self.confidence, clusters)
        return Estimate(value=value, low=low, high=high, count=count, clusters=clusters)


def compact(codes: Codes) -> tuple[Codes, int]:
    """The same clusters numbered without gaps, and how many there are."""
    found, inverse = np.unique(codes, return_inverse=True)
    return inverse.reshape(codes.shape), len(found)


def _one_way(parts: Floats, codes: Codes, clusters: int) -> Callable[[Floats], Floats]:
    """From how often each cluster was drawn [R, clusters] to the sums [R, K] over the rows [N, K] that were."""
    sums = np.stack([np.bincount(codes, column, clusters) for column in parts.T], axis=1)
    return lambda counts: counts @ sums


def _two_way(parts: Floats, codes: Codes, clusters: int) -> Callable[[Floats], Floats]:
    """As `_one_way`, for `codes` [N, 2]."""
    from scipy import sparse

    (one, other), across = codes.T, codes[:, 0] != codes[:, 1]
    within = _one_way(parts[~across], one[~across], clusters)
    places, shape = (one[across], other[across]), (clusters, clusters)
    matrices = [sparse.coo_array((column[across], places), shape=shape).tocsr() for column in parts.T]

    def added(counts: Floats) -> Floats:
        both = np.stack([(counts * (counts @ each)).sum(axis=1) for each in matrices], axis=1)
        return np.asarray(within(counts) + both, dtype=np.float64)

    return added


def ratio(sums: Floats) -> Floats:
    """sums[..., 0] / sums[..., 1], NaN over nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[..., 1] != 0, sums[..., 0] / sums[..., 1], np.nan)


def interval(drawn: Floats, confidence: float, clusters: int) -> tuple[float | None, float | None]:
    """The expanded percentile interval (Hesterberg 2015, section 5.4): its tails are those of Student's t.

    Few clusters make the plain one too narrow. (None, None) for fewer than two clusters: nothing varied.
    """
    if clusters < 2 or not len(drawn):
        return None, None
    from scipy import stats

    tail = (1 - confidence) / 2
    expanded = float(stats.norm.cdf(np.sqrt(clusters / (clusters - 1)) * stats.t.ppf(tail, clusters - 1)))
    low, high = np.quantile(drawn, [expanded, 1 - expanded])
    return float(low), float(high)
