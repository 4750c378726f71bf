"""Which language or script a text is in, where that is beyond doubt: English, Vietnamese (with or without diacritics),
or a script other than Latin. Everything else is "": unknown, which no rule holds against anybody."""

import re
import tomllib
from collections import Counter
from functools import lru_cache
from pathlib import Path

from server.quality.text import WORD, bare, clean, sentences

SAMPLE = 2_000
"""Characters that are looked at."""
SCRIPTS = {
    "cyrillic": "\u0400-\u052f",
    "greek": "\u0370-\u03ff",
    "hebrew": "\u0590-\u05ff",
    "arabic": "\u0600-\u06ff\u0750-\u077f",
    "devanagari": "\u0900-\u097f",
    "thai": "\u0e00-\u0e7f",
    "hangul": "\u1100-\u11ff\uac00-\ud7af",
    "kana": "\u3040-\u30ff",
    "han": "\u4e00-\u9fff",
}
_OTHERS = re.compile("|".join(f"(?P<{name}>[{letters}])" for name, letters in SCRIPTS.items()))
_VIETNAMESE = re.compile(r"[ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]")
"""Letters that no other large language writes."""
DATA: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("languages.toml").read_text(encoding="utf-8"))
_FUNCTION = {name: frozenset(text.split()) for name, text in DATA["function"].items()}
_PLAIN_ENGLISH = (_FUNCTION["en"] | frozenset(DATA["stop"]["en"].split())) - frozenset(DATA["function"]["both"].split())
"""English words that no Vietnamese syllable looks like."""
_QUOTED = re.compile(r"“[^”]*”|\"[^\"]*\"|«[^»]*»|‘[^’]*’|\*\*[^*]*\*\*|`[^`]*`|\([^)]*\)|\[[^\]]*\]")
_GLUED = re.compile(r"(?<![^\W\d_])(?P<before>[^\W\d_]{1,12}?(?<=[a-zà-ỹđ]))[A-Z][a-z]{3,}(?![^\W\d_])")
STOP_WORDS = frozenset(word for text in DATA["stop"].values() for word in text.split())
"""Words that say nothing of what a text is about."""
LABELS = frozenset(DATA["labels"]["any"].split())
"""Words of menus and signs, which are written with capitals and name nobody."""
_ANY_NAME = re.compile(
    r"\b(?:translat\w*|english|vietnamese|french|german|spanish|italian|portuguese|russian|chinese|japanese|korean"
    r"|thai|arabic|hindi|greek|hebrew|language)\b|tiếng \w+|\bdịch\b|ngôn ngữ"
    r"|tieng (?:anh|viet|phap|duc|nhat|trung|han)"
)


def detect(text: str) -> str:
    """ "en", "vi", a script of SCRIPTS, or "" when it can't be told."""
    return _detect(text[:SAMPLE])


@lru_cache(maxsize=128)  # each rule asks, of the same few texts
def _detect(text: str) -> str:
    sample = clean(text).lower()
    if not sample.isascii() and (script := _script(sample)):
        return script
    found = WORD.findall(sample)
    if not found:
        return ""
    english = sum(word in _FUNCTION["en"] for word in found)
    vietnamese = sum(map(_is_vietnamese, found))
    if vietnamese >= 0.25 * len(found) and vietnamese > 2 * english:
        return "vi"
    return "en" if english >= 0.15 * len(found) and english > 2 * vietnamese else ""


def is_garbled(text: str) -> bool:
    """Whether a sentence is made of clear words of both English and Vietnamese, or an English word is glued to a
    Vietnamese one. Names, what is quoted, and single borrowed words (shop, size, online) mix nothing."""
    if text.isascii():
        return False
    sample = clean(text[:SAMPLE])
    if any(not match["before"].isascii() for match in _GLUED.finditer(sample)):
        return True
    return any(map(_mixes, sentences(_QUOTED.sub(" ", sample))))


def _mixes(sentence: str) -> bool:
    found = WORD.findall(sentence)
    said = {word.lower() for place, word in enumerate(found) if word.islower() or place == 0}
    vietnamese = {word for word in said if not word.isascii() and _is_vietnamese(word)}
    english = said & _PLAIN_ENGLISH
    return len(english) >= 3 and len(vietnamese) >= 2 and not vietnamese.isdisjoint(STOP_WORDS)


def names_language(text: str) -> bool:
    """Whether a text speaks of languages: an answer in another one may then be what was asked for."""
    return bool(_ANY_NAME.search(clean(text).lower()))


def _is_vietnamese(word: str) -> bool:
    if word.isascii():
        return word in _FUNCTION["vi"] and word not in _FUNCTION["shared"]
    return bool(_VIETNAMESE.search(word)) or bare(word) in _FUNCTION["vi"]


def _script(sample: str) -> str:
    """The script other than Latin that most letters are in; Japanese is told from Chinese by its kana."""
    counted = Counter(match.lastgroup or "" for match in _OTHERS.finditer(sample))
    if not counted:
        return ""
    if counted["kana"]:
        counted["kana"] += counted.pop("han", 0)
    name, most = counted.most_common(1)[0]
    return name if most >= 0.5 * sum(map(str.isalpha, sample)) else ""
