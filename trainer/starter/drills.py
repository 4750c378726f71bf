"""Dense practice of copying for the policy: lists to look things up in, and many questions on the same evidence.

A conversation has one or two tokens to copy; these have dozens, so copying is learned in a fraction of the steps
(induction: Olsson et al. 2022, "In-context Learning and Induction Heads").
"""

import random
from dataclasses import dataclass
from typing import Final

from trainer.starter import evidence, orders, policies, shop, writer
from trainer.starter.asking import ORDER_NUMBERS
from trainer.starter.evidence import Setting
from trainer.starter.query import LANGUAGES, Flaw

QUESTIONS: Final = 4
SHORT: Final[dict[Flaw, float]] = {"wrong": 0.05, "no_next": 0.7}


@dataclass(frozen=True, slots=True)
class Drill:
    """A system message, then what users and the assistant say in turn: `spoken` are (question, answer) pairs.

    With `values_only`, only the numbers of the answers are worth learning.
    """

    system: str
    spoken: tuple[tuple[str, str], ...]
    values_only: bool = False


def draw(rng: random.Random) -> Drill:
    """Half lists, half interviews about orders or policies."""
    return rng.choice((lookup, lookup, about_orders, about_policies))(rng)


def lookup(rng: random.Random) -> Drill:
    """Names with values, then the same in another order: each value has to be found by its name."""
    names = rng.sample(_words(), rng.randrange(5, 13))
    pairs = [f"{name} {_value(rng)}" for name in names]
    again = rng.sample(pairs, len(pairs))
    return Drill("Evidence:\n" + " | ".join(pairs), (("?", " | ".join(again)),), values_only=True)


def _words() -> list[str]:
    talk, asked = shop.tables("talk"), shop.tables("orders")["people"]
    return [
        *talk["products"]["en"],
        *talk["products"]["vi"],
        *talk["cities"]["en"],
        *talk["cities"]["vi"],
        *asked["names"],
    ]


def _value(rng: random.Random) -> str:
    kind, mark = rng.random(), rng.choice(",.")
    if kind < 0.35:
        return f"{rng.randrange(1, 100)}"
    if kind < 0.55:
        return f"{rng.randrange(10, 10_000) * 1000:,}".replace(",", mark)
    if kind < 0.7:
        return f"{rng.randrange(1, 29):02d}/{rng.randrange(1, 13):02d}"
    if kind < 0.85:
        return f"{rng.randrange(100, 1000)}"
    return f"TT-{rng.randrange(*ORDER_NUMBERS['train'])}"


def about_orders(rng: random.Random) -> Drill:
    """Several questions about the same rows."""
    lang, rows = rng.choice(LANGUAGES), orders.rows_of(rng, "train", rng.choice((1, 1, 2, 3)))
    spoken = []
    for _ in range(QUESTIONS):
        raw = rng.choice(shop.tables("orders")["question"])
        asked = orders.about(rng, lang, "train", raw, rows, rng.choice(rows))
        spoken.append((asked.query.text, asked.answer(rng, SHORT).text))
    lines = [evidence.row_line(row, rng) for row in rows]
    return Drill(evidence.system(lines, Setting(), rng), tuple(spoken))


def about_policies(rng: random.Random) -> Drill:
    """Several questions about passages that state any values."""
    lang, numeric = rng.choice(LANGUAGES), [intent for intent in shop.faq() if intent.value]
    lines, spoken = [], []
    for intent in rng.sample(numeric, rng.choice((2, 3, 4))):
        asked = policies.policy_question(rng, lang, "train", intent, Setting(source="new"))
        lines += asked.query.evidence.splitlines()[1:]
        text = rng.choice(intent.wording[lang].ask).replace("{p}", "tent").replace("{c}", "Hue")
        spoken.append((text, writer.write(asked.query, asked.draft, asked.other, _flaws(rng), rng).text))
    return Drill(evidence.system(rng.sample(lines, len(lines)), Setting(), rng), tuple(rng.sample(spoken, len(spoken))))


def _flaws(rng: random.Random) -> frozenset[Flaw]:
    return writer.draw_flaws(rng, SHORT)
