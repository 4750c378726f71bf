"""What kinds of pairs the model gets wrong, and the worst mistakes. Pure."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from trainer.data.records import Dataset, Labelled, Pair, Place
from trainer.reward import metrics
from trainer.reward.bootstrap import Draws, Floats
from trainer.reward.categories import CATEGORIES, NEAR, Case, categorise
from trainer.reward.columns import Columns, known
from trainer.reward.findings import Category, Mistake, Side

LEAST: Final = 5
"""Pairs, below which a category is not listed."""
MOST: Final = 20
"""Mistakes that are listed."""
LOOKED_AT: Final = 20_000
"""Pairs that are sorted into categories."""
CUT: Final = 700
"""Characters of each text that are shown."""


def analyse(
    columns: Columns, scores: Floats, draws: Draws, most: int = MOST
) -> tuple[tuple[Category, ...], tuple[Mistake, ...]]:
    """The categories with at least `LEAST` pairs, the most often wrong first; and the `most` worst mistakes, at most
    one a question. `scores` [P] are 0..1. Of more than `LOOKED_AT` pairs so many are drawn for the categories.
    """
    pairs = columns.dataset.pairs
    labels = {(one.question, one.response): one for one in columns.dataset.labels}
    rows = np.sort(np.random.default_rng(draws.seed).permutation(len(pairs))[:LOOKED_AT])
    found = [categorise(_case(columns.dataset, pairs[row], labels)) for row in rows]
    wrong = 1 - metrics.ordered(scores[columns.chosen], scores[columns.rejected])
    categories = []
    for name, (meaning, _) in CATEGORIES.items():
        inside = rows[[name in each for each in found]]
        errors = columns.mean_of_pairs(wrong[inside], inside, draws)
        if errors.count >= LEAST and errors.value is not None:
            categories.append(Category(name=name, meaning=meaning, errors=errors))
    categories.sort(key=lambda one: -(one.errors.value or 0.0))
    return tuple(categories), _worst(columns, scores, labels, most)


def _worst(columns: Columns, scores: Floats, labels: Mapping[Place, Labelled], most: int) -> tuple[Mistake, ...]:
    """By how surely the model is wrong, times how clear the ratings are."""
    gap = scores[columns.rejected] - scores[columns.chosen]
    severity = gap * np.array([max(pair.margin, NEAR) for pair in columns.dataset.pairs])
    found: list[Mistake] = []
    shown: set[str] = set()
    for index in np.argsort(-severity, kind="stable"):
        if len(found) == most or gap[index] <= 0:
            break
        pair = columns.dataset.pairs[index]
        if not (asked := {pair.chosen[0], pair.rejected[0]}) & shown:
            shown |= asked
            sides = scores[columns.chosen[index]], scores[columns.rejected[index]]
            found.append(_mistake(columns.dataset, pair, labels, sides))
    return tuple(found)


def _mistake(
    dataset: Dataset,
    pair: Pair,
    labels: Mapping[Place, Labelled],
    scores: tuple[float, float],
) -> Mistake:
    questions = [dataset.questions[place[0]] for place in (pair.rejected, pair.chosen)]
    raters = [rater for place in (pair.chosen, pair.rejected) if place in labels for rater in labels[place].raters]
    users = {*known([*pair.raters, *raters]), *(user for question in questions for user in question.askers)}
    return Mistake(
        question=pair.rejected[0],
        query=cut(questions[0].query),
        better_query=cut(questions[1].query) if questions[1].topic != questions[0].topic else "",
        better=_side(dataset, pair.chosen, labels, scores[0]),
        worse=_side(dataset, pair.rejected, labels, scores[1]),
        kind=pair.kind.value,
        categories=categorise(_case(dataset, pair, labels)),
        users=tuple(sorted(users)),
    )


def cut(text: str, most: int = CUT) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _side(dataset: Dataset, place: Place, labels: Mapping[Place, Labelled], score: float) -> Side:
    label = labels.get(place)
    return Side(text=cut(dataset.text(place)[2]), score=float(score), rating=label.rating if label else None)


def _case(dataset: Dataset, pair: Pair, labels: Mapping[Place, Labelled]) -> Case:
    question, other = dataset.questions[pair.rejected[0]], dataset.questions[pair.chosen[0]]
    better, worse = other.responses[pair.chosen[1]], question.responses[pair.rejected[1]]
    return Case(question, better, worse, other, labels.get(pair.chosen), labels.get(pair.rejected), pair.margin)
