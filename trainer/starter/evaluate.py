# ruff: noqa: S311 - seeded on purpose: the same seed gives the same corpus and figures
"""The proof: on held-out queries, by the corpus's own rubric, what choosing among candidates gains.

The reward model's own opinion counts for nothing here. Writes METRICS.json.
"""

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trainer.starter import copying, corpus, rubric
from trainer.starter.progress import track
from trainer.starter.query import LANGUAGES, Query
from trainer.starter.sampling import Judge, Policy

SEED: Final = 20261
"""Of the held-out queries: no model was chosen by these."""
CANDIDATES: Final = 5
THRESHOLD: Final = 0.6
CHUNK: Final = 32


@dataclass(frozen=True, slots=True)
class Choice:
    """One held-out query with its candidates, the reward's scores and the rubric's verdicts, in the same order."""

    query: Query
    answers: list[str]
    scores: list[float]
    truth: list[float]

    @property
    def picked(self) -> float:
        """The rubric's overall of the candidate with the highest score."""
        return self.truth[max(range(len(self.scores)), key=self.scores.__getitem__)]


def choices(policy: Policy, judge: Judge, seed: int, count: int) -> list[Choice]:
    """Samples and scores the candidates of `count` held-out queries."""
    queries = [one.query for one in corpus.asked(seed, "heldout", count)]
    made = []
    for start in track(range(0, len(queries), CHUNK), "evaluation"):
        chunk = queries[start : start + CHUNK]
        for query, answers in zip(chunk, policy.candidates(chunk, CANDIDATES), strict=True):
            truth = [rubric.judge(query, answer).overall for answer in answers]
            made.append(Choice(query, answers, judge.scores(query, answers), truth))
    return made


def recovered(found: Sequence[Choice]) -> float:
    """(reward's pick - mean of random picks) / (best possible - mean of random picks)."""
    single = statistics.fmean(statistics.fmean(one.truth) for one in found)
    best = statistics.fmean(max(one.truth) for one in found)
    return (statistics.fmean(one.picked for one in found) - single) / (best - single)


def interval(found: Sequence[Choice], measure: Callable[[Sequence[Choice]], float], seed: int) -> list[float]:
    """The 95 % bootstrap interval over queries (1,000 resamples)."""
    rng = random.Random(seed)
    values = sorted(measure(rng.choices(found, k=len(found))) for _ in range(1000))
    return [round(values[24], 4), round(values[974], 4)]


def ranking_accuracy(found: Sequence[Choice]) -> float:
    """The share of candidate pairs of unequal truth that the scores put in the right order; ties count half."""
    wins = total = 0.0
    for one in found:
        for i in range(len(one.truth)):
            for j in range(i):
                if one.truth[i] != one.truth[j]:
                    right = (one.scores[i] - one.scores[j]) * (one.truth[i] - one.truth[j])
                    wins += 1.0 if right > 0 else 0.5 if right == 0 else 0.0
                    total += 1
    return wins / total


def calibration(found: Sequence[Choice]) -> dict[str, float]:
    """How the threshold separates: shares above it, and the truth's mean above and below."""
    pairs = [pair for one in found for pair in zip(one.scores, one.truth, strict=True)]
    above = [truth for score, truth in pairs if score >= THRESHOLD]
    below = [truth for score, truth in pairs if score < THRESHOLD]
    return {
        "candidates_above_threshold": round(len(above) / len(pairs), 4),
        "picks_above_threshold": round(statistics.fmean(max(one.scores) >= THRESHOLD for one in found), 4),
        "rubric_above": round(statistics.fmean(above), 4) if above else 0.0,
        "rubric_below": round(statistics.fmean(below), 4) if below else 0.0,
    }


def summary(found: Sequence[Choice], seed: int) -> dict[str, Any]:
    """All figures of one group of queries."""
    verdicts = [rubric.judge(one.query, answer) for one in found for answer in one.answers]
    return {
        "queries": len(found),
        "random_pick": round(statistics.fmean(statistics.fmean(one.truth) for one in found), 4),
        "reward_pick": round(statistics.fmean(one.picked for one in found), 4),
        "best_possible": round(statistics.fmean(max(one.truth) for one in found), 4),
        "recovered_share": round(recovered(found), 4),
        "recovered_share_95": interval(found, recovered, seed),
        "pairwise_ranking_accuracy": round(ranking_accuracy(found), 4),
        "pairwise_ranking_accuracy_95": interval(found, ranking_accuracy, seed),
        "distinct_candidates": round(statistics.fmean(len(set(one.answers)) for one in found), 2),
        "single_answers": {
            name: round(statistics.fmean(getattr(verdict, name) for verdict in verdicts), 4) for name in rubric.WEIGHTS
        },
        **calibration(found),
    }


def report(found: Sequence[Choice], seed: int) -> dict[str, Any]:
    """The figures over all queries, by language and by kind of query."""
    kinds = sorted({one.query.kind for one in found})
    return {
        "all": summary(found, seed),
        **{lang: summary([one for one in found if one.query.lang == lang], seed) for lang in LANGUAGES},
        "kinds": {kind: summary([one for one in found if one.query.kind == kind], seed) for kind in kinds},
    }


def shown(found: Sequence[Choice]) -> str:
    """Queries with their candidates, best score first, for a person to read."""
    lines = []
    for one in found:
        lines += [f"[{one.query.lang} {one.query.intent}] {one.query.text}"]
        lines += [f"    {part}" for part in (one.query.evidence, *(f"{q} -> {a}" for q, a in one.query.turns)) if part]
        ranked = sorted(zip(one.scores, one.truth, one.answers, strict=True), reverse=True)
        lines += [f"  {score:.2f} (rubric {truth:.2f}) {answer}" for score, truth, answer in ranked]
    return "\n".join(lines)


def run(starter: Path, seed: int, count: int, copied: int, threads: int = 2) -> tuple[list[Choice], dict[str, Any]]:
    """Samples from the releases under `starter` for `count` held-out queries and `copied` of each copying condition.

    Gives the choices and the figures: `evaluation_seed`, `heldout` as `report`, `copying` as `copying.measure`.
    """
    policy, judge = Policy(starter / "policy-000001", seed, threads), Judge(starter / "reward-000001", threads)
    states = copying.measure(policy, judge, seed, copied)
    found = choices(policy, judge, seed, count)
    return found, {"evaluation_seed": seed, "copying": states, "heldout": report(found, seed)}
