"""Plans, evidence and positions as JSON, as Postgres keeps them, and back. Pure.

What was written once is read for good: names that are missing take the defaults, which say nothing. Of evidence, names
that only a newer version knows are passed over.
"""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, fields, is_dataclass
from datetime import datetime
from numbers import Integral, Real
from typing import Any, TypeVar

from server.rollout.plan import Plan
from server.rollout.types import (
    Cause,
    Criterion,
    CriterionName,
    Evidence,
    Finding,
    Guardrail,
    Outcome,
    Pause,
    Position,
    Readiness,
    Safety,
    State,
    Verdict,
)

Object = dict[str, Any]
T = TypeVar("T", Readiness, Safety)


def of_plan(plan: Plan) -> Object:
    """With nothing left unset, so that later defaults change nothing of it."""
    return plan.model_dump(mode="json")


def plan(found: Mapping[str, Any]) -> Plan:
    """Raises pydantic's ValidationError, a ValueError, for what is no plan."""
    return Plan.model_validate(found)


def of_evidence(evidence: Evidence) -> Object:
    """All of it. What is no number in its figures becomes null."""
    known = {name: getattr(evidence, name) for name in Evidence.__slots__}
    return {name: plain(value) for name, value in known.items()}


def evidence(found: Mapping[str, Any]) -> Evidence:
    """Evidence as `of_evidence` wrote it. Raises KeyError and ValueError for what it never writes."""
    try:
        return _evidence(found)
    except (AttributeError, TypeError) as error:
        raise ValueError("The evidence is not of the form that it is written in.") from error


def _evidence(found: Mapping[str, Any]) -> Evidence:
    return Evidence(
        rollout_id=found["rollout_id"],
        version=found["version"],
        published=found.get("published", False),
        readiness=_known(Readiness, found.get("readiness", {})),
        samples=found.get("samples", 0),
        satisfaction=Verdict(found.get("satisfaction", Verdict.UNDECIDED)),
        quality=Verdict(found.get("quality", Verdict.UNDECIDED)),
        findings=tuple(Finding(Guardrail(o["guardrail"]), o["sentence"]) for o in found.get("findings", ())),
        safety=_known(Safety, found.get("safety", {})),
        mismatch=found.get("mismatch", ""),
        unread=found.get("unread", ""),
        criteria=tuple(_criterion(o) for o in found.get("criteria", ())),
        figures=found.get("figures", {}),
    )


def of_position(position: Position) -> Object:
    """State, stage and causes."""
    return {"state": position.state.value, "stage": position.stage, "causes": [each.value for each in position.causes]}


def position(found: Mapping[str, Any]) -> Position:
    """Raises KeyError and ValueError for what `of_position` never writes."""
    return Position(State(found["state"]), found["stage"], tuple(Cause(each) for each in found["causes"]))


def of_pauses(pauses: Sequence[Pause]) -> list[Object]:
    """In their order; times as ISO 8601."""
    return [{"cause": each.cause.value, "since": each.since.isoformat(), "reason": each.reason} for each in pauses]


def pauses(found: Sequence[Mapping[str, Any]]) -> tuple[Pause, ...]:
    """Raises KeyError and ValueError for what `of_pauses` never writes."""
    return tuple(Pause(Cause(o["cause"]), datetime.fromisoformat(o["since"]), o["reason"]) for o in found)


def plain(value: object) -> Any:
    """What jsonb can hold of a value: numbers that are none become null, and texts lose their NULs."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {plain(str(name)): plain(each) for name, each in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, str):
        return [plain(each) for each in value]
    if value is None or isinstance(value, bool):
        return value
    return _number(value) if isinstance(value, Real) else _text(value)


def _number(value: Real) -> int | float | None:
    if isinstance(value, Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None


def _text(value: object) -> str:
    return (value.isoformat() if isinstance(value, datetime) else str(value)).replace("\x00", "")


def _criterion(found: Mapping[str, Any]) -> Criterion:
    return Criterion(CriterionName(found["name"]), Outcome(found["outcome"]), found["sentence"])


def _known(kind: type[T], found: Mapping[str, Any]) -> T:
    return kind(**{each.name: found[each.name] for each in fields(kind) if each.name in found})
