"""What a policy goes on with at temperature 0, as far as any engine with the same weights must go on with it.

Engines add up in different orders and round to different types, so a token that hardly leads the next one is another
one elsewhere, and all that follows is. An answer ends before the first such token. How often an engine is refused all
the same: docs/export.md, "Golden answers".
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import numpy as np

from exporters.parity import Floats
from triton_models.golden import Answer

TOKENS: Final = 8
SURE: Final = 0.25
"""By so many standard deviations of all logits the likeliest token must lead the next one to be certain."""

Step = Callable[[list[int]], Floats]
"""Token ids -> the logits [vocabulary] of the token that comes next."""


def answered(step: Step, ids: Sequence[int], tokenizer: Any, ends: Collection[int], stops: Sequence[str]) -> Answer:
    """What certainly comes after the prompt `ids`, in at most TOKENS tokens; texts end at `ends` and before `stops`."""
    found: list[int] = []
    ended = False
    while len(found) < TOKENS and not ended:
        token = certain(step([*ids, *found]))
        if token is None:
            break
        ended = token in ends
        if not ended:
            found.append(token)
    text = str(tokenizer.backend_tokenizer.decode(found, skip_special_tokens=True)).rstrip("\ufffd")
    if stopped := [at for stop in stops if (at := text.find(stop)) >= 0]:
        return Answer(text[: min(stopped)], ends=True)
    return Answer(text if ended else _unheld(text, stops), ends=ended)


def certain(logits: Floats) -> int | None:
    """The likeliest token, if it leads by enough; logits that are no numbers are of tokens that nobody gets."""
    known = logits[np.isfinite(logits)]
    if len(known) < 2:
        return None
    second, first = np.sort(known)[-2:]
    return int(np.flatnonzero(logits == first)[0]) if first - second >= SURE * np.std(known) else None


def _unheld(text: str, stops: Sequence[str]) -> str:
    """Without an end that may yet become a stop, which would take it away."""
    held = (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
    return text[: len(text) - max(held, default=0)]
