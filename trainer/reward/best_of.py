"""What choosing among candidates gains: the best-of-N benchmark on questions with several rated responses.

The share of the possible gain is (what the picks are worth - what random picks are worth) / (what the best possible
picks are worth - what random picks are worth), as means over questions. Where more than `DRAWN` responses of a question
were rated, N = DRAWN of them are drawn without replacement, and the expectation over all draws is exact: nothing is
left to chance.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from trainer.reward.bootstrap import Codes, Draws, Floats
from trainer.reward.findings import Estimate

DRAWN: Final = 5


def expected_pick(scores: Floats, ratings: Floats, drawn: int = DRAWN) -> float:
    """The rating to expect of the highest score among `drawn` of the M responses [M]; ties are broken by chance.

    The r-th highest is the pick when it is drawn and none above it is: C(M-1-r, drawn-1) / C(M, drawn).
    """
    order = np.argsort(-scores, kind="stable")
    levels = np.unique(-scores[order], return_inverse=True)[1]
    means = np.bincount(levels, ratings[order]) / np.bincount(levels)
    return float(_chances(len(scores), min(drawn, len(scores))) @ means[levels])


def _chances(among: int, drawn: int) -> Floats:
    """[among] how probably each rank is the highest of `drawn` that are taken at random."""
    rank = np.arange(among - 1)
    steps = np.maximum(among - drawn - rank, 0) / (among - 1 - rank)
    chances: Floats = drawn / among * np.concatenate([[1.0], np.cumprod(steps)])
    return chances


def gain(
    questions: Sequence[Codes], scores: Floats, ratings: Floats, codes: Codes, draws: Draws, drawn: int = DRAWN
) -> Estimate:
    """The share of the possible gain. `questions` are the rows of each question, `codes` its cluster.

    Questions with fewer than two ratings or none that differ can gain nothing, and are left out.
    """
    found = [
        (expected_pick(scores[rows], ratings[rows], drawn), float(ratings[rows].mean()), best, code)
        for rows, code in zip(questions, codes, strict=True)
        if len(rows) > 1 and (best := expected_pick(ratings[rows], ratings[rows], drawn)) > ratings[rows].mean() + 1e-12
    ]
    if not found:
        return Estimate()
    picked, random, best, kept = np.asarray(found).T
    return draws.mean(picked - random, np.ones(len(found)), kept.astype(np.int64), best - random)
