"""Latency is compared by turns that a coin chose, so that no cache of scores decides who is slower."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from server.deliberation import Judges
from server.experiments.types import Experiment
from server.experiments.types import Plan as Split
from server.rollout import timing
from server.rollout.comparison import compare
from server.rollout.observed import Observed, Replies
from server.rollout.plan import Plan, Stage
from server.rollout.statistics.boundary import Boundary
from server.rollout.statistics.criteria import Goals, success
from server.rollout.statistics.findings import State as Said
from server.rollout.table import Champions, Known, Opened, Table
from server.rollout.tally import Tally
from server.rollout.types import CriterionName, Kind, Outcome, Rollout, State, Variation
from server.types import Score, ScoreSource
from tests.experiments import experiment
from tests.path import Path, StubPolicy, StubReward
from tests.rollouts import DAY, NEW, OLD, RETURN, rollout
from tests.turns import a_turn
from tests.unit import test_rollout_comparison as comparisons

POLICY = "policy-000001"
CACHE: Any = object()


def table(*rollouts: Rollout, experiments: tuple[Experiment, ...] = (), cache: Any = CACHE) -> Table:
    policies = {name: StubPolicy() for name in (POLICY, "policy-000002")}
    for name, each in policies.items():
        each.release = SimpleNamespace(id=name)
    rewards = {name: StubReward(name) for name in (OLD, NEW)}
    judges: Any = Judges((), cache, "", *([None] * 3))  # type: ignore[arg-type]
    known = Known({Kind.POLICY: POLICY, Kind.REWARD: OLD}, rollouts, experiments=experiments)
    return Table(known, Opened(dict(policies), dict(rewards)), judges, Champions(policies[POLICY], rewards[OLD]))


async def routed(of: Table, turns: int = 1500) -> list[Any]:
    return [of.of(a_turn(user_id=f"u{number % 500}", response_id=UUID(int=number))) for number in range(turns)]


@pytest.mark.parametrize(("treated", "part"), [(0.0, 0.5), (0.1, 0.5), (0.2, 0.3125), (0.5, 0.2), (0.95, 0.5)])
def test_a_fifth_is_timed_where_arms_are_alike_and_half_where_one_is_small(treated: float, part: float) -> None:
    assert timing.part(treated) == pytest.approx(part)


def test_one_coin_a_turn_decides_and_as_often_as_it_should() -> None:
    ids = [UUID(int=number) for number in range(4000)]
    few, many = ([timing.is_timed("acme", each, part) for each in ids] for part in (0.2, 0.5))
    assert sum(few) / 4000 == pytest.approx(0.2, abs=0.03)
    assert sum(many) / 4000 == pytest.approx(0.5, abs=0.03)
    assert all(later for first, later in zip(few, many, strict=True) if first)
    assert few == [timing.is_timed("acme", each, 0.2) for each in ids]


@pytest.mark.parametrize(("stage", "part"), [(0, 0.5), (1, 0.2)])
async def test_turns_of_both_arms_are_timed_by_the_same_coin(stage: int, part: float) -> None:
    found = await routed(table(rollout(State.CANARY, stage=stage)))
    for arm in (True, False):
        own = [each.timed for each in found if each.assignments[0].challenger is arm]
        assert sum(own) / len(own) == pytest.approx(part, abs=4 * (part * (1 - part) / len(own)) ** 0.5)
    assert all(each.assignments[0].timed is each.timed for each in found)


@pytest.mark.parametrize(
    "of",
    [
        table(),
        table(rollout(State.CANARY, plan=RETURN, undoes="0192")),
        table(experiments=(experiment(Variation.INTERFACE),)),
        table(rollout(State.SHADOW)),
    ],
    ids=["nothing", "a return", "an interface", "a shadow"],
)
async def test_nobody_goes_without_the_cache_where_no_times_of_scoring_are_compared(of: Table) -> None:
    found = await routed(of, 200)
    assert not any(each.timed for each in found)
    assert all(part.timed for each in found for part in each.assignments)


async def test_of_several_trials_the_one_that_needs_most_decides_for_all() -> None:
    policy = rollout(State.CANARY, kind=Kind.POLICY, champion=POLICY, challenger="policy-000002")
    both = table(replace(policy, rollout_id="0194"), experiments=(experiment(plan=Split(share=0.5, salt="s")),))
    found = await routed(both)
    assert sum(each.timed for each in found) / len(found) == pytest.approx(0.5, abs=0.06)
    assert all(part.timed is each.timed for each in found for part in each.assignments)


async def test_without_a_cache_all_turns_are_timed() -> None:
    found = await routed(table(rollout(State.CANARY, stage=1), cache=None), 100)
    assert all(each.timed and each.assignments[0].timed for each in found)


class Cache:
    """Knows a score of each text."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    async def find(self, subject: object, release: object, responses: list[str]) -> dict[str, Score]:
        return {each: Score(0.5, 0.0, source=ScoreSource.CACHE) for each in responses}

    def keep(self, subject: object, release: object, scores: dict[str, Score]) -> None:
        self.kept += scores


@pytest.mark.parametrize("timed", [True, False])
async def test_a_turn_that_is_timed_asks_the_reward_about_each_text_and_keeps_the_scores(timed: bool) -> None:
    cache = Cache()
    path = Path(cache=cache)
    services = path.pipeline._services
    whole = replace(services.routes.of(a_turn()), timed=timed)
    path.pipeline._services = replace(services, routes=SimpleNamespace(of=lambda _: whole))  # type: ignore[arg-type]
    await path.pipeline.answer(a_turn())
    assert bool(path.reward.contexts) is timed
    assert len(cache.kept) == (3 if timed else 0)


def latency(slower: float, popular: float, rule: str) -> set[Said]:
    """The states of the latency criterion, where 20,000 users ask once, a tenth of them the challenger.

    Of their queries 60 % are popular, take `popular` times as long as others, and are what the cache knows: half of the
    champion's replies have a hit, 15 % of the challenger's. Times are counted by the coin, or, with "misses", of
    replies without a hit.
    """
    users, rng = 20_000, np.random.default_rng(1)
    own, common = rng.random(users) < 0.1, rng.random(users) < 0.6
    hit = common & (rng.random(users) < np.where(own, 0.15, 0.5) / 0.6)
    seconds = np.exp(0.1 * rng.standard_normal(users)) * np.where(common, popular, 1.0) * np.where(own, 1 + slower, 1.0)
    counted = (
        ~hit
        if rule == "misses"
        else np.array([timing.is_timed("acme", UUID(int=number), 0.5) for number in range(users)])
    )
    columns = {
        "reply": np.arange(users),
        "unit": np.arange(users),
        "stage": np.zeros(users, dtype=np.int64),
        "challenger": own,
        "share": np.full(users, 0.1),
        "failed": np.zeros(users, dtype=bool),
        "quality": np.full(users, np.nan),
    }
    replies = Replies(**columns, seconds={"scoring": np.where(counted, seconds, np.nan)})
    plan = Plan(stages=(Stage(share=0.1), Stage(share=1)), holdback=0.05)
    tally = Tally.of(plan, Observed(replies))
    return {line.state for line in success(tally.evidence(), Goals(), Boundary()) if line.name == "latency"}


@pytest.mark.parametrize(
    ("slower", "popular", "said", "by_misses"),
    [
        (0.0, 1.4, Said.MET, Said.MISSED),
        (0.0, 0.7, Said.MET, Said.MET),
        (0.25, 0.7, Said.MISSED, Said.UNDECIDED),
        (0.25, 1.4, Said.MISSED, Said.MISSED),
    ],
)
def test_what_the_cache_knows_of_popular_queries_makes_nobody_slower_or_faster(
    slower: float, popular: float, said: Said, by_misses: Said
) -> None:
    """Whether a reply has a hit tells its query and its arm, so replies without one are of other queries in each."""
    assert said in latency(slower, popular, "coin") <= {said, Said.UNDECIDED}
    assert by_misses in latency(slower, popular, "misses")


async def test_fewer_timed_replies_are_fewer_users_and_more_days_for_latency_alone() -> None:
    rng, users = np.random.default_rng(3), 4000
    own = np.arange(users) >= users // 2
    seconds = np.exp(0.45 * rng.standard_normal(users)) * np.where(own, 1.03, 1.0)
    found = {}
    for part in (1.0, 0.2, 0.05):
        timed = np.arange(users) % 100 < 100 * part
        known = comparisons.replies(users, seconds={"scoring": np.where(timed, seconds, np.nan)})
        plan = comparisons.PLAN.model_copy(update={"stages": (Stage(share=0.5),)})
        observed = Observed(known, comparisons.liked(known, 0.7, 0.85))
        found[part] = compare(comparisons.canary(plan=plan), observed, DAY)
    days = {part: each.figures["days_left"] for part, each in found.items()}
    assert days[1.0] < days[0.2] / 3
    assert "100 and 100 of 200 users" in next(
        each.sentence for each in found[0.05].criteria if each.name is CriterionName.LATENCY
    )
    for each in found.values():
        assert (each.samples, each.mismatch) == (2000, "")
        met = {line.name for line in each.criteria if line.outcome is Outcome.MET}
        assert {CriterionName.SATISFACTION, CriterionName.QUALITY} <= met
