"""The console's words in each language, a table a page: `t("live.title")` is `title` of `console/words/live.py`.

WORDS = {"title": ("Live", "Trực tiếp"), "count": ("{n} replies", "{n} câu trả lời")}
"""

import importlib
from collections.abc import Mapping
from functools import cache

from console import session

Table = Mapping[str, tuple[str, str]]
"""English and Vietnamese by key, in the order of `session.LANGUAGES`."""


def t(key: str, **values: object) -> str:
    """The words of `TABLE.KEY` in the visitor's language, with `values` put into their {places}.

    Raises KeyError for a key that no table has: a defect.
    """
    room, _, name = key.partition(".")
    words = table(room)[name][session.LANGUAGES.index(session.language())]
    return words.format(**values) if values else words


def has(key: str) -> bool:
    """Whether there are such words."""
    room, _, name = key.partition(".")
    return name in table(room)


@cache
def table(room: str) -> Table:
    """The words of one page."""
    found: Table = importlib.import_module(f"console.words.{room}").WORDS
    return found
