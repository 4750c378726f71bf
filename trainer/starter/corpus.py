# ruff: noqa: S311 - seeded on purpose: the same seed gives the same corpus and figures
"""Generates the help desk's conversations: queries with evidence and earlier turns, and answers of varying quality.

Seeded: the same seed gives the same bytes. Held-out queries use phrasings and order numbers that training never sees.
"""

import random
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from trainer.starter import evidence, orders, policies, shop, writer
from trainer.starter.asking import UNRELATED_RATE, Asked, held_out, phrasing
from trainer.starter.query import LANGUAGES, Expected, Kind, Language, Query, Split
from trainer.starter.writer import Draft

KINDS: Final[dict[Kind, float]] = {"faq": 0.56, "order": 0.26, "blind": 0.07, "chat": 0.11}


def asked(seed: int, split: Split, count: int) -> Iterator[Asked]:
    """`count` queries of a split, languages in turn. Ids are unique within a seed and split."""
    for index in range(count):
        rng = random.Random(f"{seed}-{split}-{index}")
        lang = LANGUAGES[index % 2]
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        found = _MAKERS[kind](rng, lang, split)
        query = replace(found.query, id=f"{split}-{seed}-{index}", text=_vary(found.query.text, lang, rng))
        yield replace(found, query=query)


def _vary(text: str, lang: Language, rng: random.Random) -> str:
    """As people type: with a greeting, in lower case, without the final mark, now and then without diacritics."""
    words = writer.style(lang)
    if rng.random() < 0.3:
        greeting = rng.choice(words["before"])
        text = greeting + (text if greeting.endswith(("! ", ". ")) else text[:1].lower() + text[1:])
    if rng.random() < 0.15:
        text += rng.choice(words["after"])
    if rng.random() < 0.15:
        text = text.lower()
    if rng.random() < 0.15:
        text = text.rstrip("?.!")
    return plain(text) if lang == "vi" and rng.random() < 0.06 else text


def plain(text: str) -> str:
    """Vietnamese without its diacritics, as typed in a hurry."""
    bare = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return bare.replace("đ", "d").replace("Đ", "D")


def _chat(rng: random.Random, lang: Language, split: Split) -> Asked:
    """Small talk and out of scope; a tenth of the latter is plain nonsense."""
    name = rng.choices(list(shop.chat()), [1, 1, 1, 5])[0]
    words = shop.chat()[name][lang]
    text = phrasing(words.ask, split, rng, held_out(name, lang))
    if name == "scope" and lang == "en" and rng.random() < 0.2:  # nonsense has no language: English answers it
        text = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz  ") for _ in range(rng.randrange(4, 24))).strip() or "x"
    expected = Expected(words.yes, words.next, yes=words.yes, no=tuple(lie.lower() for lie in words.lie))
    lines = evidence.unrelated(lang, 1, rng) if rng.random() < UNRELATED_RATE else []
    system = evidence.system(lines, evidence.draw(rng, 0.0), rng)
    query = Query("", lang, name, "chat", text, expected, system)
    return Asked(query, Draft(words.say, words.lie, words.next), policies.other(rng.choice(shop.faq()), lang, rng))


_MAKERS: Final = {"faq": policies.ask, "order": orders.ask, "blind": orders.ask_blind, "chat": _chat}
