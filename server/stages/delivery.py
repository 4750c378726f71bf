"""Stage 6: whether to ask the user what they think of the reply."""

from collections.abc import Sequence

from server.types import Candidate

UNCERTAIN_SCORES = (0.25, 0.85)
"""Between these the reward model is unsure of the answer."""
UNCERTAIN_MARGIN = 0.05
"""Two answers closer than this are a close call."""


def worth_asking(candidates: Sequence[Candidate], chosen: int) -> bool:
    """Whether feedback would teach something: the score is uncertain, close to another's, or missing.

    Ratings where the model is sure and right change nothing (uncertainty sampling, Lewis & Gale 1994).
    """
    score = candidates[chosen].reward_score
    if score is None:
        return True
    others = [c.reward_score for c in candidates if c.reward_score is not None and c.text != candidates[chosen].text]
    close = any(score - other < UNCERTAIN_MARGIN for other in others)
    return close or UNCERTAIN_SCORES[0] < score < UNCERTAIN_SCORES[1]
