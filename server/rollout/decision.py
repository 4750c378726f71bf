"""What the controller decides at one look: one step, or to wait, and why. Pure; the same look decides the same.

First whatever takes traffic away, then what goes on, then the longest time. Too little data is no verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from server.rollout import guards
from server.rollout.guards import Look, span
from server.rollout.machine import ACTIVE, move, objection
from server.rollout.types import CONTROLLER, Cause, Decision, Evidence, Rollout, State, Trigger, Wait


@dataclass(frozen=True, slots=True)
class _Alarm:
    trigger: Trigger
    reason: str
    cause: Cause | None = None


def decide(rollout: Rollout, evidence: Evidence, now: datetime) -> Decision:
    """The controller's next step, or why it waits. Never raises for what evidence says."""
    look = Look(rollout, evidence, now)
    for alarm in _ALARMS.get(rollout.state, ()):
        if found := alarm(look):
            return move(look, found.trigger, CONTROLLER, found.reason, found.cause)
    if rollout.state in ACTIVE and not guards.clock_behind(look):
        return move(look, Trigger.SET_CLOCK, CONTROLLER, "The clock went back: the waiting begins anew.")
    trigger = _ONWARD.get(rollout.state)
    if trigger is None:
        return Wait(_IDLE[rollout.state], evidence)
    return _go_on(look, trigger)


def _go_on(look: Look, trigger: Trigger) -> Decision:
    if only_people := _waits_for_people(look.rollout):
        return Wait(only_people, look.evidence)
    if not (against := objection(look, trigger)):
        return move(look, trigger, CONTROLLER, _progress(look))
    if guards.expired(look):
        return move(look, Trigger.ROLL_BACK, CONTROLLER, _out_of_time(look, against))
    return Wait(against, look.evidence)


def _out_of_time(look: Look, still: str) -> str:
    return f"It had its longest time, {span(look.rollout.waiting.longest_seconds)}, and still: {still}"


def _waits_for_people(rollout: Rollout) -> str:
    if rollout.state is not State.PAUSED or rollout.causes == {Cause.UNREADY}:
        return ""
    return "It is paused until a person resumes it or rolls it back: " + " ".join(
        pause.reason for pause in rollout.pauses
    )


def _confirmed(then: Trigger) -> Callable[[Look], _Alarm | None]:
    def find(look: Look) -> _Alarm | None:
        return _Alarm(then, guards.safe(look)) if look.evidence.safety.confirmed else None

    return find


def _broken(look: Look) -> _Alarm | None:
    reason = guards.unbroken(look)
    return _Alarm(Trigger.ROLL_BACK, reason) if reason else None


def _inferior(look: Look) -> _Alarm | None:
    reason = guards.not_inferior(look)
    return _Alarm(Trigger.ROLL_BACK, reason) if reason else None


def _suspect(cause: Cause, guard: guards.Guard) -> Callable[[Look], _Alarm | None]:
    """A pause for what the guard says, unless it is paused for that already, or before it answered anybody."""

    def find(look: Look) -> _Alarm | None:
        answering = {look.rollout.state, look.rollout.resumes_to} & {State.SHADOW, State.CANARY}
        if cause in look.rollout.causes or not answering or not (reason := guard(look)):
            return None
        return _Alarm(Trigger.SUSPEND, reason, cause)

    return find


def _unready_at_the_end(look: Look) -> _Alarm | None:
    """What is unready again and again is not paused again after its longest time."""
    reason = guards.ready(look)
    return _Alarm(Trigger.ROLL_BACK, _out_of_time(look, reason)) if reason and guards.expired(look) else None


def _unready_too_long(look: Look) -> _Alarm | None:
    rollout, most = look.rollout, look.rollout.plan.unready_seconds
    if rollout.causes != {Cause.UNREADY} or not (reason := guards.ready(look)):
        return None
    seconds = (look.now - rollout.pauses[0].since).total_seconds()
    return _Alarm(Trigger.ROLL_BACK, f"Unready for {span(seconds)}: {reason}") if seconds >= most else None


def _refused(look: Look) -> _Alarm | None:
    return _Alarm(Trigger.FAIL, guards.ready(look)) if look.evidence.readiness.refusal else None


def _slow(look: Look) -> _Alarm | None:
    most = look.rollout.plan.load_seconds
    if look.elapsed < most or not (reason := guards.ready(look)):
        return None
    return _Alarm(Trigger.FAIL, f"It took longer than {span(most)} to load: {reason}")


_PAUSES = (
    _suspect(Cause.SAFETY, guards.safe),
    _suspect(Cause.UNREADY, guards.ready),
    _suspect(Cause.SAMPLE_RATIO, guards.split_as_planned),
)
_LOADING = (_confirmed(Trigger.FAIL), _refused, _slow)
_ANSWERING = (_confirmed(Trigger.ROLL_BACK), _broken, _inferior, _unready_at_the_end, *_PAUSES)
_ALARMS: Mapping[State, Sequence[Callable[[Look], _Alarm | None]]] = {
    State.PUBLISHED: _LOADING,
    State.LOADED: _LOADING,
    State.SHADOW: _ANSWERING,
    State.CANARY: _ANSWERING,
    State.PAUSED: (*_ANSWERING, _unready_too_long),
}
_ONWARD: Mapping[State, Trigger] = {
    State.PUBLISHED: Trigger.ADVANCE,
    State.LOADED: Trigger.ADVANCE,
    State.SHADOW: Trigger.ADVANCE,
    State.CANARY: Trigger.ADVANCE,
    State.PAUSED: Trigger.RECOVER,
    State.ROLLING_BACK: Trigger.DRAIN,
}
_IDLE: Mapping[State, str] = {
    State.DRAFT: "It waits for a person to start it.",
    State.VERIFIED: "It is verified.",
    State.ROLLED_BACK: "It was rolled back.",
    State.FAILED: "It failed.",
}


def _progress(look: Look) -> str:
    """Why it goes on."""
    rollout, evidence = look.rollout, look.evidence
    match rollout.state:
        case State.PUBLISHED | State.LOADED:
            replicas = evidence.readiness.replicas
            return f"It is ready on {evidence.readiness.ready} of {replicas} replica{'' if replicas == 1 else 's'}."
        case State.SHADOW:
            return f"In shadow for {span(look.elapsed)}, {evidence.samples} samples, no guardrail broken."
        case State.PAUSED:
            return "It is ready on all replicas again."
        case State.ROLLING_BACK:
            return "All calls that it had must have ended."
    if not rollout.plan.compares:
        return f"No guardrail broke in {span(look.elapsed)}."
    share = rollout.plan.stages[rollout.stage].share
    of = f"{evidence.satisfaction} in satisfaction and {evidence.quality} in quality".replace("_", "-")
    met = " All success criteria are met." if rollout.is_last_stage else ""
    return f"At {share:.0%}: {of} after {span(look.elapsed)} and {evidence.samples} samples.{met}"
