"""Which responses people should judge next: the highest, the lowest and the most disputed scores. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from trainer.data.records import REVIEWER, Dataset, Place
from trainer.reward.ensembles import spread
from trainer.reward.findings import Calibration, Reason, ReviewItem, Scored
from trainer.reward.mistakes import cut
from trainer.reward.scales import calibrated

MOST_EACH: Final = 20
MOST_CHARACTERS: Final = 20_000
"""Of a query and of a context. A response is whole: by it a judgement finds the text that is trained on."""


def queue(
    dataset: Dataset, scored: Mapping[Place, Scored], calibration: Calibration, most: int = MOST_EACH
) -> tuple[ReviewItem, ...]:
    """At most `most` items a reason; no response twice, at most one a question and reason, none that a reviewer judged.

    Disputed are those whose score is far from their rating, or on which an ensemble's members differ. The highest lie
    above the median score, the lowest below it.
    """
    ratings = {(one.question, one.response): one.rating for one in dataset.labels}
    open_places = [place for place in scored if not _reviewed(dataset, place)]
    items = [_item(dataset, place, scored[place], calibration, ratings.get(place)) for place in open_places]
    middle = float(np.median([item.score for item in items])) if items else 0.0
    orders: Mapping[Reason, Callable[[ReviewItem], float]] = {
        Reason.DISPUTED: lambda item: -disputed(item),
        Reason.HIGHEST: lambda item: -item.score,
        Reason.LOWEST: lambda item: item.score,
    }
    taken: dict[tuple[str, str], ReviewItem] = {}
    for reason, key in orders.items():
        candidates = (item for item in sorted(items, key=key) if _fits(item, reason, middle))
        for item in _first(candidates, taken.keys(), most):
            taken[_text(item)] = replace(item, reason=reason)
    return tuple(taken.values())


def disputed(item: ReviewItem) -> float:
    """How far score and rating, or an ensemble's members (two standard deviations), are apart: 0..1."""
    return max(abs(item.score - item.rating) if item.rating is not None else 0.0, 2 * item.spread)


def _fits(item: ReviewItem, reason: Reason, middle: float) -> bool:
    """Whether it may be asked about for this reason, where there are few of all."""
    if reason is Reason.DISPUTED:
        return disputed(item) > 0
    return item.score > middle if reason is Reason.HIGHEST else item.score < middle


def _first(candidates: Iterable[ReviewItem], taken: Iterable[tuple[str, str]], most: int) -> Sequence[ReviewItem]:
    texts, found = set(taken), dict[str, ReviewItem]()
    for item in candidates:
        if len(found) == most:
            break
        if item.question not in found and _text(item) not in texts:
            found[item.question] = item
    return list(found.values())


def _text(item: ReviewItem) -> tuple[str, str]:
    return item.query, " ".join(item.response.split()).casefold()


def _reviewed(dataset: Dataset, place: Place) -> bool:
    return any(one.rater == REVIEWER for one in dataset.questions[place[0]].responses[place[1]].judgements)


def _item(dataset: Dataset, place: Place, one: Scored, calibration: Calibration, rating: float | None) -> ReviewItem:
    question = dataset.questions[place[0]]
    response = question.responses[place[1]]
    return ReviewItem(
        question=place[0],
        place=place[1],
        response_id=response.response_id,
        users=question.askers,
        query=cut(question.query, MOST_CHARACTERS),
        context=cut(question.context, MOST_CHARACTERS),
        response=response.text,
        score=calibrated(one.logit, calibration.temperature),
        rating=rating,
        reason=Reason.DISPUTED,
        spread=spread(one, calibration.temperature),
    )
