"""What a replay is said to have changed, with numbers worked out by hand."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from server.replay.comparison import Figures, Measured, Pair, compare, interval, percentile, summarise
from server.types import (
    Check,
    Choice,
    Degradation,
    DegradationReason,
    Evidence,
    Finding,
    Reply,
    SelectionMethod,
    ToolOutcome,
    ToolRun,
)
from tests.turns import a_candidate, a_turn, an_entry


async def a_reply(**changes: Any) -> Reply:
    await asyncio.sleep(0)
    return replace(an_entry(a_turn()).reply, **changes)


async def test_the_same_reply_changed_nothing() -> None:
    reply = await a_reply()
    found = compare(reply, reply)
    assert (found.answer_changed, found.changes) == (False, ())
    assert found.rewards == Pair(0.5, 0.5, "reward-000001")


async def test_another_text_is_another_answer_and_its_reward_is_compared() -> None:
    before = await a_reply()
    after = replace(before, response="Something else.", reward_score=0.75)
    found = compare(before, after)
    assert found.answer_changed
    assert found.changes == ("another answer",)
    assert found.rewards == Pair(0.5, 0.75, "reward-000001")


async def test_rewards_of_two_releases_are_never_compared() -> None:
    before = await a_reply()
    found = compare(before, replace(before, reward_release="reward-000002", reward_score=0.9))
    assert found.rewards is None
    assert found.changes == ("reward: reward-000001 → reward-000002",)


async def test_rescored_the_logged_answer_counts_by_the_new_releases_score() -> None:
    before = await a_reply(candidates=(a_candidate(0, "a", 0.9), a_candidate(1, "b", 0.2)), response="a")
    after = replace(
        before,
        candidates=(a_candidate(0, "a", 0.3), a_candidate(1, "b", 0.7)),
        choice=Choice(1, SelectionMethod.BEST, (0.0, 1.0)),
        response="b",
        reward_score=0.7,
        reward_release="reward-000002",
    )
    assert compare(before, after, rescored=True).rewards == Pair(0.3, 0.7, "reward-000002")


async def test_a_refusal_is_a_changed_answer_without_rewards_and_says_why() -> None:
    before = await a_reply()
    reasons = tuple(Finding(Check.REWARD, False, 0.1, f"Reason {n}.") for n in range(5))
    refused = replace(
        before,
        response="Sorry.",
        reward_score=None,
        candidates=(replace(a_candidate(0), findings=reasons),),
        choice=Choice(None, SelectionMethod.BEST, (0.0,)),
    )
    found = compare(before, refused)
    assert found.answer_changed
    assert found.rewards is None
    assert found.changes[0] == "refused now: Reason 0, Reason 1, Reason 2, and 2 more"
    assert compare(refused, before).changes[0] == "answered now, refused then"


async def test_evidence_and_degradations_that_come_and_go_are_told() -> None:
    before = await a_reply(
        tool_runs=(ToolRun("docs", ToolOutcome.FOUND, 1, 0, "", (Evidence("docs", "d#1", "t", "old"),)),),
        degradations=(Degradation(DegradationReason.MEMORY_UNAVAILABLE, "away"),),
    )
    after = replace(
        before,
        tool_runs=(ToolRun("docs", ToolOutcome.FOUND, 1, 0, "", (Evidence("docs", "d#1", "t", "new"),)),),
        degradations=(Degradation(DegradationReason.SCORING_FELL_BACK, "away"),),
    )
    assert compare(before, after).changes == (
        "evidence: 1 new passages, 1 gone",
        "degraded now: scoring_fell_back",
        "degraded then, not now: memory_unavailable",
    )


def test_the_interval_is_students() -> None:
    # Mean 0.25, standard deviation 0.12909944, t(3) 3.182446: 0.25 ± 3.182446 * 0.12909944 / 2.
    found = interval([0.1, 0.2, 0.3, 0.4])
    assert found is not None
    assert (found.pairs, found.mean) == (4, pytest.approx(0.25))
    assert (found.low, found.high) == (pytest.approx(0.25 - 0.2054260, abs=1e-6), pytest.approx(0.4554260, abs=1e-6))


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062047), (2, 4.3026527), (9, 2.2621572), (399, 1.9659273)])
def test_the_interval_has_the_quantile_of_the_tables(freedom: int, quantile: float) -> None:
    count = freedom + 1
    values = [(-1) ** n * 1.0 for n in range(count)] if count % 2 == 0 else [1.0, 0.0, -1.0]
    found = interval(values)
    assert found is not None
    assert found.high is not None
    spread = math.sqrt(sum((v - found.mean) ** 2 for v in values) / freedom / count)
    assert (found.high - found.mean) / spread == pytest.approx(quantile, abs=1e-5)


def test_one_pair_has_a_mean_and_no_interval_and_none_has_nothing() -> None:
    found = interval([0.5])
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.5, None, None)
    assert interval([]) is None


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (50.0, 99.0)
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([], 0.5) is None


def figures(before: Measured, after: Measured, *, changed: bool) -> Figures:
    both = before.reward is not None and after.reward is not None and before.release == after.release
    pair = Pair(before.reward, after.reward, after.release) if both else None  # type: ignore[arg-type]
    return Figures(before, after, changed, pair)


def test_the_summary_counts_shares_means_and_refusals() -> None:
    then, now = "reward-000001", "reward-000001"
    found = summarise(
        [
            figures(Measured(False, 0.6, then, 5, 0.1), Measured(False, 0.8, now, 3, 0.2), changed=True),
            figures(Measured(False, 0.8, then, 5, 0.3), Measured(False, 0.8, now, 5, 0.4), changed=False),
            figures(Measured(False, 0.7, then, 5, 0.2), Measured(True, None, now, 10, 0.9), changed=True),
            figures(Measured(True, None, then, 5, 0.5), Measured(True, None, now, 2, 0.1), changed=False),
        ],
        failed=2,
    )
    assert (found.replayed, found.failed, found.answers_changed, found.share_changed) == (4, 2, 2, 0.5)
    assert found.before is not None
    assert found.after is not None
    assert found.difference is not None
    assert (found.before.refused, found.after.refused) == (1, 2)
    assert (found.before.mean_reward, found.after.mean_reward) == (pytest.approx(0.7), pytest.approx(0.8))
    assert (found.before.mean_candidates, found.after.mean_candidates) == (5.0, 5.0)
    assert (found.before.latency_p50, found.after.latency_p99) == (0.2, 0.9)
    assert (found.difference.pairs, found.difference.mean) == (2, pytest.approx(0.1))


def test_the_summary_of_nothing_invents_nothing() -> None:
    found = summarise([], failed=1)
    assert (found.share_changed, found.before, found.after, found.difference) == (None, None, None, None)
