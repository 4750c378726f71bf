"""Fewer responses of questions that have very many, still good and bad ones side by side. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trainer.data.records import Dataset, Pair

Indices = NDArray[np.int64]


def spread(ratings: NDArray[np.float64], most: int, rng: np.random.Generator) -> Indices:
    """Which `most` of the responses rated `ratings` [N] to take (NaN: not rated): evenly from the worst to the best.

    Each is taken with probability most / N, so that ratings keep their distribution; but those taken together differ
    more than in a plain draw: where most answers are bad, four plain draws often have no pair to learn from. (Madow's
    systematic sampling, 1949.) All of them when there are fewer.
    """
    shuffled = rng.permutation(len(ratings))  # equal ratings in any order
    order = shuffled[np.argsort(ratings[shuffled], kind="stable")]
    if len(order) <= most:
        return order
    return order[((np.arange(most) + rng.random()) * len(order) / most).astype(np.int64)]


def made_up(judged: Indices, together: Indices) -> NDArray[np.float64]:
    """By how much a pair of a question counts for more when of its `judged` responses `together` are taken, [Q] each.

    A pair's weight is a share of what its responses weigh, one for each of the `judged` - 1 others that they are
    compared with (see comparisons.py). Of these only `together` - 1 are left, among which it is to be shared out.
    """
    return np.maximum(judged - 1, 1) / np.maximum(together - 1, 1)


def thinned(dataset: Dataset, most: int, seed: int) -> Dataset:
    """The dataset with at most `most` judged responses of each question, and the pairs among those. 0: all of it.

    Pairs of responses that nobody rated stay: there is nothing to choose by. Weights of pairs are as in training: what
    is left of a question counts as much as its responses, and their mean is 1.
    """
    if not most:
        return dataset
    rng = np.random.default_rng(seed)
    rated: dict[str, dict[int, float]] = defaultdict(dict)
    for one in dataset.labels:
        rated[one.question][one.response] = np.nan if one.rating is None else one.rating
    left_out = {
        (question, response)
        for question, ratings in sorted(rated.items())
        for response in _left_out(ratings, most, rng)
    }
    if not left_out:
        return dataset
    kept = [one for one in dataset.pairs if not {one.chosen, one.rejected} & left_out]
    return replace(
        dataset,
        labels=tuple(one for one in dataset.labels if (one.question, one.response) not in left_out),
        pairs=_shared(kept, {question: len(ratings) for question, ratings in rated.items()}, most),
    )


def _shared(pairs: Sequence[Pair], judged: Mapping[str, int], most: int) -> tuple[Pair, ...]:
    within = np.array([judged.get(one.chosen[0], 1) if one.chosen[0] == one.rejected[0] else 1 for one in pairs])
    weights = np.array([one.weight for one in pairs]) * made_up(within, np.minimum(within, most))
    weights = weights / weights.mean() if weights.any() else weights
    return tuple(replace(one, weight=weight) for one, weight in zip(pairs, weights.tolist(), strict=True))


def _left_out(ratings: dict[int, float], most: int, rng: np.random.Generator) -> set[int]:
    held = sorted(ratings)
    kept = spread(np.array([ratings[each] for each in held]), most, rng)
    return set(held) - {held[place] for place in kept.tolist()}
