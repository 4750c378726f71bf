"""Plans of rollouts as protobuf messages, and back."""

from __future__ import annotations  # enum value types exist for type checkers only

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from ratchet.v1 import rollout_pb2 as pb
from server.errors import InvalidRequest, Violation
from server.rollout import plan as plans
from server.rollout.plan import Plan, Strategy, Waiting

_STRATEGIES: Mapping[Strategy, pb.RolloutStrategy.ValueType] = {
    strategy: pb.RolloutStrategy.Value(f"ROLLOUT_STRATEGY_{strategy.name}") for strategy in Strategy
}
_ASKED = {value: strategy for strategy, value in _STRATEGIES.items()}
_WAITING = frozenset(Waiting.model_fields)
_NUMBERS = ("holdback", "load_seconds", "unready_seconds")


def message_of_plan(plan: Plan) -> pb.RolloutPlan:
    """The message of a plan, with nothing left unset."""
    return pb.RolloutPlan(
        strategy=_STRATEGIES[plan.strategy],
        stages=[pb.RolloutStage(share=stage.share, waiting=_waiting(stage)) for stage in plan.stages],
        shadow=pb.RolloutShadow(share=plan.shadow.share, waiting=_waiting(plan.shadow)) if plan.shadow else None,
        no_shadow=plan.shadow is None,
        holdback=plan.holdback,
        salt=plan.salt,
        goals=pb.RolloutGoals(**plan.goals.model_dump()),
        load_seconds=plan.load_seconds,
        unready_seconds=plan.unready_seconds,
    )


def plan_of(message: pb.RolloutPlan) -> Plan:
    """The plan that a request asks for; what it leaves unset is the default.

    Raises InvalidRequest, which names each field that is wrong, such as `plan.stages[0].share`.
    """
    if message.no_shadow and message.HasField("shadow"):
        raise InvalidRequest([Violation("plan.no_shadow", "goes without a shadow")])
    if _ASKED.get(message.strategy) is Strategy.RETURN:
        raise InvalidRequest([Violation("plan.strategy", "must be gradual or at once: only undoing makes a return")])
    try:
        return plans.read(_values(message))
    except InvalidRequest as error:
        raise InvalidRequest([Violation(_path(each.field), each.description) for each in error.violations]) from None


def _waiting(waiting: Waiting) -> pb.RolloutWaiting:
    return pb.RolloutWaiting(**{name: getattr(waiting, name) for name in _WAITING})


def _values(message: pb.RolloutPlan) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(message, name) for name in _NUMBERS if message.HasField(name)}  # type: ignore[arg-type]
    if message.strategy in _ASKED:
        found["strategy"] = _ASKED[message.strategy]
    if message.stages:
        found["stages"] = [{"share": stage.share, **_set(stage.waiting)} for stage in message.stages]
    if message.no_shadow:
        found["shadow"] = None
    elif message.HasField("shadow"):
        share = {"share": message.shadow.share} if message.shadow.HasField("share") else {}
        found["shadow"] = share | _set(message.shadow.waiting)
    if message.salt:
        found["salt"] = message.salt
    if goals := _set(message.goals):
        found["goals"] = goals
    return found


def _set(message: Message) -> dict[str, Any]:
    """The fields that are set, by name."""
    return {field.name: value for field, value in message.ListFields()}


def _path(field: str) -> str:
    """Where a field is in the message: `stages.0.minimum_samples` is at `plan.stages[0].waiting.minimum_samples`."""
    path = "plan"
    for part in field.split(".") if field else ():
        if part in _WAITING:
            path += ".waiting"
        path += f"[{part}]" if part.isdecimal() else f".{part}"
    return path
