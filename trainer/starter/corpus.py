# ruff: noqa: S311 - seeded on purpose: the same seed gives the same corpus and figures
"""Generates the help desk's conversations: queries with evidence and earlier turns, and answers of varying quality.

Seeded: the same seed gives the same bytes. Held-out queries use phrasings and order numbers that training never sees.
"""

import random
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from trainer.starter import shop, writer
from trainer.starter.query import LANGUAGES, Answer, Expected, Flaw, Kind, Language, Query, Split
from trainer.starter.writer import Draft

ORDER_NUMBERS: Final[dict[Split, tuple[int, int]]] = {"train": (10000, 80000), "heldout": (80000, 99999)}
KINDS: Final[dict[Kind, float]] = {"faq": 0.58, "order": 0.24, "blind": 0.06, "chat": 0.12}
EVIDENCE_RATE: Final = 0.35
TURN_RATE: Final = 0.25
SYSTEM_RATE: Final = 0.3
_ABOUT_ORDERS: Final[dict[Language, tuple[str, ...]]] = {
    "en": ("order", "expect", "delivery"),
    "vi": ("đơn", "hàng", "hình thức thanh toán"),
}
SYSTEMS: Final = (
    "You are the help desk of Tamarind Trail.",
    "You are a helpful assistant.",
    "Answer the customer in a friendly way.",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A query together with the sentences that its answers are made of."""

    query: Query
    draft: Draft
    other: Draft

    def answer(self, rng: random.Random, rates: Mapping[Flaw, float] = writer.FLAW_RATES) -> Answer:
        """One answer with flaws drawn at these rates."""
        return writer.write(self.query, self.draft, self.other, writer.draw_flaws(rng, rates), rng)


def asked(seed: int, split: Split, count: int) -> Iterator[Asked]:
    """`count` queries of a split, languages in turn. Ids are unique within a seed and split."""
    for index in range(count):
        rng = random.Random(f"{seed}-{split}-{index}")
        lang = LANGUAGES[index % 2]
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        found = _MAKERS[kind](rng, lang, split)
        query = replace(found.query, id=f"{split}-{seed}-{index}", text=_vary(found.query.text, lang, rng))
        yield replace(found, query=query)


def _phrasing(texts: tuple[str, ...], split: Split, rng: random.Random, held: str = "") -> str:
    """A phrasing to train on, or the held-out one. Of long lists without one of its own, every fourth is held out."""
    if held:
        return held if split == "heldout" else rng.choice(texts)
    every = {len(texts) - 1} if len(texts) < 12 else set(range(3, len(texts), 4))
    return rng.choice([text for index, text in enumerate(texts) if (index in every) == (split == "heldout")])


def held_out(intent: str, lang: Language) -> str:
    """The phrasing that only evaluation uses; empty when the intent has none of its own."""
    return str(shop.tables("held").get(intent, {}).get(lang, ""))


def _slots(rng: random.Random, lang: Language) -> dict[str, str]:
    talk = shop.tables("talk")
    return {"p": rng.choice(talk["products"][lang]), "c": rng.choice(talk["cities"][lang])}


def _fill(text: str, slots: dict[str, str]) -> str:
    for name, value in slots.items():
        text = text.replace(f"{{{name}}}", value)
    return text[:1].upper() + text[1:]


def _vary(text: str, lang: Language, rng: random.Random) -> str:
    """As people type: with a greeting, in lower case, without the final mark, now and then without diacritics."""
    words = writer.style(lang)
    if rng.random() < 0.3:
        greeting = rng.choice(words["before"])
        text = greeting + (text if greeting.endswith("! ") else text[:1].lower() + text[1:])
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


def _faq_draft(intent: shop.Intent, lang: Language, value: str) -> Draft:
    words = intent.wording[lang]
    if not value:
        return Draft(words.say, words.lie, words.next, shop.title(intent.page, lang))
    false = [other for other in (*intent.others, intent.value) if other != value]
    say = tuple(text.replace("{v}", shop.spoken(value, lang)) for text in words.say)
    lie = tuple(text.replace("{v}", shop.spoken(other, lang)) for text in words.say for other in false)
    return Draft(say, lie, words.next, shop.title(intent.page, lang))


def _faq(rng: random.Random, lang: Language, split: Split) -> Asked:
    intent = rng.choice(shop.faq())
    words = intent.wording[lang]
    evidence, value = _help_evidence(intent, lang, rng)
    draft = _faq_draft(intent, lang, value)
    expected = Expected(words.topic, words.next, value, words.unit, words.yes, words.no)
    text = _fill(_phrasing(words.ask, split, rng, held_out(intent.id, lang)), _slots(rng, lang))
    turns: tuple[tuple[str, str], ...] = ()
    if rng.random() < TURN_RATE:
        text, turns = _follow_up(intent, draft, lang, split, rng)
    query = Query("", lang, intent.id, "faq", text, expected, evidence, turns)
    return Asked(query, draft, _other(intent, lang, rng))


def _help_evidence(intent: shop.Intent, lang: Language, rng: random.Random) -> tuple[str, str]:
    """(system message, the value that it makes true). A help page may state another value than the shop's usual."""
    if rng.random() > EVIDENCE_RATE:
        return (rng.choice(SYSTEMS) if rng.random() < SYSTEM_RATE else ""), intent.value
    value = rng.choice((intent.value, *intent.others)) if intent.value else ""
    passages = [_source(intent, lang, value)]
    if rng.random() < 0.4:
        distractor = rng.choice([one for one in shop.faq() if one.page != intent.page])
        passages.insert(rng.randrange(2), _source(distractor, lang, distractor.value))
    return "Evidence:\n" + "\n".join(passages), value


def _source(intent: shop.Intent, lang: Language, value: str) -> str:
    return f"[{shop.title(intent.page, lang)}] {shop.passage(intent, lang, value)}"


def _follow_up(
    intent: shop.Intent, draft: Draft, lang: Language, split: Split, rng: random.Random
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A question that leans on the turn before: 'say that again' on the same intent, or its page's next question."""
    again: dict[str, list[str]] = shop.tables("talk")["again"][lang]
    if rng.random() < 0.5:
        first = _first_question(intent, lang, split, rng)
        return _phrasing(tuple(rng.choice(list(again.values()))), split, rng), ((first, _first_answer(draft, rng)),)
    near = rng.choice([one for one in shop.faq() if one.page == intent.page and one.id != intent.id])
    first = _first_question(near, lang, split, rng)
    turn = (first, _first_answer(_faq_draft(near, lang, near.value), rng))
    return rng.choice(intent.wording[lang].follow), (turn,)


def _first_question(intent: shop.Intent, lang: Language, split: Split, rng: random.Random) -> str:
    held = held_out(intent.id, lang)
    return _fill(_phrasing(intent.wording[lang].ask, split, rng, held), _slots(rng, lang))


def _first_answer(draft: Draft, rng: random.Random) -> str:
    return f"{rng.choice(draft.say)} {rng.choice(draft.next)}"


def _other(intent: shop.Intent, lang: Language, rng: random.Random) -> Draft:
    far = rng.choice([one for one in shop.faq() if one.page != intent.page])
    return _faq_draft(far, lang, far.value)


def _order(rng: random.Random, lang: Language, split: Split) -> Asked:
    raw = rng.choice(shop.tables("orders")["question"])
    row = shop.order(rng, *ORDER_NUMBERS[split])
    slots = order_slots(row, lang)
    words = shop.wording(raw[lang])
    draft = _order_draft(words, row, str(raw["field"]), lang, rng)
    expected = Expected(_ABOUT_ORDERS[lang], draft.next, must=(row.order_id, slots[raw["field"]]))
    text = _fill(_phrasing(words.ask, split, rng, held_out(str(raw["id"]), lang)), slots)
    query = Query("", lang, str(raw["id"]), "order", text, expected, order_evidence(row), slots=slots)
    return Asked(query, draft, _other(rng.choice(shop.faq()), lang, rng))


def order_evidence(row: shop.Order) -> str:
    """The system message that carries one row of the order table."""
    return (
        f"Evidence:\n[orders] order {row.order_id} | customer {row.customer} | status {row.status} | "
        f"item {row.quantity} x {row.item} | total {row.total:,} | day {row.day} | carrier {row.carrier} | "
        f"payment {row.method}"
    )


def order_slots(row: shop.Order, lang: Language) -> dict[str, str]:
    """A row's fields as an answer in `lang` writes them."""
    orders, products = shop.tables("orders"), shop.tables("talk")["products"]

    def told(table: dict[str, list[str]], name: str) -> str:
        return table[lang][table["en"].index(name)]

    return {
        "o": row.order_id,
        "status": told(orders["status"], row.status),
        "item": f"{row.quantity} x {told(products, row.item)}",
        "total": shop.spoken(str(row.total), lang),
        "day": row.day,
        "carrier": row.carrier,
        "method": told(orders["method"], row.method),
    }


def _order_draft(words: shop.Wording, row: shop.Order, field: str, lang: Language, rng: random.Random) -> Draft:
    """Wrong answers give another order's value for the field that was asked for."""
    slots = order_slots(row, lang)
    while (false := order_slots(shop.order(rng, 10000, 99999), lang))[field] == slots[field]:
        pass
    lying = {**slots, field: false[field]}
    say = tuple(_fill(text, slots) for text in words.say)
    steps: Any = shop.tables("orders")["next"][lang]
    return Draft(say, tuple(_fill(text, lying) for text in words.say), tuple(steps), shop.title("orders", lang))


def _blind(rng: random.Random, lang: Language, split: Split) -> Asked:
    """An order without its row: the answer must not invent one. Wrong answers do."""
    words = shop.wording(shop.tables("orders")["blind"][lang])
    row = shop.order(rng, *ORDER_NUMBERS[split])
    slots, lie = order_slots(row, lang), []
    text = _phrasing(words.ask, split, rng, held_out("order_blind", lang))
    questions = shop.tables("orders")["question"][:2]
    for raw in questions:
        lie += [_fill(said, slots) for said in raw[lang]["say"]]
    if rng.random() < 0.6:
        raw = rng.choice(questions)
        text = _fill(_phrasing(tuple(raw[lang]["ask"]), split, rng, held_out(raw["id"], lang)), slots)
    query = Query("", lang, "order_blind", "blind", text, Expected(_ABOUT_ORDERS[lang], words.next, yes=words.yes))
    draft = Draft(words.say, tuple(lie), words.next, shop.title("orders", lang))
    return Asked(query, draft, _other(rng.choice(shop.faq()), lang, rng))


def _chat(rng: random.Random, lang: Language, split: Split) -> Asked:
    """Small talk and out of scope; a tenth of the latter is plain nonsense."""
    name = rng.choices(list(shop.chat()), [1, 1, 1, 5])[0]
    words = shop.chat()[name][lang]
    text = _phrasing(words.ask, split, rng, held_out(name, lang))
    if name == "scope" and lang == "en" and rng.random() < 0.2:  # nonsense has no language: English answers it
        text = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz  ") for _ in range(rng.randrange(4, 24))).strip() or "x"
    expected = Expected(words.yes, words.next, yes=words.yes, no=tuple(lie.lower() for lie in words.lie))
    query = Query("", lang, name, "chat", text, expected)
    return Asked(query, Draft(words.say, words.lie, words.next), _other(rng.choice(shop.faq()), lang, rng))


_MAKERS: Final = {"faq": _faq, "order": _order, "blind": _blind, "chat": _chat}
