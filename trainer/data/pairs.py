"""Which response is better than which: labels and preference pairs from judgements. Pure.

Direct comparison, absolute scoring and several aspects (the specification's three methods), and what people said
outright. Every pair names who says so, and in which feedback.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from trainer.data.comparisons import Better, Side, better, compared, drawn, least_gap, sides
from trainer.data.labels import label, normalised
from trainer.data.language import language
from trainer.data.merging import merged
from trainer.data.records import GOOD, Dataset, Exclusion, Labelled, Pair, PairKind, Question
from trainer.reward.config import DataConfig

__all__ = ["added_up", "build", "label", "pairs"]

LANGUAGE = "language"
"""The group that a question's language is kept under."""
MOST_MET: Final = 20_000
"""About so many absolute pairs of one language at most, where models are judged by them."""
REASONS = {
    "tie": "comparisons whose two sides are about equally good, or that share nothing to compare by",
    "contradicted": "comparisons that others' own word, or that of more people, speaks against",
    "crowded": "comparisons of a question with very many responses, left for drawn ones",
}


def build(
    questions: Sequence[Question], config: DataConfig, seed: int = 1, *, judging: bool = False
) -> tuple[Dataset, tuple[Exclusion, ...]]:
    """Everything that training aims at, and what was left out. `seed` decides which absolute pairs are drawn.

    Questions of the same id are one. One whose groups name no language gets what its letters tell. To learn from, no
    response is in two absolute pairs; for `judging` models, more of them tell more: see `met`.
    """
    known = {name: _spoken(each) for name, each in merged(questions).items()}
    labels = [one for question in known.values() for one in label(question, config)]
    found, exclusions = pairs(tuple(known.values()), labels, config, seed, judging=judging)
    return Dataset(questions=known, labels=normalised(labels), pairs=found), exclusions


def pairs(
    questions: Sequence[Question],
    labels: Sequence[Labelled],
    config: DataConfig,
    seed: int = 1,
    *,
    judging: bool = False,
) -> tuple[tuple[Pair, ...], tuple[Exclusion, ...]]:
    """The pairs, their weights normalised to a mean of 1, and how many comparisons decided nothing, by reason."""
    left_out: Counter[str] = Counter()
    labelled: dict[str, list[Labelled]] = {}
    for each in labels:
        labelled.setdefault(each.question, []).append(each)
    found: list[Better] = []
    alone: dict[str, list[Side]] = {}
    for question in questions:
        held = sides(question, labelled.get(question.id, ()), config)
        decided = compared(question, held, config, left_out)
        paired = {side for each in decided for side in (each.chosen, each.rejected)}
        alone.setdefault(_spoken(question).groups[LANGUAGE], []).extend(_unpaired(held, paired))
        found += decided
    found += (one for name in sorted(alone) for one in _absolute(alone[name], config, seed, judging))
    return _weighted(found), tuple(
        Exclusion(reason=name, count=left_out[name], detail=text) for name, text in REASONS.items() if left_out[name]
    )


def added_up(*parts: Sequence[Exclusion]) -> tuple[Exclusion, ...]:
    """What was left out of several parts, each reason once."""
    counts: Counter[str] = Counter()
    for each in (one for part in parts for one in part):
        counts[each.reason] += each.count
    return tuple(Exclusion(reason=name, count=counts[name], detail=REASONS[name]) for name in REASONS if counts[name])


def _spoken(question: Question) -> Question:
    if LANGUAGE in question.groups:
        return question
    return replace(question, groups={**question.groups, LANGUAGE: language(question.query)})


def _unpaired(held: Mapping[int, Side], paired: set[Side]) -> Iterable[Side]:
    return (
        side
        for side in dict.fromkeys(held.values())
        if side.rating is not None and side.trust > 0 and side not in paired
    )


def met(good: int, bad: int) -> tuple[Iterator[tuple[int, int]], float]:
    """Which of so many good responses meet which of the bad ones to judge by, and what each meeting counts.

    All meet all or, of many, each of the larger side so many of the scarcer one, by turns: an incomplete U-statistic
    (Blom 1976), which tells nearly as much. On the whole they count as much as the scarcer side has responses.
    """
    scarcer, more = sorted((good, bad))
    if not scarcer:
        return iter(()), 1.0
    turns = min(scarcer, max(1, MOST_MET // more))
    rounds = ((each, (each + turn) % scarcer) for turn in range(turns) for each in range(more))
    return (pair if good >= bad else pair[::-1] for pair in rounds), scarcer / (more * turns)


def _absolute(held: Sequence[Side], config: DataConfig, seed: int, judging: bool) -> Iterable[Better]:
    """Good responses above bad ones, of whatever questions."""
    ordered = sorted(held, key=lambda side: drawn(seed, side.place))
    good = [side for side in ordered if side.rating is not None and side.rating > GOOD]
    bad = [side for side in ordered if side.rating is not None and side.rating < GOOD]
    couples, share = met(len(good), len(bad))
    each_once = zip(good, bad, strict=False)
    for one, other in ((good[first], bad[second]) for first, second in couples) if judging else each_once:
        assert one.rating is not None
        assert other.rating is not None
        if one.rating - other.rating >= least_gap(config):
            yield better(one, other, one.rating - other.rating, PairKind.ABSOLUTE, config, share if judging else 1.0)


def _weighted(found: Sequence[Better]) -> tuple[Pair, ...]:
    mean = sum(each.weight for each in found) / len(found) if found else 1.0
    return tuple(
        Pair(
            chosen=each.chosen.place,
            rejected=each.rejected.place,
            kind=each.kind,
            margin=each.margin,
            weight=each.weight / mean,
            praised_by=each.praised_by,
            blamed_by=each.blamed_by,
            sources=each.sources,
        )
        for each in found
    )
