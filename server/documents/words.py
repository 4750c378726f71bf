"""The words by which passages are found, the same for texts and queries.

Postgres's own parser depends on the database's locale and knows nothing of Vietnamese typed without diacritics, so the
words are made here: each in a plain form, without case, marks and common English endings, and beside it, where it has
marks, as it is spelt. A query with marks prefers what is spelt so; one without finds it all the same.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from server.text import unmarked

LONGEST_WORD = 64
MOST_TERMS = 32
"""Different words of a query that count."""

_WORD = re.compile(r"[^\W_]+")
_GROUPED = re.compile(r"(?<=\d)[.,](?=\d{3}(?!\d))")
"""The marks between thousands: 30,000 and 30.000 are one number."""
_VOWEL = re.compile(r"[aeiouy]")

_FUNCTION_WORDS = (
    "a about after all also am an and any anybody are as ask at be been before being but by can could did do does "
    "doing done for from get give go got had has have he her hers hi him his how i if in into is it its just know "
    "let like many may me might mine more most much must my need no not of off on one only or other our ours out "
    "over please really say see shall she should so some take tell than thank thanks that the their them then "
    "there these they thing this those to too under up us use very want was we well were what when where which "
    "who whom whose why will with would yes you your yours "
    "ai ạ ấy bạn bao bằng bên bị biết bởi các cái cần cho chỉ chưa có còn con của cũng cứ đã dạ đang đây đấy để "
    "đến đều đi đó được em gì giờ giúp hãy hay hơn không khi là lại làm lên lúc mà mấy mình mỗi một muốn này nào "
    "nên nếu hỏi ngay nhé nhiều nhỉ như nhưng những nó nơi nữa ở ơi qua ra rằng rất rồi sao sẽ shop tại thế thì "
    "theo thôi tới tôi trên trong từ tự từng và vẫn vào vậy về vì việc với vừa xin "
)


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a query: its plain form, and as it is spelt where that has marks ("" where it has none).

    `share` (0 to 1) of its weight counts.
    """

    plain: str
    spelt: str = ""
    share: float = 1.0


def terms(query: str) -> tuple[Term, ...]:
    """The different words of the query, in its order; those that say something first when there are too many."""
    found = list(dict.fromkeys(Term(plain(word), _marked(word)) for word in _words(query)))
    if len(found) > MOST_TERMS:
        found.sort(key=is_function_word)
    return tuple(found[:MOST_TERMS])


def vector(tenant: str, title: str, text: str) -> str:
    """A tsvector, as text, of a passage: each form of its words, those of its title once more, and its tenant."""
    named = [form for word in _words(title) for form in (plain(word), _marked(word)) if form]
    written = [form for word in _words(text) for form in (plain(word), _marked(word)) if form]
    titled = [in_title(form) for form in named]
    return " ".join(f"'{lexeme}'" for lexeme in dict.fromkeys([tenant_lexeme(tenant), *titled, *named, *written]))


def query(tenant: str, form: str) -> str:
    """A tsquery, as text, for the passages of the tenant that have this form of a word."""
    return f"'{tenant_lexeme(tenant)}' & '{form}'"


def in_title(form: str) -> str:
    """The lexeme that says that a form stands in the title; no word spells it."""
    return f"!{form}"


def tenant_lexeme(tenant: str) -> str:
    """What no word can spell. It lets one index serve many tenants, each at the cost of its own passages."""
    return f"@{hashlib.sha256(tenant.encode()).hexdigest()[:16]}"


@lru_cache(maxsize=16_384)
def plain(word: str) -> str:
    """Without diacritics and English endings: "được" is "duoc", "deliveries" is "delivery", "shipping" is "ship"."""
    bare = unmarked(word)
    return _stem(bare) if bare.isascii() and bare.isalpha() else bare


def is_function_word(term: Term) -> bool:
    """Whether the word says nothing about a topic, in English or Vietnamese; the way it is spelt tells, with marks."""
    return term.spelt in _SPELT_FUNCTION_WORDS if term.spelt else term.plain in _PLAIN_FUNCTION_WORDS


def _words(text: str) -> Iterator[str]:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    for found in _WORD.finditer(_GROUPED.sub("", folded.replace("'s", "").replace("’s", ""))):
        yield found.group()[:LONGEST_WORD]


def _marked(word: str) -> str:
    """The word as it is spelt, marked so that it never equals a plain form; "" when it has no marks."""
    return "" if word.isascii() else f"={word}"


def _stem(word: str) -> str:
    """Plural (the S-stemmer of Harman 1991), then -ing and -ed with what they leave doubled, then a last e.

    No Vietnamese syllable ends so, hence none is cut.
    """
    if len(word) > 4 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and _VOWEL.search(stem):
            word = stem[:-1] if stem[-1] == stem[-2] and stem[-1] not in "lsz" else stem
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


_PLAIN_FUNCTION_WORDS = frozenset(plain(word) for word in _words(_FUNCTION_WORDS))
_SPELT_FUNCTION_WORDS = frozenset(_marked(word) for word in _words(_FUNCTION_WORDS)) - {""}
