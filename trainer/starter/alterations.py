"""Texts that state something else than they did: what the reward model's warm-up tells from the real ones.

Made from texts alone, without a label: replaced-token detection after Clark et al. 2020, "ELECTRA".
"""

import random
import re
from collections.abc import Sequence
from functools import cache
from typing import Final

from trainer.starter import shop
from trainer.starter.query import Language

_QUANTITY: Final = re.compile(r"[0-9]{1,3}(?:[.,][0-9]{3})+(?![0-9])|[0-9]+(?:/[0-9]+)?")
"""An amount with its separators, a date or a plain number."""
_RANGE: Final = re.compile(r"\b([0-9]+)( to | đến )([0-9]+)\b")


def altered(text: str, evidence: str, lang: Language, rng: random.Random) -> str:
    """The answer with other numbers, at times one from elsewhere in the evidence, or another order's field; unchanged
    when it states neither.
    """
    kinds = _fields(text, lang) if "[orders]" in evidence and rng.random() < 0.7 else []
    if kinds:
        return _another_word(text, rng.choice(kinds), rng)
    if evidence and rng.random() < 0.5 and (moved := _from_elsewhere(text, evidence, rng)):
        return moved
    return renumbered(text, rng)


def renumbered(text: str, rng: random.Random) -> str:
    """The text with each of its quantities replaced by another one of about the same size; unchanged without any."""
    changed = _QUANTITY.sub(lambda found: _another(found.group(), rng), text)
    return _RANGE.sub(lambda found: "".join(_rising(*found.groups())), changed)


def _rising(low: str, between: str, high: str) -> tuple[str, str, str]:
    return (low, between, high) if int(low) <= int(high) else (high, between, low)


def _another(quantity: str, rng: random.Random) -> str:
    """Another quantity, written like this one; zero stays."""
    if "/" in quantity:
        return "/".join(_another(part, rng) for part in quantity.split("/"))
    separator = next((mark for mark in quantity if mark in ",."), "")
    value, step = int(quantity.replace(separator, "") if separator else quantity), 1000 if separator else 1
    near = (
        value // 3,
        value // 2,
        value - 5 * step,
        value - step,
        value + step,
        value + 3 * step,
        value * 2,
        value * 3,
    )
    others = [other for each in near if 0 < (other := each // step * step) != value]
    if not value or not others:
        return quantity
    other = rng.choice(others)
    if separator:
        return f"{other:,}".replace(",", separator)
    return str(other).zfill(len(quantity) if quantity[0] == "0" else 1)


def _from_elsewhere(text: str, evidence: str, rng: random.Random) -> str:
    """The text with its first quantity replaced by one of the evidence's of the same shape; empty without another."""
    stated = _QUANTITY.search(text)
    if stated is None:
        return ""
    shape, bare = _shape(stated.group()), re.sub(r"[.,]", "", stated.group())
    found = sorted({each for each in _QUANTITY.findall(evidence) if _shape(each) == shape})
    others = [each for each in found if re.sub(r"[.,]", "", each) != bare]
    if not others:
        return ""
    mark = "." if "." in stated.group() else ","
    return text[: stated.start()] + re.sub(r"[.,]", mark, rng.choice(others)) + text[stated.end() :]


def _shape(quantity: str) -> str:
    """Dates, amounts with separators and plain numbers don't stand for one another."""
    return "/" if "/" in quantity else "," if not quantity.isdigit() else ""


@cache
def _vocabularies(lang: Language) -> tuple[tuple[str, ...], ...]:
    """The words of one language for each field of an order that is no number."""
    orders = shop.tables("orders")
    lists: Sequence[Sequence[str]] = (
        orders["status"][lang],
        orders["method"][lang],
        orders["people"]["carriers"],
        shop.tables("talk")["products"][lang],
    )
    return tuple(tuple(sorted((word.lower() for word in words), key=len, reverse=True)) for words in lists)


def _fields(text: str, lang: Language) -> list[tuple[str, ...]]:
    return [words for words in _vocabularies(lang) if any(word in text.lower() for word in words)]


def _another_word(text: str, words: Sequence[str], rng: random.Random) -> str:
    stated = next(word for word in words if word in text.lower())
    at = text.lower().index(stated)
    other = rng.choice([word for word in words if word != stated])
    if text[at].isupper():
        other = other.title() if stated in _vocabularies("en")[2] else other[:1].upper() + other[1:]
    return text[:at] + other + text[at + len(stated) :]
