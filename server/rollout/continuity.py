"""The threshold of a new reward release, so that swapping it in doesn't move what passes. Pure.

Two reward models put the same reply at different scores. The new threshold is the one that passes as many of the same
replies as the old one did: the thresholds are the same quantile of either's scores (equipercentile linking: Kolen and
Brennan, Test Equating, Scaling, and Linking, 2014). Each swap adds its sampling error, so that a chain of them drifts;
when enough ratings contradict the threshold, it is drawn to where replies are rated as an answer that just passes
should be, by an isotonic regression (Barlow et al. 1972) of ratings on scores, but only so far in one swap.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby, pairwise

MINIMUM_PAIRS = 100
"""Fewer replies scored by both say too little: the share that passes is then known to 10 points at best."""
MINIMUM_RATINGS = 400
NEAREST = 100
"""Ratings looked at on either side of a threshold. Where nobody rates what does not pass, they say nothing."""
CONFIDENCE = 2.576
"""Standard errors (99 %) by which they must contradict it: drawn to every noise, thresholds would move at each swap."""
LARGEST_SHIFT = 0.05
"""By how much ratings may move the share that passes, in one swap."""


class Method(StrEnum):
    """How a threshold was found. KEPT: as before, for want of pairs. MATCHED: by quantile. ANCHORED: by quantile, then
    drawn to the ratings."""

    KEPT = "kept"
    MATCHED = "matched"
    ANCHORED = "anchored"


@dataclass(frozen=True, slots=True)
class Rated:
    """A rated reply: the new release's score and the rating, both 0 to 1 (stars: (stars - 1) / 4).

    `weight`: what it counts, above 0, such as an inverse propensity; the ratings come from replies that were chosen.
    """

    score: float
    rating: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Continuity:
    """A new release's threshold (0 to 1; scores from there up pass), and how it was found.

    `passed_before`, `passed_after`: shares (0 to 1) of the pairs that pass the old release and threshold, and the new
    ones; None without pairs. `sentence` says all that for people.
    """

    threshold: float
    method: Method
    pairs: int
    ratings: int
    passed_before: float | None
    passed_after: float | None
    sentence: str


def carry_over(
    threshold: float,
    pairs: Sequence[tuple[float, float]],
    ratings: Sequence[Rated] = (),
    *,
    anchor: float = 0.6,
) -> Continuity:
    """The new release's threshold, from the old one's and the (old, new) scores of the same replies.

    `anchor`: the mean rating (0 to 1) that replies should have whose score just passes. Raises ValueError for what is
    not within 0 to 1.
    """
    _check([threshold, anchor, *(score for pair in pairs for score in pair)])
    _check([value for rated in ratings for value in (rated.score, rated.rating)])
    if not all(0 < rated.weight < math.inf for rated in ratings):
        raise ValueError("Weights of ratings are above 0 and finite.")
    if len(pairs) < MINIMUM_PAIRS:
        return _kept(threshold, pairs, len(ratings))
    matched = _matched(threshold, pairs)
    return _anchored(matched, sorted(new for _, new in pairs), ratings, anchor)


def _kept(threshold: float, pairs: Sequence[tuple[float, float]], ratings: int) -> Continuity:
    """The scores are calibrated to ratings, so the same number is the best guess."""
    before, after = (_passing(sorted(side), threshold) for side in zip(*pairs, strict=True)) if pairs else (0, 0)
    count = len(pairs)
    return Continuity(
        threshold=threshold,
        method=Method.KEPT,
        pairs=count,
        ratings=ratings,
        passed_before=before / count if count else None,
        passed_after=after / count if count else None,
        sentence=(
            f"The threshold stays {threshold:.3f}: {count} replies were scored by both releases, and"
            f" {MINIMUM_PAIRS} are needed to match it."
        ),
    )


def _matched(threshold: float, pairs: Sequence[tuple[float, float]]) -> Continuity:
    count = len(pairs)
    new = sorted(score for _, score in pairs)
    passed = _passing(sorted(score for score, _ in pairs), threshold)
    found = _passes(new, passed, threshold)
    after = _passing(new, found)
    sentence = (
        f"Matched on {count} replies that both releases scored: {passed / count:.1%} passed at {threshold:.3f},"
        f" and {after / count:.1%} pass at {found:.3f}."
    )
    if new[0] == new[-1]:
        sentence += " The new release gives all of them the same score, so that no threshold tells them apart."
    elif abs(after - passed) > LARGEST_SHIFT * count:
        sentence += " Too many of the new scores are equal to come closer."
    return Continuity(found, Method.MATCHED, count, 0, passed / count, after / count, sentence)


def _anchored(matched: Continuity, new: Sequence[float], ratings: Sequence[Rated], anchor: float) -> Continuity:
    """The matched threshold, drawn to the ratings where these are enough and contradict it."""
    told = replace(matched, ratings=len(ratings))
    around = _around(ratings, matched.threshold) if len(ratings) >= MINIMUM_RATINGS else None
    if around is None:
        return told
    mean, error = around
    wanted = crossing(ratings, anchor)
    seen = f" Replies around it are rated {mean:.3f} of 1 ({anchor:.3f} is meant)"
    if wanted is None or abs(mean - anchor) <= CONFIDENCE * error:
        return replace(told, sentence=f"{matched.sentence}{seen}, which does not contradict it.")
    found = _within(new, matched.threshold, wanted, math.floor(LARGEST_SHIFT * len(new)))
    after = _passing(new, found) / len(new)
    sentence = (
        f"{matched.sentence}{seen}, so it is drawn to {found:.3f}, where {after:.1%} pass; {len(ratings)} ratings lead"
        f" to {wanted:.3f}, and one swap moves at most {LARGEST_SHIFT:.0%} of replies."
    )
    return replace(told, threshold=found, method=Method.ANCHORED, passed_after=after, sentence=sentence)


def _around(ratings: Sequence[Rated], threshold: float) -> tuple[float, float] | None:
    """The weighted mean rating of those nearest to a threshold, as many below as above, and its standard error; None
    where there are too few on a side."""
    ordered = sorted(ratings, key=lambda rated: rated.score)
    place = bisect_left(ordered, threshold, key=lambda rated: rated.score)
    if min(place, len(ordered) - place) < NEAREST:
        return None
    near = ordered[place - NEAREST : place + NEAREST]
    weight = sum(rated.weight for rated in near)
    mean = sum(rated.weight * rated.rating for rated in near) / weight
    return mean, math.sqrt(sum((rated.weight * (rated.rating - mean)) ** 2 for rated in near)) / weight


def crossing(ratings: Sequence[Rated], level: float) -> float | None:
    """The score from which ratings are expected to reach `level`: midway between the two scores around it.

    None where all or none are expected to.
    """
    below = None
    for score, expected in isotonic(ratings):
        if expected >= level:
            return None if below is None else (below + score) / 2
        below = score
    return None


def isotonic(ratings: Sequence[Rated]) -> list[tuple[float, float]]:
    """The expected rating at each score, in ascending order of both: weighted least squares that never falls, by
    pooling adjacent violators."""
    blocks: list[tuple[float, float, list[float]]] = []  # weighted sum, weight, scores
    for score, same in groupby(sorted(ratings, key=lambda rated: rated.score), key=lambda rated: rated.score):
        group = list(same)
        total, weight, scores = sum(r.rating * r.weight for r in group), sum(r.weight for r in group), [score]
        while blocks and blocks[-1][0] * weight >= total * blocks[-1][1]:
            before = blocks.pop()
            total, weight, scores = total + before[0], weight + before[1], before[2] + scores
        blocks.append((total, weight, scores))
    return [(score, total / weight) for total, weight, scores in blocks for score in scores]


def _passes(scores: Sequence[float], wanted: int, near: float) -> float:
    """A threshold that as many of the ascending scores pass as is nearest to `wanted`; the fewer where two are.

    Between two scores it is midway; where all pass, or none, it is the nearest to `near` that does that.
    """
    cuts = [0, *(i for i in range(1, len(scores)) if scores[i - 1] < scores[i]), len(scores)]
    possible = [cut for cut in cuts if cut < len(scores) or scores[-1] < 1]
    cut = min(possible, key=lambda cut: (abs(len(scores) - cut - wanted), -cut))
    if cut == 0:
        return min(near, scores[0])
    if cut == len(scores):
        return near if near > scores[-1] else (scores[-1] + 1) / 2
    return (scores[cut - 1] + scores[cut]) / 2


def _within(scores: Sequence[float], start: float, wanted: float, room: int) -> float:
    """The threshold nearest to `wanted` at which no more than `room` scores pass less, or more, than at `start`."""
    cuts = sorted({0.0, *scores, 1.0})
    passing = _passing(scores, start)
    edges = (wanted, start, *((low + high) / 2 for low, high in pairwise(cuts)))
    allowed = [edge for edge in edges if abs(_passing(scores, edge) - passing) <= room]
    return min(allowed, key=lambda edge: abs(edge - wanted))


def _passing(scores: Sequence[float], threshold: float) -> int:
    """How many of the ascending scores pass."""
    return len(scores) - bisect_left(scores, threshold)


def _check(values: Sequence[float]) -> None:
    if not all(0 <= value <= 1 for value in values):
        raise ValueError("Thresholds, scores and ratings are within 0 to 1.")
