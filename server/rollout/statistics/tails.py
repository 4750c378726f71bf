"""Ratios of high quantiles: is the slowest twentieth slower? Users are the unit, and all looks may be used.

Each arm's quantile has the limits that its own share of replies above it has, read off the same distribution (Woodruff
1952), with the boundary's multiplier; those of the ratio are recovered from them (MOVER, Zou and Donner 2008). No
density is estimated. Each user's replies in a stratum weigh as one, as in means.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from server.rollout.statistics.boundary import Boundary, Floats, Side
from server.rollout.statistics.estimates import Estimate, estimate, parts
from server.rollout.statistics.intervals import Interval
from server.rollout.statistics.outcomes import Flags, Ints, Moments, Outcomes, layout


@dataclass(frozen=True)
class Replies:
    """One row a reply; as `Outcomes`, but that each has its own value, above 0: seconds."""

    user: Ints
    stratum: Ints
    challenger: Flags
    value: Floats

    def __post_init__(self) -> None:
        if len({each.shape for each in (self.user, self.stratum, self.challenger, self.value)}) != 1:
            raise ValueError("replies must be columns of one length")
        if not (np.isfinite(self.value).all() and (self.value > 0).all()):
            raise ValueError("values must be finite and above 0")

    def outcomes(self) -> Outcomes:
        """For means."""
        return Outcomes(self.user, self.stratum, self.challenger, np.ones(len(self.value)), self.value)


def quantile_ratio(replies: Replies, quantile: float, boundary: Boundary) -> tuple[Interval, Estimate]:
    """The challenger's quantile by the champion's, - 1; and the estimate of the share of replies above the champion's.

    0.1 is 10 % slower. NaN and infinite limits where no stratum has two users in each arm.
    """
    found = layout(replies.user, replies.stratum, replies.challenger)
    count = np.bincount(found.unit)

    def shares_above(threshold: float) -> Moments:
        return found.moments(np.bincount(found.unit, replies.value > threshold, len(count)) / count)

    weight = (parts(shares_above(math.inf))[found.cell] / count)[found.unit]
    if not weight.any():
        nothing = np.asarray(math.nan)
        return Interval(nothing, np.asarray(-math.inf), np.asarray(math.inf)), estimate(shares_above(math.inf))
    ends = []
    for arm in (False, True):
        here = replies.challenger == arm
        values = _Distribution.of(replies.value[here], weight[here])
        ends.append((values, estimate(shares_above(values.at(quantile)))))
    champion, challenger = (
        _limits(values, quantile, _spread(known, arm, boundary)) for arm, (values, known) in enumerate(ends)
    )
    return _ratio(champion, challenger, boundary.side), ends[0][1]


class _Distribution(NamedTuple):
    value: Floats
    share: Floats
    """Of replies up to the value."""

    @classmethod
    def of(cls, value: Floats, weight: Floats) -> "_Distribution":
        order = np.argsort(value)
        return cls(value[order], np.cumsum(weight[order]))

    def at(self, share: float) -> float:
        """The least value that so much lies up to; 0 and infinity outside of 0 to 1."""
        if not 0 < share < 1:
            return 0.0 if share <= 0 else math.inf
        return float(self.value[min(int(np.searchsorted(self.share, share)), len(self.value) - 1)])


class _Limits(NamedTuple):
    """Logarithms."""

    value: float
    lower: float
    upper: float


def _spread(known: Estimate, arm: int, boundary: Boundary) -> float:
    variance = known.challenger_variance if arm else known.champion_variance
    return float(np.sqrt(np.maximum(variance, 0.0)) * boundary.multiplier(known.effective))


def _limits(values: _Distribution, quantile: float, spread: float) -> _Limits:
    lower = values.at(quantile - spread)
    return _Limits(
        math.log(values.at(quantile)), math.log(lower) if lower else -math.inf, math.log(values.at(quantile + spread))
    )


def _ratio(champion: _Limits, challenger: _Limits, side: Side) -> Interval:
    value = challenger.value - champion.value
    below = math.hypot(challenger.value - challenger.lower, champion.upper - champion.value)
    above = math.hypot(challenger.upper - challenger.value, champion.value - champion.lower)
    lower = -math.inf if side is Side.UPPER else math.expm1(value - below)
    upper = math.inf if side is Side.LOWER else math.expm1(value + above)
    return Interval(np.asarray(math.expm1(value)), np.asarray(lower), np.asarray(upper))
