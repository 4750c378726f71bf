"""What a challenger in shadow showed: the figures of each answer that nobody saw, and what they say together. Pure.

Both sides answered the same request, so they are compared answer by answer. Whose requests they were is not kept: where
a few people ask most, limits are narrower than they should be, and the canary counts by users.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations
from uuid import UUID

import numpy as np

from server.rollout.statistics.boundary import Boundary
from server.rollout.statistics.criteria import Goals
from server.rollout.statistics.estimates import Estimate, estimate
from server.rollout.statistics.findings import Criterion, Finding, State, percent
from server.rollout.statistics.intervals import Interval, challenger_level, relative
from server.rollout.statistics.outcomes import Outcomes, gather
from server.rollout.statistics.verdicts import Verdict, verdict
from server.rollout.types import Guardrail, Kind

LEAST_ANSWERS = 100
"""Fewer give no verdict: limits of means of few are not to be trusted."""
LEAST_CORRELATION = 0.1
"""Mean rank correlation below which a reward ranks as if it read something else. A better one may differ a lot, so no
more is asked."""
PLANNED = Boundary(planned=100.0)
"""Tightest at 200 answers, the default plan's: an answer counts in both arms."""

Pair = tuple[float, float]
"""The champion's figure of an answer, and the challenger's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowAnswer:
    """One answer of a challenger in shadow; a row of `shadow_answers`. Figures only, no text.

    Of a reward: both releases' scores of the same candidates, in the same order, and whether the best one is the same.
    Of a policy: the champion reward's scores of the challenger's candidates and of the reply's; `same_choice` is None.
    `seconds`: what each took for that. `error`: why the challenger gave nothing, "" when it did; then it has no scores.
    """

    rollout_id: str
    response_id: UUID
    tenant_id: str
    scores: tuple[float, ...]
    champion_scores: tuple[float, ...]
    seconds: float
    champion_seconds: float
    same_choice: bool | None = None
    error: str = ""
    at: datetime | None = None
    """None: now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowFigures:
    """What the answers of one rollout say together. None where nothing says it.

    `correlation`: mean Kendall's tau of both rewards' scores of a reply's candidates, -1 to 1. `changed`: share of
    replies that would have had another best candidate. `gain`: of a policy, how much more the champion reward gives to
    the best of its candidates, as a part of the champion's: 0.05 is 5 %. `slower`: mean time, likewise.
    """

    answers: int
    failed: int
    correlation: float | None
    changed: float | None
    gain: float | None
    slower: float | None
    guardrails: tuple[Criterion, ...]
    """By the names of `types.Guardrail`; broken where MISSED."""


def shadow_figures(
    kind: Kind, answers: Sequence[ShadowAnswer], goals: Goals, boundary: Boundary = PLANNED
) -> ShadowFigures:
    """The figures, and the guardrails that a shadow can break, which share the boundary's alpha: what it gave, how long
    it took, how often it failed. A policy's time is left out: the reply's candidates were drawn at other times."""
    given = [answer for answer in answers if not answer.error]
    same = [answer.same_choice for answer in given if answer.same_choice is not None]
    taus = [tau for answer in given if (tau := kendall(answer.champion_scores, answer.scores)) is not None]
    best = _known([(max(one.champion_scores), max(one.scores)) for one in given if one.champion_scores and one.scores])
    seconds = _known([(answer.champion_seconds, answer.seconds) for answer in given])
    ranks = kind is Kind.REWARD
    each = replace(boundary, alpha=boundary.alpha / (3 if ranks else 2))
    failures = _failures([(0.0, float(answer.error != "")) for answer in answers], goals, each)
    lines = (_correlated(taus, each), _time(seconds, goals, each)) if ranks else (_kept(best, goals, each),)
    return ShadowFigures(
        answers=len(answers),
        failed=len(answers) - len(given),
        correlation=sum(taus) / len(taus) if ranks and taus else None,
        changed=1 - sum(same) / len(same) if same else None,
        gain=None if ranks else _more(best),
        slower=_more(seconds),
        guardrails=(*lines, failures),
    )


def score_pairs(answers: Sequence[ShadowAnswer]) -> list[Pair]:
    """The (champion's, challenger's) scores of the same replies, as `continuity.carry_over` takes them."""
    given = [answer for answer in answers if not answer.error]
    return [pair for answer in given for pair in zip(answer.champion_scores, answer.scores, strict=True)]


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's (1945) tau-b, -1 to 1; None where `first` tells nothing apart. A `second` that tells nothing apart has
    nothing to do with it: 0. Of different lengths they are not of the same things: None."""
    if len(first) != len(second):
        return None
    pairs = [(_sign(a - c), _sign(b - d)) for (a, b), (c, d) in combinations(zip(first, second, strict=True), 2)]
    apart, others = sum(abs(x) for x, _ in pairs), sum(abs(y) for _, y in pairs)
    if not apart:
        return None
    return sum(x * y for x, y in pairs) / math.sqrt(apart * others) if others else 0.0


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _known(pairs: Sequence[Pair]) -> Estimate:
    """Both sides' means; each answer is in both, so what they have in common does not count."""
    champion, challenger = ([pair[side] for pair in pairs] for side in (0, 1))
    place = np.arange(len(pairs), dtype=np.int64)
    outcomes = Outcomes(
        user=np.concatenate([place, place]),
        stratum=np.zeros(2 * len(pairs), dtype=np.int64),
        challenger=np.repeat(np.array([False, True]), len(pairs)),
        count=np.ones(2 * len(pairs)),
        total=np.array([*champion, *challenger], dtype=np.float64),
    )
    return estimate(gather(outcomes))


def _more(known: Estimate) -> float | None:
    champion, challenger = float(known.champion), float(known.challenger)
    return challenger / champion - 1 if champion > 0 and math.isfinite(challenger) else None


def _correlated(taus: Sequence[float], boundary: Boundary) -> Criterion:
    known = _known([(0.0, tau) for tau in taus])
    name = "Rank correlation in shadow"
    found = Finding(Guardrail.SHADOW, name, challenger_level(known, boundary), _missing(known))
    return found.at_least(LEAST_CORRELATION, f"at least {percent(LEAST_CORRELATION)}")


def _time(seconds: Estimate, goals: Goals, boundary: Boundary) -> Criterion:
    found = Finding(Guardrail.LATENCY, "Mean time in shadow", relative(seconds, boundary), _missing(seconds))
    return found.at_most(goals.slower, f"less than {percent(goals.slower)} up")


def _kept(best: Estimate, goals: Goals, boundary: Boundary) -> Criterion:
    """As `criteria` has it of quality: fails as soon as it is worse at all, and may be worse by the margin."""
    found = Finding(Guardrail.SHADOW, "Best candidate in shadow", relative(best, boundary), _missing(best))
    said = verdict(found.interval, not found.missing, margin=goals.margin)
    state = {Verdict.UNDECIDED: State.UNDECIDED, Verdict.INFERIOR: State.MISSED}.get(said, State.MET)
    return found.criterion(state, f"less than {percent(goals.margin)} down")


def _failures(failed: Sequence[Pair], goals: Goals, boundary: Boundary) -> Criterion:
    """That few fail is only said with the variance that it would have at the limit, as `criteria` does."""
    known = _known(failed)
    most = goals.failures * (1 - goals.failures) / max(float(known.challenger_users), 1.0)
    cautious = replace(known, challenger_variance=np.maximum(known.challenger_variance, most))
    level = challenger_level(known, boundary)
    interval = Interval(level.value, level.lower, challenger_level(cautious, boundary).upper)
    found = Finding(Guardrail.FAILURES, "Failed answers in shadow", interval, _missing(known))
    return found.at_most(goals.failures, f"at most {percent(goals.failures)}")


def _missing(known: Estimate) -> str:
    answers = float(known.challenger_users)
    return "" if answers >= LEAST_ANSWERS - 0.5 else f"{answers:.0f} of {LEAST_ANSWERS} answers"
