"""What a simulated user thinks of a reply: the hidden rubric, seen through their habits. Pure."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from simulation.crowd import User
from trainer.starter import rubric
from trainer.starter.query import Language, Query
from trainer.starter.rubric import Verdict

Thumb = Literal["", "THUMBS_UP", "NEUTRAL", "THUMBS_DOWN"]

WORST: Final = 0.4
"""The rubric's verdict that people give one star: hardly an answer of a help desk is below it."""
UP: Final = 3.5
DOWN: Final = 2.5
"""Stars from which on a thumb goes up, and up to which it goes down."""
TELLS_APART: Final = 0.5
"""Stars by which a candidate must seem better, or a user says nothing of which of two is better."""
COMMENTS: Final[Mapping[Language, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "en": (
        ("Wrong or no answer.", "That didn't help me.", "Not what I asked."),
        ("Clear and right, thank you.", "Just what I needed.", "Good answer."),
    ),
    "vi": (
        ("Trả lời sai hoặc không trả lời.", "Chưa giúp được mình.", "Không đúng câu mình hỏi."),
        ("Rõ ràng và đúng, cảm ơn.", "Đúng cái mình cần.", "Câu trả lời tốt."),
    ),
}
BOTS_COMMENT: Final = "good good good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a user says of a reply: stars (1..5), perhaps with dimensions (1..5 each), or a thumb; perhaps a comment.

    `preferred` is (better, worse), places among the candidates.
    """

    stars: int | None = None
    dimensions: Mapping[str, int] = field(default_factory=dict)
    thumb: Thumb = ""
    comment: str = ""
    preferred: tuple[int, int] | None = None


def opinion(user: User, query: Query, candidates: Sequence[str], shown: int, rng: random.Random) -> Opinion | None:
    """What they say of the candidate at the place `shown`, which was the answer; None: they don't bother."""
    if rng.random() >= user.diligence:
        return None
    verdict = rubric.judge(query, candidates[shown])
    seen = felt(user, verdict.overall, rng)
    other = _other(candidates, shown, rng) if rng.random() < user.compares else None
    return Opinion(
        stars=None if user.way == "thumb" else _whole(seen),
        dimensions=_dimensions(user, verdict, rng) if user.way == "dimensions" else {},
        thumb=_thumb(seen) if user.way == "thumb" else "",
        comment=_comment(user, seen, rng) if user.vice == "bot" or rng.random() < user.comments else "",
        preferred=None if other is None else _preferred(user, query, candidates, (shown, other), rng),
    )


def felt(user: User, value: float, rng: random.Random) -> float:
    """Stars that a user would give for a verdict (0..1) if there were fractions of stars, and more than five."""
    if user.vice == "random":
        return rng.uniform(0.5, 5.5)
    if user.vice:
        return 5.0
    return 1 + 4 * (value - WORST) / (1 - WORST) + user.leaning + rng.gauss(0.0, user.noise)


def _whole(stars: float) -> int:
    return min(5, max(1, round(stars)))


def _dimensions(user: User, verdict: Verdict, rng: random.Random) -> dict[str, int]:
    """Each dimension reaches down to 0, so that its worst is one star."""
    scale = {name: WORST + (1 - WORST) * float(getattr(verdict, name)) for name in rubric.WEIGHTS}
    return {name: _whole(felt(user, value, rng)) for name, value in scale.items()}


def _thumb(stars: float) -> Thumb:
    return "THUMBS_UP" if stars >= UP else "THUMBS_DOWN" if stars <= DOWN else "NEUTRAL"


def _comment(user: User, stars: float, rng: random.Random) -> str:
    return BOTS_COMMENT if user.vice == "bot" else rng.choice(COMMENTS[user.language][stars >= UP])


def _other(candidates: Sequence[str], shown: int, rng: random.Random) -> int | None:
    """Another candidate to look at, with another text."""
    others = [place for place, text in enumerate(candidates) if text and text != candidates[shown]]
    return rng.choice(others) if others else None


def _preferred(
    user: User, query: Query, candidates: Sequence[str], pair: tuple[int, int], rng: random.Random
) -> tuple[int, int] | None:
    first, second = (felt(user, rubric.judge(query, candidates[place]).overall, rng) for place in pair)
    if user.vice in ("fan", "bot"):
        return pair  # what is shown is fine with them
    if abs(first - second) < TELLS_APART:
        return None
    return pair if first > second else pair[::-1]
