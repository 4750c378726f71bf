"""How scores agree with what people said. Pure, on arrays: logits or scores, ratings of 0..1, weights, clusters."""

import numpy as np

from trainer.reward.bootstrap import Codes, Draws, Floats, compact
from trainer.reward.findings import Estimate

SIMILAR = (0.8, 1.25)
"""Between which two responses' lengths (characters) are alike: length can't tell them apart."""


def ordered(chosen: Floats, rejected: Floats) -> Floats:
    """[N] 1 where the chosen one scores higher, 0 where lower, 0.5 on ties."""
    return np.where(chosen > rejected, 1.0, np.where(chosen < rejected, 0.0, 0.5))


def similar(chosen: Floats, rejected: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """[N] whether two lengths are within 0.8 to 1.25 of each other; two empty texts are."""
    low, high = SIMILAR
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = (chosen >= low * rejected) & (chosen <= high * rejected)
    return found


def pearson(x: Floats, y: Floats, weights: Floats, codes: Codes, draws: Draws) -> Estimate:
    """The weighted correlation of `x` and `y` [N]; None where one of them does not vary."""
    if not len(x):
        return Estimate()
    x, y = x - x.mean(), y - y.mean()  # sums of squares stay exact
    parts = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1) * weights[:, None]
    return draws.of_sums(parts, codes, correlation)


def correlation(sums: Floats) -> Floats:
    """[...] from sums [..., 6] of w, wx, wy, wxx, wyy, wxy. NaN where nothing varies."""
    with np.errstate(invalid="ignore", divide="ignore"):
        w, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        x, y = x / w, y / w
        spread_x, spread_y = xx / w - x * x, yy / w - y * y
        varies = (spread_x > 1e-15) & (spread_y > 1e-15)
        return np.where(varies, (xy / w - x * y) / np.sqrt(np.where(varies, spread_x * spread_y, 1.0)), np.nan)


def spearman(x: Floats, y: Floats, weights: Floats, codes: Codes, draws: Draws) -> Estimate:
    """The weighted correlation of the ranks of `x` and `y` [N], ties at their middle; resamples are ranked anew."""
    if not len(x):
        return Estimate()
    (x_level, x_levels), (y_level, y_levels) = compact_values(x), compact_values(y)
    codes, clusters = compact(codes)

    def rank_correlation(row: Floats) -> float:
        ranks = _middles(x_level, x_levels, row), _middles(y_level, y_levels, row)
        return _correlation(*ranks, row)

    drawn = [rank_correlation(row[codes] * weights) for counts in draws.counts(clusters) for row in counts]
    return draws.estimate(rank_correlation(weights), np.asarray(drawn), len(x), clusters)


def compact_values(values: Floats) -> tuple[Codes, int]:
    """The level of each value among the sorted different ones, and how many there are."""
    found, inverse = np.unique(values, return_inverse=True)
    return inverse, len(found)


def _middles(level: Codes, levels: int, weights: Floats) -> Floats:
    """[N] the weight below each value's level and half of its own: its middle rank."""
    held = np.bincount(level, weights, levels)
    middles: Floats = (np.cumsum(held) - held / 2)[level]
    return middles


def _correlation(x: Floats, y: Floats, weights: Floats) -> float:
    total = weights.sum()
    if total <= 0:
        return float("nan")
    x, y = x - weights @ x / total, y - weights @ y / total
    spread = float((weights @ (x * x)) * (weights @ (y * y)))
    return float(weights @ (x * y)) / spread**0.5 if spread > 1e-24 * total**2 else float("nan")
