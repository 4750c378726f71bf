"""What classifiers behind Triton say of texts, as the sentences of findings. The rules do without them."""

import re
from collections.abc import Sequence
from typing import Protocol

LONGEST = 4_000
"""Characters of an answer, and of the evidence, that a classifier is given."""
VERDICT = 0.5
"""Probability from which a label counts."""

Opinions = dict[str, tuple[float, str]]
"""By text: what it is worth (0 to 1) and why. Only texts that fail are in it."""

_BENIGN = re.compile(
    r"(?:safe|ok|neutral|benign|clean|none|harmless|normal|(?:non?|not)(?:toxic|hat|offens|abus|harm).*)"
)


class Classifier(Protocol):
    """What is needed of a text classifier."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What it tells apart."""

    async def classify(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], timeout: float
    ) -> list[tuple[float, ...]]:
        """A probability for each label of each text, or pair of texts; raises BackendError."""


async def toxicity(texts: Sequence[str], classifier: Classifier, timeout: float) -> Opinions:
    """By the harmful labels, each for itself: all but what means harmless. Raises BackendError."""
    harmful = [(place, label) for place, label in enumerate(classifier.labels) if not _is_benign(label)]
    if not harmful:
        return {}
    rows = await classifier.classify([text[:LONGEST] for text in texts], timeout)
    worst = [max((row[place], label) for place, label in harmful) for row in rows]
    return {
        text: (_rest(chance), f"The classifier finds it {label} ({chance:.2f}).")
        for text, (chance, label) in zip(texts, worst, strict=True)
        if chance >= VERDICT
    }


async def contradiction(texts: Sequence[str], premise: str, classifier: Classifier, timeout: float) -> Opinions:
    """By the label "contradiction" of (premise, text). Raises BackendError."""
    place = next((i for i, label in enumerate(classifier.labels) if label.lower().startswith("contradict")), None)
    if place is None or not premise:
        return {}
    rows = await classifier.classify([(premise[:LONGEST], text[:LONGEST]) for text in texts], timeout)
    return {
        text: (_rest(row[place]), f"The evidence contradicts it ({row[place]:.2f}).")
        for text, row in zip(texts, rows, strict=True)
        if row[place] >= VERDICT
    }


def _is_benign(label: str) -> bool:
    return bool(_BENIGN.fullmatch(re.sub(r"[\W_]+", "", label.lower())))


def _rest(chance: float) -> float:
    return min(1.0, max(0.0, 1 - chance))
