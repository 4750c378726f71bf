"""What a query says about the web: addresses in it, its language, how likely the web helps. Pure."""

import re
import unicodedata
from typing import Final

from server.text import folded

_LOOKED_AT: Final = 4096
"""Characters of a query that count."""
_REST: Final = r"[^\s<>\"'`]"
_ADDRESS: Final = re.compile(
    rf"(?<![\w@./+-])(?:https?://{_REST}+|www\.[\w-]{{1,63}}\.{_REST}+"
    rf"|(?:[a-z0-9-]{{1,63}}\.){{1,4}}(?:com|net|org|edu|gov|info|io|dev|app|vn|eu|uk|de|fr|jp)/{_REST}+)",
    re.IGNORECASE,
)
"""What begins as an address, or is the name of a host and a path; a name alone ("cheaper at x.com?") is none."""
_TRAILING: Final = ".,;:!?)]}…”’"
_VIETNAMESE: Final = re.compile("[ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]")
"""Letters of no other language that people write in."""
_USUAL: Final = 0.15
_DAMPED: Final = 1 / 3
"""What is left of a sign in a query about what is ours."""


def _any_of(*phrases: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b")


_ENGINE: Final = "google(?! (pay|play|wallet|maps?|drive|home|account|chrome|pixel|store|reviews?))"
_ASKED_FOR: Final = _any_of(
    rf"(search|look|check|find)(\s\w+){{0,6}} (web|internet|{_ENGINE})",
    "google (it|for|that|this|them|what|how|who|when|where|why|whether|if)",
    r"(tim|kiem|tra cuu)(\s\w+){0,6} (mang|web|internet)",
    rf"(tra|hoi|tim) (mang|{_ENGINE})",
    "google (giup|xem|thu|di|ho)",
)
_ONLINE: Final = _any_of(
    r"(search|look|check|find)(\s\w+){0,6} online",
    rf"on (the (web|internet)|{_ENGINE})",
    rf"tren (mang|internet|{_ENGINE})",
)
_NEWS: Final = _any_of(
    "news",
    "headlines?",
    "weather",
    "forecast",
    "exchange rates?",
    "stock prices?",
    "tin tuc",
    "thoi su",
    "thoi tiet",
    "ty gia",
    "gia (vang|xang)",
    "chung khoan",
)
_NOW: Final = _any_of(
    "latest",
    "newest",
    "today",
    "right now",
    "this (week|month|year)",
    "recent(ly)?",
    "currently",
    "moi nhat",
    "hom nay",
    "hien (nay|tai)",
    "gan day",
    "(tuan|thang|nam) nay",
)
_SIGNS: Final = ((0.95, _ASKED_FOR), (0.85, _ONLINE), (0.8, _NEWS), (0.5, _NOW))
"""What a query says, without diacritics, and how likely the web helps then; the first that fits counts."""
_OURS: Final = _any_of(
    "(my|our|your) ",
    "you",
    "orders?",
    "parcels?",
    "deliver(y|ed)",
    "refunds?",
    "returns?",
    "shops?",
    "stores?",
    "cua (toi|minh|em|ban)",
    "(toi|minh|em) (da )?(dat|mua)",
    "don hang",
    "shop",
    "cua hang",
    "giao hang",
    "hoan tien",
    "doi tra",
)
"""Who says so asks about what is ours, which documents and rows know better than the web, whatever the time."""


def relevance(query: str) -> float:
    """0 to 1: how likely the web helps. 1 for an address, high for who asks for the web, news or what is current."""
    if _ADDRESS.search(query, 0, _LOOKED_AT):
        return 1.0
    text = folded(query[:_LOOKED_AT])
    found = next((score for score, sign in _SIGNS if sign.search(text)), _USUAL)
    return found * _DAMPED if _OURS.search(text) else found


def addresses(query: str) -> list[str]:
    """The addresses that `query` names, each once; https:// before those that say nothing of it."""
    found = (address.rstrip(_TRAILING) for address in _ADDRESS.findall(query[:_LOOKED_AT]))
    return list(dict.fromkeys(address if "://" in address else f"https://{address}" for address in found))


def without_addresses(query: str) -> str:
    """`query` but for the addresses."""
    return _ADDRESS.sub(" ", query[:_LOOKED_AT])


def language(query: str, preferred: str = "") -> str:
    """Language code for a search: the `preferred` one, else "vi" for Vietnamese letters, else "auto"."""
    if re.fullmatch(r"[a-z]{2}(-[A-Za-z]{2})?", preferred):
        return preferred
    text = unicodedata.normalize("NFC", query[:_LOOKED_AT]).casefold()
    return "vi" if _VIETNAMESE.search(text) else "auto"
