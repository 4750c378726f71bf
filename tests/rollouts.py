"""Rollouts, and evidence of them, for tests: everything is well unless a test says otherwise."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from server.rollout.plan import Plan, Strategy
from server.rollout.types import (
    Actor,
    Cause,
    Criterion,
    CriterionName,
    Evidence,
    Kind,
    Outcome,
    Pause,
    Readiness,
    Rollout,
    State,
    Verdict,
)

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
LAN = Actor("lan", is_person=True)
OLD, NEW = "reward-000007", "reward-000008"
RETURN = Plan(strategy=Strategy.RETURN, shadow=None, holdback=0)
MET = tuple(Criterion(name, Outcome.MET, f"{name} is fine.") for name in CriterionName)
HOUR, DAY = 3600.0, 86_400.0


def at(seconds: float) -> datetime:
    """So many seconds after the present state began."""
    return BEGAN + timedelta(seconds=seconds)


def rollout(state: State = State.DRAFT, **changes: Any) -> Rollout:
    """A rollout that entered this state at BEGAN."""
    basis = Rollout(
        rollout_id="0193",
        kind=Kind.REWARD,
        challenger=NEW,
        champion=OLD,
        plan=Plan(salt="salt"),
        drain_seconds=130.0,
        since=BEGAN,
        state=state,
        version=7,
    )
    return replace(basis, **changes)


def paused(cause: Cause = Cause.PERSON, resumes_to: State = State.CANARY, **changes: Any) -> Rollout:
    """One that was paused at BEGAN for one cause."""
    pause = Pause(cause, BEGAN, "Because.")
    return rollout(State.PAUSED, resumes_to=resumes_to, pauses=(pause,), **changes)


def good(of: Rollout, **changes: Any) -> Evidence:
    """Evidence of a rollout as it stands, which lets everything pass."""
    basis = Evidence(
        rollout_id=of.rollout_id,
        version=of.version,
        published=True,
        readiness=Readiness(2, 2),
        samples=1000,
        satisfaction=Verdict.SUPERIOR,
        quality=Verdict.NON_INFERIOR,
        criteria=MET,
        figures={"satisfaction": {"effect": 0.07}},
    )
    return replace(basis, **changes)
