"""Writes answers of varying quality: the mixture that the policy learns to sample from.

It knows the truth (shop.py) and decides which flaws an answer gets; it never asks the rubric.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trainer.starter import shop
from trainer.starter.query import Answer, Flaw, Language, Query

FLAW_RATES: Final[Mapping[Flaw, float]] = {
    "wrong": 0.16,
    "vague": 0.04,
    "offtopic": 0.03,
    "no_next": 0.30,
    "ramble": 0.07,
    "repeat": 0.03,
    "unsafe": 0.05,
    "rude": 0.02,
}
GROUNDED_RATES: Final[Mapping[Flaw, float]] = {**FLAW_RATES, "wrong": 0.1}
"""With the answer in the evidence, fewer get the fact wrong."""
OPENING_RATE: Final = 0.4
CLOSING_RATE: Final = 0.3
OPENED: Final = (
    *(
        "Yes",
        "Of course",
        "No problem",
        "Sorry",
        "I am sorry",
        "Sure",
        "No,",
        "Happy",
        "Thanks",
        "Do not worry",
    ),
    *(
        "Có ",
        "Có,",
        "Được",
        "Không",
        "Xin lỗi",
        "Rất tiếc",
        "Rất xin lỗi",
        "Mình rất",
        "Vâng",
        "Chúc",
        "Cảm ơn",
    ),
)
"""Beginnings of a sentence that needs no opening before it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The sentences that an answer to one query is built from, right ones and wrong ones."""

    say: tuple[str, ...]
    lie: tuple[str, ...]
    next: tuple[str, ...]
    page: str = ""


def style(lang: Language) -> Mapping[str, list[str]]:
    """Openings, closings and flawed sentences of one language."""
    found: Mapping[str, list[str]] = shop.tables("talk")["style"][lang]
    return found


def draw_flaws(rng: random.Random, rates: Mapping[Flaw, float] = FLAW_RATES) -> frozenset[Flaw]:
    """Each flaw by its rate; of wrong, vague and off-topic at most one, as an answer has one core."""
    flaws = {flaw for flaw, rate in rates.items() if rng.random() < rate}
    core = [flaw for flaw in ("wrong", "vague", "offtopic") if flaw in flaws]
    return frozenset(flaws - set(core[1:]))


def write(query: Query, draft: Draft, other: Draft, flaws: frozenset[Flaw], rng: random.Random) -> Answer:
    """One answer with exactly these flaws; `other` is what an off-topic answer talks about."""
    words = style(query.lang)
    core = [rng.choice(_core(draft, other, flaws, words))]
    if "no_next" not in flaws and "vague" not in flaws:
        core.append(rng.choice((other if "offtopic" in flaws else draft).next))
    if "unsafe" in flaws:
        core.append(rng.choice(words["unsafe"]))
    if "repeat" in flaws:
        core.insert(1, core[0])
    before = [rng.choice(words["filler"])] if "ramble" in flaws else []
    if "rude" in flaws:
        before.append(rng.choice(words["rude"]))
    elif rng.random() < OPENING_RATE and query.kind != "chat" and not core[0].startswith(OPENED):
        before.insert(0, rng.choice(words["opening"]))
    return Answer(" ".join([*before, *core, *_closing(query, draft, flaws, words, rng)]), flaws)


def _core(draft: Draft, other: Draft, flaws: frozenset[Flaw], words: Mapping[str, list[str]]) -> list[str]:
    if "wrong" in flaws:
        return list(draft.lie)
    if "vague" in flaws:
        return words["vague"]
    return list((other if "offtopic" in flaws else draft).say)


def _closing(
    query: Query, draft: Draft, flaws: frozenset[Flaw], words: Mapping[str, list[str]], rng: random.Random
) -> list[str]:
    if "rude" in flaws or query.kind == "chat" or rng.random() > CLOSING_RATE:
        return []
    usable = [text for text in words["closing"] if "{page}" not in text or draft.page]
    return [rng.choice(usable).replace("{page}", draft.page)]
