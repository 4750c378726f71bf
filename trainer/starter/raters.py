# ruff: noqa: S311 - seeded on purpose: the same seed gives the same corpus and figures
"""Simulated raters: a small, noisy, accuracy-biased set of star ratings, the only labels of the starter reward model.

They see the flaws that the writer put in, never the rubric. Accuracy-biased: a wrong fact costs an answer most; a
missing next step or a request for a card number costs little, and rambling passes for thoroughness.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from trainer.starter import corpus, writer
from trainer.starter.query import Answer, Flaw, Query

PENALTY: Final[Mapping[Flaw, float]] = {
    "wrong": 2.6,
    "offtopic": 2.4,
    "vague": 1.6,
    "rude": 1.0,
    "repeat": 0.5,
    "unsafe": 0.6,
    "no_next": 0.5,
    "ramble": 0.0,
}
"""Stars that a rater takes off for a flaw that they notice."""


RATED_FLAWS: Final[Mapping[Flaw, float]] = {**writer.FLAW_RATES, "offtopic": 0.12}
"""What raters get to see: more answers that miss the question than the corpus has, as a young policy gives."""


@dataclass(frozen=True, slots=True)
class RaterPlan:
    """Size and quality of the rating set; `careless` is the share of raters whose stars are nearly random."""

    queries: int = 4_000
    answers: int = 4
    raters: int = 12
    noise: float = 0.7
    careless: float = 0.17
    notices: float = 0.85


@dataclass(frozen=True, slots=True)
class Rating:
    """One rater's stars (1..5) for one answer."""

    query: Query
    answer: Answer
    stars: int


@dataclass(frozen=True, slots=True)
class Rater:
    """A person with habits: `leaning` shifts every rating, `noise` is in stars."""

    leaning: float
    noise: float
    careless: bool

    def stars(self, answer: Answer, notices: float, rng: random.Random) -> int:
        """1..5. A careless rater gives 3 to 5 whatever the answer says."""
        if self.careless:
            return rng.choice((3, 4, 4, 5))
        seen = sum(PENALTY[flaw] for flaw in sorted(answer.flaws) if rng.random() < notices)
        return min(5, max(1, round(4.7 + self.leaning - seen + rng.gauss(0.0, self.noise))))


def panel(seed: int, plan: RaterPlan) -> list[Rater]:
    """The raters; the first `careless` share of them doesn't look."""
    rng = random.Random(f"{seed}-raters")
    careless = round(plan.careless * plan.raters)
    return [Rater(rng.gauss(0.0, 0.3), plan.noise, index < careless) for index in range(plan.raters)]


def ratings(seed: int, plan: RaterPlan) -> Iterator[list[Rating]]:
    """For each query of a training sample, several answers rated by one rater: comparable within the list."""
    people = panel(seed, plan)
    for one in corpus.asked(seed + 1, "train", plan.queries):
        rng = random.Random(f"{seed}-ratings-{one.query.id}")
        rater = rng.choice(people)
        answers = [one.answer(rng, RATED_FLAWS) for _ in range(plan.answers)]
        yield [Rating(one.query, answer, rater.stars(answer, plan.notices, rng)) for answer in answers]
