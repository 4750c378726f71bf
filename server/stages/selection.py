"""Stage 5: which candidate answers, and with what probability. Pure: no I/O, no clock, no randomness but the seed's."""

import hashlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from server.types import Candidate, Check, Choice, SelectionMethod

Masses = dict[int, float]
"""Probability by position; positions that are not in it have none."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`temperature` (above 0) of WEIGHTED's softmax; `exploration`, the share (0 to 1) of choices that are made by
    WEIGHTED instead of the method: 0 where the caller named one; `ensemble_weight` (0 to 1) of the reward."""

    temperature: float = 0.1
    exploration: float = 0.0
    ensemble_weight: float = 0.7


def select(candidates: Sequence[Candidate], method: SelectionMethod, settings: Settings, seed: int) -> Choice:
    """The answer among the candidates that passed; index None when none did.

    Where a text was drawn more than once, only its first passing candidate can be chosen: the probability is the
    text's. Scored candidates come before unscored ones; when none is scored, the rules decide and nothing is explored.
    The probabilities are those with which each candidate would have been chosen over all seeds: what inverse
    propensity weighting needs (Horvitz & Thompson, 1952). The same arguments give the same choice.
    """
    pool = _pool(candidates)
    if not pool:
        return Choice(None, method, (0.0,) * len(candidates))
    rewards = {position: score for position in pool if (score := _reward(candidates[position])) is not None}
    if not rewards:
        best = _top({position: rule_score(candidates[position]) for position in pool})
        return _choice(candidates, SelectionMethod.RULES, {best: 1.0}, best)
    masses = _masses(candidates, rewards, method, settings)
    if method is SelectionMethod.WEIGHTED or not settings.exploration:
        return _choice(candidates, method, masses, _sample(masses, _uniform(seed, "choice")))
    chances = softmax(rewards, settings.temperature)
    explored = _uniform(seed, "exploration") < settings.exploration
    index = _sample(chances if explored else masses, _uniform(seed, "choice"))
    chosen = _choice(candidates, method, _mixture(masses, chances, settings.exploration), index)
    return replace(chosen, explored=explored)


def softmax(values: Masses, temperature: float) -> Masses:
    """exp(value / temperature), normalised; safe for any finite values and temperature above 0."""
    highest = max(values.values())
    weights = {key: math.exp((value - highest) / temperature) for key, value in values.items()}
    total = math.fsum(weights.values())
    return {key: weight / total for key, weight in weights.items()}


def rule_score(candidate: Candidate) -> float:
    """The mean value of the rules' findings, 0 to 1; the reward is none of them. 1 without any finding."""
    values = [finding.value for finding in candidate.findings if finding.check is not Check.REWARD]
    return statistics.fmean(values) if values else 1.0


def _pool(candidates: Sequence[Candidate]) -> list[int]:
    """Positions of the candidates that passed, of equal texts the first one that has a score if any has."""
    first: dict[int, int] = {}
    for position, candidate in enumerate(candidates):
        if not candidate.passed:
            continue
        text = candidate.index if candidate.duplicate_of is None else candidate.duplicate_of
        held = first.setdefault(text, position)
        if _reward(candidates[held]) is None and _reward(candidate) is not None:
            first[text] = position
    return sorted(first.values())


def _reward(candidate: Candidate) -> float | None:
    score = candidate.reward_score
    return score if score is not None and math.isfinite(score) else None


def _masses(candidates: Sequence[Candidate], rewards: Masses, method: SelectionMethod, settings: Settings) -> Masses:
    if method is SelectionMethod.WEIGHTED:
        return softmax(rewards, settings.temperature)
    if method is SelectionMethod.ENSEMBLE:
        share = settings.ensemble_weight
        return {_top({p: share * r + (1 - share) * rule_score(candidates[p]) for p, r in rewards.items()}): 1.0}
    return {_top(rewards): 1.0}


def _top(values: Masses) -> int:
    """The position of the highest value, the first of equal ones."""
    return max(values, key=lambda position: (values[position], -position))


def _mixture(base: Masses, other: Masses, share: float) -> Masses:
    return {key: (1 - share) * base.get(key, 0.0) + share * other.get(key, 0.0) for key in base.keys() | other.keys()}


def _sample(masses: Masses, point: float) -> int:
    """The position into whose part of the unit line `point` falls; never one without mass."""
    positions = [position for position in sorted(masses) if masses[position] > 0]
    for position in positions:
        point -= masses[position]
        if point < 0:
            return position
    return positions[-1]


def _uniform(seed: int, purpose: str) -> float:
    """A number in [0, 1) that follows from the seed; independent for each purpose, and of the candidates' seeds."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _choice(candidates: Sequence[Candidate], method: SelectionMethod, masses: Masses, index: int) -> Choice:
    return Choice(index, method, tuple(masses.get(position, 0.0) for position in range(len(candidates))))
