"""Questions about one order: with its row among the evidence, and without."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from trainer.starter import evidence, policies, shop
from trainer.starter.asking import ORDER_NUMBERS, UNRELATED_RATE, Asked, fill, held_out, phrasing
from trainer.starter.evidence import Setting
from trainer.starter.query import Expected, Language, Query, Split
from trainer.starter.writer import Draft

UNNAMED_RATE: Final = 0.1
"""How often a question that can do without names no order."""
_ABOUT_ORDERS: Final[dict[Language, tuple[str, ...]]] = {
    "en": ("order", "expect", "delivery"),
    "vi": ("đơn", "hàng", "hình thức thanh toán"),
}


def ask(rng: random.Random, lang: Language, split: Split) -> Asked:
    """A question about a field of one order, in a setting of the usual mixture."""
    raw = rng.choice(shop.tables("orders")["question"])
    return order_question(rng, lang, split, raw, evidence.draw(rng, 1.0))


def order_question(
    rng: random.Random, lang: Language, split: Split, raw: Mapping[str, Any], setting: Setting, ask: str = ""
) -> Asked:
    """A question about one order, its row among the evidence; without a number it is about the first row."""
    rows = rows_of(rng, split, setting.rows)
    row = rng.choice(rows)
    unnamed = str(raw.get("unnamed", {}).get(lang, "")) if not ask and rng.random() < UNNAMED_RATE else ""
    lines = [evidence.row_line(each, rng) for each in rows]
    if not ask and rng.random() < UNRELATED_RATE:
        around = evidence.unrelated(lang, rng.choice((1, 2)), rng)
        lines = around + lines if rng.random() < 0.5 else lines + around
    asked = about(rng, lang, split, raw, rows, rows[0] if unnamed else row, ask)
    query = replace(asked.query, text=unnamed or asked.query.text, evidence=evidence.system(lines, setting, rng))
    return replace(asked, query=query)


def about(
    rng: random.Random,
    lang: Language,
    split: Split,
    raw: Mapping[str, Any],
    rows: list[shop.Order],
    row: shop.Order,
    ask: str = "",
) -> Asked:
    """A question about `row`, one of `rows`, as yet without evidence."""
    words, field = shop.asked_more(raw["id"], lang, shop.wording(raw[lang])), str(raw["field"])
    slots = order_slots(row, lang)
    draft = _order_draft(words, row, field, lang, rng, [each for each in rows if each is not row])
    expected = Expected(_ABOUT_ORDERS[lang], draft.next, must=(row.order_id, slots[field]))
    text = fill(ask or phrasing(words.ask, split, rng, held_out(str(raw["id"]), lang)), slots)
    query = Query("", lang, str(raw["id"]), "order", text, expected, slots=slots)
    return Asked(query, draft, policies.other(rng.choice(shop.faq()), lang, rng), grounded=True)


def rows_of(rng: random.Random, split: Split, count: int) -> list[shop.Order]:
    """Orders of one customer with different numbers; half of the totals are any amount, so that they must be copied."""
    rows: dict[str, shop.Order] = {}
    while len(rows) < count:
        row = shop.order(rng, *ORDER_NUMBERS[split])
        if rng.random() < 0.5:
            row = replace(row, total=rng.randrange(40, 6000) * 1000)
        customer = next(iter(rows.values())).customer if rows else row.customer
        rows[row.order_id] = replace(row, customer=customer)
    return list(rows.values())


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


def _order_draft(
    words: shop.Wording, row: shop.Order, field: str, lang: Language, rng: random.Random, near: list[shop.Order]
) -> Draft:
    """Wrong answers give another order's value for the field that was asked for, at times that of another row."""
    slots = order_slots(row, lang)
    others = [order_slots(each, lang)[field] for each in near]
    while (false := order_slots(shop.order(rng, 10000, 99999), lang)[field]) == slots[field]:
        pass
    false = next((each for each in others if each != slots[field] and rng.random() < 0.6), false)
    lying = {**slots, field: false}
    say = tuple(fill(text, slots) for text in words.say)
    steps: Any = shop.tables("orders")["next"][lang]
    return Draft(say, tuple(fill(text, lying) for text in words.say), tuple(steps), shop.title("orders", lang))


def ask_blind(rng: random.Random, lang: Language, split: Split) -> Asked:
    """An order without its row: the answer must not invent one. Wrong answers do."""
    words = shop.wording(shop.tables("orders")["blind"][lang])
    row = shop.order(rng, *ORDER_NUMBERS[split])
    found, lie = order_slots(row, lang), []
    text = phrasing(words.ask, split, rng, held_out("order_blind", lang))
    questions = shop.tables("orders")["question"][:2]
    for raw in questions:
        lie += [fill(said, found) for said in raw[lang]["say"]]
    if rng.random() < 0.6:
        raw = rng.choice(questions)
        text = fill(phrasing(tuple(raw[lang]["ask"]), split, rng, held_out(raw["id"], lang)), found)
    expected = Expected(_ABOUT_ORDERS[lang], words.next, yes=words.yes)
    query = Query("", lang, "order_blind", "blind", text, expected, _beside(rng, lang, split, row.order_id in text))
    draft = Draft(words.say, tuple(lie), words.next, shop.title("orders", lang))
    return Asked(query, draft, policies.other(rng.choice(shop.faq()), lang, rng))


def _beside(rng: random.Random, lang: Language, split: Split, named: bool) -> str:
    """A system message without the order's row: mostly nothing, else passages, or other orders when one is named."""
    setting, lines = evidence.draw(rng, 0.0), []
    if rng.random() < 0.25:
        lines = evidence.unrelated(lang, rng.choice((1, 2)), rng)
    if named and rng.random() < 0.35:
        lines += [evidence.row_line(each, rng) for each in rows_of(rng, split, min(2, setting.rows))]
    return evidence.system(lines, setting, rng)
