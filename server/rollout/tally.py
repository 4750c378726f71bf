"""What was observed of a rollout, as statistics take it: users in strata and arms. Pure.

A stratum is a stage. Replies given while nobody was in the challenger's arm (a pause) compare with nothing and are left
out; so is feedback on any other replies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from server.rollout.assignment import BUCKETS
from server.rollout.observed import Failures, Observed, Rating, Replies, Report
from server.rollout.statistics import tails
from server.rollout.statistics.boundary import Floats
from server.rollout.statistics.criteria import Evidence
from server.rollout.statistics.outcomes import Flags, Ints, Outcomes, first_seen
from server.rollout.trial import Shares


class Calls(NamedTuple):
    """A row a reply, and one for what a unit got no reply to, of 0 calls where that was nobody's failure."""

    unit: Ints
    stage: Ints
    challenger: Flags
    number: Floats
    failed: Floats

    @classmethod
    def of(cls, replies: Replies, lost: Sequence[Failures]) -> "Calls":
        """Calls with and without a reply; the latter failed."""
        calls = np.array([each.calls for each in lost], dtype=np.float64)
        return cls(
            np.append(replies.unit, np.array([each.unit for each in lost], dtype=np.int64)),
            np.append(replies.stage, np.array([each.stage for each in lost], dtype=np.int64)),
            np.append(replies.challenger, np.array([each.challenger for each in lost], dtype=bool)),
            np.append(np.ones(len(replies)), calls),
            np.append(replies.failed.astype(np.float64), calls),
        )

    def outcomes(self) -> Outcomes:
        """1 for each that failed."""
        return Outcomes(self.unit, self.stage, self.challenger, self.number, self.failed)


@dataclass(frozen=True, slots=True)
class Tally:
    """What was observed in the stages of a plan. `of` makes one."""

    plan: Shares
    replies: Replies
    calls: Calls
    ratings: Outcomes
    reports: Sequence[Report]

    @classmethod
    def of(cls, plan: Shares, observed: Observed) -> "Tally":
        """Leaves out what compares with nothing."""
        known, stages = observed.replies, len(plan.stages)
        replies = known.where((known.share > 0) & (known.stage >= 0) & (known.stage < stages))
        lost = [each for each in observed.failures if 0 <= each.stage < stages]
        named = replies.where(replies.unit >= 0)  # one person may rate any number of requests that are nobody's
        return cls(plan, replies, Calls.of(replies, lost), _ratings(named, observed.ratings), observed.reports)

    @property
    def shares(self) -> Floats:
        """The challenger's of users, 0 to 1, by stage."""
        most = BUCKETS - self.plan.held_back
        return np.array([min(stage.buckets, most) / BUCKETS for stage in self.plan.stages], dtype=np.float64)

    def evidence(self) -> Evidence:
        """For `statistics.criteria`."""
        replies, calls, failed = self.replies, self.calls, self.calls.failed > 0
        reported = self._reported()  # also by users of whom no reply is known yet, or who have no name
        quality = np.isfinite(replies.quality)
        return Evidence(
            satisfaction=self.ratings,
            quality=_outcomes(replies.where(quality), replies.quality[quality]),
            failures=calls.outcomes(),
            latencies={name: _times(replies, seconds) for name, seconds in replies.seconds.items()},
            users=self.users(),
            failed=self._first(calls.unit[failed], calls.stage[failed], calls.challenger[failed]),
            reported=reported,
            treated=max(len(np.unique(calls.unit[calls.challenger])), int(reported.sum())),
            shares=self.shares,
        )

    def users(self) -> Ints:
        """Users [stages, 2] by arm, each where seen first."""
        return self._first(self.calls.unit, self.calls.stage, self.calls.challenger)

    def rated(self, stage: int) -> tuple[int, int]:
        """Rated users of a stage, in the champion's and in the challenger's arm."""
        here = self.ratings.stratum == stage
        challenger, user = self.ratings.challenger[here], self.ratings.user[here]
        return len(np.unique(user[~challenger])), len(np.unique(user[challenger]))

    def strata(self) -> list[dict[str, Any]]:
        """How many users each stage added to each arm, as JSON."""
        return [
            {"stage": stage, "share": float(share), "champion": int(count[0]), "challenger": int(count[1])}
            for stage, (share, count) in enumerate(zip(self.shares, self.users(), strict=True))
        ]

    def _first(self, unit: Ints, stage: Ints, challenger: Flags) -> Ints:
        return first_seen(unit, stage, challenger.astype(np.int64), strata=len(self.plan.stages), arms=2)

    def _reported(self) -> Ints:
        """The challenger's users with a report that was not dismissed; those not known yet count one each."""
        found, last = np.zeros((len(self.plan.stages), 2), dtype=np.int64), len(self.plan.stages) - 1
        standing = [each for each in self.reports if each.confirmed is not False]
        stages = {each.feedback_id if each.unit is None else each.unit: min(each.stage or 0, last) for each in standing}
        for stage in stages.values():
            found[stage, 1] += 1
        return found


def _ratings(replies: Replies, ratings: Sequence[Rating]) -> Outcomes:
    """Each rating with its reply's user, stage and arm."""
    said = [each for each in ratings if each.value is not None]
    wanted = np.array([each.reply for each in said], dtype=np.int64)
    order = np.argsort(replies.reply)
    ordered = replies.reply[order]
    place = np.minimum(np.searchsorted(ordered, wanted), max(len(ordered) - 1, 0))
    found = ordered[place] == wanted if len(ordered) else np.zeros(len(said), dtype=bool)
    values = np.array([each.value for each in said], dtype=np.float64)[found]
    row = order[place[found]] if len(ordered) else place[found]
    return Outcomes(replies.unit[row], replies.stage[row], replies.challenger[row], np.ones(len(values)), values)


def _outcomes(replies: Replies, values: Floats) -> Outcomes:
    return Outcomes(replies.unit, replies.stage, replies.challenger, np.ones(len(values)), values)


def _times(replies: Replies, seconds: Floats) -> tails.Replies:
    known = np.isfinite(seconds)
    return tails.Replies(replies.unit[known], replies.stage[known], replies.challenger[known], seconds[known])
