"""Leaves out judgements that nobody meant, and says how far the others are trusted. Pure: the seed is an argument.

In this order: raters whose habits show that they do not read, ratings far from what all others say of the same text,
raters who go along with nothing that others say, and what one rater has beyond their share. What is judged by has no
part in how the rest is cleaned, and a model's scores none in how that is. See docs/training-quality.md.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median
from typing import Final

import numpy as np

from trainer.data import habits
from trainer.data.habits import Conduct
from trainer.data.raters import INFORMATIVE, Rater, RaterReport, Ratings, Trust, trust
from trainer.data.records import ASPECT_WEIGHTS, NOBODY, Exclusion, Judgement, Preferred, Question, Response
from trainer.reward.config import DataConfig

OUTLIER_FROM: Final = 5
"""Raters of one text, below which nobody is far from the others."""
OUTLIER_GAP, OUTLIER_SCORE = 0.625, 3.5
"""How far from the median: in ratings (2.5 stars), and as a modified z-score (Iglewicz and Hoaglin 1993)."""
_NARROWEST: Final = 0.125
"""The least that ratings of one text are taken to be spread (half a star): otherwise all who agree make one an outlier
who nearly does."""
RANDOM_SHARED, RANDOM_CHANCE = 10, 0.01
"""Ratings of texts that others rated too, and the probability of being attentive below which such a rater is out."""
LEAST_CAP: Final = 10
"""Judgements that anybody may hold."""
FAIR_SHARES: Final = 2.0
"""So many times an equal share anybody may hold: of few raters each holds much."""
REASONS: Final[Mapping[str, str]] = {
    "too_fast": f"judged faster than anybody reads ({habits.FAST_SECONDS:g} s, and a tenth of what is usual)",
    "repeated": "wrote the same sentence under nearly everything",
    "constant": "gave the same rating too often for chance",
    "random": "go along with nothing that others say of the same texts",
    "outlier": "are far from what all others say of the same text",
    "cap": "are beyond the share of one rater (data.user_cap)",
}
"""Why judgements stay out: what their raters did, or what they are."""

Key = tuple[int, int, int]
"""Of a judgement: (question, place, number); of a preference: (question, -1, number)."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One judgement or preference. `value` is what it says of the text, 0..1; None: nothing that can be compared."""

    key: Key
    said: Judgement | Preferred
    response: Response | None
    value: float | None

    @property
    def named(self) -> bool:
        """Whether its rater is a person like others."""
        return self.said.rater not in NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """Both parts, what was left out of them, and what is known of the train part's raters."""

    train: tuple[Question, ...]
    validation: tuple[Question, ...]
    exclusions: tuple[Exclusion, ...]
    report: RaterReport


def clean(train: Sequence[Question], validation: Sequence[Question], config: DataConfig, seed: int) -> Cleaned:
    """The questions with judgements whose `weight` and `offset` are set and whose `rating` is corrected by the offset;
    those of spammers, outliers and above the cap are gone, each counted with its reason. Responses keep their places.

    `train` is cleaned by itself alone. In `validation` raters are known by their habits in both parts, and trusted as
    far as other people in `train` bear them out. No score has a say there: an old model's would speak for that model.
    """
    questions = (*train, *validation)
    learned, held = tuple(_entries(train)), tuple(_entries(validation, len(train)))
    suspects = habits.suspects(conducts(learned))
    dropped = _careless(questions, learned, suspects)
    left = _left(learned, dropped)
    raters, found = judge(questions, left)
    careless = _careless(questions, held, habits.suspects(conducts((*learned, *held))) | suspects)
    witnesses = _witnesses(questions, left, left_held := _left(held, careless))
    dropped |= _doubted(left, raters, config, seed) | careless | _doubted(left_held, witnesses, config, seed)
    exclusions = _exclusions((*learned, *held), dropped)
    return Cleaned(
        train=tuple(_cleaned(n, each, dropped, raters) for n, each in enumerate(train)),
        validation=tuple(_cleaned(n, each, dropped, witnesses) for n, each in enumerate(validation, len(train))),
        exclusions=exclusions,
        report=_report(learned, raters, suspects, exclusions, found),
    )


def _careless(questions: Sequence[Question], entries: Sequence[_Entry], suspects: Mapping[str, str]) -> dict[Key, str]:
    """What suspects said, and what is far from all others' word."""
    dropped = {each.key: suspects[each.said.rater] for each in entries if each.said.rater in suspects}
    return dropped | dict.fromkeys(_outliers(questions, _left(entries, dropped)), "outlier")


def _doubted(entries: Sequence[_Entry], raters: Mapping[str, Rater], config: DataConfig, seed: int) -> dict[Key, str]:
    """What raters said who agree with nobody, and what is beyond the cap."""
    dropped = {each.key: "random" for each in entries if raters[each.said.rater].excluded}
    return dropped | dict.fromkeys(_beyond(_left(entries, dropped), config.user_cap, seed), "cap")


def _witnesses(questions: Sequence[Question], learned: Sequence[_Entry], held: Iterable[_Entry]) -> dict[str, Rater]:
    """The raters of `held` by what people say in `learned`; who said nothing there is like the others."""
    raters, found = judge(questions, learned, by_people=True)
    usual = found.share if found.informative >= INFORMATIVE else 1.0
    new = {each.said.rater for each in held} - raters.keys()
    return raters | {each: Rater(id=each, judgements=0, weight=1.0 if each in NOBODY else usual) for each in new}


def _entries(questions: Iterable[Question], first: int = 0) -> Iterator[_Entry]:
    for number, question in enumerate(questions, first):
        for place, response in enumerate(question.responses):
            for index, said in enumerate(response.judgements):
                yield _Entry((number, place, index), said, response, value_of(said))
        for index, preferred in enumerate(question.preferences):
            yield _Entry((number, -1, index), preferred, None, None)


def value_of(said: Judgement) -> float | None:
    """The rating, or else the weighted mean of the aspects. A report says nothing of how good the rest is."""
    if said.rating is not None or said.reported or not said.aspects:
        return said.rating
    weights = [ASPECT_WEIGHTS[name] for name in said.aspects]
    return sum(w * v for w, v in zip(weights, said.aspects.values(), strict=True)) / sum(weights)


def _left(entries: Sequence[_Entry], dropped: Mapping[Key, str]) -> list[_Entry]:
    return [each for each in entries if each.key not in dropped]


def conducts(entries: Iterable[_Entry]) -> dict[str, Conduct]:
    """What each rater who is somebody did."""
    of: defaultdict[str, list[_Entry]] = defaultdict(list)
    for each in entries:
        if each.named:
            of[each.said.rater].append(each)
    return {rater: _conduct(did) for rater, did in of.items()}


def _conduct(did: Sequence[_Entry]) -> Conduct:
    judged = [each.said for each in did if isinstance(each.said, Judgement)]
    times: dict[str, datetime] = {}  # a reply that is rated, compared and reported is read once
    for each in did:
        if each.said.time is not None:
            times.setdefault(each.response.response_id if each.response else each.said.feedback_id, each.said.time)
    return Conduct(
        times=tuple(times.values()),
        ratings=tuple(each.rating for each in judged if each.rating is not None),
        comments=tuple(each.comment for each in judged if each.comment),
        judgements=len(judged),
    )


def _outliers(questions: Sequence[Question], entries: Iterable[_Entry]) -> list[Key]:
    """Ratings that are extreme against all others of the same text."""
    groups: defaultdict[tuple[str, str], list[_Entry]] = defaultdict(list)
    for each in entries:
        if each.value is not None and each.response is not None:
            groups[questions[each.key[0]].id, each.response.text].append(each)
    return [
        each.key
        for group in groups.values()
        if len({each.said.rater for each in group}) >= OUTLIER_FROM
        for each in _extreme(group)
    ]


def _extreme(group: Sequence[_Entry]) -> list[_Entry]:
    values = [each.value for each in group if each.value is not None]
    middle = median(values)
    scale = max(1.4826 * median(abs(value - middle) for value in values), _NARROWEST)
    return [
        each
        for each in group
        if each.named and each.value is not None and abs(each.value - middle) >= max(OUTLIER_GAP, OUTLIER_SCORE * scale)
    ]


def judge(
    questions: Sequence[Question], entries: Sequence[_Entry], *, by_people: bool = False
) -> tuple[dict[str, Rater], Trust]:
    """All raters, with how far each is trusted. `by_people`: as if no reply had been given a score."""
    counts = Counter(each.said.rater for each in entries)
    names = sorted(counts)
    ratings = _columns(questions, entries, names)
    found = trust(replace(ratings, score=np.full_like(ratings.score, np.nan)) if by_people else ratings)
    return {name: _rater(name, counts[name], place, found) for place, name in enumerate(names)}, found


def _rater(name: str, judgements: int, place: int, found: Trust) -> Rater:
    agreement, shared = float(found.agreement[place]), int(found.shared[place])
    strange = shared >= RANDOM_SHARED and found.attentive[place] < RANDOM_CHANCE and name not in NOBODY
    return Rater(
        id=name,
        judgements=judgements,
        weight=0.0 if strange else float(found.weight[place]),
        offset=float(found.offset[place]),
        agreement=None if np.isnan(agreement) else agreement,
        shared=shared,
        excluded="random" if strange else "",
    )


def _columns(questions: Sequence[Question], entries: Iterable[_Entry], names: Sequence[str]) -> Ratings:
    place = {name: number for number, name in enumerate(names)}
    items: dict[tuple[str, str], int] = {}
    topics: dict[str, int] = {}
    rows = []
    for each in entries:
        if each.value is None or each.response is None:
            continue
        assert isinstance(each.said, Judgement)
        question, text = questions[each.key[0]], each.response.text
        item = items.setdefault((question.id, text), len(items))
        topic = topics.setdefault(question.topic, len(topics))
        score = np.nan if each.response.logged_score is None else each.response.logged_score
        rows.append((place[each.said.rater], item, topic, each.value, score, each.said.weight))
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    rater, item_of, topic_of = (table[:, column].astype(np.int64) for column in range(3))
    known = np.array([name in NOBODY for name in names], dtype=np.bool_)
    return Ratings(rater, item_of, topic_of, table[:, 3], table[:, 4], table[:, 5], known)


def _beyond(entries: Iterable[_Entry], cap: float, seed: int) -> list[Key]:
    """What raters hold beyond the cap. Which of theirs is drawn, so that what stays is like what was there."""
    of: defaultdict[str, list[Key]] = defaultdict(list)
    for each in entries:
        if each.named:
            of[each.said.rater].append(each.key)
    total = sum(map(len, of.values()))
    most = int(max(LEAST_CAP, cap * total, FAIR_SHARES * total / max(len(of), 1)))
    return [
        key
        for rater, keys in of.items()
        if len(keys) > most
        for key in random.Random(f"{seed}-{rater}").sample(keys, len(keys) - most)  # noqa: S311  # no secret
    ]


def _exclusions(entries: Iterable[_Entry], dropped: Mapping[Key, str]) -> tuple[Exclusion, ...]:
    counts, raters = Counter(dropped.values()), defaultdict[str, set[str]](set)
    for each in entries:
        if each.key in dropped:
            raters[dropped[each.key]].add(each.said.rater)
    return tuple(
        Exclusion(reason=reason, count=count, detail=_detail(reason, len(raters[reason])))
        for reason, count in sorted(counts.items())
    )


def _detail(reason: str, raters: int) -> str:
    who = f"{raters} rater{'s' if raters != 1 else ''}"
    about = REASONS[reason]
    return f"They {about}: of {who}." if reason in ("outlier", "cap") else f"{who.capitalize()}: {about}."


def _report(
    entries: Iterable[_Entry],
    raters: Mapping[str, Rater],
    suspects: Mapping[str, str],
    exclusions: tuple[Exclusion, ...],
    found: Trust,
) -> RaterReport:
    counts = Counter(each.said.rater for each in entries)
    spam = [Rater(id=r, judgements=counts[r], weight=0.0, excluded=why) for r, why in suspects.items()]
    ordered = sorted([*raters.values(), *spam], key=lambda each: (-each.judgements, each.id))
    compared = not np.isnan(found.agreement).all()
    return RaterReport(
        raters=tuple(ordered),
        exclusions=exclusions,
        attentive=found.share if compared else None,
        informative=found.informative if compared else None,
    )


def _cleaned(number: int, question: Question, dropped: Mapping[Key, str], raters: Mapping[str, Rater]) -> Question:
    responses = tuple(
        replace(
            response,
            judgements=tuple(
                _corrected(said, raters[said.rater])
                for index, said in enumerate(response.judgements)
                if (number, place, index) not in dropped
            ),
        )
        for place, response in enumerate(question.responses)
    )
    preferences = tuple(
        replace(each, weight=each.weight * raters[each.rater].weight)
        for index, each in enumerate(question.preferences)
        if (number, -1, index) not in dropped
    )
    return replace(question, responses=responses, preferences=preferences)


def _corrected(said: Judgement, rater: Rater) -> Judgement:
    """Trusted as far as its rater is, and on everybody's scale. Aspects keep theirs: too few are given to tell."""
    rating = None if said.rating is None else min(max(said.rating - rater.offset, 0.0), 1.0)
    offset = 0.0 if said.rating is None else rater.offset
    return replace(said, weight=said.weight * rater.weight, offset=offset, rating=rating)
