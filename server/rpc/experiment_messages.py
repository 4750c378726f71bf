"""Experiments and their audit as protobuf messages, and what requests ask for."""

from __future__ import annotations  # enum value types exist for type checkers only

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ratchet.v1 import experiment_pb2 as pb
from ratchet.v1 import inference_pb2, rollout_pb2
from server.errors import InvalidRequest, Violation
from server.experiments.decision import to_set
from server.experiments.types import RESERVED, Event, Experiment, Plan, State
from server.rollout.types import Variation
from server.rpc.release_messages import time_of
from server.rpc.rollout_messages import evidence_of
from server.types import SelectionMethod

KINDS: Mapping[Variation, pb.ExperimentKind.ValueType] = {
    kind: pb.ExperimentKind.Value(f"EXPERIMENT_KIND_{kind.name}") for kind in Variation
}
ASKED_KINDS: Mapping[int, Variation] = {value: kind for kind, value in KINDS.items()}
"""By the value that a request names."""
_STATES: Mapping[State, pb.ExperimentState.ValueType] = {
    state: pb.ExperimentState.Value(f"EXPERIMENT_STATE_{state.name}") for state in State
}
_SETTINGS: Mapping[str, str] = {
    "method": "selection",
    "temperature": "selection_temperature",
    "exploration": "exploration",
    "ensemble_weight": "ensemble_weight",
    "candidates": "candidates",
    "minimum_reward": "minimum_reward",
}
"""Fields of a selection's variant, and the settings that they stand for."""
_VARIANT = "variant"


def experiment_of(experiment: Experiment) -> pb.Experiment:
    """The message of an experiment."""
    plan = experiment.plan
    return pb.Experiment(
        experiment_id=experiment.experiment_id,
        name=experiment.name,
        kind=KINDS[experiment.kind],
        variant=_message_of(experiment),
        state=_STATES[experiment.state],
        share=plan.share,
        goals=rollout_pb2.RolloutGoals(**plan.goals.model_dump()),
        longest_seconds=plan.longest_seconds,
        salt=plan.salt,
        version=experiment.version,
        start_time=time_of(experiment.started_at),
        stop_time=time_of(experiment.stopped_at) if experiment.stopped_at else None,
        creator=experiment.started_by,
        reason=experiment.reason,
        to_set=to_set(experiment),
    )


def event_of(event: Event) -> pb.ExperimentEvent:
    """The message of an entry of the audit."""
    return pb.ExperimentEvent(
        version=event.version,
        time=time_of(event.at),
        actor=event.actor.name,
        is_person=event.actor.is_person,
        trigger=event.trigger.value,
        reason=event.reason,
        evidence=evidence_of(event.evidence, event.at) if event.evidence else None,
    )


def plan_of(request: pb.StartExperimentRequest) -> Plan:
    """What a request asks for; what it leaves unset is the default. Raises InvalidRequest, with the fields."""
    found: dict[str, Any] = {
        name: getattr(request, name) for name in ("share", "longest_seconds") if request.HasField(name)
    }
    goals = {field.name: value for field, value in request.goals.ListFields()}
    try:
        return Plan.model_validate({**found, "salt": request.salt, "goals": goals})
    except ValidationError as error:
        raise InvalidRequest([_violation(each) for each in error.errors()]) from None


def variant_of(message: pb.ExperimentVariant) -> tuple[Variation, str, dict[str, Any]]:
    """Its kind, its name, and the settings that it puts in place of those in force. Raises InvalidRequest."""
    name = message.name or _VARIANT
    if name.casefold() in RESERVED:
        raise InvalidRequest([Violation("variant.name", f"must not be {name}, which the log has for something else")])
    what = message.WhichOneof("what")
    if what == "prompt":
        if not message.prompt.instructions.strip():
            raise InvalidRequest([Violation("variant.prompt.instructions", "must not be blank")])
        return Variation.PROMPT, name, {"instructions": message.prompt.instructions}
    if what == "interface":
        return Variation.INTERFACE, name, {}
    given = {field.name: value for field, value in message.selection.ListFields()}
    if not given:
        raise InvalidRequest([Violation("variant.selection", "must set something: nothing would differ")])
    if "method" in given:
        given["method"] = inference_pb2.SelectionMethod.Name(given["method"]).removeprefix("SELECTION_METHOD_").lower()
    return Variation.SELECTION, name, {_SETTINGS[field]: value for field, value in given.items()}


def _message_of(experiment: Experiment) -> pb.ExperimentVariant:
    message = pb.ExperimentVariant(name=experiment.variant)
    match experiment.kind:
        case Variation.PROMPT:
            message.prompt.instructions = experiment.overrides["instructions"]
        case Variation.INTERFACE:
            message.interface.SetInParent()
        case Variation.SELECTION:
            message.selection.SetInParent()
            for field, setting in _SETTINGS.items():
                if setting in experiment.overrides:
                    value = experiment.overrides[setting]
                    setattr(message.selection, field, _method(value) if field == "method" else value)
    return message


def _method(name: str) -> inference_pb2.SelectionMethod.ValueType:
    return inference_pb2.SelectionMethod.Value(f"SELECTION_METHOD_{SelectionMethod(name).name}")


def _violation(error: Mapping[str, Any]) -> Violation:
    text = str(error["msg"]).removeprefix("Value error, ")
    return Violation(".".join(map(str, error["loc"])), text[:1].lower() + text[1:])
