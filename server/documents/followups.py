"""Queries that only make sense after an earlier one: "And how long does it take?", "Vậy mất bao lâu?". Pure.

What such a query is about stands in the earlier one, whose words are then looked for, too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from server.documents import words
from server.documents.words import Term
from server.text import folded

SHARE: Final = 0.5
"""What a word of the earlier query counts beside a topic of the query's own, and what an aspect does."""
CHARACTERS: Final = 2_000
"""Of a query, so many are looked at."""
_EARLIER_CHARACTERS: Final = 500
_LONGEST: Final = 16
"""Different words of a follow-up at most."""
_TURNS: Final = 4
"""Earlier queries that are looked at: follow-ups may follow each other."""


def _spelt(listed: str) -> frozenset[Term]:
    return frozenset(term for word in listed.split() for term in words.terms(word))


_POINTING: Final = _spelt("it its they them their this that these those nó đó ấy kia này")
_POINTING_BARE: Final = re.compile(r"\b(cai|viec|dieu|luc|khi|cho|sau|nhu) (do|nay|vay|ay)\b")
"""The same without marks, where the words alone would be English ones."""
_ASKING: Final = _spelt(
    "how what when where which why who bao gì sao đâu mấy nào khi giờ chưa không gi dau may nao khong"
)
_ASPECTS: Final = _spelt(
    "long often soon quick fast far late cost price fee charge free possible work happen start end "
    "bao nhiêu lâu giá phí tiền tốn mất ngày tháng tuần xong mới miễn nhanh được thời gian lau phi tien ngay xong duoc"
)
"""What is asked of anything: alone it names no topic."""
_BARE_ASPECTS: Final = _spelt("mat gia ton moi nhanh")
"""The same without marks: English words, but beside _BARE_BAO ("mat bao lau")."""
_BARE_BAO: Final = Term("bao")
_MANNERS: Final = _spelt("thank thanks hello hi ok okay bye you your name bạn cảm ơn chào")
"""Who says so talks about no topic at all."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to look for. `text` says it in words, with the earlier query's in front; `follows` tells whether it does."""

    terms: tuple[Term, ...]
    text: str
    follows: bool = False


def asked(query: str, earlier: Sequence[str] = ()) -> Asked:
    """The query's words; for a follow-up also the telling ones of the latest of the `earlier` queries that is none.

    `earlier` begins with the oldest.
    """
    query = query[:CHARACTERS]
    own = words.terms(query)
    if not earlier or not _follows(query, own):
        return Asked(own, query)
    for past in reversed([each[:_EARLIER_CHARACTERS] for each in earlier[-_TURNS:]]):
        found = words.terms(past)
        telling = [term for term in _topic(found) if term not in own]
        if telling and not _follows(past, found):
            return Asked(_together(own, telling), f"{past}\n{query}", follows=True)
    return Asked(own, query)


def _together(own: Sequence[Term], telling: Sequence[Term]) -> tuple[Term, ...]:
    """Where the query names no topic, the earlier one's words are it, and its own count by SHARE; else its own lead,
    and all words of the earlier one together count by SHARE of them."""
    topic = _topic(own)
    mine = [term if term in topic else replace(term, share=SHARE) for term in own]
    share = SHARE * min(len(topic) / len(telling), 1.0) if topic else 1.0
    return (*mine, *(replace(term, share=share) for term in telling))[: words.MOST_TERMS]


def _follows(query: str, own: Sequence[Term]) -> bool:
    """Whether the query names no topic: it points back with hardly a word of its own, or asks for an aspect alone."""
    if len(own) > _LONGEST or _MANNERS & set(own):
        return False
    topic = _topic(own)
    bare = bool(_POINTING_BARE.search(folded(query)))
    if bare or _POINTING & set(own):
        vietnamese = bare or any(term.spelt for term in own)
        return len(topic) <= (2 if vietnamese else 1)  # most Vietnamese words are written as two
    return not topic and bool((_ASKING | _ASPECTS) & set(own))


def _topic(found: Sequence[Term]) -> list[Term]:
    """The words that say what it is about."""
    aspects = _ASPECTS | _BARE_ASPECTS if _BARE_BAO in found else _ASPECTS
    return [term for term in found if term not in aspects and not words.is_function_word(term)]
