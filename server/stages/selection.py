"""Stage 5: which candidate answers. Pure: no I/O, no clock, no randomness."""

from collections.abc import Sequence

from server.types import Candidate, Choice, SelectionMethod


def select(candidates: Sequence[Candidate]) -> Choice:
    """The drawn candidate with the highest score, the first of equal ones; the first drawn when none is scored.

    At least one candidate must be drawn.
    """
    drawn = [candidate for candidate in candidates if candidate.drawn]
    scored = [candidate for candidate in drawn if candidate.reward_score is not None]
    best = max(scored, key=lambda c: (c.reward_score or 0.0, -c.index)) if scored else drawn[0]
    chances = tuple(float(candidate.index == best.index) for candidate in candidates)
    return Choice(best.index, SelectionMethod.BEST, chances)
