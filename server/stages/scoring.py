"""Stage 4: the reward model's score of each candidate."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from server.errors import BackendError
from server.types import Candidate, Degradation, DegradationReason, Score


class Reward(Protocol):
    """What scoring needs of a reward release."""

    async def score(self, context: str, query: str, responses: Sequence[str], timeout: float) -> list[Score]:
        """One score a response; raises BackendError."""


async def score(
    candidates: Sequence[Candidate], context: str, query: str, reward: Reward, budget: float
) -> tuple[tuple[Candidate, ...], tuple[Degradation, ...]]:
    """The candidates with their scores; without, and why, when the reward model does not answer in `budget` seconds.

    Equal texts are scored once. A score is never invented: what was not scored stays None.
    """
    texts = list(dict.fromkeys(candidate.text for candidate in candidates if candidate.drawn))
    try:
        scores = dict(zip(texts, await reward.score(context, query, texts, budget), strict=True))
    except BackendError as error:
        detail = f"No candidate was scored: {error}"
        return tuple(candidates), (Degradation(DegradationReason.SCORING_UNAVAILABLE, detail),)
    return tuple(replace(c, score=scores[c.text]) if c.drawn else c for c in candidates), _cut(scores.values())


def _cut(scores: Iterable[Score]) -> tuple[Degradation, ...]:
    if not any(score.truncated for score in scores):
        return ()
    detail = "The reward model saw only a part: context, query or a response was cut to fit its window."
    return (Degradation(DegradationReason.SCORING_TRUNCATED, detail),)
