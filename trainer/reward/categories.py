"""Properties of pairs that models often stumble over: length, refusals, numbers, language, disputes. Pure.

Each is known without the model ("the worse one is the longer one"), so that the share of wrongly ranked pairs among
those that have it can be set beside the share among all.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from trainer.data.language import MOST_CHARACTERS, UNKNOWN, language
from trainer.data.records import ASPECTS, GOOD, Labelled, Question, Response

LONGER: Final = 1.25
NEAR: Final = 0.25
"""A gap of one star."""
DISPUTED: Final = 0.5
"""Two stars between raters of one response."""
LEAST_LETTERS: Final = 8
"""Of a text, below which nobody can tell what it is written in."""
REMEMBERED: Final = 8192
"""Texts: each is in many pairs, one after the other."""
_REFUSAL: Final = re.compile(
    r"\W*(?:(?:i['’]m|i am|we are|we['’]re) (?:very |so |really )?(?:sorry|afraid|unable|not able)"
    r"|(?:sorry|unfortunately|apologies|my apologies)\b"
    r"|(?:i|we) (?:can['’]t|cannot|can not|couldn['’]t|could not|won['’]t|do not|don['’]t) "
    r"(?:help|assist|answer|provide|find|say|know|discuss|do|give|share)"
    r"|as an ai\b"
    r"|rất tiếc|xin lỗi"
    r"|(?:tôi|mình|em|chúng tôi) (?:không thể|không biết|không tìm thấy|chưa thể|rất tiếc|xin lỗi))",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"\d+(?:[.,:]\d+)*")


@dataclass(frozen=True, slots=True)
class Case:
    """A pair with all that is known of it."""

    question: Question  # of the worse one
    better: Response
    worse: Response
    better_question: Question  # another one in absolute pairs
    better_label: Labelled | None
    worse_label: Labelled | None
    margin: float


CATEGORIES: Final[Mapping[str, tuple[str, Callable[[Case], bool]]]] = {
    "worse_longer": (
        "the worse response is longer by a quarter or more",
        lambda case: _longer(case.worse, case.better),
    ),
    "worse_shorter": (
        "the worse response is shorter by a fifth or more",
        lambda case: _longer(case.better, case.worse),
    ),
    "worse_refuses": ("the worse response reads like a refusal", lambda case: _refuses(case.worse, case.better)),
    "better_refuses": ("the better response reads like a refusal", lambda case: _refuses(case.better, case.worse)),
    "numbers": (
        "only the worse response states numbers that neither the context nor the query holds",
        lambda case: _invents(case.question, case.worse) and not _invents(case.better_question, case.better),
    ),
    "language": (
        "only the worse response is in another language or script than the query",
        lambda case: _foreign(case.question, case.worse) and not _foreign(case.better_question, case.better),
    ),
    "unsafe": (
        "the worse response was reported as unsafe",
        lambda case: any(one.reported for one in case.worse.judgements),
    ),
    "raters_disagree": (
        "raters of one of the responses are two stars or more apart",
        lambda case: _disputed(case.better) or _disputed(case.worse),
    ),
    "both_good": ("both responses are good (above 3.5 stars)", lambda case: _both(case, good=True)),
    "both_bad": ("both responses are bad (below 3.5 stars)", lambda case: _both(case, good=False)),
    "near": ("the ratings are less than a star apart", lambda case: 0 < case.margin < NEAR),
    **{
        f"aspect_{name}": (
            f"the worse response is rated higher in {name}",
            lambda case, name=name: _contrary(case, name),  # type: ignore[misc]
        )
        for name in ASPECTS
    },
}
"""What each is called, what it means, and whether a pair has it."""


def categorise(case: Case) -> tuple[str, ...]:
    """The names of the categories that the pair has."""
    return tuple(name for name, (_, has) in CATEGORIES.items() if has(case))


def _longer(one: Response, other: Response) -> bool:
    return len(one.text) > LONGER * len(other.text)


def _refuses(one: Response, other: Response) -> bool:
    return _REFUSAL.match(one.text) is not None and _REFUSAL.match(other.text) is None


def _invents(question: Question, response: Response) -> bool:
    """Only where there is a context to check against."""
    if not question.context:
        return False
    return bool(_numbers(response.text) - _numbers(question.context) - _numbers(question.query))


@lru_cache(REMEMBERED)
def _numbers(text: str) -> frozenset[str]:
    return frozenset(_NUMBER.findall(text))


def _foreign(question: Question, response: Response) -> bool:
    asked, answered = spoken(question.query), spoken(response.text)
    return UNKNOWN not in (asked, answered) and asked != answered


@lru_cache(REMEMBERED)
def spoken(text: str) -> str:
    """As `language` says, or UNKNOWN for too few letters to tell."""
    enough = sum(each.isalpha() for each in text[:MOST_CHARACTERS]) >= LEAST_LETTERS
    return language(text) if enough else UNKNOWN


def _disputed(response: Response) -> bool:
    ratings = [one.rating + one.offset for one in response.judgements if one.rating is not None]
    return len(ratings) > 1 and max(ratings) - min(ratings) >= DISPUTED


def _both(case: Case, *, good: bool) -> bool:
    ratings = [label.rating for label in (case.better_label, case.worse_label) if label is not None]
    return len(ratings) == 2 and all(one is not None and (one > GOOD if good else one < GOOD) for one in ratings)


def _contrary(case: Case, aspect: str) -> bool:
    if case.better_label is None or case.worse_label is None:
        return False
    better, worse = case.better_label.aspects.get(aspect), case.worse_label.aspects.get(aspect)
    return better is not None and worse is not None and worse > better
