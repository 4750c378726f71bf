"""What people do with rollouts: draft, start, promote, pause, resume, roll back, and undo a verified one. Pure.

A command that finds done what it asks changes nothing and says so. What gives traffic needs the version that the person
saw, so that a command that is repeated, or late, never gives more than was asked.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from server.rollout.errors import RolloutChanged, RolloutNotPossible
from server.rollout.guards import Look
from server.rollout.machine import move, position
from server.rollout.plan import Plan, Strategy
from server.rollout.types import Actor, Cause, Decision, Event, Evidence, Kind, Move, Rollout, State, Trigger, Wait

DRAIN_MARGIN = 10.0
"""Seconds beyond the longest deadline: servers hear of a change within one, and clocks and networks are late."""


@dataclass(frozen=True, slots=True)
class Command:
    """PROMOTE, PAUSE, RESUME or ROLL_BACK by a person. `version` is the rollout's as the person saw it; PAUSE and
    ROLL_BACK take None: whatever it is by now."""

    trigger: Trigger
    actor: Actor
    reason: str
    version: int | None = None


def draft(
    *,
    rollout_id: str,
    kind: Kind,
    challenger: str,
    champion: str,
    plan: Plan,
    longest_deadline: float,
    actor: Actor,
    reason: str,
    now: datetime,
    undoes: str = "",
) -> Move:
    """A new rollout, which waits to be started, and its first event. `longest_deadline`: seconds that a call may take.

    A plan without a salt gets the rollout's own: other users come first each time. Raises RolloutNotPossible.
    """
    if challenger == champion:
        raise RolloutNotPossible(f"{challenger} is the champion already.")
    if (plan.strategy is Strategy.RETURN) != bool(undoes):
        raise RolloutNotPossible("Only undoing a verified rollout is a return: it skips what others must prove.")
    salted = plan if plan.salt else plan.model_copy(update={"salt": f"{kind}:{rollout_id}"})
    rollout = Rollout(
        rollout_id=rollout_id,
        kind=kind,
        challenger=challenger,
        champion=champion,
        plan=salted,
        drain_seconds=longest_deadline + DRAIN_MARGIN,
        since=now,
        undoes=undoes,
    )
    event = Event(
        rollout_id=rollout_id,
        version=rollout.version,
        at=now,
        actor=actor,
        trigger=Trigger.DRAFT,
        before=None,
        after=position(rollout),
        reason=reason,
        evidence=None,
    )
    return Move(rollout, event)


def undo(
    verified: Rollout, *, rollout_id: str, plan: Plan | None = None, actor: Actor, reason: str, now: datetime
) -> Move:
    """A new rollout that takes a verified one's former champion back: rolling back after the end.

    It is a rollout like any other, to be started, paused and rolled back; it needs no success criteria. Raises
    RolloutNotPossible.
    """
    if verified.state is not State.VERIFIED:
        raise RolloutNotPossible("Only what was verified is undone; anything before is rolled back.")
    return draft(
        rollout_id=rollout_id,
        kind=verified.kind,
        challenger=verified.champion,
        champion=verified.challenger,
        plan=plan or Plan(strategy=Strategy.RETURN, shadow=None, holdback=0),
        longest_deadline=verified.drain_seconds - DRAIN_MARGIN,
        actor=actor,
        reason=reason,
        now=now,
        undoes=verified.rollout_id,
    )


def start(
    rollout: Rollout,
    evidence: Evidence,
    *,
    champion: str,
    others: Iterable[Rollout],
    actor: Actor,
    reason: str,
    now: datetime,
) -> Decision:
    """Starts a draft against the kind's present champion. Started already, it stays as it is.

    `others`: the rollouts under way, of any kind and of the whole deployment, since a release serves all tenants.
    Raises RolloutNotPossible: it ended, another of its kind is under way, or what it was drafted against has changed.
    """
    if rollout.is_active:
        return Wait("It was started already.", evidence)
    for other in others:
        if other.is_active and other.kind is rollout.kind and other.rollout_id != rollout.rollout_id:
            raise RolloutNotPossible(
                f"Rollout {other.rollout_id} of {other.challenger} is under way, and each kind has one at a time:"
                " wait for it, or roll it back."
            )
    if champion == rollout.challenger:
        raise RolloutNotPossible(f"{champion} is the champion already.")
    if rollout.undoes and champion != rollout.champion:
        raise RolloutNotPossible(f"{rollout.champion} is no longer the champion, so there is nothing to undo.")
    look = Look(replace(rollout, champion=champion), evidence, now)
    return move(look, Trigger.START, actor, reason)


def obey(rollout: Rollout, command: Command, evidence: Evidence, now: datetime) -> Decision:
    """What a person's command does to a rollout.

    Raises RolloutNotPossible where it can't be done, RolloutChanged where the rollout is not what the person saw.
    """
    if done := _done(rollout, command.trigger):
        return Wait(done, evidence)
    if command.trigger not in _GIVES | _TAKES:
        raise RolloutNotPossible(f"{command.trigger.value} is no command for a rollout under way.")
    if command.version is None and command.trigger in _GIVES:
        raise RolloutChanged(f"To {command.trigger.value} a rollout, name the version of it that you saw.")
    if command.version not in (None, rollout.version):
        raise RolloutChanged(
            f"The rollout is at version {rollout.version}, no longer at {command.version}: look at it again."
        )
    return move(Look(rollout, evidence, now), command.trigger, command.actor, command.reason, Cause.PERSON)


_GIVES = frozenset({Trigger.PROMOTE, Trigger.RESUME})
_TAKES = frozenset({Trigger.PAUSE, Trigger.ROLL_BACK})


def _done(rollout: Rollout, trigger: Trigger) -> str:
    """The sentence for a command that finds done what it asks; "" where it does not."""
    match trigger:
        case Trigger.PAUSE if Cause.PERSON in rollout.causes:
            return "It is paused already."
        case Trigger.RESUME if rollout.is_active and rollout.state not in (State.PAUSED, State.ROLLING_BACK):
            return "It is not paused."
        case Trigger.ROLL_BACK if rollout.state in _GONE:
            return _GONE[rollout.state]
    return ""


_GONE = {
    State.ROLLING_BACK: "It is rolling back already.",
    State.ROLLED_BACK: "It was rolled back already.",
    State.FAILED: "It failed, and never took traffic.",
}
