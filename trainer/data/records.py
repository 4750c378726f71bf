"""What training data are made of. Ratings here are 0..1: (stars - 1) / 4, a win rate, or 1, 0.5, 0 for a thumb.

A `Question` is a query in its context with every response that somebody judged; a `Pair` says that one of them is
better than another, and how that is known. `Labelled` is a question's response with what training aims at.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

ASPECTS: Final = ("accuracy", "helpfulness", "clarity", "safety")
ASPECT_WEIGHTS: Final[Mapping[str, float]] = {"accuracy": 0.3, "helpfulness": 0.3, "clarity": 0.2, "safety": 0.2}
"""Of the combined score of several aspects (the specification's multi-aspect scoring)."""
GOOD: Final = 0.625
"""The rating of 3.5 stars: above it a response is good, below it bad."""
REVIEWER: Final = "reviewer"
"""The rater of labels that came out of the review queue."""
NOBODY: Final = frozenset({"", "file", REVIEWER})
"""Raters that stand for nobody in particular: no user is known by them."""

Place = tuple[str, int]
"""(question id, place among its responses)."""


def rating_of_stars(stars: float) -> float:
    """1..5 -> 0..1."""
    return (stars - 1) / 4


class PairKind(StrEnum):
    """How it is known that one response is better than another."""

    DIRECT = "direct"
    """Both answer the same query, and their ratings differ."""
    PREFERENCE = "preference"
    """A person said so: `SubmitPreference`, or a line {"chosen", "rejected"}."""
    ASPECTS = "aspects"
    """Both answer the same query, and their combined aspects differ."""
    ABSOLUTE = "absolute"
    """One was found good (above 3.5 stars) and the other, of another query maybe, bad (below)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one rater said of one response, at one time.

    `rating` and the values of `aspects` are 0..1. `weight` is how far the rater is trusted, 0..1 (see quality.py;
    more for labels of the review queue), `offset` what was taken off the rating for the rater's habit.
    """

    rater: str
    rating: float | None = None
    aspects: Mapping[str, float] = field(default_factory=dict)
    time: datetime | None = None
    feedback_id: str = ""
    comment: str = ""
    reported: bool = False  # as unsafe
    weight: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response to a question. `propensity` is the probability with which it was the one shown, 0..1.

    `response_id` is the logged reply that it is a candidate of ("" for data from files), `index` its place there, and
    `asker` whose reply it was.
    """

    text: str
    judgements: tuple[Judgement, ...] = ()
    propensity: float = 1.0
    response_id: str = ""
    index: int = 0
    policy_release: str = ""
    reward_release: str = ""
    logged_score: float | None = None  # 0..1, by `reward_release`
    asker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferred:
    """A person's word that response `chosen` is better than `rejected`: places in the question's `responses`."""

    chosen: int
    rejected: int
    rater: str
    time: datetime | None = None
    feedback_id: str = ""
    weight: float = 1.0


def newest(said: Iterable[Judgement | Preferred]) -> datetime | None:
    """When somebody last judged. A reviewer's word has no part: it comes when asked for, and its question is older."""
    return max((each.time for each in said if each.time is not None and each.rater not in NOBODY), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query in its context with the responses that somebody judged.

    `id` is the same for the same query and context of one tenant (SHA-256, hexadecimal), also in later snapshots;
    `topic` is the same for the same query in any context: no split parts them. `askers` are who asked it. `group` are
    what bias is looked for by: {"language": "vi", "source": ...}.
    """

    id: str
    topic: str
    query: str
    context: str = ""
    responses: tuple[Response, ...] = ()
    preferences: tuple[Preferred, ...] = ()
    askers: tuple[str, ...] = ()
    time: datetime | None = None  # of its newest judgement by somebody: see `newest`
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A response with what training aims at. `rating` and `aspects` are weighted means, 0..1; None: nobody rated it.

    `weight` is of its part in the pointwise loss, 0 when `rating` is None. `raters` are who judged it.
    """

    question: str
    response: int  # its place in the question's `responses`
    rating: float | None
    aspects: Mapping[str, float]
    weight: float
    raters: tuple[str, ...] = ()
    time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`chosen` is better than `rejected`: each (question id, place among its responses).

    `margin` is the gap of their ratings, 0..1; `weight` comes from the raters' trust and the selection probability
    (clipped). `praised_by` are who say that `chosen` is good, `blamed_by` who say that `rejected` is bad: the same
    ones where they preferred one to the other. `sources` are the feedback ids that say so.
    """

    chosen: Place
    rejected: Place
    kind: PairKind
    margin: float
    weight: float = 1.0
    praised_by: tuple[str, ...] = ()
    blamed_by: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def raters(self) -> tuple[str, ...]:
        """Everybody whose word it is, once."""
        return tuple(sorted({*self.praised_by, *self.blamed_by}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Questions with what is aimed at. Every pair's and label's question is in `questions`."""

    questions: Mapping[str, Question]
    labels: tuple[Labelled, ...]
    pairs: tuple[Pair, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Every response that a pair or a label speaks of, once: those of pairs first."""
        paired = (place for pair in self.pairs for place in (pair.chosen, pair.rejected))
        return tuple(dict.fromkeys([*paired, *((one.question, one.response) for one in self.labels)]))

    def text(self, place: Place) -> tuple[str, str, str]:
        """(context, query, response) at (question id, place among its responses)."""
        question = self.questions[place[0]]
        return question.context, question.query, question.responses[place[1]].text


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Rows that were left out, and why: a line of the run's report."""

    reason: str  # a word: "degraded", "withdrawn", "bot", "too_fast", "repeated", "tie", "cap", ...
    count: int
    detail: str = ""
