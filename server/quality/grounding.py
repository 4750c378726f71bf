"""Whether an answer keeps to what was found: its numbers, codes, names and links must stand in the evidence, the query,
the caller's context or an earlier exchange, and its statements should be about what the evidence is about.

It compares words and figures, not meanings: that evidence contradicts an answer in other words is for an entailment
model (see `server/stages/quality.py`). A status that is swapped for another one is seen only where the evidence says
what it excludes.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, takewhile

from server.quality import hours, language, numbers
from server.quality.exclusion import Exclusion
from server.quality.text import bare, clean, sentences, words

STEM = 5
"""Letters of an English word that are compared, so that ship, shipped and shipping are one; of few letters, all."""
LEAST_WORDS = 6
"""Words that statements must have for their topic to be judged."""
LEAST_COVERAGE = 0.1
"""Statements that share less of their words with the evidence (and question) are about something else."""
LEAST_RELEVANCE = 0.25
"""Share of the question's words that evidence must have, for answers to be held to it."""
FAILED_VALUE = 0.4
"""What an answer with one unfounded claim among many is worth at most."""
LEAST_RARE = 2
"""Words of an answer that a passage must have, which most of the passages have not, to be cited without a number."""
NUMBER_WEIGHT = 3
"""A number carries as much of an answer as so many words."""

_CANNOT = re.compile(r"\b(?:cannot|can't|can not|could not|couldn't|unable)\b|không thể|chưa thể")
_LACKS = re.compile(
    r"\b(?:can only (?:help|answer|assist)|(?:do not|don't|did not|didn't) (?:know|have|see|find)|not sure"
    r"|no information"
    r"|(?:cannot|can't|can not|could not|couldn't|unable to) (?:help|answer|assist|say|tell|see|find|check|look))\b"
    r"|không (?:biết|thấy|tìm thấy|rõ|chắc)|(?:không|chưa) có|chưa (?:rõ|xem|biết|thấy)"
    r"|không thể (?:giúp|hỗ trợ|trả lời|xem|tìm|kiểm tra|nói|biết)|chỉ (?:giúp|hỗ trợ|trả lời|có thể (?:giúp|trả lời))"
)
"""What says that something is lacking. "Sorry" alone does not: it may come before anything."""
_CAPITALISED = re.compile(r"(?<!\w)[^\W\d_a-z]\w+(?: [^\W\d_a-z]\w+)+")
_HEADING = re.compile(
    r"^[ \t]*(?:#.*|\**[^\n.!?]{1,80}:?\**)$|\*\*[^*\n]{1,80}\*\*|^[ \t]*[-*•\d.]+[^\n:.]{1,60}:", re.MULTILINE
)
_LINK = re.compile(r"https?://[^\s<>()\[\]\"']+|www\.[^\s<>()\[\]\"']+|[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,8}")


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to rest on: its words, its numbers, its language."""

    terms: frozenset[str]
    numbers: numbers.Ground
    language: str

    @classmethod
    def of(cls, text: str) -> "Passage":
        """Reads a text."""
        plain = clean(text)
        return cls(terms(plain), numbers.ground(plain.lower()), language.detect(plain))


@dataclass(frozen=True, slots=True)
class Basis:
    """All that the candidates of one reply may rest on, read once. `evidence` are the passages themselves;
    `before` the words of the context and earlier exchanges; `told` is everything together in lower case, addresses too,
    with `terms` and `numbers` of the texts; `names`: the evidence names someone; `excluded`: what it rules out."""

    evidence: tuple[Passage, ...]
    question: frozenset[str]
    before: frozenset[str]
    told: str
    terms: frozenset[str]
    numbers: numbers.Ground
    names: bool
    excluded: Exclusion

    @classmethod
    def of(
        cls,
        query: str,
        evidence: Sequence[str],
        others: Sequence[str],
        links: Sequence[str] = (),
        excludes: Sequence[str] = (),
    ) -> "Basis":
        """`others` are texts that claims may rest on too: the context and earlier exchanges. `links` are the evidence's
        addresses, which an answer may name; their digits and words found nothing. `excludes` are phrases that
        the evidence rules out."""
        told = clean("\n".join((*evidence, query, *others)))
        return cls(
            tuple(map(Passage.of, evidence)),
            terms(clean(query)),
            terms(clean("\n".join(others))),
            "\n".join((told, *links)).lower(),
            terms(told),
            numbers.ground(told.lower()),
            any(_names(clean(text)) for text in evidence),
            Exclusion.of(excludes, (*evidence, query, *others)),
        )


@dataclass(frozen=True, slots=True)
class Grounding:
    """`unfounded`: claims that rest on nothing, as they stand in the answer. `coverage` (0 to 1): how much of its
    statements the evidence has; None where that can't be told. `astray`: it is about something else. `ruled_out`: what
    it states and the evidence rules out."""

    unfounded: tuple[str, ...]
    claims: int
    coverage: float | None
    astray: bool
    ruled_out: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it keeps to what was found."""
        return not (self.unfounded or self.ruled_out or self.astray)

    @property
    def value(self) -> float:
        """0 to 1. Without a failure, half is for keeping to the evidence and half for saying what it says."""
        if self.unfounded:
            return FAILED_VALUE * (1 - len(self.unfounded) / max(self.claims, 1))
        if self.astray or self.ruled_out:
            return 0.0
        covered = self.coverage if self.coverage is not None else float(self.claims > 0)
        return 0.5 + 0.5 * covered


def judge(answer: str, basis: Basis) -> Grounding:
    """How far `answer` rests on `basis`."""
    plain = clean(answer)
    lower = plain.lower()
    stated = numbers.stated(lower)
    unfounded = [claim.text for claim in stated if not basis.numbers.holds(claim)]
    unfounded += hours.swapped(lower, basis.told)
    links = _links(lower)
    unfounded += (link for link in links if link not in basis.told)
    named = _names(plain) if basis.names else ()
    unfounded += (name for name in named if not terms(name) & basis.terms)
    coverage = _coverage(plain, basis)
    astray = _is_astray(plain, basis)
    claims = len(stated) + len(named) + len(links)
    return Grounding(tuple(dict.fromkeys(unfounded)), claims, coverage, astray, basis.excluded.stated(plain))


def support(answer: str, passages: Sequence[str], least: Sequence[int] = ()) -> tuple[float, ...]:
    """The share of the answer (0 to 1) that each passage carries, by its words and its numbers, which weigh more. A
    word weighs less the more of the passages have it; 0 for a passage with none of the numbers and fewer than `least`
    (LEAST_RARE, if not given) of the words that tell the passages apart."""
    plain = clean(answer)
    said, stated = terms(plain) - _EVERYDAY, numbers.stated(plain.lower())
    read = [Passage.of(passage) for passage in passages]
    having = Counter(chain.from_iterable(said & each.terms for each in read))
    weights = {word: 1 / max(1, having[word]) for word in said}
    total = sum(weights.values()) + NUMBER_WEIGHT * len(stated)

    def share(each: Passage, needed: int) -> float:
        held = sum(map(each.numbers.holds, stated))
        shared = said & each.terms
        if not held and sum(2 * having[word] <= max(2, len(read)) for word in shared) < needed:
            return 0.0
        return (sum(weights[word] for word in shared) + NUMBER_WEIGHT * held) / total

    return tuple(map(share, read, least or [LEAST_RARE] * len(read)))


def terms(text: str) -> frozenset[str]:
    """The words of a text that mean something, in a form that compares: without case, diacritics and endings."""
    lower = (word.lower() for word in words(text) if len(word) > 1)
    return frozenset(bare(word)[:STEM] for word in lower if word not in language.STOP_WORDS)


_EVERYDAY = terms(" ".join(("order orders shop store home page", "đơn hàng cửa trang chủ mở xem")))
"""What shops say of everything: it tells no passage from another."""


def _links(lower: str) -> list[str]:
    return [match.group().rstrip(".,;:!?") for match in _LINK.finditer(lower)]


def _names(plain: str) -> list[str]:
    """Names of two words and more. Not headings, which people capitalise as well, nor a sentence's first word."""
    found = []
    for sentence in sentences(_HEADING.sub("\n", plain)):
        for match in _CAPITALISED.finditer(sentence):
            parts = match.group().split(" ")[0 if sentence[: match.start()].strip("*\"'“([ ") else 1 :]
            named = list(takewhile(_begins_name, parts))
            if len(named) > 1 and not match.group().isupper() and not _is_label(match.group()):
                found.append(" ".join(named))
    return found


def _is_label(name: str) -> bool:
    """Whether a name is made of words for what shops and their menus have, such as "Đơn Hàng Của Tôi"."""
    return all(word in language.LABELS or word in language.STOP_WORDS for word in name.lower().split())


def _begins_name(word: str) -> bool:
    return word[0].isupper() and word.lower() not in language.STOP_WORDS


def _statements(plain: str, question: frozenset[str]) -> list[str]:
    """What an answer states: no questions, and nothing that says what it can't say."""
    found = sentences(plain)
    return [part for part in found if not part.rstrip().endswith("?") and not _abstains(part, question)]


def _abstains(sentence: str, question: frozenset[str]) -> bool:
    """Whether a sentence says what is lacking, or that something of the question can't be."""
    lower = sentence.lower()
    return bool(_LACKS.search(lower) or (_CANNOT.search(lower) and terms(sentence) & question))


def _coverage(plain: str, basis: Basis) -> float | None:
    """The share of the statements' words that evidence in the answer's own language has, or the question."""
    said = frozenset(chain.from_iterable(map(terms, _statements(plain, basis.question))))
    known = _known(plain, basis.evidence)
    return len(said & (known | basis.question)) / len(said) if said and known else None


def _known(plain: str, passages: Sequence[Passage]) -> frozenset[str]:
    """The words of the passages that an answer can be compared with; none where its language is in doubt, or that of
    no passage."""
    spoken = language.detect(plain)
    if not spoken or not any(each.language == spoken for each in passages):
        return frozenset()
    return frozenset().union(*(each.terms for each in passages if each.language in (spoken, "")))


def _is_astray(plain: str, basis: Basis) -> bool:
    """Whether the answer is about something else than the question, the passages that are about it and what was said
    before, where there are such passages and the answer states enough. A right number alone does not make it theirs."""
    about = _about(basis)
    known = _known(plain, about)
    if not known or any(_abstains(part, basis.question) for part in sentences(plain)):
        return False
    said = [terms(part) for part in _statements(plain, basis.question)]
    words = frozenset().union(*said)
    if sum(map(len, said)) < LEAST_WORDS or not words:
        return False
    return len(words & (known | basis.question | basis.before)) < LEAST_COVERAGE * len(words)


def _about(basis: Basis) -> list[Passage]:
    """The passages that have as much of the question as the best one, or half of that; and the first, which the tools
    found best. None where even the best has too little of it."""
    shared = [len(basis.question & each.terms) for each in basis.evidence]
    most = max(shared, default=0)
    if most < LEAST_RELEVANCE * len(basis.question):
        return []
    pairs = zip(basis.evidence, shared, strict=True)
    return [each for place, (each, count) in enumerate(pairs) if place == 0 or 2 * count >= most]
