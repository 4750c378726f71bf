"""What users gave, and the sums over users that are all an estimate needs.

Replies of one user are alike, so the user is the unit: a user's mean in an arm counts once, however many replies it is
of. A stratum is a span in which the arms' shares stayed the same (a stage of a rollout); within one, who is in which
arm is chance alone, whatever the baseline does from one to the next.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.rollout.statistics.boundary import Floats

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """Present totals, a row each, of all that is known now; rows of the same user, stratum and arm are added up.

    By intention to treat: `challenger` is the arm that was assigned when the reply was given, whoever answered.
    """

    user: Ints
    stratum: Ints
    """In order of time, of the reply and not of its feedback. Any whole numbers."""
    challenger: Flags
    count: Floats
    """How many replies, or ratings; may be weights. Rows of 0 say nothing and are left out."""
    total: Floats
    """The sum over them: thumbs up, stars as (stars - 1) / 4, seconds, failures."""

    def __post_init__(self) -> None:
        columns = (self.user, self.stratum, self.challenger, self.count, self.total)
        if len({column.shape for column in columns}) != 1 or self.user.ndim != 1:
            raise ValueError("outcomes must be columns of one length")
        if not (np.isfinite(self.count).all() and np.isfinite(self.total).all() and (self.count >= 0).all()):
            raise ValueError("counts and totals must be finite, and counts not below 0")


@dataclass(frozen=True)
class Moments:
    """Sums over users, for each two cells; a cell is a stratum and an arm: 2 * stratum + (1 if challenger).

    Shapes [..., cells, cells]; leading axes are experiments of their own.
    """

    users: Floats
    """Users seen in both cells; on the diagonal, in the cell."""
    sums: Floats
    """Their means in the first cell, summed."""
    products: Floats
    """Their means in both cells, multiplied and summed."""


@dataclass(frozen=True)
class Layout:
    """Where rows belong: `unit` is each row's user and cell, `user` and `cell` those of each unit. All from 0."""

    unit: Ints
    user: Ints
    cell: Ints
    cells: int

    def moments(self, means: Floats) -> Moments:
        """Of one mean a unit."""
        here = np.zeros((int(self.user.max(initial=-1)) + 1, self.cells))
        there = np.zeros_like(here)
        here[self.user, self.cell] = means
        there[self.user, self.cell] = 1
        return Moments(there.T @ there, here.T @ there, here.T @ here)


def layout(user: Ints, stratum: Ints, challenger: Flags) -> Layout:
    """Finds the units of rows; memory goes with users times strata."""
    strata, place = np.unique(stratum, return_inverse=True)
    _, who = np.unique(user, return_inverse=True)
    cells = 2 * max(1, len(strata))
    units, unit = np.unique(who * cells + 2 * place + challenger, return_inverse=True)
    return Layout(unit, units // cells, units % cells, cells)


def gather(outcomes: Outcomes) -> Moments:
    """The sums that outcomes come to. The order of rows, and how replies are spread over rows, don't matter."""
    known = outcomes.count > 0
    found = layout(outcomes.user[known], outcomes.stratum[known], outcomes.challenger[known])
    count = np.bincount(found.unit, outcomes.count[known])
    return found.moments(np.bincount(found.unit, outcomes.total[known]) / count)


def first_seen(user: Ints, stratum: Ints, arm: Ints, *, strata: int, arms: int) -> Ints:
    """How many users came to each arm in each stratum, [strata, arms]: each user once, where seen first.

    `stratum` and `arm` count from 0. A user who was seen in two arms of one stratum, which a server that had not heard
    of the change yet can do, counts in the lower arm.
    """
    order = np.lexsort((arm, stratum, user))
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = user[order][1:] != user[order][:-1]
    found = order[fresh]
    return np.bincount(stratum[found] * arms + arm[found], minlength=strata * arms).reshape(strata, arms)
