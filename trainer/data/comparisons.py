"""Responses to one question compared with each other: by what people preferred, by ratings, by aspects. Pure."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Final

from trainer.data.labels import inverse_propensity, trusted
from trainer.data.records import ASPECT_WEIGHTS, Labelled, PairKind, Preferred, Question
from trainer.reward.config import DataConfig

MOST_COMPARED: Final = 64
"""Responses of one question that are compared all with all. Of more, each is compared with so many others, drawn."""
LEAST_SHARED: Final = 0.5
"""Of the aspects' weights, what both responses must have been rated by to be compared."""
NEAR: Final = 1e-9

Couple = tuple[int, int]
"""Two places among a question's responses, the smaller one first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """One text that answers a question, with all that was said of it; equal texts are one side.

    `trust` is the sum of its raters' weights, `inverse` the clipped inverse propensity.
    """

    place: tuple[str, int]
    rating: float | None = None
    aspects: Mapping[str, float] = field(default_factory=dict)
    trust: float = 0.0
    inverse: float = 1.0
    raters: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Better:
    """That `chosen` is better than `rejected`, and how far that is believed, before any normalising."""

    chosen: Side
    rejected: Side
    kind: PairKind
    margin: float
    weight: float
    praised_by: tuple[str, ...]
    blamed_by: tuple[str, ...]
    sources: tuple[str, ...]


def sides(question: Question, labels: Sequence[Labelled], config: DataConfig) -> dict[int, Side]:
    """The side of each response by its place; the first of equal texts stands for all of them."""
    by_text: dict[str, list[int]] = {}
    for place, response in enumerate(question.responses):
        by_text.setdefault(response.text, []).append(place)
    labelled = {each.response: each for each in labels}
    found: dict[int, Side] = {}
    for places in by_text.values():
        found |= dict.fromkeys(places, _side(question, places, labelled, config))
    return found


def compared(question: Question, held: Mapping[int, Side], config: DataConfig, left_out: Counter[str]) -> list[Better]:
    """At most one comparison of any two sides. People's own word comes before ratings, and these before aspects.

    A comparison's weight is shared out over those that its sides take part in, so that a question with many responses
    does not count by their square. `left_out` counts what decides nothing: "tie"; "contradicted", by others' word or by
    that of more people; "crowded".
    """
    found = _preferred(question, held, left_out)
    rated = [side for side in dict.fromkeys(held.values()) if side.trust > 0]
    least, share = least_gap(config), 1 / max(min(len(rated) - 1, MOST_COMPARED), 1)
    ties = 0
    for one, other in _couples(question.id, rated, left_out):
        gap, kind = _gap(one, other, least)
        said = found.get((one.place[1], other.place[1])) if found else None
        if not kind:
            ties += said is None
        elif said is None:
            found[one.place[1], other.place[1]] = better(one, other, gap, kind, config, share)
        elif said.chosen is (one if gap > 0 else other):
            found[one.place[1], other.place[1]] = replace(said, margin=abs(gap))
        else:
            left_out["contradicted"] += 1
    left_out["tie"] += ties
    return list(found.values())


def least_gap(config: DataConfig) -> float:
    """From which gap on one response is better than another: rounding makes no tie of a gap that is just enough."""
    return max(config.minimum_gap - NEAR, NEAR)


def better(one: Side, other: Side, gap: float, kind: PairKind, config: DataConfig, share: float = 1.0) -> Better:
    """That `one` is better by `gap`, or `other` where the gap is negative.

    The weight is the harmonic mean of both sides' trust, as the inverse variance of a difference of two means, times
    how seldom both are judged, times `share`.
    """
    seldom = min(one.inverse * other.inverse, max(config.propensity_clip, 1.0))
    trust = 2 * one.trust * other.trust / (one.trust + other.trust)
    chosen, rejected = (one, other) if gap > 0 else (other, one)
    sources = one.sources if one.sources == other.sources else tuple(sorted({*one.sources, *other.sources}))
    return Better(chosen, rejected, kind, abs(gap), trust * seldom * share, chosen.raters, rejected.raters, sources)


def combined(aspects: Mapping[str, float]) -> float:
    """One score of several aspects, 0..1: by ASPECT_WEIGHTS, which are normalised over those that are there."""
    total = sum(ASPECT_WEIGHTS[name] for name in aspects)
    return sum(ASPECT_WEIGHTS[name] * value for name, value in aspects.items()) / total


def drawn(*parts: object) -> int:
    """A number that is as good as random, and the same for the same parts: what is drawn has no order of arrival."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _side(question: Question, places: Sequence[int], labelled: Mapping[int, Labelled], config: DataConfig) -> Side:
    place = (question.id, places[0])
    labels = [labelled[each] for each in places if each in labelled]
    if not labels:
        return Side(place=place, inverse=inverse_propensity(question.responses[places[0]], config))
    judged = [one for each in places for one in trusted(question.responses[each].judgements)]
    inverses = [inverse_propensity(question.responses[each.response], config) for each in labels]
    one = labels[0] if len(labels) == 1 else _pooled(labels)
    return Side(
        place=place,
        rating=one.rating,
        aspects=one.aspects,
        trust=sum(each.weight for each in judged),
        inverse=sum(inverses) / len(inverses),
        raters=one.raters,
        sources=tuple(sorted({each.feedback_id for each in judged if each.feedback_id})),
    )


def _pooled(labels: Sequence[Labelled]) -> Labelled:
    """The labels of one text that was judged in several places, as one."""
    rated = [(each.rating, each.weight) for each in labels if each.rating is not None]
    total = sum(weight for _, weight in rated)
    aspects = {name: [each.aspects[name] for each in labels if name in each.aspects] for name in ASPECT_WEIGHTS}
    return replace(
        labels[0],
        rating=sum(rating * weight for rating, weight in rated) / total if rated else None,
        aspects={name: sum(values) / len(values) for name, values in aspects.items() if values},
        raters=tuple(sorted({rater for each in labels for rater in each.raters})),
    )


def _preferred(question: Question, held: Mapping[int, Side], left_out: Counter[str]) -> dict[Couple, Better]:
    """What people said outright: the weight is by how much those who say so outweigh those who say the opposite."""
    said: dict[Couple, tuple[list[Preferred], list[Preferred]]] = {}
    for each in question.preferences:
        first, second = held[each.chosen].place[1], held[each.rejected].place[1]
        if first == second or each.weight <= 0:
            left_out["tie"] += 1
            continue
        votes = said.setdefault((min(first, second), max(first, second)), ([], []))
        votes[first > second].append(each)
    degrees = Counter(place for couple in said for place in couple)
    voted = ((couple, _voted(held, couple, votes, left_out)) for couple, votes in said.items())
    return {
        couple: replace(one, weight=2 * one.weight / sum(degrees[place] for place in couple))
        for couple, one in voted
        if one is not None
    }


def _voted(
    held: Mapping[int, Side], couple: Couple, votes: tuple[list[Preferred], list[Preferred]], left_out: Counter[str]
) -> Better | None:
    more = sum(each.weight for each in votes[0]) - sum(each.weight for each in votes[1])
    if abs(more) < NEAR:
        left_out["contradicted"] += len(votes[0]) + len(votes[1])
        return None
    winners, losers = votes if more > 0 else votes[::-1]
    left_out["contradicted"] += len(losers)
    chosen, rejected = (held[couple[more < 0]], held[couple[more > 0]])
    voters = tuple(sorted({each.rater for each in winners}))
    return Better(
        chosen,
        rejected,
        PairKind.PREFERENCE,
        0.0,
        abs(more),
        voters,
        voters,
        tuple(sorted({each.feedback_id for each in winners if each.feedback_id})),
    )


def _couples(question: str, held: Sequence[Side], left_out: Counter[str]) -> Iterator[tuple[Side, Side]]:
    """All with all, or around a circle in which they stand as drawn; the one with the smaller place comes first."""
    if len(held) <= MOST_COMPARED:
        yield from combinations(held, 2)
        return
    circle = sorted(held, key=lambda side: drawn(question, side.place[1]))
    size, reach = len(circle), MOST_COMPARED // 2
    left_out["crowded"] += size * (size - 1) // 2 - size * reach
    for index, one in enumerate(circle):
        for step in range(1, reach + 1):
            other = circle[(index + step) % size]
            yield (one, other) if one.place[1] < other.place[1] else (other, one)


def _gap(one: Side, other: Side, least: float) -> tuple[float, PairKind | None]:
    """By how much `one` is better, and by what that is known: ratings or, where these decide nothing, aspects."""
    if one.rating is not None and other.rating is not None:
        gap = one.rating - other.rating
        if abs(gap) >= least:
            return gap, PairKind.DIRECT
    if one.aspects and other.aspects:
        gap = _aspects_gap(one.aspects, other.aspects)
        if abs(gap) >= least:
            return gap, PairKind.ASPECTS
    return 0.0, None


def _aspects_gap(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    shared = [name for name in one if name in other]
    if sum(ASPECT_WEIGHTS[name] for name in shared) < LEAST_SHARED - NEAR:
        return 0.0
    return combined({name: one[name] for name in shared}) - combined({name: other[name] for name in shared})
