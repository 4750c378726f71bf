"""What the quality checks are worth: the rubric's mean of the answers that are picked with them and without.

Candidates of the starter policy for held-out queries, scored by the starter reward model and judged by the corpus's
rubric, which neither the models nor the rules see. In this process, without Triton.
"""

import asyncio
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from server.settings import STARTER
from server.stages.quality import Classifiers, Material, Reading, Rules, check
from server.stages.selection import Settings, select
from server.types import Candidate, Check, Evidence, Exchange, FinishReason, Preset, Sampling, Score, SelectionMethod

QUERIES = 300
CANDIDATES = 5
MINIMUM_REWARD = 0.6
GOOD = 0.9
"""From this verdict of the rubric on, an answer is good."""
_PASSAGE = re.compile(r"^\[(?P<title>[^\]]+)\] (?P<text>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Judged:
    """One query's candidates with their findings, and the rubric's verdicts of them (0 to 1)."""

    candidates: tuple[Candidate, ...]
    truth: tuple[float, ...]
    evidence: bool


def measure(seed: int = 1) -> dict[str, Any]:
    """The figures of all queries, and of those with evidence."""
    judged = asyncio.run(_judged(seed))
    return {"all": compare(judged), "with evidence": compare([one for one in judged if one.evidence])}


def compare(judged: Sequence[Judged]) -> dict[str, Any]:
    """Means of the rubric by how the answer is picked; where nothing passes, what the reward alone picks."""
    good = [c for one in judged for c, truth in zip(one.candidates, one.truth, strict=True) if truth >= GOOD]
    failed = Counter(f.check.value for one in judged for c in one.candidates for f in c.findings if not f.passed)
    return {
        "queries": len(judged),
        "random": statistics.fmean(statistics.fmean(one.truth) for one in judged),
        "reward alone": statistics.fmean(one.truth[_pick(_passing(one))] for one in judged),
        "reward and checks": statistics.fmean(one.truth[_pick(one)] for one in judged),
        "rules alone": statistics.fmean(one.truth[_pick(_unscored(one))] for one in judged),
        "best possible": statistics.fmean(max(one.truth) for one in judged),
        "none passed": statistics.fmean(not any(c.passed for c in one.candidates) for one in judged),
        "good ones failed by a rule": statistics.fmean(_failed_by_rule(c) for c in good),
        "failed": dict(failed),
    }


def table(found: dict[str, Any]) -> Table:
    """For people: one column a set of queries."""
    shown = Table(header_style="dim", box=None, pad_edge=False)
    shown.add_column("checks: rubric's mean")
    for name in found:
        shown.add_column(name, justify="right")
    for key in (key for key, value in next(iter(found.values())).items() if not isinstance(value, dict)):
        values = (figures[key] for figures in found.values())
        shown.add_row(key, *(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values))
    return shown


async def _judged(seed: int) -> list[Judged]:
    from trainer.starter import corpus, rubric
    from trainer.starter.sampling import Judge, Policy

    policy = Policy(STARTER / "policy-000001", seed, threads=1)
    judge = Judge(STARTER / "reward-000001", threads=1)
    queries = [one.query for one in corpus.asked(seed + 5_000, "heldout", QUERIES)]
    found, rules = [], Rules()
    for query, texts in zip(queries, policy.candidates(queries, CANDIDATES), strict=True):
        evidence = tuple(Evidence("docs", each["title"], each["title"], each["text"]) for each in _passages(query))
        others = _PASSAGE.sub("", query.evidence)
        material = Material(query.text, evidence, others, tuple(Exchange(*turn) for turn in query.turns))
        drawn = [
            _candidate(place, *pair) for place, pair in enumerate(zip(texts, judge.scores(query, texts), strict=True))
        ]
        candidates, _ = await check(drawn, Reading(material, rules), Classifiers(), MINIMUM_REWARD, 1.0)
        truth = tuple(rubric.judge(query, text).overall for text in texts)
        found.append(Judged(candidates, truth, bool(evidence)))
    return found


def _passages(query: Any) -> "list[re.Match[str]]":
    return list(_PASSAGE.finditer(query.evidence))


def _candidate(index: int, text: str, score: float) -> Candidate:
    error = "" if text else "empty"
    return Candidate(
        index, Sampling(Preset("any"), 0, 1), text, FinishReason.STOP, 1, error=error, score=Score(score, 0.0)
    )


def _pick(one: Judged) -> int:
    choice = select(one.candidates, SelectionMethod.BEST, Settings(), seed=1)
    return choice.index if choice.index is not None else _pick(_passing(one))


def _passing(one: Judged) -> Judged:
    """As if there were no checks."""
    return replace(one, candidates=tuple(replace(c, findings=()) for c in one.candidates))


def _unscored(one: Judged) -> Judged:
    """As if no model had scored."""
    return replace(one, candidates=tuple(replace(c, score=None) for c in one.candidates))


def _failed_by_rule(candidate: Candidate) -> bool:
    return any(not finding.passed and finding.check is not Check.REWARD for finding in candidate.findings)
