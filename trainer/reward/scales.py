"""How logits become scores, and from which score on a release passes. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sigmoid(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """1 / (1 + e^-x), without overflow."""
    found: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logits, dtype=np.float64))
    return found


def calibrated(logit: float, temperature: float = 1.0) -> float:
    """The score, 0..1, as the release gives it."""
    return float(sigmoid(np.asarray(logit / temperature)))


def matched(new: Sequence[float], old: Sequence[float], old_threshold: float) -> float | None:
    """The threshold at which as many of `new` pass as of `old` do at theirs; scores of the same responses, 0..1.

    So a swap does not move what passes. It lies midway between the scores that it parts. None: there are no scores.
    """
    if not new:
        return None
    passing = sum(score >= old_threshold for score in old)
    falling = [1.0, *sorted(new, reverse=True), 0.0]
    return (falling[passing] + falling[passing + 1]) / 2
