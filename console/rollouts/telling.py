"""A rollout in words: where it stands, why it waits, what it found. Pure but for the visitor's language."""

from collections.abc import Iterable
from datetime import tzinfo

from console import moments
from console.numerals import number
from console.parts import Tone
from console.releases.telling import share
from console.words import has, t
from ratchet.v1 import rollout_pb2 as pb

ENDED = (pb.ROLLOUT_STATE_VERIFIED, pb.ROLLOUT_STATE_ROLLED_BACK, pb.ROLLOUT_STATE_FAILED)
GONE = (pb.ROLLOUT_STATE_ROLLING_BACK, pb.ROLLOUT_STATE_ROLLED_BACK, pb.ROLLOUT_STATE_FAILED)
_STATES: dict[int, tuple[str, Tone, str]] = {
    pb.ROLLOUT_STATE_DRAFT: ("draft", "plain", "edit_note"),
    pb.ROLLOUT_STATE_PUBLISHED: ("published", "accent", "autorenew"),
    pb.ROLLOUT_STATE_LOADED: ("loaded", "accent", "memory"),
    pb.ROLLOUT_STATE_SHADOW: ("shadow", "accent", "visibility_off"),
    pb.ROLLOUT_STATE_CANARY: ("canary", "accent", "alt_route"),
    pb.ROLLOUT_STATE_VERIFIED: ("verified", "good", "verified"),
    pb.ROLLOUT_STATE_PAUSED: ("paused", "warn", "pause_circle"),
    pb.ROLLOUT_STATE_ROLLING_BACK: ("rolling_back", "bad", "undo"),
    pb.ROLLOUT_STATE_ROLLED_BACK: ("rolled_back", "bad", "undo"),
    pb.ROLLOUT_STATE_FAILED: ("failed", "bad", "error_outline"),
}
_CAUSES: dict[int, str] = {
    pb.ROLLOUT_PAUSE_CAUSE_PERSON: "person",
    pb.ROLLOUT_PAUSE_CAUSE_UNREADY: "unready",
    pb.ROLLOUT_PAUSE_CAUSE_SAMPLE_RATIO: "sample_ratio",
    pb.ROLLOUT_PAUSE_CAUSE_SAFETY: "safety",
}
_DECIDED: dict[int, str] = {
    pb.ROLLOUT_STATE_VERIFIED: "verified",
    pb.ROLLOUT_STATE_ROLLING_BACK: "rolled_back",
    pb.ROLLOUT_STATE_ROLLED_BACK: "rolled_back",
    pb.ROLLOUT_STATE_FAILED: "failed",
}
"""Where an ending leads to, and what it is called."""
_STRATEGIES: dict[int, str] = {
    pb.ROLLOUT_STRATEGY_AT_ONCE: "at_once",
    pb.ROLLOUT_STRATEGY_RETURN: "return",
}


def state(rollout: pb.Rollout) -> tuple[str, Tone, str]:
    """Words, tone and symbol of where it stands; of a canary with its share."""
    name, tone, symbol = _STATES.get(rollout.state, ("new_state", "plain", "help_outline"))
    if rollout.state == pb.ROLLOUT_STATE_CANARY:
        return place(rollout.state, rollout.stage, rollout.plan), tone, symbol
    return t(f"rollouts.{name}"), tone, symbol


def place(where: int, stage: int, plan: pb.RolloutPlan) -> str:
    """A state in words, of a canary with its stage's share."""
    name = _STATES.get(where, ("new_state", "plain", ""))[0]
    if where == pb.ROLLOUT_STATE_CANARY and stage < len(plan.stages):
        return t("rollouts.canary_at", share=share(plan.stages[stage].share))
    return t(f"rollouts.{name}")


def what_happens(rollout: pb.Rollout) -> str:
    """What it does as it stands, in a sentence."""
    name = _STATES.get(rollout.state, ("", "plain", ""))[0]
    if rollout.state == pb.ROLLOUT_STATE_PAUSED:
        alone = all(each.cause == pb.ROLLOUT_PAUSE_CAUSE_PERSON for each in rollout.pauses)
        name = "paused_kept" if alone else "paused_taken"
    return t(f"rollouts.text_{name}") if has(f"rollouts.text_{name}") else ""


def cause(pause: pb.RolloutPause) -> str:
    """Why it is paused, in a few words."""
    return t(f"rollouts.cause_{_CAUSES.get(pause.cause, 'new')}")


def strategy(plan: pb.RolloutPlan) -> str:
    """How it goes."""
    return t(f"rollouts.{_STRATEGIES.get(plan.strategy, 'gradual')}")


def stands(rollout: pb.Rollout) -> int:
    """The state that counts for where it is: of a pause, the one it goes back to."""
    return rollout.resumes_to if rollout.state == pb.ROLLOUT_STATE_PAUSED else rollout.state


def waiting(rollout: pb.Rollout) -> pb.RolloutWaiting | None:
    """What its shadow or stage waits for; None elsewhere."""
    where = stands(rollout)
    if where == pb.ROLLOUT_STATE_SHADOW:
        return rollout.plan.shadow.waiting
    if where == pb.ROLLOUT_STATE_CANARY and rollout.stage < len(rollout.plan.stages):
        return rollout.plan.stages[rollout.stage].waiting
    return None


def trigger(event: pb.RolloutEvent) -> str:
    """What was done."""
    key = f"rollouts.trigger_{event.trigger}"
    return t(key) if has(key) else event.trigger.replace("_", " ").capitalize()


def actor(event: pb.RolloutEvent) -> str:
    """Who did it."""
    return event.actor if event.is_person else t("rollouts.controller")


def ending(events: Iterable[pb.RolloutEvent]) -> pb.RolloutEvent | None:
    """The entry that decided how it ended; None where there is none. What follows a way back only finishes it."""
    decided = [
        each for each in events if each.to_state in _DECIDED and each.from_state != pb.ROLLOUT_STATE_ROLLING_BACK
    ]
    return max(decided, key=lambda each: each.version, default=None)


def ended_by(event: pb.RolloutEvent) -> str:
    """What an ending was and whose: `Rolled back (Lan)`."""
    name = _DECIDED.get(event.to_state, "new_state")
    return t("rollouts.ended_by", what=t(f"rollouts.{name}"), who=actor(event))


def since(rollout: pb.Rollout, zone: tzinfo) -> str:
    """Since when it stands where it does."""
    return t("rollouts.since", moment=moments.written(moments.of(rollout.since_time), zone))


def days(evidence: pb.RolloutEvidence) -> str:
    """How long until a verdict; "" when that can't be told."""
    if not evidence.HasField("days_left"):
        return ""
    left = evidence.days_left
    if left < 1 / 24:
        return t("rollouts.soon")
    if left < 2:
        return t("rollouts.hours", n=number(24 * left))
    return t("rollouts.days", n=number(left, 1 if left < 10 else 0))
