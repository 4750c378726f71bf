"""Which declared question a text asks. Pure, and fast: it is called for every query.

A question whose parameters all stand in the text is asked; one without parameters when the words are nearly those of
one of its examples. Words are compared without case and diacritics, so that Vietnamese is understood either way,
composed or decomposed.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from server.sql.catalog import Catalog, DeclaredQuestion, Parameter

THRESHOLD: Final = 0.6
"""Score from which a question is asked."""
LONGEST: Final = 2_000
"""Characters of a text that are looked at."""
_NAMED: Final = 0.75
"""Score of a question whose parameters are in the text; words in common add the rest."""
_EARLIER: Final = 0.8
"""What the score of words is worth when the parameters stand in an earlier turn."""
_EARLIER_TURNS: Final = 3
_COMMON: Final = 0.3
"""Weight of a word that says little, beside 1 of the others."""
_SLOT = re.compile(r"\{\w+\}")
_WORD = re.compile(r"[^\W_]+")
_COMMON_WORDS: Final = frozenset(
    """a an and are at about be been can could did do does for from get give has have how i in is it its me my of on one
    our please show so tell that the there this to us was we what when where which who will with would you your
    a anh ban bao biet cac chi cho co con cua da dau di do duoc em gi giup hay khi khong la luc mat may minh nao nay nhe
    nhu o ra roi se shop thi tim toi tu va ve vi voi xem""".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Match:
    """A declared question, how surely it is asked (0 to 1), and its parameters' values."""

    question: DeclaredQuestion
    score: float
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Words:
    """Of a text, with their weight together."""

    words: frozenset[str]
    weight: float

    @classmethod
    def of(cls, text: str) -> "_Words":
        found = words(text)
        return cls(found, _weight(found))

    def alike(self, other: "_Words") -> float:
        """The share of words in common (Dice, weighted), 0 to 1."""
        together = self.weight + other.weight
        return 2 * _weight(self.words & other.words) / together if together else 0.0


@dataclass(frozen=True, slots=True)
class _Asked:
    question: DeclaredQuestion
    parameters: tuple[str, ...]
    examples: tuple[_Words, ...]


class Matcher:
    """Finds declared questions in texts."""

    def __init__(self, catalog: Catalog, needed: Mapping[str, tuple[str, ...]]) -> None:
        """`needed` names the parameters of each question, by its id."""
        self._asked = [
            _Asked(each, needed[each.id], tuple(_Words.of(_SLOT.sub(" ", text)) for text in each.examples))
            for each in catalog.questions
        ]
        self._patterns = {name: (_bounded(each), each) for name, each in catalog.parameters.items()}

    def match(self, text: str, earlier: Sequence[str] = ()) -> Match | None:
        """The question that `text` asks, if any; `earlier` are the conversation's queries, the oldest first.

        Parameters that the text lacks are looked for in the latest earlier query that names them all.
        """
        text = text[:LONGEST]
        asked, found = _Words.of(text), self._find(text)
        before = [self._find(past[:LONGEST]) for past in reversed(earlier[-_EARLIER_TURNS:])]
        matches = [self._judge(each, asked, found, before) for each in self._asked]
        return max((each for each in matches if each.score >= THRESHOLD), key=_rank, default=None)

    def _judge(
        self, each: _Asked, asked: _Words, found: Mapping[str, str], before: Sequence[Mapping[str, str]]
    ) -> Match:
        alike = max(asked.alike(example) for example in each.examples)
        if not each.parameters:
            return Match(each.question, alike, {})
        if found.keys() >= set(each.parameters):
            return Match(each.question, _NAMED + (1 - _NAMED) * alike, _only(found, each.parameters))
        for past in before:
            if past.keys() >= set(each.parameters):
                return Match(each.question, _EARLIER * alike, _only(past, each.parameters))
        return Match(each.question, 0.0, {})

    def _find(self, text: str) -> dict[str, str]:
        """The parameters' values in a text; compatibility forms, such as full-width digits, count as the plain ones."""
        text = unicodedata.normalize("NFKC", text)
        values = {}
        for name, (pattern, parameter) in self._patterns.items():
            found = pattern.search(text)
            if found:
                value = found.expand(parameter.value)
                values[name] = value.upper() if parameter.upper else value
        return values


def words(text: str) -> frozenset[str]:
    """The words of a text, without case and diacritics; `đ` is a `d`."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("đ", "d"))
    return frozenset(_WORD.findall("".join(mark for mark in plain if not unicodedata.combining(mark))))


def _bounded(parameter: Parameter) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{parameter.pattern})(?!\w)", re.IGNORECASE)


def _weight(group: frozenset[str]) -> float:
    return sum(_COMMON if word in _COMMON_WORDS else 1.0 for word in group)


def _only(values: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: values[name] for name in names}


def _rank(match: Match) -> tuple[int, float]:
    return len(match.values), match.score
