"""Means of both arms, comparable although the shares changed while the baseline moved.

Within a stratum users are weighted by the inverse of their arm's share among the stratum's users (self-normalised;
estimating the share that is known makes it no worse: Hirano, Imbens and Ridder 2003), strata by what they tell (users
of one arm times users of the other by their sum: the overlap weights of Li, Morgan and Zaslavsky 2018). So both arms
are the same mixture of strata, and no user weighs more than others of a scarce arm. It is the regression on arm and
stratum with standard errors clustered by user.
"""

from dataclasses import dataclass

import numpy as np

from server.rollout.statistics.boundary import Floats
from server.rollout.statistics.outcomes import Moments


@dataclass(frozen=True)
class Estimate:
    """Two means and how sure they are. Fields have the shape of the moments' leading axes, none for one experiment.

    Without a stratum that has two users in each arm, means are NaN and all else is 0.
    """

    champion: Floats
    challenger: Floats
    champion_variance: Floats
    """Of the mean, clustered by user; so are the other two."""
    challenger_variance: Floats
    covariance: Floats
    """Of both means: users who went from one arm to the other in the ramp are in both."""
    champion_users: Floats
    """Kish's (1965) effective number, as if all weighed the same; in one stratum the number."""
    challenger_users: Floats
    effective: Floats
    """Users of one arm times users of the other by their sum, over all strata: the clock of the boundary."""

    def contrast(self, factor: Floats | float = 1.0) -> tuple[Floats, Floats]:
        """challenger - factor * champion, and its standard error."""
        variance = self.challenger_variance - 2 * factor * self.covariance + np.square(factor) * self.champion_variance
        return self.challenger - factor * self.champion, np.sqrt(np.maximum(variance, 0.0))


def estimate(moments: Moments) -> Estimate:
    """What the moments say of both arms."""
    users, weight = _counted(moments)
    effective, part = weight.sum(axis=-1), parts(moments)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.where(users > 0, np.diagonal(moments.sums, axis1=-2, axis2=-1) / users, 0.0)
        arms = _arms(means * users * part) / (effective > 0)[..., None]
        # n - 1: residuals are from means of the same users
        spread = part * np.sqrt(np.where(part > 0, users / (users - 1), 0.0))
        kish = 1 / np.diagonal(_by_arms(moments.users, part), axis1=-2, axis2=-1)
    variance = _by_arms(_centred(moments, means), spread)
    return Estimate(
        champion=arms[..., 0],
        challenger=arms[..., 1],
        champion_variance=variance[..., 0, 0],
        challenger_variance=variance[..., 1, 1],
        covariance=variance[..., 0, 1],
        champion_users=np.where(effective > 0, kish[..., 0], 0.0),
        challenger_users=np.where(effective > 0, kish[..., 1], 0.0),
        effective=effective,
    )


def alone(mean: Floats) -> Estimate:
    """The challenger's users by themselves, whose means these are; of a champion there is nothing."""
    users, nothing = np.asarray(float(len(mean)) if len(mean) > 1 else 0.0), np.asarray(0.0)
    return Estimate(
        champion=np.asarray(np.nan),
        challenger=np.asarray(mean.mean() if len(mean) else np.nan),
        champion_variance=nothing,
        challenger_variance=np.asarray(mean.var(ddof=1) / users if users else 0.0),
        covariance=nothing,
        champion_users=users,
        challenger_users=users,
        effective=users,
    )


def parts(moments: Moments) -> Floats:
    """What one user of each cell is of the arm's mean, [..., cells]; 0 in strata without two users in each arm."""
    users, weight = _counted(moments)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = weight / weight.sum(axis=-1, keepdims=True)
        return np.where(np.repeat(weight, 2, axis=-1) > 0, np.repeat(share, 2, axis=-1) / users, 0.0)


def _counted(moments: Moments) -> tuple[Floats, Floats]:
    """Users [..., cells], and what each stratum tells [..., strata]."""
    users = np.diagonal(moments.users, axis1=-2, axis2=-1)
    champion, challenger = users[..., 0::2], users[..., 1::2]
    with np.errstate(divide="ignore", invalid="ignore"):
        told = champion * challenger / (champion + challenger)
    return users, np.where(np.minimum(champion, challenger) >= 2, told, 0.0)


def _arms(cells: Floats) -> Floats:
    return np.stack([cells[..., 0::2].sum(axis=-1), cells[..., 1::2].sum(axis=-1)], axis=-1)


def _centred(moments: Moments, means: Floats) -> Floats:
    """Products of residuals, summed over the users who are in both cells."""
    row, column = means[..., :, None], means[..., None, :]
    crossed = column * moments.sums + row * np.swapaxes(moments.sums, -1, -2)
    return np.asarray(moments.products - crossed + row * column * moments.users)


def _by_arms(cells: Floats, part: Floats) -> Floats:
    """[..., cells, cells] weighed by each cell's part and added up, to [..., arms, arms]."""
    weighed = cells * part[..., :, None] * part[..., None, :]
    return _arms(np.swapaxes(_arms(weighed), -1, -2))
