"""How far a converted model is from its checkpoint. Pure: numbers in, numbers out."""

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

APART: Final = 0.05
"""Scores this near to each other may change places: nobody is worse off."""
LEAST_ORDER: Final = 0.99
"""Share of the golden pairs that are further apart, which int8 and fp16 must order like the checkpoint."""
LEAST_PAIRS: Final = 100
"""With fewer of them one pair is more than a hundredth: their order is not judged then."""
CANDIDATES: Final = 5
MOST_REGRET: Final = 0.01
"""Of the checkpoint's score, that may be lost on average when the other graph picks the best of five."""

Floats = NDArray[np.floating[Any]]
Figures = dict[str, Any]
"""What a gate decided by, as the manifest has it; the deciding figure first."""


def largest_difference(reference: Floats, converted: Floats) -> float:
    """The largest absolute difference of two equally shaped arrays; nan when either has one."""
    return float(np.max(np.abs(reference - converted)))


def order_kept(reference: Floats, converted: Floats, apart: float = APART) -> tuple[float, int]:
    """Of the pairs that the reference [N] puts more than `apart` apart, the share that the converted model [N] orders
    alike, and their number. A tie is no order. The share of no pairs is 1.
    """
    first, second = np.triu_indices(len(reference), k=1)
    expected, found = reference[first] - reference[second], converted[first] - converted[second]
    told = np.abs(expected) > apart
    count = int(told.sum())
    return (float(np.mean(np.sign(expected[told]) == np.sign(found[told]))) if count else 1.0), count


def regret(reference: Floats, converted: Floats, sizes: Sequence[int], candidates: int = CANDIDATES) -> float:
    """What the reference loses on average when the converted model picks the best of `candidates`.

    Both are scores [N], in groups of `sizes` that follow each other: the answers to one query each. Every choice of
    `candidates` out of a group counts once; a group of fewer counts as it is.
    """
    losses: list[float] = []
    for start, end in pairwise(np.cumsum([0, *sizes]).tolist()):
        truth, seen = reference[start:end], converted[start:end]
        drawn = np.array(list(combinations(range(end - start), min(candidates, end - start))))
        picked = drawn[np.arange(len(drawn)), seen[drawn].argmax(axis=1)]
        losses.extend((truth[drawn].max(axis=1) - truth[picked]).tolist())
    return float(np.mean(losses))


def ranks(
    reference: Floats, converted: Floats, sizes: Sequence[int], once: NDArray[np.bool_] | None = None
) -> tuple[Figures, bool]:
    """Whether scores [N] of a converted model rank as the checkpoint's do, and by which figures.

    `once` [N] marks those that make up the pairs, where some scores are in several groups; None: all of them.
    Where the checkpoint's own scores are so close that too few pairs can be told apart, the regret alone decides, and
    `judged_by` says so. Scores that are no numbers never pass.
    """
    if not np.isfinite(converted).all():
        return {"order_kept": 0.0, "judged_by": "scores that are no numbers"}, False
    chosen = slice(None) if once is None else once
    share, pairs = order_kept(reference[chosen], converted[chosen])
    lost = regret(reference, converted, sizes)
    enough = pairs >= LEAST_PAIRS
    figures: Figures = {"order_kept": round(share, 4)} if enough else {}
    figures |= {"best_of_5_regret": round(lost, 5), "pairs_apart": pairs}
    figures["judged_by"] = "order and regret" if enough else "regret: the golden scores are too close to order"
    figures["score_largest_difference"] = largest_difference(reference, converted)
    return figures, lost <= MOST_REGRET and (share >= LEAST_ORDER or not enough)


def correlation(reference: Floats, converted: Floats) -> float:
    """Pearson's correlation of all elements."""
    return float(np.corrcoef(reference.ravel(), converted.ravel())[0, 1])
