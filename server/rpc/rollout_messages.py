"""Rollouts, their evidence and their audit as protobuf messages."""

from __future__ import annotations  # enum value types exist for type checkers only

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from ratchet.v1 import rollout_pb2 as pb
from server.rollout import documents
from server.rollout.effects import routing
from server.rollout.registry import Looked
from server.rollout.reports import SafetyReport
from server.rollout.types import Cause, Event, Evidence, Outcome, Pause, Rollout, State
from server.rpc.plan_messages import message_of_plan
from server.rpc.release_messages import KINDS, Serving, struct_of, time_of

_STATES: Mapping[State, pb.RolloutState.ValueType] = {
    state: pb.RolloutState.Value(f"ROLLOUT_STATE_{state.name}") for state in State
}
_CAUSES: Mapping[Cause, pb.RolloutPauseCause.ValueType] = {
    cause: pb.RolloutPauseCause.Value(f"ROLLOUT_PAUSE_CAUSE_{cause.name}") for cause in Cause
}
_OUTCOMES: Mapping[str, pb.MeasureState.ValueType] = {
    outcome.value: pb.MeasureState.Value(f"MEASURE_STATE_{outcome.name}") for outcome in Outcome
}
_OF_ITS_OWN = frozenset({"measures", "days_left"})
"""Among the figures: they have fields of their own."""
MOST_BYTES = 4 << 20
"""Of all events in one message, whose evidence may be large."""


def rollout_of(rollout: Rollout, now: datetime, made: tuple[datetime, str] | None, serving: Serving) -> pb.Rollout:
    """The message of a rollout. `made`: when, and by whom, it was drafted."""
    return pb.Rollout(
        rollout_id=rollout.rollout_id,
        kind=KINDS[rollout.kind],
        challenger=rollout.challenger,
        champion=rollout.champion,
        plan=message_of_plan(rollout.plan),
        state=_STATES[rollout.state],
        stage=rollout.stage,
        share=_share(rollout, serving),
        version=rollout.version,
        since_time=time_of(rollout.since),
        elapsed_seconds=rollout.elapsed(now),
        pauses=map(_pause, rollout.pauses),
        resumes_to=_STATES[rollout.resumes_to] if rollout.resumes_to else pb.ROLLOUT_STATE_UNSPECIFIED,
        undoes=rollout.undoes,
        create_time=time_of(made[0]) if made else None,
        creator=made[1] if made else "",
    )


def look_of(looked: Looked) -> pb.RolloutLook:
    """The message of what the controller saw last; without evidence that only a newer version can read."""
    look = pb.RolloutLook(reason=looked.reason, version=looked.version)
    with suppress(KeyError, ValueError):
        look.evidence.CopyFrom(evidence_of(documents.evidence(looked.evidence), looked.at))
    return look


def event_of(event: Event) -> pb.RolloutEvent:
    """The message of an entry of the audit."""
    before, after = event.before, event.after
    return pb.RolloutEvent(
        version=event.version,
        time=time_of(event.at),
        actor=event.actor.name,
        is_person=event.actor.is_person,
        trigger=event.trigger.value,
        from_state=_STATES[before.state] if before else pb.ROLLOUT_STATE_UNSPECIFIED,
        from_stage=before.stage if before else 0,
        to_state=_STATES[after.state],
        to_stage=after.stage,
        reason=event.reason,
        evidence=evidence_of(event.evidence, event.at) if event.evidence else None,
    )


def fitting(events: Iterable[Event]) -> list[pb.RolloutEvent]:
    """The messages of the first events, as many as one message can hold; one at least."""
    found, size = list[pb.RolloutEvent](), 0
    for event in events:
        message = event_of(event)
        size += message.ByteSize()
        if found and size > MOST_BYTES:
            break
        found.append(message)
    return found


def evidence_of(evidence: Evidence, at: datetime) -> pb.RolloutEvidence:
    """The message of what was known at one look."""
    figures = evidence.figures
    message = pb.RolloutEvidence(
        ready_replicas=evidence.readiness.ready,
        replicas=evidence.readiness.replicas,
        refusal=evidence.readiness.refusal or evidence.readiness.unseen,
        samples=evidence.samples,
        measures=map(_measure, _measures(figures)),
        reports_pending=evidence.safety.pending,
        reports_confirmed=evidence.safety.confirmed,
        reports_dismissed=evidence.safety.dismissed,
        mismatch=evidence.mismatch or evidence.unread,
        days_left=_number(figures.get("days_left")),
        time=time_of(at),
    )
    message.figures.CopyFrom(struct_of({name: each for name, each in figures.items() if name not in _OF_ITS_OWN}))
    return message


def report_of(report: SafetyReport, *, readable: bool) -> pb.RolloutSafetyReport:
    """The message of a safety report; what its user wrote only where it is `readable` to the caller."""
    return pb.RolloutSafetyReport(
        feedback_id=str(report.feedback_id),
        tenant_id=report.tenant_id,
        response_id=str(report.response_id),
        category=report.category,
        comment=report.comment if readable else "",
        time=time_of(report.at),
        confirmed=report.confirmed,
        decided_by=report.decided_by,
    )


def _share(rollout: Rollout, serving: Serving) -> float:
    """Of what was verified long ago another release may have taken over since."""
    if rollout.state is State.VERIFIED:
        return serving.share(rollout.kind, rollout.challenger)
    return routing(rollout).shares.get(rollout.challenger, 0.0)


def _pause(pause: Pause) -> pb.RolloutPause:
    return pb.RolloutPause(cause=_CAUSES[pause.cause], since_time=time_of(pause.since), reason=pause.reason)


def _measures(figures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What figures hold beside all else that their writer put there."""
    found = figures.get("measures")
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, (list, tuple)) else []


def _measure(found: Mapping[str, Any]) -> pb.RolloutMeasure:
    return pb.RolloutMeasure(
        name=str(found.get("name", "")),
        subject=str(found.get("subject", "")),
        guardrail=found.get("guardrail") is True,
        value=_number(found.get("value")),
        lower=_number(found.get("lower")),
        upper=_number(found.get("upper")),
        state=_OUTCOMES.get(str(found.get("state", "")), pb.MEASURE_STATE_UNSPECIFIED),
        sentence=str(found.get("sentence", "")),
    )


def _number(value: object) -> float | None:
    """A finite number; None for what is none."""
    known = documents.plain(value)
    return float(known) if isinstance(known, (int, float)) and not isinstance(known, bool) else None
