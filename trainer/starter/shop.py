# ruff: noqa: S311 - seeded on purpose: the same seed gives the same corpus and figures
"""Tamarind Trail, the invented shop: its policies, products, help pages and orders. Facts only, no sampling of text.

The facts live in data/*.toml. Everything is pure: the order table is a function of a seed.
"""

import random
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from trainer.starter.query import LANGUAGES, Language

NAME = "Tamarind Trail"
DATA = Path(__file__).parent / "data"
PHRASINGS = 6
"""Of each question and language that stand beside its answers; more.toml has further ones."""


@dataclass(frozen=True, slots=True)
class Wording:
    """One intent in one language."""

    ask: tuple[str, ...]
    say: tuple[str, ...]
    next: tuple[str, ...] = ()
    lie: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()
    topic: tuple[str, ...] = ()
    unit: str = ""
    yes: tuple[str, ...] = ()
    no: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """What customers want to know. A numeric intent has a `value` and plausible `others`, which are wrong."""

    id: str
    page: str
    wording: Mapping[Language, Wording]
    value: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """One row of the order table; `day` is written 14/03, `total` in dong."""

    order_id: str
    customer: str
    status: str
    item: str
    quantity: int
    total: int
    day: str
    carrier: str
    method: str
    city: str


@cache
def tables(name: str) -> dict[str, Any]:
    """The parsed data file `name`.toml."""
    return tomllib.loads((DATA / f"{name}.toml").read_text(encoding="utf-8"))


def wording(raw: Mapping[str, Any]) -> Wording:
    """One language's part of an intent in a data file."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    return Wording(**values)


def asked_more(intent: str, lang: Language, words: Wording) -> Wording:
    """The wording with the further phrasings of more.toml."""
    return replace(words, ask=(*words.ask, *tables("more")[intent][lang]))


@cache
def faq() -> tuple[Intent, ...]:
    """All policy questions."""
    rows = [row for part in (1, 2, 3) for row in tables(f"faq_{part}")["intent"]]
    return tuple(
        Intent(
            id=row["id"],
            page=row["page"],
            wording={lang: asked_more(row["id"], lang, wording(row[lang])) for lang in LANGUAGES},
            value=row.get("value", ""),
            others=tuple(row.get("others", ())),
        )
        for row in rows
    )


@cache
def chat() -> dict[str, Mapping[Language, Wording]]:
    """Small talk and out of scope, by id."""
    return {row["id"]: {lang: wording(row[lang]) for lang in LANGUAGES} for row in tables("talk")["chat"]}


def spoken(value: str, lang: Language) -> str:
    """A value as people write it: 30000 -> 30,000 / 30.000, 2-4 -> 2 to 4 / 2 đến 4."""
    if "-" in value:
        return value.replace("-", " to " if lang == "en" else " đến ")
    number = f"{int(value):,}"
    return number if lang == "en" else number.replace(",", ".")


def passage(intent: Intent, lang: Language, value: str) -> str:
    """The help page's sentence on one intent, with `value` in place of the shop's own when it is numeric."""
    text = intent.wording[lang].say[0]
    return text.replace("{v}", spoken(value, lang)) if value else text


def title(page: str, lang: Language) -> str:
    """The title of a help page."""
    return str(tables("pages")[page][lang])


def help_page(page: str, lang: Language) -> str:
    """One help page as Markdown: a question, its answer and the next step for each of its intents."""
    parts = [f"# {title(page, lang)}"]
    for intent in faq():
        if intent.page == page:
            words = intent.wording[lang]
            parts += [f"## {question(words, lang)}", f"{passage(intent, lang, intent.value)} {words.next[0]}"]
    return "\n\n".join(parts) + "\n"


def question(words: Wording, lang: Language) -> str:
    """What a help page asks: the first phrasing without a product or city in it, else about the first product."""
    talk = tables("talk")
    own = words.ask[:PHRASINGS]
    texts = [text for text in own if "{" not in text] or [own[0]]
    filled = texts[0].replace("{p}", talk["products"][lang][0]).replace("{c}", talk["cities"][lang][0])
    return filled[:1].upper() + filled[1:]


def help_pages() -> Iterator[tuple[str, str]]:
    """(file name, Markdown) of every help page in both languages."""
    for page in tables("pages"):
        for lang in LANGUAGES:
            yield f"{page}.{lang}.md", help_page(page, lang)


def order(rng: random.Random, low: int, high: int) -> Order:
    """One made-up order with a number in low..high - 1."""
    people, products = tables("orders")["people"], tables("talk")["products"]
    index, quantity = rng.randrange(len(products["en"])), rng.choice((1, 1, 1, 2, 3))
    return Order(
        order_id=f"TT-{rng.randrange(low, high)}",
        customer=rng.choice(people["names"]),
        status=rng.choice(tables("orders")["status"]["en"]),
        item=products["en"][index],
        quantity=quantity,
        total=products["price"][index] * quantity,
        day=f"{rng.randrange(1, 29):02d}/{rng.randrange(1, 13):02d}",
        carrier=rng.choice(people["carriers"]),
        method=rng.choice(tables("orders")["method"]["en"]),
        city=rng.choice(tables("talk")["cities"]["en"]),
    )


def order_table(seed: int, size: int = 120) -> dict[str, list[dict[str, Any]]]:
    """The tables that the SQL tool reads: `customers` and `orders` (each order names its customer and item)."""
    rng = random.Random(f"orders-{seed}")
    orders = {row.order_id: row for row in (order(rng, 10000, 60000) for _ in range(size))}
    cities = tables("talk")["cities"]["en"]
    customers = [
        {
            "customer": name,
            "email": f"{name.lower().replace(' ', '.')}@example.com",
            "city": rng.choice(cities),
        }
        for name in tables("orders")["people"]["names"]
    ]
    return {"customers": customers, "orders": [asdict(row) for row in orders.values()]}
