"""Stage 6: what goes with the answer: whether to ask the user what they think of it."""

from collections.abc import Sequence

from server.types import Candidate

UNCERTAIN_SCORES = (0.25, 0.85)
"""Between these the reward model is unsure of the answer."""
UNCERTAIN_MARGIN = 0.05
"""Two answers closer than this are a close call."""


def worth_asking(candidates: Sequence[Candidate], chosen: int | None) -> bool:
    """Whether feedback would teach something: the score is uncertain, close to another's, or missing.

    Never on a refusal (`chosen` None): nobody's answer is rated. Ratings where the model is sure and right change
    nothing (uncertainty sampling, Lewis & Gale 1994).
    """
    if chosen is None:
        return False
    score = candidates[chosen].reward_score
    if score is None:
        return True
    return UNCERTAIN_SCORES[0] < score < UNCERTAIN_SCORES[1] or _close_call(candidates, chosen, score)


def _close_call(candidates: Sequence[Candidate], chosen: int, score: float) -> bool:
    """Whether another text that could have answered scored nearly the same."""
    text = _original(candidates[chosen])
    rivals = [c.reward_score for c in candidates if c.passed and _original(c) != text]
    return any(rival is not None and score - rival < UNCERTAIN_MARGIN for rival in rivals)


def _original(candidate: Candidate) -> int:
    return candidate.index if candidate.duplicate_of is None else candidate.duplicate_of
