"""Words of English and Vietnamese texts, alike with and without diacritics. Pure."""

import re
from typing import Final

from server.text import folded

_WORD: Final = re.compile(r"[^\W_]+")


def words(text: str) -> frozenset[str]:
    """The different folded words of `text`."""
    return frozenset(_WORD.findall(folded(text)))
