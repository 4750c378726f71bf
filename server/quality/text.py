"""A text as the rules read it: one Unicode form, without what can't be seen, in words and sentences."""

import re
import unicodedata

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0]"
)
"""Joiners, directional marks, fillers and selectors: they hide words from a list, not from a reader."""
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]*_]*\s+")
_BARE = str.maketrans(
    {
        letter: base
        for base, letters in {
            "a": "àáảãạăằắẳẵặâầấẩẫậ",
            "e": "èéẻẽẹêềếểễệ",
            "i": "ìíỉĩị",
            "o": "òóỏõọôồốổỗộơờớởỡợ",
            "u": "ùúủũụưừứửữự",
            "y": "ỳýỷỹỵ",
            "d": "đ",
        }.items()
        for letter in letters
    }
)


def clean(text: str) -> str:
    """The text composed (NFC) and without invisible characters."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", text))


def bare(text: str) -> str:
    """Lower-case composed text without Vietnamese diacritics, as typed in a hurry."""
    return text if text.isascii() else text.translate(_BARE)


def words(text: str) -> list[str]:
    """The words of a text, in its own case; numbers are none."""
    return WORD.findall(text)


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text that are not empty."""
    parts = (part for line in text.splitlines() for part in _END.split(line))
    return [part for part in parts if part and not part.isspace()]
