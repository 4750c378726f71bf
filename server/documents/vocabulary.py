"""How telling a word is among a tenant's documents, and whether a query is about them at all. Pure.

Weights are the inverse document frequencies of BM25 (Robertson and Zaragoza 2009) over passages.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from server.documents import words
from server.documents.words import Term

FUNCTION_WORD = 0.1
"""What a function word weighs, compared with another word as frequent."""
LIKENESS = 0.25
"""What a word counts of which only the plain form is found, although the query spells it with marks."""
LEAST_WEIGHT = 3.0
"""The weight that a query has at least: "what can I ask?" says too little to be answered by a passage."""
ENOUGH_PASSAGES = 100
"""Below it, words can't be told from their frequency: passages are counted as if there were so many."""
_STANDS_OUT = 2.0
"""Standard deviations above the mean cosine of two passages, from which on a cosine means something."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of a tenant's passages: in how many each form occurs. `version` counts the changes it reflects.

    `cosine_mean` and `cosine_deviation` are of the embeddings of two passages at random, of the `model` in use.
    """

    version: int = 0
    passages: int = 0
    frequencies: Mapping[str, int] = field(default_factory=dict)
    cosine_mean: float = 0.0
    cosine_deviation: float = 0.0

    def weight(self, term: Term) -> float:
        """How much the term says; above 0."""
        total = max(self.passages, ENOUGH_PASSAGES)
        found = self.frequencies.get(term.spelt) or self.frequencies.get(term.plain, 0)
        telling = math.log(1 + (total - found + 0.5) / (found + 0.5))
        return telling * term.share * (FUNCTION_WORD if words.is_function_word(term) else 1.0)

    def total(self, wanted: Sequence[Term]) -> float:
        """What a passage with every term would weigh."""
        return max(sum(self.weight(term) for term in wanted), LEAST_WEIGHT)

    def known(self, wanted: Sequence[Term]) -> float:
        """0 to 1: the share of the query's weight that occurs in any passage."""
        return sum(self.weight(term) * self._known(term) for term in wanted) / self.total(wanted)

    def likeness(self, cosine: float) -> float:
        """0 to 1: how far a cosine stands out of those of passages taken at random."""
        usual = min(self.cosine_mean + _STANDS_OUT * self.cosine_deviation, 0.99)
        return min(max((cosine - usual) / (1 - usual), 0.0), 1.0)

    def rarest(self, wanted: Sequence[Term], most: int) -> tuple[Term, ...]:
        """The known terms, most telling first, that together occur in about `most` passages; one of them at least."""
        known = sorted((term for term in wanted if self._known(term)), key=self.weight, reverse=True)
        chosen: list[Term] = []
        for term in known:
            most -= self.frequencies.get(term.plain, 0)
            if chosen and most < 0:
                break
            chosen.append(term)
        return tuple(chosen)

    def _known(self, term: Term) -> float:
        if term.plain not in self.frequencies:
            return 0.0
        return 1.0 if not term.spelt or term.spelt in self.frequencies else LIKENESS
