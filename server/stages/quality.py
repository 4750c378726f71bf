"""Stage 5, first half: which candidates may be the answer, and why the others may not.

Five checks, each with a value of 0 to 1 and a sentence: the reward's minimum, safety, grounding in the evidence,
length, and coherence. The rules are `server/quality`; models behind Triton add their judgement where they are
configured, and where they fail the rules stand alone and the reply says so.
"""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import ParamSpec, TypeVar

from server.errors import BackendError, BackendTimeout
from server.quality import coherence, grounding, models, safety
from server.types import (
    Candidate,
    Check,
    Citation,
    Degradation,
    DegradationReason,
    Evidence,
    Exchange,
    Finding,
    FinishReason,
)

log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

INLINE_CHARACTERS = 300
"""What is longer is read in a thread; the loop is held for well under a millisecond at a time."""
REFERENCE_CHARACTERS = 16_384
"""Characters of the context and the earlier exchanges, from the end, that claims may rest on."""
VERDICT = 0.5
"""What is worth less fails."""
CITED_SUPPORT = 0.2
"""Share of an answer that a passage must carry to be cited."""
CITED_BESIDE_THE_BEST = 1 / 3
"""What a passage must carry of what the best one carries."""


@dataclass(frozen=True, slots=True)
class Classifiers:
    """The models that are configured; None: the rules alone."""

    toxicity: models.Classifier | None = None
    entailment: models.Classifier | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the checks go by. Characters are counted without the blanks around an answer."""

    lexicon: safety.Lexicon = field(default_factory=safety.lexicon)
    minimum_characters: int = 2
    maximum_characters: int = 8_192
    grounding: bool = True


@dataclass(frozen=True, slots=True)
class Material:
    """What the candidates were drawn from. `languages`: codes such as "vi" that answers may be in beside the query's,
    as a profile has them."""

    query: str
    evidence: tuple[Evidence, ...] = ()
    context: str = ""
    exchanges: tuple[Exchange, ...] = ()
    languages: frozenset[str] = frozenset()


Findings = tuple[Finding, Finding, Finding]
"""Safety, grounding and coherence of one text."""


class Reading:
    """What the rules find in texts. Each is read when it is added, beside the loop, so that little is left to wait for
    once the last one has arrived. Close it in any case."""

    def __init__(self, material: Material, rules: Rules) -> None:
        self.material, self.rules = material, rules
        self._size = _size(material)
        self._basis: asyncio.Task[grounding.Basis | None] | None = None
        self._found: dict[str, asyncio.Task[Findings]] = {}

    def begin(self) -> None:
        """Reads the evidence, once, before there is a text to hold to it."""
        if self._basis is None and self.material.evidence and self.rules.grounding:
            self._basis = asyncio.create_task(asyncio.to_thread(_basis_or_none, self.material))

    def add(self, text: str) -> None:
        """Begins to read a text; equal ones once."""
        self.begin()
        if text not in self._found:
            self._found[text] = asyncio.create_task(self._read(text))

    async def of(self, texts: Sequence[str]) -> dict[str, Findings]:
        """The findings by text, those of texts that were not added before too."""
        for text in texts:
            self.add(text)
        return {text: await self._found[text] for text in texts}

    async def close(self) -> None:
        """Ends what is still being read."""
        tasks = [*self._found.values(), *([self._basis] if self._basis else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, text: str) -> Findings:
        basis = await asyncio.shield(self._basis) if self._basis else None
        if len(text) + self._size > INLINE_CHARACTERS:
            return await asyncio.to_thread(_findings, text, self.material, basis, self.rules)
        return _findings(text, self.material, basis, self.rules)


async def check(
    candidates: Sequence[Candidate],
    reading: Reading,
    classifiers: Classifiers,
    minimum_reward: float,
    budget: float,
    *,
    scored: bool = False,
) -> tuple[tuple[Candidate, ...], tuple[Degradation, ...]]:
    """The candidates with a finding of each check; those without a text get none. Never raises.

    The classifiers have `budget` seconds. `scored`: a model scores this reply's candidates, so that one without a score
    was not judged and does not pass; else none of them has a score, and the rules decide.
    """
    drawn = [candidate for candidate in candidates if candidate.drawn]
    material, rules = reading.material, reading.rules
    texts = tuple(dict.fromkeys(read_of(candidate, rules) for candidate in drawn))
    judged, (toxic, lost), (opposed, lost_too) = await asyncio.gather(
        reading.of(texts),
        _opinions(_toxicity(texts, classifiers, budget), budget),
        _opinions(_contradiction(texts, material, rules, classifiers, budget), budget),
    )
    all_cut = all(candidate.finish_reason is FinishReason.LENGTH for candidate in drawn)

    def findings(candidate: Candidate) -> tuple[Finding, ...]:
        text = read_of(candidate, rules)
        safe, grounded, coherent = judged[text]
        return (
            _reward(candidate, minimum_reward, scored),
            _opposed(safe, toxic.get(text)),
            _opposed(grounded, opposed.get(text)),
            _length(candidate.text, material.query, rules),
            _opposed(coherent, _cut_off(candidate, all_cut)),
        )

    checked = tuple(replace(c, findings=findings(c)) if c.drawn else c for c in candidates)
    return checked, (*lost, *lost_too)


def citations(answer: str, evidence: Sequence[Evidence]) -> tuple[Citation, ...]:
    """The passages that the answer rests on, the strongest first, numbered from 1, without those that carry far less
    than the best. Support: the share of its words and numbers that the passage has. Pure; milliseconds for long
    texts."""
    # In a row each value is a statement of its own; a passage needs more than one word in common.
    needed = [1 if each.excludes else grounding.LEAST_RARE for each in evidence]
    shares = grounding.support(answer, [f"{each.title}\n{each.text}" for each in evidence], needed)
    ranked = sorted(zip(shares, evidence, strict=True), key=lambda pair: -pair[0])
    least = max(CITED_SUPPORT, CITED_BESIDE_THE_BEST * max(shares, default=0.0))
    cited = [(share, each) for share, each in ranked if share >= least]
    return tuple(Citation(number, each, round(share, 4)) for number, (share, each) in enumerate(cited, start=1))


def _reward(candidate: Candidate, minimum: float, scored: bool) -> Finding:
    score = candidate.reward_score
    if score is None and scored:
        return Finding(Check.REWARD, False, 0.0, "It was not scored in time, while others were.")
    if score is None:
        return Finding(Check.REWARD, True, 1.0, "No model scored it.")
    if score >= minimum:
        return Finding(Check.REWARD, True, score)
    return Finding(Check.REWARD, False, max(0.0, score), f"Its reward {score:.2f} is below {minimum:.2f}.")


def _length(text: str, query: str, rules: Rules) -> Finding:
    length = len(text.strip())
    if length < rules.minimum_characters:
        return Finding(Check.LENGTH, False, 0.0, f"It has fewer than {rules.minimum_characters} characters.")
    if length > rules.maximum_characters:
        return Finding(Check.LENGTH, False, 0.0, f"It has more than {rules.maximum_characters} characters.")
    if coherence.says_nothing(text, query):
        return Finding(Check.LENGTH, False, 0.1, "It says nothing.")
    return Finding(Check.LENGTH, True, 1.0)


def _cut_off(candidate: Candidate, all_cut: bool) -> tuple[float, str] | None:
    """Cut off at the bound on its tokens. Where every candidate is, the bound is to blame: a cut answer passes then."""
    if candidate.finish_reason is not FinishReason.LENGTH:
        return None
    return (0.5 if all_cut else 0.3), "It is cut off."


_UNCHECKED = (
    Finding(Check.SAFETY, False, 0.0, "It could not be checked: a defect; the server's log has it."),
    Finding(Check.GROUNDING, True, 1.0),
    Finding(Check.COHERENCE, True, 1.0),
)


def read_of(candidate: Candidate, rules: Rules) -> str:
    """What is read of a candidate's text."""
    return candidate.text[: rules.maximum_characters]


def _size(material: Material) -> int:
    """Characters that answers are held against."""
    spoken = sum(len(each.query) + len(each.response) for each in material.exchanges)
    return spoken + len(material.query) + len(material.context) + sum(len(each.text) for each in material.evidence)


def _judged(text: str, material: Material, basis: grounding.Basis | None, rules: Rules) -> Findings:
    return _safety(text, rules.lexicon), _grounding(text, basis), _coherence(text, material)


def _findings(text: str, material: Material, basis: grounding.Basis | None, rules: Rules) -> Findings:
    """A rule that fails on a text fails that text, and nothing else."""
    try:
        return _judged(text, material, basis, rules)
    except Exception:
        log.exception("a candidate could not be checked")
        return _UNCHECKED


def _basis_or_none(material: Material) -> grounding.Basis | None:
    try:
        return _basis(material)
    except Exception:
        log.exception("the evidence could not be read, so no answer is held to it")
        return None


def _basis(material: Material) -> grounding.Basis:
    spoken = "\n".join((material.context, *(f"{each.query}\n{each.response}" for each in material.exchanges)))
    evidence = [f"{each.title}\n{each.text}" for each in material.evidence]
    links = [each.uri for each in material.evidence]
    excludes = [phrase for each in material.evidence for phrase in each.excludes]
    return grounding.Basis.of(material.query, evidence, [spoken[-REFERENCE_CHARACTERS:]], links, excludes)


def _safety(text: str, lexicon: safety.Lexicon) -> Finding:
    found = safety.inspect(text, lexicon)
    if found is None:
        return Finding(Check.SAFETY, True, 1.0)
    return Finding(Check.SAFETY, found.allowed, found.value, found.detail)


def _grounding(text: str, basis: grounding.Basis | None) -> Finding:
    if basis is None:
        return Finding(Check.GROUNDING, True, 1.0, "There is no evidence to hold it to.")
    found = grounding.judge(text, basis)
    if found.unfounded:
        listed = ", ".join(f"“{claim[:40]}”" for claim in found.unfounded[:3])
        return Finding(Check.GROUNDING, False, found.value, f"Nothing that it was given says {listed}.")
    if found.ruled_out:
        detail = f"It says “{found.ruled_out[0][:40]}”, which the evidence rules out."
        return Finding(Check.GROUNDING, False, found.value, detail)
    if found.astray:
        return Finding(Check.GROUNDING, False, found.value, "It is not about what the evidence says.")
    return Finding(Check.GROUNDING, True, found.value)


def _coherence(text: str, material: Material) -> Finding:
    flaws = list(coherence.flaws(text, material.query, material.languages))
    if not flaws:
        return Finding(Check.COHERENCE, True, 1.0)
    worst = min(flaws, key=lambda flaw: flaw.value)
    return Finding(Check.COHERENCE, worst.value >= VERDICT, worst.value, " ".join(flaw.detail for flaw in flaws))


def _opposed(finding: Finding, other: tuple[float, str] | None) -> Finding:
    """The finding, or what lowers it: a value and a sentence; below VERDICT it fails."""
    if other is None:
        return finding
    value, detail = other
    details = " ".join(each for each in (finding.detail, detail) if each)
    return Finding(finding.check, finding.passed and value >= VERDICT, min(finding.value, value), details)


async def _opinions(
    asked: Awaitable[models.Opinions], budget: float
) -> tuple[models.Opinions, tuple[Degradation, ...]]:
    """What a model says; nothing, and a degradation, when it fails or is late."""
    try:
        async with asyncio.timeout(budget):
            return await asked, ()
    except TimeoutError:
        error: BackendError = BackendTimeout(f"it did not answer within {budget:.1f} s.")
    except BackendError as failure:
        error = failure
    except Exception:
        log.exception("judging the candidates by a classifier failed")
        error = BackendError("a defect; the server's log has it.")
    detail = f"A classifier did not judge the candidates, only the rules did: {error}"
    return {}, (Degradation(DegradationReason.CLASSIFIER_UNAVAILABLE, detail),)


async def _toxicity(texts: Sequence[str], classifiers: Classifiers, timeout: float) -> models.Opinions:
    if classifiers.toxicity is None or not texts:
        return {}
    return await models.toxicity(texts, classifiers.toxicity, timeout)


async def _contradiction(
    texts: Sequence[str], material: Material, rules: Rules, classifiers: Classifiers, timeout: float
) -> models.Opinions:
    if classifiers.entailment is None or not texts or not rules.grounding:
        return {}
    premise = "\n".join(each.text for each in material.evidence)
    return await models.contradiction(texts, premise, classifiers.entailment, timeout)
