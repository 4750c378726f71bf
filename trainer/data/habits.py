"""Raters who show by what they do that they do not read: too fast, always the same words, always the same rating. Pure.

Each rule asks for many judgements, and for what a person in their place would hardly do. None looks at whether others,
or a model, agree.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Final

FAST_FROM: Final = 10
"""Judgements, below which speed is no habit."""
FAST_SECONDS: Final = 2.0
"""Between two judgements, median: nobody reads an answer so fast."""
FAST_SHARE: Final = 0.1
"""Of what is usual among the raters: where all are fast (a replay, a simulation), speed says nothing."""
REPEATED_FROM, REPEATED_SHARE, REPEATED_CHARACTERS = 5, 0.8, 20
"""The same words under so many judgements, that share of all of the rater's, and so long that they are a sentence."""
CONSTANT_FROM: Final = 20
CONSTANT_CHANCE: Final = 1e-6
"""How improbable it must be, by what others give, to give the same so often."""
_MOST_COMMON: Final = 0.95
"""What others give is never taken to be surer than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """What a rater did: when each reply was judged, the ratings, the comments (those that say anything)."""

    times: tuple[datetime, ...] = ()
    ratings: tuple[float, ...] = ()
    comments: tuple[str, ...] = ()
    judgements: int = 0


def suspects(conducts: Mapping[str, Conduct]) -> dict[str, str]:
    """Raters who are to be left out, with the reason: too_fast, repeated or constant."""
    gaps = {rater: gap for rater, each in conducts.items() if (gap := typical_gap(each.times)) is not None}
    usual = median(gaps.values()) if gaps else 0.0
    given = Counter(rating for each in conducts.values() for rating in each.ratings)
    found = {}
    for rater, each in conducts.items():
        if rater in gaps and gaps[rater] < min(FAST_SECONDS, FAST_SHARE * usual):
            found[rater] = "too_fast"
        elif repeated(each):
            found[rater] = "repeated"
        elif constant(each.ratings, given):
            found[rater] = "constant"
    return found


def typical_gap(times: Sequence[datetime]) -> float | None:
    """The median of the seconds between two judgements; None below FAST_FROM of them."""
    if len(times) < FAST_FROM:
        return None
    ordered = sorted(times)
    return median((b - a).total_seconds() for a, b in pairwise(ordered))


def repeated(conduct: Conduct) -> bool:
    """Whether nearly all comes with the same sentence."""
    said = Counter(" ".join(each.casefold().split()) for each in conduct.comments)
    times = max((n for text, n in said.items() if len(text) >= REPEATED_CHARACTERS), default=0)
    return times >= REPEATED_FROM and times >= REPEATED_SHARE * conduct.judgements


def constant(ratings: Sequence[float], given: Mapping[float, int]) -> bool:
    """Whether all ratings are one, so often that chance does not explain it: share of the others' ratings ** n."""
    if len(ratings) < CONSTANT_FROM or len(set(ratings)) > 1:
        return False
    others = sum(given.values()) - len(ratings)
    share = (given[ratings[0]] - len(ratings) + 1) / (others + 2)
    return len(ratings) * math.log(min(share, _MOST_COMMON)) < math.log(CONSTANT_CHANCE)
