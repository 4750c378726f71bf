"""What an interval lets one say, and how long it takes until it says something."""

import math
from dataclasses import dataclass
from enum import StrEnum

from server.rollout.statistics.boundary import Boundary
from server.rollout.statistics.estimates import Estimate
from server.rollout.statistics.intervals import LEAST_EVENTS, LEAST_USERS, Interval

LONGEST = 1e6
"""Times the present data; what would take more is never."""


class Verdict(StrEnum):
    """Of the challenger, against the champion. All of them, at all looks, are right together in 1 - alpha of
    experiments.
    """

    SUPERIOR = "superior"
    NON_INFERIOR = "non_inferior"
    INFERIOR = "inferior"
    UNDECIDED = "undecided"


def verdict(interval: Interval, enough: bool, *, gain: float = 0.0, margin: float = 0.0) -> Verdict:
    """Superior: better by more than `gain`. Non-inferior: not worse by `margin`. Inferior: worse, and not within
    `margin`.

    For outcomes of which more is better; both bounds are in the interval's unit and not below 0. Too little data, or
    nothing to estimate, is no verdict, never a pass.
    """
    if not enough:
        return Verdict.UNDECIDED
    if interval.lower > gain:
        return Verdict.SUPERIOR
    if interval.lower > -margin:
        return Verdict.NON_INFERIOR
    return Verdict.INFERIOR if interval.upper < 0 else Verdict.UNDECIDED


@dataclass(frozen=True)
class Pace:
    """How users come: new ones a day in both arms together, and the challenger's share of them, between 0 and 1."""

    users: float
    share: float


@dataclass(frozen=True)
class Horizon:
    """What is still missing, of users and of days."""

    users: float
    days: float


def horizon(
    known: Estimate, boundary: Boundary, pace: Pace, *, target: float = 0.0, proportion: bool = True, ratio: bool = True
) -> Horizon | None:
    """How long until the interval leaves `target` on one side, should the effect and the pace stay what they are.

    `target` is 0 or a margin, of `relative` if `ratio`, else of `difference`. A guess, of use for planning only. None
    where it never comes: no estimate yet, no new users, or an effect that lies at the target.
    """
    gap, error = known.contrast(1 + target if ratio else 1.0)
    distance = abs(float(gap) - (0.0 if ratio else target))
    told = pace.users * pace.share * (1 - pace.share)
    if not (known.effective > 0 and told > 0 and distance > 0):
        return None
    times = max(_times(float(error) / distance, float(known.effective), boundary), _times_enough(known, proportion))
    days = (times - 1) * float(known.effective) / told
    return Horizon(days * pace.users, days) if times < LONGEST else None


def _times(error: float, effective: float, boundary: Boundary) -> float:
    """How many times the data make `error` times the multiplier less than 1; by halving, on the logarithm."""
    low, high = 0.0, math.log(LONGEST)
    if error * float(boundary.multiplier(effective)) < 1:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        reached = error * math.exp(-middle / 2) * float(boundary.multiplier(effective * math.exp(middle))) < 1
        low, high = (low, middle) if reached else (middle, high)
    return math.exp(high)


def _times_enough(known: Estimate, proportion: bool) -> float:
    """How many times the data satisfy `intervals.enough`."""
    fewest, all_users = min(known.champion_users, known.challenger_users), known.champion_users + known.challenger_users
    both = float(known.champion_users * known.champion + known.challenger_users * known.challenger) / all_users
    rarer = min(both, 1 - both)
    events = (LEAST_EVENTS / (fewest * rarer) if rarer > 0 else math.inf) if proportion else 0.0
    return max(1.0, float(LEAST_USERS / fewest), float(events))
