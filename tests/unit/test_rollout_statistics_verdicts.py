"""Verdicts, horizons, tails and criteria of experiments: what is said, when, and that too little data says nothing."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.rollout.statistics.boundary import Boundary, Side
from server.rollout.statistics.criteria import Evidence, Goals, guardrails, kept, success
from server.rollout.statistics.estimates import estimate
from server.rollout.statistics.events import rate_limits
from server.rollout.statistics.findings import Criterion, Finding, State
from server.rollout.statistics.intervals import Interval, difference, enough, relative
from server.rollout.statistics.outcomes import Moments, Outcomes, gather
from server.rollout.statistics.tails import Replies, quantile_ratio
from server.rollout.statistics.verdicts import Pace, Verdict, horizon, verdict


def interval(lower: float, upper: float) -> Interval:
    return Interval(np.asarray((lower + upper) / 2), np.asarray(lower), np.asarray(upper))


@pytest.mark.parametrize(
    ("lower", "upper", "said"),
    [
        (0.06, 0.20, Verdict.SUPERIOR),
        (0.05, 0.20, Verdict.NON_INFERIOR),
        (-0.01, 0.04, Verdict.NON_INFERIOR),
        (-0.019, -0.001, Verdict.NON_INFERIOR),
        (-0.02, 0.30, Verdict.UNDECIDED),
        (-0.10, -0.01, Verdict.INFERIOR),
        (-math.inf, math.inf, Verdict.UNDECIDED),
        (math.nan, math.nan, Verdict.UNDECIDED),
    ],
)
def test_what_an_interval_says_with_a_gain_of_5_and_a_margin_of_2(lower: float, upper: float, said: Verdict) -> None:
    assert verdict(interval(lower, upper), True, gain=0.05, margin=0.02) is said
    assert verdict(interval(lower, upper), False, gain=0.05, margin=0.02) is Verdict.UNDECIDED


def arms(champion: float, challenger: float, users: int = 600, share: float = 0.5) -> Outcomes:
    """One thumb a user, exactly so many of them up."""
    split = round(users * (1 - share))
    user = np.arange(users)
    up = np.where(user < split, user / split < champion, (user - split) / (users - split) < challenger)
    return Outcomes(user, np.zeros(users, np.int64), user >= split, np.ones(users), up.astype(float))


@pytest.mark.parametrize("target", [0.0, 0.05, -0.02])
@pytest.mark.parametrize("ratio", [True, False])
def test_after_the_horizon_of_more_of_the_same_the_interval_has_just_left_the_target(
    target: float, ratio: bool
) -> None:
    moments, boundary = gather(arms(0.80, 0.82)), Boundary()
    pace = Pace(100, 0.5)
    found = horizon(estimate(moments), boundary, pace, target=target, ratio=ratio)
    assert found is not None
    assert found.days * 100 == pytest.approx(found.users)
    times = 1 + found.days * 25 / 150  # 150 effective users of 600, 25 more of 100
    later = estimate(Moments(*(times * each for each in (moments.users, moments.sums, moments.products))))
    limits = (relative if ratio else difference)(later, boundary)
    assert min(abs(limits.lower - target), abs(limits.upper - target)) < 2e-4


def test_the_horizon_is_never_without_a_difference_or_users_and_nothing_once_it_is_reached() -> None:
    pace = Pace(100, 0.5)
    assert horizon(estimate(gather(arms(0.8, 0.8))), Boundary(), pace) is None
    assert horizon(estimate(gather(arms(0.8, 0.9))), Boundary(), Pace(0, 0.5)) is None
    assert horizon(estimate(gather(arms(0.8, 0.9, users=0))), Boundary(), pace) is None
    reached = horizon(estimate(gather(arms(0.5, 0.9))), Boundary(), pace)
    assert reached is not None
    assert (reached.users, reached.days) == (0, 0)


def test_the_horizon_waits_for_enough_users_though_the_interval_is_clear() -> None:
    """Of 100 users half are the challenger's; 200 an arm are 300 more in both: 3 days."""
    found = horizon(estimate(gather(arms(0.2, 0.9, users=100))), Boundary(), Pace(100, 0.5))
    assert found is not None
    assert found.days == pytest.approx(3)


def lognormal(ratio: float, users: int, seed: int, *, spread: float = 0.5) -> Replies:
    """Three replies a user, half of the variance the user's own."""
    rng = np.random.default_rng(seed)
    user, treated = np.repeat(np.arange(users), 3), rng.random(users) < 0.5
    behind = (np.repeat(rng.standard_normal(users), 3) + rng.standard_normal(len(user))) * math.sqrt(0.5)
    value = np.exp(spread * behind) * np.where(treated[user], ratio, 1.0)
    return Replies(user, np.zeros(len(user), np.int64), treated[user], value)


def test_the_ratio_of_quantiles_is_numpys_when_each_user_has_one_reply() -> None:
    rng = np.random.default_rng(1)
    value, treated = rng.lognormal(size=4001), np.arange(4001) % 3 == 0
    found, known = quantile_ratio(
        Replies(np.arange(4001), np.zeros(4001, np.int64), treated, value), 0.95, Boundary(planned=900)
    )
    ends = [np.quantile(value[treated == arm], 0.95, method="inverted_cdf") for arm in (False, True)]
    assert found.value == pytest.approx(ends[1] / ends[0] - 1)
    assert known.champion == pytest.approx(0.05, abs=1e-3)


def test_limits_of_a_quantiles_ratio_hold_the_true_one_and_are_as_wide_as_the_density_says() -> None:
    """Of the logarithm: the multiplier times root(2 * 0.0475 / n) / (0.103 / 0.5), more for what is the user's own."""
    boundary, held, widths = Boundary(planned=500), 0, []
    for seed in range(15):
        found, known = quantile_ratio(lognormal(1.25, 2000, seed), 0.95, boundary)
        held += bool(found.lower < 0.25 < found.upper)
        widths.append(math.log((1 + found.upper) / (1 + found.lower)) / 2 / float(boundary.multiplier(known.effective)))
    assert held == 15
    independent = math.sqrt(0.0475 * 2 / 3000) / (0.1031 / 0.5)
    assert 1.0 < np.mean(widths) / independent < 1.5


@given(st.floats(0.01, 100), st.integers(0, 1000))
@settings(max_examples=8)
def test_another_unit_changes_no_ratio_of_quantiles_and_other_labels_turn_it_over(unit: float, seed: int) -> None:
    replies, boundary = lognormal(1.0, 60, seed), Boundary(planned=15)
    one, _ = quantile_ratio(replies, 0.8, boundary)
    scaled, _ = quantile_ratio(dataclasses.replace(replies, value=unit * replies.value), 0.8, boundary)
    assert [float(scaled.lower), float(scaled.upper)] == pytest.approx([float(one.lower), float(one.upper)])
    turned, _ = quantile_ratio(dataclasses.replace(replies, challenger=~replies.challenger), 0.8, boundary)
    assert 1 + float(turned.value) == pytest.approx(1 / (1 + float(one.value)))


def test_a_quantile_of_few_has_no_upper_limit_and_one_of_nobody_none_at_all() -> None:
    found, known = quantile_ratio(lognormal(1.0, 30, 1), 0.95, Boundary())
    assert found.upper == math.inf
    assert not enough(known)
    found, _ = quantile_ratio(lognormal(1.0, 0, 1), 0.95, Boundary())
    assert (found.lower, found.upper) == (-math.inf, math.inf)
    one_sided, _ = quantile_ratio(lognormal(1.0, 900, 1), 0.95, Boundary(side=Side.LOWER))
    assert one_sided.upper == math.inf
    assert one_sided.lower > -1


def test_replies_without_time_are_refused() -> None:
    zeros = np.zeros(1, np.int64)
    for value in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="values"):
            Replies(zeros, zeros, zeros > 0, np.array([value]))
    with pytest.raises(ValueError, match="columns"):
        Replies(zeros, zeros, zeros > 0, np.ones(2))


@pytest.mark.parametrize(
    ("lower", "upper", "least", "most"),
    [(0.06, 0.2, State.MET, State.MISSED), (-0.2, 0.04, State.MISSED, State.MET), (0.0, 0.1, *[State.UNDECIDED] * 2)],
)
def test_a_limit_is_met_or_missed_by_a_whole_interval(lower: float, upper: float, least: State, most: State) -> None:
    found = Finding("latency", "Latency", interval(lower, upper))
    assert found.at_least(0.05, "more").state is least
    assert found.at_most(0.05, "less").state is most
    lacking = dataclasses.replace(found, missing="12 of 200 users")
    assert lacking.at_least(0.05, "more").state is lacking.at_most(0.05, "less").state is State.UNDECIDED
    assert "12 of 200 users" in lacking.at_most(0.05, "less").sentence


def test_a_line_says_its_figures_in_percent_and_has_no_numbers_where_there_are_none() -> None:
    line = Finding("quality", "Quality", interval(-0.012, 0.03)).at_least(-0.02, "less than 2 % down")
    assert line.sentence == "Quality: 0.9 % (-1.2 % to 3 %), asked for less than 2 % down: met."
    nothing = Finding("quality", "Quality", interval(-math.inf, math.inf)).at_least(0, "more")
    assert (nothing.value, nothing.lower, nothing.upper) == (None, None, None)
    assert nothing.sentence == "Quality: nothing to compare, asked for more: no verdict yet."


USERS = 12_000


def evidence(**changed: object) -> Evidence:
    """A challenger that is as asked for, half and half."""
    none = np.zeros((1, 2), np.int64)
    half = np.array([[USERS // 2, USERS // 2]])
    good: dict[str, object] = {
        "satisfaction": arms(0.70, 0.80, USERS),
        "quality": arms(0.80, 0.82, USERS),
        "failures": arms(0.001, 0.001, USERS),
        "latencies": {"whole": lognormal(1.0, USERS // 3, 3, spread=0.3)},
        "users": half,
        "failed": np.array([[6, 6]]),
        "reported": none,
        "treated": USERS // 2,
        "shares": np.array([0.5]),
    }
    return Evidence(**(good | changed))  # type: ignore[arg-type]


def states(lines: tuple[Criterion, ...]) -> dict[str, set[State]]:
    return {name: {line.state for line in lines if line.name == name} for name in {line.name for line in lines}}


def test_a_challenger_as_asked_for_meets_each_criterion_and_breaks_no_guardrail() -> None:
    found = success(evidence(), Goals(), Boundary())
    assert states(found) == {name: {State.MET} for name in ("satisfaction", "safety", "quality", "latency")}
    kept = states(guardrails(evidence(), Goals(failure_ratio=20), Boundary()))
    assert kept == {
        name: {State.MET} for name in ("satisfaction", "quality", "latency", "failures", "safety", "shares")
    }


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("satisfaction", {"satisfaction": arms(0.80, 0.75, USERS)}),
        ("quality", {"quality": arms(0.80, 0.75, USERS)}),
        ("failures", {"failures": arms(0.001, 0.02, USERS)}),
        ("failures", {"failed": np.array([[6, 60]])}),
        ("latency", {"latencies": {"scoring": lognormal(1.25, USERS // 3, 3, spread=0.3)}}),
        ("safety", {"reported": np.array([[0, 1]])}),
        ("shares", {"users": np.array([[USERS // 2, USERS // 3]])}),
    ],
)
def test_each_defect_is_told_by_its_own_guardrail_alone(name: str, changed: dict[str, object]) -> None:
    found = states(guardrails(evidence(**changed), Goals(), Boundary()))
    assert [each for each, lines in found.items() if State.MISSED in lines] == [name]
    if name in {"quality", "latency", "safety"}:
        assert State.MISSED in states(success(evidence(**changed), Goals(), Boundary()))[name]


def test_a_gain_below_5_percent_is_no_success_and_no_reason_to_go_back() -> None:
    small = evidence(satisfaction=arms(0.80, 0.808, 40_000))
    assert states(success(small, Goals(), Boundary()))["satisfaction"] == {State.MISSED}
    assert states(guardrails(small, Goals(), Boundary()))["satisfaction"] == {State.MET}


@pytest.mark.parametrize(
    ("champion", "challenger", "users", "state"),
    [
        (0.80, 0.84, 40_000, State.MET),
        (0.80, 0.839, 40_000, State.UNDECIDED),
        (0.80, 0.84, 2_000, State.UNDECIDED),
        (0.80, 0.82, 40_000, State.MISSED),
    ],
    ids=["just so much, surely more than none", "a little less, maybe enough", "maybe none", "surely less"],
)
def test_a_gain_is_met_once_it_is_surely_one_and_estimated_to_be_as_large_as_asked(
    champion: float, challenger: float, users: int, state: State
) -> None:
    found = success(evidence(satisfaction=arms(champion, challenger, users)), Goals(), Boundary())
    assert states(found)["satisfaction"] == {state}


@pytest.mark.parametrize(
    ("champion", "challenger", "users", "said"),
    [
        (1.0, 1.0, 1200, Verdict.NON_INFERIOR),
        (0.999, 0.999, 2000, Verdict.NON_INFERIOR),
        (1.0, 1.0, 600, Verdict.UNDECIDED),
        (1.0, 0.99, 800, Verdict.UNDECIDED),
        (0.5, 1.0, 380, Verdict.UNDECIDED),
    ],
)
def test_what_is_nearly_perfect_is_not_worse_by_the_margin_though_nothing_varies(
    champion: float, challenger: float, users: int, said: Verdict
) -> None:
    """With the same number of perfect users in both arms, or a few misses; too few show nothing."""
    found = kept(arms(champion, challenger, users), 0.02, Boundary())
    assert found.verdict is said
    assert bool(found.missing) == (said is Verdict.UNDECIDED)
    assert said is Verdict.UNDECIDED or -0.02 < float(found.interval.lower) < 0


def test_nearly_perfect_is_shown_by_the_challenger_alone_with_half_of_alpha() -> None:
    few = arms(1.0, 1.0, 1200)
    _, most = rate_limits(0, 600, alpha=0.025)
    assert float(kept(few, 0.02, Boundary()).interval.lower) == pytest.approx(-most)


def test_no_failure_of_few_users_does_not_show_that_there_are_few() -> None:
    few = evidence(failures=arms(0.0, 0.0, 1000), failed=np.zeros((1, 2), np.int64))
    assert states(guardrails(few, Goals(), Boundary()))["failures"] == {State.UNDECIDED}


def calls(champion: float, challenger: float, users: int, share: float, seed: int, each: int = 1) -> dict[str, object]:
    """Users, each with so many calls, of which such parts fail at random: the fields of evidence that are about it."""
    rng = np.random.default_rng(seed)
    own = rng.random(users) < share
    failed = rng.binomial(each, np.where(own, challenger, champion)).astype(float)
    outcomes = Outcomes(np.arange(users), np.zeros(users, np.int64), own, np.full(users, float(each)), failed)
    hit = np.array([[(failed[~own] > 0).sum(), (failed[own] > 0).sum()]])
    return {"failures": outcomes, "failed": hit, "users": np.array([[(~own).sum(), own.sum()]]), "shares": [share]}


def failures(**of: Any) -> list[Criterion]:
    known = calls(**of)
    found = guardrails(evidence(**known | {"shares": np.array(known["shares"])}), Goals(), Boundary())
    return [line for line in found if line.name == "failures"]


@pytest.mark.parametrize("rate", [0.02, 0.03])
@pytest.mark.parametrize("each", [1, 20])
def test_a_challenger_whose_calls_fail_as_the_champions_do_is_not_to_blame(rate: float, each: int) -> None:
    """Short deadlines, a model server that restarts: with 20,000 users its share alone is surely above 1 %."""
    alike = {"champion": rate, "challenger": rate, "users": 20_000, "share": 0.1, "each": each}
    found = [failures(**alike, seed=seed) for seed in range(8)]
    assert all(line.state is not State.MISSED for lines in found for line in lines)
    assert max(lines[0].lower or 0.0 for lines in found) > 0.01
    assert all("at most 1 % or the champion's" in lines[0].sentence for lines in found if (lines[0].lower or 0) > 0.01)


@pytest.mark.parametrize(
    ("champion", "challenger", "users", "each"),
    [(0.0, 0.026, 6000, 1), (0.005, 0.03, 8000, 1), (0.02, 0.05, 8000, 1), (0.05, 0.1, 1500, 100)],
    ids=["of none", "of few", "of many", "of users who all had some"],
)
def test_a_challenger_that_fails_more_than_the_champion_is_told(
    champion: float, challenger: float, users: int, each: int
) -> None:
    for seed in range(5):
        lines = failures(champion=champion, challenger=challenger, users=users, share=0.5, seed=seed, each=each)
        assert lines[0].state is State.MISSED
        assert lines[0].sentence.endswith("asked for at most 1 %: missed.")


def test_without_users_nothing_is_said_and_all_of_it_is_json() -> None:
    nobody = np.zeros((1, 2), np.int64)
    empty = {
        "satisfaction": arms(0, 0, 0),
        "quality": arms(0, 0, 0),
        "failures": arms(0, 0, 0),
        "users": nobody,
        "treated": 0,
    }
    nothing = evidence(**empty, latencies={"whole": lognormal(1, 0, 0)}, failed=nobody)
    lines = (*success(nothing, Goals(), Boundary()), *guardrails(nothing, Goals(), Boundary()))
    assert {line.state for line in lines} == {State.UNDECIDED}
    assert "NaN" not in json.dumps([dataclasses.asdict(line) for line in lines], allow_nan=False)
    assert all("no verdict yet" in line.sentence for line in lines)


def test_a_guardrail_that_only_the_challenger_breaks_says_so() -> None:
    """With no failure of the champion there is no ratio, but a lower limit of it."""
    interval = Interval(np.asarray(math.inf), np.asarray(0.57), np.asarray(math.inf))
    found = Finding("failures", "Users with a failure", interval).at_most(0.5, "at most 50 % up")
    assert found.state is State.MISSED
    assert found.sentence == (
        "Users with a failure: none of the champion's (more than 57 %), asked for at most 50 % up: missed."
    )
