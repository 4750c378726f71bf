"""What a text is written in, as far as its letters tell: groups to look for bias by, and to compare within. Pure."""

import unicodedata
from collections import Counter
from typing import Final

UNKNOWN: Final = "unknown"
VIETNAMESE: Final = "vi"
LATIN: Final = "latin"
"""Any language in Latin letters but Vietnamese, also Vietnamese without its marks."""
MOST_CHARACTERS: Final = 2000
_LETTERS_A_MARK = 25
_NAMES = {"cjk": "zh", "hiragana": "ja", "katakana": "ja", "hangul": "ko", "thai": "th"}


def language(text: str) -> str:
    """ "vi", "ja", "ko", "zh", "th", or a script's name such as "latin" or "cyrillic"; "unknown" without a letter."""
    letters = [each for each in unicodedata.normalize("NFC", text[:MOST_CHARACTERS]) if each.isalpha()]
    if not letters:
        return UNKNOWN
    if sum(map(_is_vietnamese, letters)) * _LETTERS_A_MARK > len(letters):
        return VIETNAMESE
    scripts = Counter("latin" if each.isascii() else _script(each) for each in letters)
    if scripts["ja"]:  # Japanese is mostly written in what are Chinese letters as well
        return "ja"
    return min(scripts, key=lambda name: (-scripts[name], name))


def _is_vietnamese(letter: str) -> bool:
    """Letters that no other living language writes with."""
    return letter in "ơưƠƯ" or "\u1ea0" <= letter <= "\u1ef9"


def _script(letter: str) -> str:
    name = unicodedata.name(letter, UNKNOWN).partition(" ")[0].lower()
    return _NAMES.get(name, name)
