"""The values that flow through the starter corpus: what was asked, what a right answer must say, what was answered."""

from dataclasses import dataclass, field
from typing import Literal

Language = Literal["en", "vi"]
Split = Literal["train", "heldout"]
Kind = Literal["faq", "order", "blind", "chat"]
Flaw = Literal["wrong", "vague", "offtopic", "no_next", "ramble", "repeat", "unsafe", "rude"]

LANGUAGES: tuple[Language, Language] = ("en", "vi")


class StarterError(Exception):
    """The starter models can't be made; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a right answer to one query says: the rubric's whole knowledge of it.

    `value` with `unit` (a regular expression): the number that must be stated, and no other number of that unit.
    `yes` / `no`: lower-case phrases of which one must, and none may, appear. `must`: each text has to appear.
    `topic`: lower-case words of which one shows that the answer is about the question. `steps`: next steps that fit.
    """

    topic: tuple[str, ...]
    steps: tuple[str, ...]
    value: str = ""
    unit: str = ""
    yes: tuple[str, ...] = ()
    no: tuple[str, ...] = ()
    must: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """One question with all that a policy is given for it. `turns` are (query, answer) pairs, oldest first."""

    id: str
    lang: Language
    intent: str
    kind: Kind
    text: str
    expected: Expected
    evidence: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    slots: dict[str, str] = field(default_factory=dict)

    def messages(self) -> list[dict[str, str]]:
        """The conversation in transformers' convention; the system message carries the evidence."""
        system = [{"role": "system", "content": self.evidence}] if self.evidence else []
        turns = [
            {"role": role, "content": text}
            for pair in self.turns
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        return [*system, *turns, {"role": "user", "content": self.text}]


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer and the flaws that the writer put into it (known to the simulated raters only)."""

    text: str
    flaws: frozenset[Flaw]
