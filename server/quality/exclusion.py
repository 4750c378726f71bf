"""Phrases that the evidence rules out, such as the other states that an order could be in, and where an answer states
one of them all the same. It compares words, also without diacritics; a negation or a condition before the phrase, in
the same clause, states nothing ("not returned yet", "once it is delivered", "sẽ được giao")."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from server.quality.text import bare, clean, sentences

_WORD = re.compile(r"\w+(?:'\w+)*")
_CLAUSE = re.compile(r"[.,;:!?…()\[\]|—–\n]+|\b(?:but|nhưng|mà|instead)\b")
_STATES_NOTHING = re.compile(
    r"\b(?:no|not|never|nor|neither|without|yet to|to be|will|would|shall|should|can|could|may|might|if|when|whenever"
    r"|once|until|till|unless|before|after|as soon as|whether|cannot|\w+n't|\w+'ll"
    r"|không|chưa|chẳng|chả|sẽ|khi|nếu|trước|sau|đến lúc|liệu|có thể|sắp"
    r"|khong|chua|chang|se|neu|truoc|den luc|co the)\b"
)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Phrases that no answer may state, in lower case with single blanks: `exact`, and `plain` without diacritics, by
    which clauses are read that have none."""

    exact: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()

    @classmethod
    def of(cls, phrases: Iterable[str], told: Sequence[str]) -> "Exclusion":
        """`told` are texts that say otherwise: what they state is not ruled out."""
        wanted = {phrase for phrase in map(_folded, phrases) if phrase}
        lines = [f" {_folded(line)} " for text in told for line in text.splitlines()] if wanted else []
        for line in lines:
            without = bare(line) == line
            wanted = {phrase for phrase in wanted if f" {bare(phrase) if without else phrase} " not in line}
        ordered = sorted(wanted, key=lambda phrase: (-len(phrase), phrase))
        return cls(tuple(ordered), tuple(dict.fromkeys(map(bare, ordered))))

    def stated(self, answer: str) -> tuple[str, ...]:
        """The phrases that an answer states, the longest first."""
        if not self.exact:
            return ()
        return tuple(dict.fromkeys(phrase for clause in _clauses(answer) for phrase in self._in(clause)))

    def _in(self, clause: str) -> Iterator[str]:
        for phrase in self.plain if bare(clause) == clause else self.exact:
            place = f" {clause} ".find(f" {phrase} ")
            if place >= 0 and not _STATES_NOTHING.search(clause[:place]):
                yield phrase


def _folded(text: str) -> str:
    return " ".join(_WORD.findall(clean(text).casefold().replace("’", "'")))


def _clauses(answer: str) -> Iterator[str]:
    for sentence in sentences(clean(answer).casefold().replace("’", "'")):
        if not sentence.rstrip().endswith("?"):
            yield from filter(None, map(_folded, _CLAUSE.split(sentence)))
