"""Rare events: failures, safety reports. Exact with any number of users, where means are far from normal.

Users are counted once, with their first event. Had the arm no influence, each of them would be in the challenger's with
the probability that was its share then, whatever users do, and whenever; how often the coin fell on either side, by
stratum, is all that is needed. The mixture of likelihood ratios over a fixed grid is a martingale, so Ville's
inequality (1939) bounds the chance of ever passing 1 / alpha.
"""

import math
from collections.abc import Callable

import numpy as np

from server.rollout.statistics.boundary import Floats
from server.rollout.statistics.outcomes import Ints

GRID = np.linspace(-8.0, 8.0, 321)
"""Logarithms of rate ratios that the mixture is over: from 1 : 3,000 to 3,000 : 1."""
WIDTH = 1.5
"""Standard deviation of the mixture, of the logarithm: ratios up to some 20 are expected."""
FARTHEST = 40.0
"""Logarithm of a ratio beyond which there is no limit."""


def rate_ratio(events: Ints, shares: Floats, *, alpha: float = 0.05) -> tuple[float, float, float]:
    """How many times as many of the challenger's users have an event as of the champion's: estimate and limits.

    `events` [strata, 2] are users with an event, champion then challenger, each once; `shares` [strata] the
    challenger's, between 0 and 1. NaN, 0 and infinity without events. For a ratio of 1 exact at all looks; for others
    as far as events are rare, so that they don't use up an arm's users.
    """
    if not ((shares > 0) & (shares < 1)).all():
        raise ValueError(f"a stratum compares only with a share between 0 and 1: {shares.tolist()}")
    if not events.sum():
        return math.nan, 0.0, math.inf

    def against(log_ratio: float) -> float:
        return log_evidence(events, shares, log_ratio) + math.log(alpha)

    champion, challenger = events.sum(axis=0) > 0
    best = (_best(events, shares) if champion else FARTHEST) if challenger else -FARTHEST
    lower = _crossing(against, best, -FARTHEST) if challenger else -FARTHEST
    upper = _crossing(against, best, FARTHEST) if champion else FARTHEST
    return _ratio(best), _ratio(lower), _ratio(upper)


def log_evidence(events: Ints, shares: Floats, log_ratio: float = 0.0) -> float:
    """The logarithm of the mixture's likelihood by that of a ratio: on average at most 1 while that is the true one."""
    weights = -np.square(GRID / WIDTH) / 2
    mixture = np.logaddexp.reduce(weights + _log_likelihood(events, shares, GRID)) - np.logaddexp.reduce(weights)
    return float(mixture - _log_likelihood(events, shares, np.array([log_ratio]))[0])


def rate_limits(events: int, users: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """Limits of the share of users who have an event, at all looks: Robbins' (1970) mixture of binomials, uniform
    prior.

    Of users who came one by one and are counted at once. 0 and 1 without users.
    """
    if not 0 <= events <= users:
        raise ValueError(f"{events} of {users} users is no share")
    mixture = math.lgamma(events + 1) + math.lgamma(users - events + 1) - math.lgamma(users + 2) + math.log(alpha)

    def evidence(share: float) -> float:
        hits = events * math.log(share) if events else 0.0
        return mixture - hits - ((users - events) * math.log1p(-share) if users > events else 0.0)

    tiny, seen = 1e-12, events / users if users else 0.5
    lower = _crossing(evidence, seen, tiny) if events else 0.0
    upper = _crossing(evidence, seen, 1 - tiny) if users > events else 1.0
    return lower, upper


def _log_likelihood(events: Ints, shares: Floats, log_ratios: Floats) -> Floats:
    """Of which arms the events fell in, [ratios], up to a constant."""
    champion, challenger = events[:, 0, None], events[:, 1, None]
    odds = np.log(shares / (1 - shares))[:, None] + log_ratios
    return np.asarray((challenger * odds - (champion + challenger) * np.logaddexp(0.0, odds)).sum(axis=0))


def _best(events: Ints, shares: Floats) -> float:
    """The most likely logarithm of the ratio, where as many events as seen are expected of the challenger's users."""
    odds, either = np.log(shares / (1 - shares)), events.sum(axis=1)

    def missing(log_ratio: float) -> float:
        return float((either * np.exp(-np.logaddexp(0.0, -odds - log_ratio))).sum() - events[:, 1].sum())

    return _root(missing, -FARTHEST, FARTHEST)


def _crossing(evidence: Callable[[float], float], inside: float, outside: float) -> float:
    """Where the evidence against a value passes 0 on the way out; `outside` itself where it does not."""
    return outside if evidence(outside) < 0 else _root(evidence, inside, outside)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Of a function that is below 0 at `low` and not at `high`; by halving."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return high


def _ratio(log_ratio: float) -> float:
    return math.inf if log_ratio >= FARTHEST else 0.0 if log_ratio <= -FARTHEST else math.exp(log_ratio)
