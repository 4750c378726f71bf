"""A question with what its answers are made of, and the phrasings that each split may use."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trainer.starter import shop, writer
from trainer.starter.query import Answer, Flaw, Language, Query, Split
from trainer.starter.writer import Draft

ORDER_NUMBERS: Final[dict[Split, tuple[int, int]]] = {"train": (10000, 80000), "heldout": (80000, 99999)}
UNRELATED_RATE: Final = 0.15
"""How often evidence for another kind of question comes along."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query together with the sentences that its answers are made of; `grounded` when its evidence answers it."""

    query: Query
    draft: Draft
    other: Draft
    grounded: bool = False

    def answer(self, rng: random.Random, rates: Mapping[Flaw, float] | None = None) -> Answer:
        """One answer with flaws drawn at these rates, else at the writer's: fewer wrong ones when evidence answers."""
        rates = rates or (writer.GROUNDED_RATES if self.grounded else writer.FLAW_RATES)
        return writer.write(self.query, self.draft, self.other, writer.draw_flaws(rng, rates), rng)


def phrasing(texts: tuple[str, ...], split: Split, rng: random.Random, held: str = "") -> str:
    """A phrasing to train on, or the held-out one. Of long lists without one of its own, every fourth is held out."""
    if held:
        return held if split == "heldout" else rng.choice(texts)
    every = {len(texts) - 1} if len(texts) < 12 else set(range(3, len(texts), 4))
    return rng.choice([text for index, text in enumerate(texts) if (index in every) == (split == "heldout")])


def held_out(intent: str, lang: Language) -> str:
    """The phrasing that only evaluation uses; empty when the intent has none of its own."""
    return str(shop.tables("held").get(intent, {}).get(lang, ""))


def slots(rng: random.Random, lang: Language) -> dict[str, str]:
    """A product and a city for the questions that name one."""
    talk = shop.tables("talk")
    return {"p": rng.choice(talk["products"][lang]), "c": rng.choice(talk["cities"][lang])}


def fill(text: str, slots: dict[str, str]) -> str:
    """The text with each `{name}` replaced, and a capital first."""
    for name, value in slots.items():
        text = text.replace(f"{{{name}}}", value)
    return text[:1].upper() + text[1:]
