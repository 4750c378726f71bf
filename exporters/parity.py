"""How far a converted model is from its checkpoint. Pure: numbers in, numbers out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def largest_difference(reference: Floats, converted: Floats) -> float:
    """The largest absolute difference of two equally shaped arrays."""
    return float(np.max(np.abs(reference - converted)))


def rank_agreement(reference: Floats, converted: Floats) -> float:
    """Share of pairs, among those that the reference tells apart, that the converted model orders alike.

    Both are logits [N]. Pairs closer than a thousandth of the reference's range count as ties and are left out.
    """
    first, second = np.triu_indices(len(reference), k=1)
    expected, found = reference[first] - reference[second], converted[first] - converted[second]
    apart = np.abs(expected) > 1e-3 * float(np.ptp(reference))
    if not apart.any():
        return 1.0
    return float(np.mean(np.sign(expected[apart]) == np.sign(found[apart])))


def correlation(reference: Floats, converted: Floats) -> float:
    """Pearson's correlation of all elements."""
    return float(np.corrcoef(reference.ravel(), converted.ravel())[0, 1])
