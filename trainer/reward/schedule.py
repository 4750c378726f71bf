"""How the learning rate goes: up in a straight line, then down along a cosine (Loshchilov and Hutter 2017)."""

import math
from typing import Final

LAST_SHARE: Final = 0.001
"""Of the highest rate, at the last step."""
WIDTH: Final = 768
"""Of BERT-base and RoBERTa-base, for which 2e-5 is the usual rate."""
MOST: Final = 1e-4
"""How far a rate is raised."""


def peak(asked: float, width: int) -> float:
    """The highest rate for an encoder of `width` units: what is asked for, raised for those narrower than 768.

    By the square of how much narrower, but not past 1e-4: 8e-5 instead of 2e-5 for MiniLM's 384. Small encoders take
    rates of 1e-4 and more (Turc et al. 2019, "Well-Read Students Learn Better").
    """
    return max(asked, min(asked * (WIDTH / width) ** 2, MOST)) if width < WIDTH else asked


def warmup(steps: int, asked: int, share: float) -> int:
    """How many of `steps` steps go up: as many as asked for, but no larger share of all than `share`."""
    return min(asked, int(steps * share))


def rate(step: int, steps: int, warm: int) -> float:
    """The learning rate at `step` (from 0) of `steps`, as a share of the highest: 0..1."""
    if step < warm:
        return (step + 1) / (warm + 1)
    passed = min(1.0, (step - warm) / max(1, steps - 1 - warm))
    return LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * passed)) / 2
