"""Do the arms have the users that their shares say? If not, something loses users of one arm, and no comparison holds.

The sequential multinomial test of Lindon and Malek (Anytime-valid inference for multinomial count data, NeurIPS 2022),
with a Dirichlet mixture of its own for each stratum, so that shares may change. Exact at all looks together.
"""

import math
from dataclasses import dataclass

import numpy as np

from server.rollout.statistics.boundary import Floats
from server.rollout.statistics.outcomes import Ints

CONCENTRATION = 400.0
"""Of the Dirichlet distribution around the shares: deviations of some 2.5 percent points of a half are looked for."""
ALPHA = 0.01
"""Smaller than for comparisons: a mismatch means a defect, and stops an experiment."""


@dataclass(frozen=True)
class Mismatch:
    """What the counts say against the shares."""

    probability: float
    """An anytime-valid p-value of the counts as they are, at most 1."""
    found: bool
    expected: tuple[float, ...]
    """Users that the shares would give, by arm; `seen` are those counted."""
    seen: tuple[int, ...]


def mismatch(users: Ints, shares: Floats, *, alpha: float = ALPHA) -> Mismatch:
    """Judges counts [strata, arms] against shares of the same shape, whose rows sum to 1.

    Each user once, in the stratum where seen first (`outcomes.first_seen`): who comes back is no new throw. A share of
    0 allows nobody: a user there is a mismatch by itself.
    """
    if users.shape != shares.shape or not np.allclose(shares.sum(axis=1), 1.0) or (shares < 0).any():
        raise ValueError("shares must be one row a stratum that sums to 1, of the counts' shape")
    impossible = bool(users[shares == 0].any())
    against = math.inf if impossible else sum(map(_log_bayes_factor, users, shares))
    expected = tuple(float(each) for each in (users.sum(axis=1, keepdims=True) * shares).sum(axis=0))
    probability = math.exp(-max(0.0, against))
    return Mismatch(probability, probability <= alpha, expected, tuple(int(each) for each in users.sum(axis=0)))


def _log_bayes_factor(users: Ints, shares: Floats) -> float:
    """Of one stratum: how much likelier the counts are under shares of the Dirichlet distribution than these."""
    found = math.lgamma(CONCENTRATION) - math.lgamma(CONCENTRATION + int(users.sum()))
    for count, share in zip(users.tolist(), shares.tolist(), strict=True):
        if share:
            prior = CONCENTRATION * share
            found += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return found
