"""Questions by topic: what splits go by. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from trainer.data.labels import label
from trainer.data.records import NOBODY, Labelled, Question
from trainer.reward.config import DataConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """All questions of one query. `size` is in judged responses, `users` who judged or asked any of them.

    `rating` is the mean of the ratings, 0..1; `time` that of the newest judgement.
    """

    name: str
    size: int
    rating: float | None
    time: datetime | None
    users: frozenset[str]


def topics(questions: Iterable[Question], config: DataConfig) -> tuple[Topic, ...]:
    """Those of which somebody judged a response, in order."""
    grouped: dict[str, list[Question]] = {}
    for question in questions:
        grouped.setdefault(question.topic, []).append(question)
    found = (_topic(name, each, config) for name, each in grouped.items())
    return tuple(each for each in found if each.size)


def judgements(questions: Iterable[Question]) -> tuple[Mapping[str, float], int]:
    """How many judgements and preferences hang on each user who is somebody, and how many there are in all.

    Those they gave, and their share, as one of those who asked, of what others gave to the answers.
    """
    counts: dict[str, float] = {}
    total = 0
    for question in questions:
        raters, askers = Counter(_raters(question)), set(question.askers)
        total += raters.total()
        for user in (raters.keys() | askers) - NOBODY:
            others = (raters.total() - raters[user]) / len(askers) if user in askers else 0
            counts[user] = counts.get(user, 0) + raters[user] + others
    return {user: count for user, count in counts.items() if count}, total


def without(question: Question, users: frozenset[str]) -> tuple[Question | None, int]:
    """The question as if these users had never been there, and how many of their judgements that costs.

    None when nobody else asked it, so that its very query is theirs. Responses keep their places.
    """
    if not users.intersection((*_raters(question), *question.askers)):
        return question, 0
    if question.askers and users.issuperset(question.askers):
        return None, len(_raters(question))
    responses = tuple(
        replace(
            each,
            judgements=tuple(one for one in each.judgements if one.rater not in users),
            asker="" if each.asker in users else each.asker,
        )
        for each in question.responses
    )
    kept = replace(
        question,
        responses=responses,
        preferences=tuple(each for each in question.preferences if each.rater not in users),
        askers=tuple(each for each in question.askers if each not in users),
    )
    return kept, len(_raters(question)) - len(_raters(kept))


def _topic(name: str, questions: Sequence[Question], config: DataConfig) -> Topic:
    labels = [(each, label(each, config)) for each in questions]
    ratings = [one.rating for _, found in labels for one in found if one.rating is not None]
    return Topic(
        name=name,
        size=sum(len(_judged(question, found)) for question, found in labels),
        rating=sum(ratings) / len(ratings) if ratings else None,
        time=max((each.time for each in questions if each.time is not None), default=None),
        users=frozenset(user for each in questions for user in (*_raters(each), *each.askers)) - NOBODY,
    )


def _judged(question: Question, labels: Iterable[Labelled]) -> set[int]:
    """The places of responses that somebody judged or compared."""
    compared = (place for each in question.preferences if each.weight > 0 for place in (each.chosen, each.rejected))
    return {one.response for one in labels} | set(compared)


def _raters(question: Question) -> list[str]:
    judged = [each.rater for response in question.responses for each in response.judgements]
    return judged + [each.rater for each in question.preferences]
