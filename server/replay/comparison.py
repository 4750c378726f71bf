"""What a replay changed, and what many of them say together. Pure.

Rewards are compared within one reward release only: the scores of two releases have no common scale.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from server.stages.stopping import upper_tail
from server.types import Candidate, Reply

CONFIDENCE = 0.95
REASONS = 3
"""Reasons of a refusal that are said in a change."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The rewards, 0 to 1, of the logged answer and of the replayed one, by the reward release `release`."""

    before: float
    after: float
    release: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What a summary needs of one reply; `seconds` is all that it took."""

    refused: bool
    reward: float | None
    release: str
    candidates: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a summary needs of one comparison."""

    before: Measured
    after: Measured
    answer_changed: bool
    rewards: Pair | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A logged reply beside its replay. `answer_changed`: another text, also from or to a refusal.

    `rewards` is None where the two have none by one release. `changes` are sentences for people.
    """

    before: Reply
    after: Reply
    answer_changed: bool
    rewards: Pair | None
    changes: tuple[str, ...]

    @property
    def figures(self) -> Figures:
        """Its numbers, without the texts."""
        return Figures(_measured(self.before), _measured(self.after), self.answer_changed, self.rewards)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of paired differences with its 95 % interval (Student's t); the bounds are None for fewer than two."""

    pairs: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Side:
    """All logged replies, or all replays. Latencies are seconds; None where there is nothing to take them from.

    `releases` are the reward releases that scored them: means by different ones can't be compared.
    """

    releases: tuple[str, ...]
    refused: int
    mean_reward: float | None
    mean_candidates: float
    latency_p50: float | None
    latency_p99: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What many replays say. `difference` is replayed minus logged, where both were scored by one release."""

    replayed: int
    failed: int
    answers_changed: int
    before: Side | None
    after: Side | None
    difference: Interval | None

    @property
    def share_changed(self) -> float | None:
        """0 to 1; None when nothing was replayed."""
        return self.answers_changed / self.replayed if self.replayed else None


def compare(before: Reply, after: Reply, *, rescored: bool = False) -> Comparison:
    """What changed. `rescored`: `after` judges the candidates of `before`, in their order."""
    changed = before.response != after.response or before.refused != after.refused
    return Comparison(before, after, changed, _rewards(before, after, rescored), tuple(_changes(before, after)))


def summarise(found: Sequence[Figures], failed: int) -> Summary:
    """What they say together; `failed` requests could not be replayed."""
    pairs = [one.rewards for one in found if one.rewards is not None]
    return Summary(
        replayed=len(found),
        failed=failed,
        answers_changed=sum(one.answer_changed for one in found),
        before=_side([one.before for one in found]),
        after=_side([one.after for one in found]),
        difference=interval([pair.after - pair.before for pair in pairs]),
    )


def interval(differences: Sequence[float]) -> Interval | None:
    """The mean and its interval; None without any difference. Takes the requests to be independent of each other."""
    if not differences:
        return None
    mean, count = statistics.fmean(differences), len(differences)
    if count < 2:
        return Interval(count, mean, None, None)
    off = _quantile(count - 1) * statistics.stdev(differences) / math.sqrt(count)
    return Interval(count, mean, mean - off, mean + off)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile: the least value that `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _quantile(freedom: int) -> float:
    """The t that 2.5 % of Student's distribution exceed, by bisection."""
    low, high = 0.0, 13.0  # 12.7 with one degree of freedom
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, freedom) > (1 - CONFIDENCE) / 2 else (low, middle)
    return (low + high) / 2


def _measured(reply: Reply) -> Measured:
    return Measured(
        reply.refused, reply.reward_score, reply.reward_release, reply.candidates_count, reply.total_seconds
    )


def _side(replies: Sequence[Measured]) -> Side | None:
    if not replies:
        return None
    rewards = [reply.reward for reply in replies if reply.reward is not None]
    seconds = [reply.seconds for reply in replies]
    return Side(
        releases=tuple(sorted({reply.release for reply in replies if reply.release})),
        refused=sum(reply.refused for reply in replies),
        mean_reward=statistics.fmean(rewards) if rewards else None,
        mean_candidates=statistics.fmean(reply.candidates for reply in replies),
        latency_p50=percentile(seconds, 0.5),
        latency_p99=percentile(seconds, 0.99),
    )


def _rewards(before: Reply, after: Reply, rescored: bool) -> Pair | None:
    old, new = before.reward_score, after.reward_score
    if rescored and before.choice.index is not None:
        old = after.candidates[before.choice.index].reward_score
    elif before.reward_release != after.reward_release:
        return None
    return Pair(old, new, after.reward_release) if old is not None and new is not None else None


def _changes(before: Reply, after: Reply) -> Iterable[str]:
    for name, old, new in (
        ("policy", before.policy_release, after.policy_release),
        ("reward", before.reward_release or "none", after.reward_release or "none"),
    ):
        if old != new:
            yield f"{name}: {old} → {new}"
    if after.refused and not before.refused:
        yield f"refused now: {_reasons(after)}"
    elif before.refused and not after.refused:
        yield "answered now, refused then"
    elif before.response != after.response:
        yield "another answer"
    if before.choice.method != after.choice.method:
        yield f"chosen by {before.choice.method} → {after.choice.method}"
    if before.choice.explored != after.choice.explored:
        yield "explored now" if after.choice.explored else "explored then, not now"
    if before.candidates_count != after.candidates_count:
        yield f"candidates: {before.candidates_count} → {after.candidates_count}"
    old_fails, new_fails = _failing(before.candidates), _failing(after.candidates)
    if old_fails != new_fails:
        yield f"candidates that fail a check: {old_fails} → {new_fails}"
    yield from _evidence(before, after)
    yield from _degraded(before, after)


def _reasons(reply: Reply) -> str:
    reasons = [reason.rstrip(".") for reason in reply.refusal_reasons]
    more = f", and {len(reasons) - REASONS} more" if len(reasons) > REASONS else ""
    return ", ".join(reasons[:REASONS]) + more or "no candidate passed"


def _failing(candidates: Sequence[Candidate]) -> int:
    return sum(candidate.drawn and not candidate.passed for candidate in candidates)


def _evidence(before: Reply, after: Reply) -> Iterable[str]:
    old, new = (
        {(e.tool, e.source, e.text) for run in reply.tool_runs for e in run.evidence} for reply in (before, after)
    )
    if old != new:
        yield f"evidence: {len(new - old)} new passages, {len(old - new)} gone"


def _degraded(before: Reply, after: Reply) -> Iterable[str]:
    old, new = ({d.reason for d in reply.degradations} for reply in (before, after))
    for label, reasons in (("degraded now", new - old), ("degraded then, not now", old - new)):
        if reasons:
            yield f"{label}: {', '.join(sorted(reasons))}"
