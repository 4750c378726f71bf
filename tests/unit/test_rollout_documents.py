"""What is kept of rollouts as JSON is read as it was written, and fits into jsonb."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rollout import documents
from server.rollout.continuity import Continuity, Method
from server.rollout.plan import Plan, Shadow, Stage, Strategy
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
from tests.rollouts import RETURN, good, rollout

TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
COUNTS = st.integers(0, 2**40)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
FIGURES = st.dictionaries(TEXTS, st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3), max_leaves=5))
EVIDENCE = st.builds(
    Evidence,
    rollout_id=TEXTS,
    version=COUNTS,
    published=st.booleans(),
    readiness=st.builds(Readiness, COUNTS, COUNTS, TEXTS),
    samples=COUNTS,
    satisfaction=st.sampled_from(Verdict),
    quality=st.sampled_from(Verdict),
    findings=st.lists(st.builds(Finding, st.sampled_from(Guardrail), TEXTS), max_size=3).map(tuple),
    safety=st.builds(Safety, COUNTS, COUNTS, COUNTS),
    mismatch=TEXTS,
    criteria=st.lists(
        st.builds(Criterion, st.sampled_from(CriterionName), st.sampled_from(Outcome), TEXTS), max_size=3
    ).map(tuple),
    figures=FIGURES,
)
MOMENTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=7))]))


def stored(value: object) -> object:
    """What Postgres gives back of it."""
    return json.loads(json.dumps(value, allow_nan=False))


@given(EVIDENCE)
def test_evidence_is_read_as_it_was_written(evidence: Evidence) -> None:
    assert documents.evidence(stored(documents.of_evidence(evidence))) == evidence  # type: ignore[arg-type]


@given(st.lists(st.builds(Pause, st.sampled_from(Cause), MOMENTS, TEXTS), max_size=4).map(tuple))
def test_pauses_are_read_as_they_were_written(pauses: tuple[Pause, ...]) -> None:
    assert documents.pauses(stored(documents.of_pauses(pauses))) == pauses  # type: ignore[arg-type]


@given(st.builds(Position, st.sampled_from(State), COUNTS, st.lists(st.sampled_from(Cause)).map(tuple)))
def test_positions_are_read_as_they_were_written(position: Position) -> None:
    assert documents.position(stored(documents.of_position(position))) == position  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "plan",
    [
        Plan(),
        RETURN,
        Plan(strategy=Strategy.AT_ONCE, salt="muối", shadow=None),
        Plan(stages=(Stage(share=0.0123), Stage(share=1)), shadow=Shadow(share=1), load_seconds=1.5),
    ],
)
def test_plans_are_read_as_they_were_written_with_nothing_left_to_later_defaults(plan: Plan) -> None:
    written = stored(documents.of_plan(plan))
    assert isinstance(written, dict)
    assert written.keys() == Plan.model_fields.keys()
    assert documents.plan(written) == plan


def test_evidence_of_which_little_is_known_says_nothing() -> None:
    assert documents.evidence({"rollout_id": "0193", "version": 3}) == Evidence(rollout_id="0193", version=3)


def test_figures_become_what_jsonb_can_hold() -> None:
    at = datetime(2026, 9, 15, tzinfo=UTC)
    figures = {
        "nothing": [float("nan"), float("inf"), -float("inf"), np.float64("nan")],
        "numbers": (np.float32(0.5), np.int64(3), True, np.array([1, 2]).tolist()),
        "others": {"at": at, "id": UUID(int=1), "of": Cause.SAFETY, "text\x00": "a\x00b"},
        "found": Continuity(0.5, Method.KEPT, 3, 0, None, 1.0, "Kept."),
    }
    evidence = replace(good(rollout()), figures=figures)
    assert stored(documents.of_evidence(evidence)["figures"]) == {
        "nothing": [None] * 4,
        "numbers": [0.5, 3, True, [1, 2]],
        "others": {"at": at.isoformat(), "id": str(UUID(int=1)), "of": "safety", "text": "ab"},
        "found": {
            "threshold": 0.5,
            "method": "kept",
            "pairs": 3,
            "ratings": 0,
            "passed_before": None,
            "passed_after": 1.0,
            "sentence": "Kept.",
        },
    }


@pytest.mark.parametrize("part", ["readiness", "safety", "findings", "criteria"])
def test_what_only_a_newer_version_knows_of_evidence_is_passed_over(part: str) -> None:
    evidence = replace(
        good(rollout()),
        findings=(Finding(Guardrail.LATENCY, "Slow."),),
        safety=Safety(1, 2, 3),
        readiness=Readiness(1, 2),
    )
    found = stored({**documents.of_evidence(evidence), "newer": {"a": 1}})
    assert isinstance(found, dict)
    several = found[part] if isinstance(found[part], list) else [found[part]]
    for each in several:
        each["newer"] = 7
    assert several
    assert documents.evidence(found) == evidence


@pytest.mark.parametrize(
    "change",
    [
        {"readiness": 7},
        {"safety": None},
        {"findings": 7},
        {"findings": ["slow"]},
        {"findings": [{"guardrail": "charm", "sentence": "None."}]},
        {"criteria": [{"name": "charm"}]},
        {"satisfaction": []},
    ],
)
def test_evidence_in_a_form_that_is_never_written_is_a_value_or_key_that_is_wrong(change: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        documents.evidence({**documents.of_evidence(good(rollout())), **change})
