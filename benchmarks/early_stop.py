"""Early stopping: the same mean reward with fewer candidates, against the same number for every query.

Two sources of scores: candidates of the starter policy for held-out queries, scored by the starter reward model and
judged by the corpus's rubric; and, where it is at hand, a file of answers of many models with judged win rates
(`benchmarks.early_stop.JUDGED`), whose win rate stands for the reward. Both run in this process, without Triton.
"""

import gzip
import json
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from server.settings import STARTER
from server.stages.settings import PathSettings
from server.stages.stopping import Prior, Priors, waves, worth_drawing

JUDGED = Path(__file__).resolve().parents[2] / "shared" / "data" / "judged_responses.jsonl.gz"
"""Lines of {"query", "responses": [{"win_rate"}]}; beside the checkout."""
QUERIES = 400
MOST = 10
"""Candidates at most; early stopping draws so many for the queries that gain by it."""
USUAL = 5
"""Candidates for every query: the baseline."""
FIRST_WAVE = int(PathSettings.model_fields["first_wave"].default)
LEARNED = 0.5
"""Share of the queries that the prior is learned from; the figures are of the others."""
COSTS = (
    0.002,
    0.003,
    0.004,
    0.006,
    0.008,
    0.01,
    0.0125,
    0.015,
    0.02,
    0.025,
    0.03,
    0.04,
    0.05,
    0.07,
    0.1,
    0.15,
    0.2,
    0.3,
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One query's candidates in the order in which they are drawn: their rewards, and how good they really are."""

    rewards: tuple[float, ...]
    truth: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """What a way of stopping gives on the mean: candidates, the best one's reward, and that one's true quality."""

    cost: float
    candidates: float
    reward: float
    truth: float


def measure(seed: int = 1) -> dict[str, Any]:
    """The figures of each source that is at hand."""
    found = {"starter": compare(starter(seed))}
    if JUDGED.is_file():
        found["judged"] = compare(judged(seed))
    return found


def compare(queries: Sequence[Drawn]) -> dict[str, Any]:
    """Fixed numbers of candidates against stopping at each cost, on queries that the prior has not seen.

    `same_reward` is where the line through the points of stopping reaches the baseline's reward.
    """
    cut = int(len(queries) * LEARNED)
    prior, rest = _prior(queries[:cut]), queries[cut:]
    baseline = _fixed(rest, USUAL)
    stopped = [_early(rest, prior, cost) for cost in COSTS]
    return {
        "queries": len(rest),
        "baseline": _shown(baseline),
        "same_reward": _shown(_at(stopped, baseline.reward)),
        "fixed": [_shown(_fixed(rest, count)) for count in range(1, MOST + 1)],
        "stopped": [_shown(point) for point in stopped],
    }


def starter(seed: int) -> list[Drawn]:
    """Candidates of the starter policy; a minute or two on one core."""
    from trainer.starter import corpus, rubric
    from trainer.starter.sampling import Judge, Policy

    policy = Policy(STARTER / "policy-000001", seed, threads=1)
    judge = Judge(STARTER / "reward-000001", threads=1)
    asked = [one.query for one in corpus.asked(seed + 9_000, "heldout", QUERIES)]
    answers = policy.candidates(asked, MOST)
    return [
        Drawn(tuple(judge.scores(query, texts)), tuple(rubric.judge(query, text).overall for text in texts))
        for query, texts in zip(asked, answers, strict=True)
    ]


def judged(seed: int) -> list[Drawn]:
    """Judged answers in random order; the win rate is both reward and truth, as of a perfect reward model."""
    rng, found = random.Random(seed), []
    with gzip.open(JUDGED, "rt", encoding="utf-8") as lines:
        for line in lines:
            rates = [float(each["win_rate"]) for each in json.loads(line)["responses"]]
            rng.shuffle(rates)
            found.append(Drawn(tuple(rates[:MOST]), tuple(rates[:MOST])))
    return found


def table(found: dict[str, Any]) -> Table:
    """For people: each source's baseline, what early stopping needs for the same reward, and its frontier."""
    shown = Table(header_style="dim", box=None, pad_edge=False)
    for column in ("early stop", "cost", "candidates", "reward", "truth"):
        shown.add_column(column, justify="left" if column == "early stop" else "right")
    for name, figures in found.items():
        _row(shown, f"{name}: {USUAL} for every query", figures["baseline"])
        _row(shown, f"{name}: stopped early, same reward", figures["same_reward"])
        for point in figures["stopped"]:
            _row(shown, f"{name}: stopped", point)
    return shown


def _row(shown: Table, label: str, point: dict[str, float]) -> None:
    shown.add_row(label, *(f"{point[key]:.4g}" for key in ("cost", "candidates", "reward", "truth")))


def _prior(queries: Iterable[Drawn]) -> Prior:
    priors = Priors()
    for one in queries:
        priors.learn("", one.rewards[:2])
    found = priors.of("")
    assert found is not None, "too few queries"
    return found


def _fixed(queries: Sequence[Drawn], count: int) -> Point:
    return _point(0.0, queries, [count] * len(queries))


def _early(queries: Sequence[Drawn], prior: Prior, cost: float) -> Point:
    return _point(cost, queries, [_stopped_at(one.rewards, prior, cost) for one in queries])


def _stopped_at(rewards: Sequence[float], prior: Prior, cost: float) -> int:
    """How many candidates are drawn before another wave is not worth its cost."""
    drawn = 0
    for size in waves(len(rewards), FIRST_WAVE):
        if drawn and not worth_drawing(rewards[:drawn], max(rewards[:drawn]), cost, prior):
            break
        drawn += size
    return drawn


def _at(points: Sequence[Point], reward: float) -> Point:
    """The point at this reward on the line through the points; the nearest end beyond them."""
    ordered = sorted(points, key=lambda point: point.reward)
    above = next((index for index, point in enumerate(ordered) if point.reward >= reward), len(ordered) - 1)
    low, high = ordered[max(above - 1, 0)], ordered[above]
    share = (reward - low.reward) / (high.reward - low.reward) if high.reward > low.reward else 0.0
    share = min(1.0, max(0.0, share))
    return Point(*(a + share * (b - a) for a, b in zip(astuple(low), astuple(high), strict=True)))


def _point(cost: float, queries: Sequence[Drawn], counts: Sequence[int]) -> Point:
    picks = [max(range(count), key=one.rewards.__getitem__) for one, count in zip(queries, counts, strict=True)]
    return Point(
        cost,
        statistics.fmean(counts),
        statistics.fmean(one.rewards[pick] for one, pick in zip(queries, picks, strict=True)),
        statistics.fmean(one.truth[pick] for one, pick in zip(queries, picks, strict=True)),
    )


def _shown(point: Point) -> dict[str, float]:
    return {name: round(getattr(point, name), 4) for name in Point.__slots__}
