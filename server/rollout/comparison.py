"""What is observed of a rollout, compared: verdicts, guardrails, criteria, how many samples, how long still. Pure."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from server.rollout.observed import Observed
from server.rollout.pacing import days_left
from server.rollout.shadowing import ShadowFigures
from server.rollout.statistics import criteria, findings
from server.rollout.statistics.boundary import Boundary
from server.rollout.statistics.estimates import alone
from server.rollout.statistics.findings import State as Said
from server.rollout.statistics.outcomes import Outcomes
from server.rollout.tally import Calls, Tally
from server.rollout.trial import Trial
from server.rollout.types import Criterion, CriterionName, Finding, Guardrail, Outcome, Verdict

BOUNDARY = Boundary()
"""Fixed before any rollout is seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The part of `types.Evidence` that comes of statistics. The defaults say nothing."""

    samples: int = 0
    satisfaction: Verdict = Verdict.UNDECIDED
    quality: Verdict = Verdict.UNDECIDED
    findings: tuple[Finding, ...] = ()
    mismatch: str = ""
    unread: str = ""
    criteria: tuple[Criterion, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)


def compare(trial: Trial, observed: Observed, elapsed: float) -> Compared:
    """What is observed of a trial whose challenger has, or had, users. `elapsed`: seconds of the present state."""
    if not trial.plan.compares:
        return _alone(trial, observed)
    tally = Tally.of(trial.plan, observed)
    evidence, goals = tally.evidence(), criteria.Goals(**trial.plan.goals.model_dump())
    asked = criteria.success(evidence, goals, BOUNDARY)
    kept = criteria.guardrails(evidence, goals, BOUNDARY)
    rated = tally.rated(trial.stage)
    return Compared(
        samples=min(rated),
        satisfaction=_verdict(evidence.satisfaction, goals.margin, kept, "satisfaction"),
        quality=_verdict(evidence.quality, goals.margin, kept, "quality"),
        findings=broken(kept),
        mismatch=" ".join(line.sentence for line in kept if line.name == "shares" and line.state is Said.MISSED),
        criteria=tuple(_criterion(line) for line in asked),
        figures={
            "measures": measures(asked, guardrail=False) + measures(kept, guardrail=True),
            "days_left": days_left(trial, evidence, asked, rated, elapsed, BOUNDARY),
            "strata": tally.strata(),
            "replies": len(tally.replies),
            "replies_of_nobody": int((tally.replies.unit < 0).sum()),
            "ratings": len(tally.ratings.user),
            "sampled_users": observed.users,
        },
    )


def of_shadow(shadow: ShadowFigures, answers: int) -> Compared:
    """What the answers that nobody saw show; `answers`: how many there are of all."""
    known = {name: getattr(shadow, name) for name in ("answers", "failed", "correlation", "changed", "gain", "slower")}
    return Compared(
        samples=answers,
        findings=broken(shadow.guardrails),
        figures={"measures": measures(shadow.guardrails, guardrail=True), "days_left": None, "shadow": known},
    )


def measures(lines: Iterable[findings.Criterion], *, guardrail: bool) -> list[dict[str, Any]]:
    """Lines of a report as JSON."""
    return [{**asdict(line), "state": line.state.value, "guardrail": guardrail} for line in lines]


def broken(lines: Iterable[findings.Criterion]) -> tuple[Finding, ...]:
    """The guardrails among the lines that are broken. Safety and shares are looked at by themselves."""
    names = {each.value: each for each in Guardrail}
    missed = [line for line in lines if line.state is Said.MISSED]
    return tuple(Finding(names[line.name], line.sentence) for line in missed if line.name in names)


def _verdict(outcomes: Outcomes, margin: float, lines: Iterable[findings.Criterion], name: str) -> Verdict:
    """That it is worse is said by the guardrails alone, which share their alpha: nothing else takes traffic away."""
    if any(line.name == name and line.state is Said.MISSED for line in lines):
        return Verdict.INFERIOR
    said = Verdict(criteria.kept(outcomes, margin, BOUNDARY).verdict.value)
    return Verdict.UNDECIDED if said is Verdict.INFERIOR else said


def _criterion(line: findings.Criterion) -> Criterion:
    return Criterion(CriterionName(line.name), Outcome(line.state.value), line.sentence)


def _alone(trial: Trial, observed: Observed) -> Compared:
    """A return has all users, so that there is nobody to compare with: only whether its calls fail."""
    calls = Calls.of(observed.replies, observed.failures)
    own = calls.challenger & (calls.number > 0)
    _, user = np.unique(calls.unit[own], return_inverse=True)
    failed = np.bincount(user, calls.failed[own]) / np.bincount(user, calls.number[own])
    goals, half = trial.plan.goals, replace(BOUNDARY, alpha=BOUNDARY.alpha / 2)
    lines = [
        criteria.failure_rate(alone(failed), goals.failures, half),
        criteria.mostly_failing(failed, goals.failures, half.alpha),
    ]
    return Compared(
        findings=broken(lines),
        figures={"measures": measures(lines, guardrail=True), "days_left": None, "replies": len(observed.replies)},
    )
