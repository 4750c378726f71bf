"""The one table of how a rollout moves, and the one function that moves it. Pure.

What is not in the table is refused with a sentence. Each move makes the next version and one event of the audit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from server.rollout import guards
from server.rollout.errors import RolloutNotPossible
from server.rollout.guards import Guard, Look
from server.rollout.types import Actor, Cause, Event, Move, Pause, Position, Rollout, State, Trigger

_S, _T = State, Trigger


@dataclass(frozen=True, slots=True)
class Transition:
    """From `source` by `trigger` to `target`, unless a guard objects. `when` tells rows of the same source and trigger
    apart, by the plan and the place in it alone."""

    source: State
    trigger: Trigger
    target: State
    guards: tuple[Guard, ...] = ()
    when: Callable[[Rollout], bool] = lambda _: True


def _shadowed(rollout: Rollout) -> bool:
    return rollout.plan.shadow is not None


def _unshadowed(rollout: Rollout) -> bool:
    return rollout.plan.shadow is None


def _last(rollout: Rollout) -> bool:
    return rollout.is_last_stage


def _not_last(rollout: Rollout) -> bool:
    return not rollout.is_last_stage


def _paused_in(state: State) -> Callable[[Rollout], bool]:
    return lambda rollout: rollout.resumes_to is state


_SOUND = (
    guards.current,
    guards.safe,
    guards.unbroken,
    guards.not_inferior,
    guards.ready,
    guards.split_as_planned,
)
"""Nothing speaks against its answering, and what is known means something."""
_WAITED = (guards.long_enough, guards.enough)
_PROVEN = (guards.not_worse, guards.criteria_met)
_BEFORE_TRAFFIC, _ANSWERING = (_S.PUBLISHED, _S.LOADED), (_S.SHADOW, _S.CANARY)
ACTIVE = (*_BEFORE_TRAFFIC, *_ANSWERING, _S.PAUSED, _S.ROLLING_BACK)

TRANSITIONS: Sequence[Transition] = (
    Transition(_S.DRAFT, _T.START, _S.PUBLISHED, (guards.published, guards.safe)),
    Transition(_S.DRAFT, _T.ROLL_BACK, _S.ROLLED_BACK),
    Transition(_S.PUBLISHED, _T.ADVANCE, _S.LOADED, (guards.current, guards.safe, guards.ready)),
    Transition(_S.LOADED, _T.ADVANCE, _S.SHADOW, _SOUND, _shadowed),
    Transition(_S.LOADED, _T.ADVANCE, _S.CANARY, _SOUND, _unshadowed),
    *(Transition(state, _T.FAIL, _S.FAILED) for state in _BEFORE_TRAFFIC),
    Transition(_S.SHADOW, _T.ADVANCE, _S.CANARY, (*_SOUND, *_WAITED)),
    Transition(_S.SHADOW, _T.PROMOTE, _S.CANARY, _SOUND),
    Transition(_S.CANARY, _T.ADVANCE, _S.CANARY, (*_SOUND, *_WAITED, guards.not_worse), _not_last),
    Transition(_S.CANARY, _T.PROMOTE, _S.CANARY, _SOUND, _not_last),
    Transition(_S.CANARY, _T.ADVANCE, _S.VERIFIED, (*_SOUND, *_WAITED, *_PROVEN, guards.calm), _last),
    Transition(_S.CANARY, _T.PROMOTE, _S.VERIFIED, (*_SOUND, *_PROVEN), _last),
    *(Transition(state, _T.PAUSE, _S.PAUSED) for state in (*_BEFORE_TRAFFIC, *_ANSWERING, _S.PAUSED)),
    *(Transition(state, _T.SUSPEND, _S.PAUSED) for state in (*_ANSWERING, _S.PAUSED)),
    *(Transition(_S.PAUSED, _T.RESUME, to, (guards.current, guards.safe), _paused_in(to)) for to in _BEFORE_TRAFFIC),
    *(Transition(_S.PAUSED, _T.RESUME, to, _SOUND, _paused_in(to)) for to in _ANSWERING),
    *(Transition(_S.PAUSED, _T.RECOVER, to, _SOUND, _paused_in(to)) for to in _ANSWERING),
    *(Transition(state, _T.ROLL_BACK, _S.ROLLING_BACK) for state in (*_BEFORE_TRAFFIC, *_ANSWERING, _S.PAUSED)),
    Transition(_S.ROLLING_BACK, _T.DRAIN, _S.ROLLED_BACK, (guards.drained,)),
    *(Transition(state, _T.SET_CLOCK, state, (guards.clock_behind,)) for state in ACTIVE),
)

_OF_PEOPLE = frozenset({_T.START, _T.PROMOTE, _T.PAUSE, _T.RESUME, _T.ROLL_BACK})
_OF_THE_CONTROLLER = frozenset(_T) - _OF_PEOPLE - {_T.DRAFT} | {_T.ROLL_BACK}


def find(rollout: Rollout, trigger: Trigger) -> Transition:
    """The transition that the trigger is, from where the rollout stands. Raises RolloutNotPossible."""
    for row in TRANSITIONS:
        if row.source is rollout.state and row.trigger is trigger and row.when(rollout):
            return row
    raise RolloutNotPossible(_refusal(rollout, trigger))


def objection(look: Look, trigger: Trigger) -> str:
    """What speaks against a trigger now, "" when nothing does. Raises RolloutNotPossible when nothing could help."""
    return next(filter(None, (guard(look) for guard in find(look.rollout, trigger).guards)), "")


def move(look: Look, trigger: Trigger, actor: Actor, reason: str, cause: Cause | None = None) -> Move:
    """The rollout after the trigger, and its event. `cause` is that of a pause.

    Raises RolloutNotPossible when the table has no such row, a guard objects, or the actor may not.
    """
    if trigger not in (_OF_PEOPLE if actor.is_person else _OF_THE_CONTROLLER):
        raise RolloutNotPossible(f"{actor.name} can't {_VERBS[trigger]} a rollout.")
    row = find(look.rollout, trigger)
    if against := objection(look, trigger):
        raise RolloutNotPossible(against)
    before = look.rollout
    after = replace(_become(look, row, reason, cause), version=before.version + 1)
    event = Event(
        rollout_id=before.rollout_id,
        version=after.version,
        at=look.now,
        actor=actor,
        trigger=row.trigger,
        before=position(before),
        after=position(after),
        reason=reason,
        evidence=look.evidence,
    )
    return Move(after, event)


def position(rollout: Rollout) -> Position:
    """Where a rollout stands, for its audit."""
    return Position(rollout.state, rollout.stage, tuple(sorted(rollout.causes)))


def _become(look: Look, row: Transition, reason: str, cause: Cause | None) -> Rollout:
    rollout, now = look.rollout, look.now
    if row.trigger is _T.SET_CLOCK:
        pauses = tuple(replace(pause, since=min(pause.since, now)) for pause in rollout.pauses)
        return replace(rollout, since=now, pauses=pauses)
    if row.target is _S.PAUSED:
        return _paused(look, Pause(cause or Cause.PERSON, now, reason))
    if row.trigger in (_T.RESUME, _T.RECOVER):
        lost = rollout.lost + sum(_seconds_unready(pause, look) for pause in rollout.pauses)
        return replace(rollout, state=row.target, since=now, lost=lost, resumes_to=None, pauses=())
    further = row.source is _S.CANARY and row.target is _S.CANARY
    fresh = replace(rollout, state=row.target, since=now, served=0.0, lost=0.0, resumes_to=None, pauses=())
    return replace(fresh, stage=rollout.stage + further)


def _paused(look: Look, pause: Pause) -> Rollout:
    rollout = look.rollout
    if rollout.state is _S.PAUSED:
        return replace(rollout, pauses=(*rollout.pauses, pause))
    return replace(
        rollout, state=_S.PAUSED, since=look.now, served=look.elapsed, resumes_to=rollout.state, pauses=(pause,)
    )


def _seconds_unready(pause: Pause, look: Look) -> float:
    return max(0.0, (look.now - pause.since).total_seconds()) if pause.cause is Cause.UNREADY else 0.0


_VERBS = {trigger: trigger.value.replace("_", " ") for trigger in Trigger}


def _refusal(rollout: Rollout, trigger: Trigger) -> str:
    if rollout.state is _S.VERIFIED and trigger is _T.ROLL_BACK:
        return (
            f"It is verified, and {rollout.challenger} is the champion now: start a rollout that takes"
            f" {rollout.champion} back."
        )
    if (sentence := _REFUSALS.get((rollout.state, trigger))) is not None:
        return sentence
    stands = "has failed" if rollout.state is _S.FAILED else "is " + rollout.state.value.replace("_", " ")
    return f"A rollout that {stands} can't be {_PARTICIPLES.get(trigger, _VERBS[trigger])}."


_PARTICIPLES = {
    _T.START: "started",
    _T.PROMOTE: "promoted",
    _T.PAUSE: "paused",
    _T.RESUME: "resumed",
    _T.ROLL_BACK: "rolled back",
}
_REFUSALS = {
    (_S.DRAFT, _T.PROMOTE): "It has not been started.",
    (_S.DRAFT, _T.PAUSE): "It has not been started.",
    (_S.DRAFT, _T.RESUME): "It has not been started.",
    (_S.PUBLISHED, _T.PROMOTE): "It is being loaded, which can't be skipped.",
    (_S.LOADED, _T.PROMOTE): "It is loaded, and goes on by itself at the next look.",
    (_S.PAUSED, _T.PROMOTE): "It is paused: resume it first.",
    (_S.ROLLING_BACK, _T.PAUSE): "It is rolling back: the champion has all traffic already.",
}
