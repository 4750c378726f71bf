"""What a rollout wants of the world: who gets which release, and which releases are loaded. Pure.

Both follow from the stored rollout and the time alone, and from nothing that was done before. So a new leader, or a
server that just started, derives the same, and doing it twice does no harm.
"""

from dataclasses import dataclass
from datetime import datetime

from server.rollout.assignment import BUCKETS, Lane, Split
from server.rollout.types import Cause, Rollout, State


@dataclass(frozen=True, slots=True)
class Shadowing:
    """The release that answers unseen, and the share (0 to 1) of requests that it answers."""

    release: str
    share: float


@dataclass(frozen=True, slots=True)
class Routing:
    """Who answers. `split` names arms by release, and whoever is in none of its lanes gets the champion."""

    champion: str
    split: Split
    shadow: Shadowing | None = None

    @property
    def shares(self) -> dict[str, float]:
        """The share of users (0 to 1) of each release that has any; they sum to 1."""
        of = {lane.arm: lane.buckets / BUCKETS for lane in self.split.lanes if lane.buckets}
        champion = (BUCKETS - self.split.treated) / BUCKETS
        return {**of, self.champion: champion} if champion else of


def routing(rollout: Rollout) -> Routing:
    """Who answers while the rollout stands as it does. Once it is verified the challenger is the champion."""
    if rollout.state is State.VERIFIED:
        return Routing(rollout.challenger, Split(rollout.plan.salt))
    held_back = rollout.plan.held_back
    lane = Lane(rollout.challenger, _buckets(rollout), BUCKETS - held_back)
    shadow = rollout.plan.shadow
    return Routing(
        champion=rollout.champion,
        split=Split(rollout.plan.salt, (lane,), held_back),
        shadow=Shadowing(rollout.challenger, shadow.share) if shadow and _answers(rollout, State.SHADOW) else None,
    )


def loaded(rollout: Rollout, now: datetime) -> frozenset[str]:
    """The releases that are to be loaded on each replica.

    A release that lost its traffic stays until calls that it had must have ended: the challenger in ROLLING_BACK, the
    former champion for as long after VERIFIED.
    """
    match rollout.state:
        case State.DRAFT | State.ROLLED_BACK | State.FAILED:
            return frozenset({rollout.champion})
        case State.VERIFIED if rollout.elapsed(now) >= rollout.drain_seconds:
            return frozenset({rollout.challenger})
    return frozenset({rollout.champion, rollout.challenger})


def _buckets(rollout: Rollout) -> int:
    if not _answers(rollout, State.CANARY):
        return 0
    return min(rollout.plan.stages[rollout.stage].buckets, BUCKETS - rollout.plan.held_back)


def _answers(rollout: Rollout, state: State) -> bool:
    """Whether the challenger answers as in `state`: while it is in it, or a person paused it there and nothing else
    is wrong."""
    if rollout.state is state:
        return True
    return rollout.state is State.PAUSED and rollout.resumes_to is state and rollout.causes == {Cause.PERSON}
