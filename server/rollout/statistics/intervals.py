"""Differences and ratios of two arms with limits that hold at all looks together; and what is too little to judge."""

from dataclasses import dataclass, replace

import numpy as np

from server.rollout.statistics.boundary import Boundary, Floats, Side
from server.rollout.statistics.estimates import Estimate
from server.rollout.statistics.outcomes import Flags

LEAST_USERS = 200.0
"""An arm; below, the normal approximation of means with long tails can't be trusted."""
LEAST_EVENTS = 10.0
"""Users' worth of the rarer outcome to expect in each arm; likewise, for outcomes from 0 to 1."""

ROUNDING = 1e-6


@dataclass(frozen=True)
class Interval:
    """A value and its limits, of one shape. NaN where there is nothing to estimate, infinite where no limit."""

    value: Floats
    lower: Floats
    upper: Floats


def enough(estimate: Estimate, *, proportion: bool = True) -> Flags:
    """Whether there may be a verdict; `proportion`: the outcome goes from 0 to 1.

    The rarer outcome is counted as were both arms the same: a challenger that has none of it where ten are expected has
    said a lot.
    """
    users = np.minimum(estimate.champion_users, estimate.challenger_users) + ROUNDING
    if not proportion:
        return np.asarray(users >= LEAST_USERS)
    both = _pooled(estimate, estimate.champion, estimate.challenger)
    return np.asarray((users >= LEAST_USERS) & (users * np.minimum(both, 1 - both) >= LEAST_EVENTS))


def steadied(estimate: Estimate) -> Estimate:
    """For outcomes from 0 to 1: an arm with few of the rarer outcome varies as both arms together, if that is more.

    Of two misses in 200 its own variance can't be known, and would be too small just when the mean is too good.
    """
    each = (estimate.champion_users, estimate.challenger_users)
    own = (estimate.champion_variance * each[0], estimate.challenger_variance * each[1])
    both, means = _pooled(estimate, *own), (estimate.champion, estimate.challenger)
    champion, challenger = (
        np.where(users * np.minimum(mean, 1 - mean) < LEAST_EVENTS - ROUNDING, np.maximum(one, both), one)
        / np.maximum(users, 1)
        for users, mean, one in zip(each, means, own, strict=True)
    )
    return replace(estimate, champion_variance=champion, challenger_variance=challenger)


def _pooled(estimate: Estimate, champion: Floats, challenger: Floats) -> Floats:
    """The mean over the users of both arms."""
    total = estimate.champion_users * champion + estimate.challenger_users * challenger
    return np.asarray(total / np.maximum(estimate.champion_users + estimate.challenger_users, 1))


def difference(estimate: Estimate, boundary: Boundary) -> Interval:
    """challenger - champion, in the outcome's unit."""
    value, error = estimate.contrast()
    return _around(value, error, estimate.effective, boundary)


def challenger_level(estimate: Estimate, boundary: Boundary) -> Interval:
    """The challenger's mean by itself. The clock is the challenger's users."""
    error = np.sqrt(np.maximum(estimate.challenger_variance, 0.0))
    return _around(estimate.challenger, error, estimate.challenger_users, boundary)


def relative(estimate: Estimate, boundary: Boundary) -> Interval:
    """challenger / champion - 1, for outcomes above 0: 0.05 is 5 % more.

    Fieller's (1954) set at each look: all ratios q for which the sequence of challenger - q * champion holds 0. For the
    true q that fails in at most `alpha` of all experiments at any look, so nothing is lost to linearising. Unlimited
    while the champion's own mean is not told from 0.
    """
    factor = np.square(boundary.multiplier(estimate.effective))
    with np.errstate(divide="ignore", invalid="ignore"):
        a = np.square(estimate.champion) - factor * estimate.champion_variance
        b = estimate.champion * estimate.challenger - factor * estimate.covariance
        c = np.square(estimate.challenger) - factor * estimate.challenger_variance
        half = np.sqrt(np.maximum(np.square(b) - a * c, 0.0)) / a
        value, centre = estimate.challenger / estimate.champion - 1, b / a - 1
        limited = (a > 0) & (estimate.champion > 0)
        lower, upper = np.where(limited, centre - half, -np.inf), np.where(limited, centre + half, np.inf)
    return _sided(value, lower, upper, boundary.side)


def _around(value: Floats, error: Floats, users: Floats, boundary: Boundary) -> Interval:
    with np.errstate(invalid="ignore"):
        half = np.where(users > 0, error * boundary.multiplier(users), np.inf)
    lower, upper = (
        np.where(users > 0, each, limit) for each, limit in ((value - half, -np.inf), (value + half, np.inf))
    )
    return _sided(value, lower, upper, boundary.side)


def _sided(value: Floats, lower: Floats, upper: Floats, side: Side) -> Interval:
    return Interval(
        value,
        np.full_like(lower, -np.inf) if side is Side.UPPER else lower,
        np.full_like(upper, np.inf) if side is Side.LOWER else upper,
    )
