"""What the benchmarks of rollouts do as an operator: publish, start, watch. Through the API, as anybody."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from ratchet.v1 import feedback_pb2_grpc, release_pb2, release_pb2_grpc, rollout_pb2, rollout_pb2_grpc

CALL = 30.0
LONGEST = 1800.0
"""Seconds that one rollout may take here."""
SETTINGS = {
    "minimum_reward": 0,  # which replies pass must not hang on thresholds: satisfaction and failures are looked at
    "score_cache": "off",  # scores that were computed before would hide a fault
    "feedback_per_minute": 10_000,
    "deadline": 10,
    "max_deadline": 10,  # it also decides how long a release that lost its traffic is kept
}


@dataclass(frozen=True, slots=True)
class Stubs:
    """What a rollout's operator calls."""

    releases: Any
    rollouts: Any
    feedback: Any

    @classmethod
    def of(cls, channel: grpc.aio.Channel) -> "Stubs":
        """On one channel."""
        return cls(
            release_pb2_grpc.ReleaseServiceStub(channel),
            rollout_pb2_grpc.RolloutServiceStub(channel),
            feedback_pb2_grpc.FeedbackServiceStub(channel),
        )


@dataclass(slots=True)
class Watched:
    """A rollout as it is seen from outside while it goes on. Times are of the monotonic clock, as the crowd's."""

    rollout_id: str
    release: str
    states: list[tuple[float, str]] = field(default_factory=list)
    """When each (state, stage) was first seen, and its name."""
    share: float = 0.0
    reported: float | None = None
    """When a safety report was accepted."""
    given_back: float | None = None
    """When the champion was first seen to have all traffic after that."""

    @property
    def asked(self) -> rollout_pb2.GetRolloutRequest:
        """What asks for it."""
        return rollout_pb2.GetRolloutRequest(rollout_id=self.rollout_id)

    @property
    def is_over(self) -> bool:
        """Whether it ended."""
        return bool(self.states) and self.states[-1][1] in ("VERIFIED", "ROLLED_BACK", "FAILED")


def plan(stages: Sequence[tuple[float, int]], **goals: float) -> rollout_pb2.RolloutPlan:
    """Stages of (share, least samples) that hardly wait for time, without a shadow, with the usual holdback."""
    found = [
        rollout_pb2.RolloutStage(
            share=share,
            waiting=rollout_pb2.RolloutWaiting(minimum_samples=least, minimum_seconds=2, longest_seconds=LONGEST),
        )
        for share, least in stages
    ]
    return rollout_pb2.RolloutPlan(stages=found, no_shadow=True, goals=rollout_pb2.RolloutGoals(**goals))


async def begin(stubs: Stubs, directory: Path, wanted: rollout_pb2.RolloutPlan) -> Watched:
    """Publishes the release in `directory`, and starts its rollout."""
    await stubs.releases.PublishRelease(release_pb2.PublishReleaseRequest(directory=str(directory)), timeout=CALL)
    request = rollout_pb2.StartRolloutRequest(release=directory.name, plan=wanted, reason="a benchmark")
    started = (await stubs.rollouts.StartRollout(request, timeout=CALL)).rollout
    return Watched(started.rollout_id, directory.name)


async def look(stubs: Stubs, watched: Watched) -> None:
    """Notes where it stands now."""
    rollout = (await stubs.rollouts.GetRollout(watched.asked, timeout=CALL)).rollout
    state, watched.share = name_of(rollout), rollout.share
    if not watched.states or watched.states[-1][1] != state:
        watched.states.append((time.monotonic(), state))
    if watched.reported is not None and watched.given_back is None and not rollout.share:
        watched.given_back = time.monotonic()


def name_of(rollout: Any) -> str:
    """Its state, with the share of a canary's stage."""
    name = rollout_pb2.RolloutState.Name(rollout.state).removeprefix("ROLLOUT_STATE_")
    return f"{name} {rollout.plan.stages[rollout.stage].share:.0%}" if name == "CANARY" else name
