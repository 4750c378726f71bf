"""Boundary, estimates and intervals of experiments, beside scipy, sums written out, integrals and regressions."""

import math
from collections import defaultdict
from dataclasses import fields
from random import Random
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw

from server.rollout.statistics.boundary import Boundary, Side
from server.rollout.statistics.estimates import Estimate, estimate
from server.rollout.statistics.intervals import challenger_level, difference, enough, relative, steadied
from server.rollout.statistics.outcomes import Moments, Outcomes, first_seen, gather

Row = tuple[int, int, bool, float, float]


def outcomes(rows: list[Row]) -> Outcomes:
    user, stratum, challenger, count, total = map(list, zip(*rows, strict=True)) if rows else ([] for _ in range(5))
    return Outcomes(
        np.array(user, np.int64),
        np.array(stratum, np.int64),
        np.array(challenger, bool),
        np.array(count, float),
        np.array(total, float),
    )


def known(rows: list[Row]) -> Estimate:
    return estimate(gather(outcomes(rows)))


def drawn(seed: int, users: int = 40, replies: int = 3, strata: int = 3) -> list[Row]:
    """Users of a ramp who come back, and go from one arm to the other."""
    rng = np.random.default_rng(seed)
    bucket, taste = rng.random(users), rng.random(users)
    rows = []
    for _ in range(users * replies):
        user, stratum = int(rng.integers(users)), int(rng.integers(strata))
        share = (0.3, 0.5, 0.7)[stratum]
        value = float((taste[user] + rng.random() + 0.3 * stratum) / 2)
        rows.append((user, stratum, bool(bucket[user] < share), 1.0, value))
    return rows


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.2])
def test_the_boundary_is_tightest_where_lambert_says(alpha: float) -> None:
    """Waudby-Smith et al. give the best rho² with the lower branch of Lambert's W."""
    best = (-lambertw(-(alpha**2) * math.exp(-1), -1).real - 1) / 700
    assert Boundary(alpha, 700).spread == pytest.approx(best)
    widths = [float(Boundary(alpha, planned).multiplier(700)) for planned in (350, 600, 700, 800, 1400)]
    assert min(widths) == widths[2]


def test_at_the_boundary_the_mixture_of_normals_has_one_by_alpha_times_the_likelihood_of_no_effect() -> None:
    """The integral that Robbins' boundary is the closed form of, by trapezoids."""
    boundary, users = Boundary(0.05, 300), 450.0
    effects = np.linspace(-12, 12, 20_001) * math.sqrt(boundary.spread)
    prior = np.exp(-np.square(effects) / (2 * boundary.spread)) / math.sqrt(2 * math.pi * boundary.spread)
    total = float(boundary.multiplier(users)) * math.sqrt(users)
    ratio = np.exp(effects * total - users * np.square(effects) / 2)
    assert np.trapezoid(prior * ratio, effects) == pytest.approx(1 / 0.05)


@pytest.mark.parametrize("users", [1, 100, 1e6])
@pytest.mark.parametrize("alpha", [1e-4, 0.05, 0.4])
def test_at_the_one_sided_boundary_the_half_normal_mixture_is_just_above_one_by_alpha(
    users: float, alpha: float
) -> None:
    boundary = Boundary(alpha, 300, Side.LOWER)
    ratio = 1 + boundary.spread * users
    at = float(boundary.multiplier(users)) * math.sqrt(1 - 1 / ratio)
    evidence = 2 * NormalDist().cdf(at) * math.exp(at * at / 2) / math.sqrt(ratio)
    assert 1 / alpha <= evidence * (1 + 1e-9)
    assert evidence <= 1.25 / alpha


def test_random_walks_cross_the_boundary_as_rarely_as_promised_and_a_fixed_level_far_more_often() -> None:
    steps = np.arange(1, 1001)
    walks = np.cumsum(np.random.default_rng(5).standard_normal((500, 1000)), axis=1) / np.sqrt(steps)
    for side, alpha in ((Side.BOTH, 0.10), (Side.LOWER, 0.10)):
        limit = Boundary(alpha, 200, side).multiplier(steps)
        strays = np.abs(walks) if side is Side.BOTH else walks
        assert 0.02 < (strays > limit).any(axis=1).mean() < 0.12
    assert (np.abs(walks) > 1.645).any(axis=1).mean() > 0.5


@pytest.mark.parametrize(("alpha", "planned"), [(0.0, 10), (0.5, 10), (0.05, 0), (0.05, math.inf), (math.nan, 10)])
def test_a_boundary_without_meaning_is_refused(alpha: float, planned: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        Boundary(alpha, planned)


def test_a_plan_in_users_is_one_in_effective_users() -> None:
    """Of 4,000 users half and half, 2,000 * 2,000 / 4,000."""
    assert Boundary.of_users(4000, 0.5).planned == 1000
    assert Boundary.of_users(4000, 0.1, 0.01) == Boundary(0.01, 360)


def test_one_stratum_is_welchs_comparison() -> None:
    """Means 2 and 4; variances 1 and 4 by 3 and 2 users; 3 * 2 / 5 effective ones."""
    rows = [(1, 0, False, 1, 1.0), (2, 0, False, 1, 2.0), (3, 0, False, 1, 3.0)]
    rows += [(4, 0, True, 2, 8 - 2 * math.sqrt(2)), (5, 0, True, 2, 8 + 2 * math.sqrt(2))]
    found = known(rows)
    gap, error = found.contrast()
    assert (found.champion, found.challenger, gap) == pytest.approx((2, 4, 2))
    assert error == pytest.approx(math.sqrt(1 / 3 + 4 / 2))
    assert (found.champion_users, found.challenger_users, found.effective) == pytest.approx((3, 2, 1.2))
    assert found.covariance == 0


def by_hand(rows: list[Row]) -> tuple[float, float, float, float, float]:
    """Means, variances and covariance, user by user, without a matrix."""
    totals: dict[tuple[int, int, bool], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for user, stratum, arm, count, total in rows:
        totals[user, stratum, arm][0] += count
        totals[user, stratum, arm][1] += total
    means = {key: total / count for key, (count, total) in totals.items()}
    cells: dict[tuple[int, bool], list[float]] = defaultdict(list)
    for (_, stratum, arm), value in means.items():
        cells[stratum, arm].append(value)
    weights = {}
    for stratum in {stratum for stratum, _ in cells}:
        champion, challenger = len(cells[stratum, False]), len(cells[stratum, True])
        if min(champion, challenger) >= 2:
            weights[stratum] = champion * challenger / (champion + challenger)
    whole = sum(weights.values())
    found = [sum(w * np.mean(cells[s, arm]) for s, w in weights.items()) / whole for arm in (False, True)]
    influence: dict[tuple[int, bool], float] = defaultdict(float)
    for (user, stratum, arm), value in means.items():
        if stratum in weights:
            values = cells[stratum, arm]
            scale = weights[stratum] / whole / len(values) * math.sqrt(len(values) / (len(values) - 1))
            influence[user, arm] += scale * (value - float(np.mean(values)))
    users = {user for user, _ in influence}
    pairs = ((False, False), (True, True), (False, True))
    spread = [sum(influence[user, a] * influence[user, b] for user in users) for a, b in pairs]
    return (float(found[0]), float(found[1]), *spread)


@pytest.mark.parametrize("seed", range(5))
def test_a_ramp_with_users_who_return_and_change_arms_is_what_a_sum_user_by_user_gives(seed: int) -> None:
    rows = drawn(seed)
    found = known(rows)
    names = ("champion", "challenger", "champion_variance", "challenger_variance", "covariance")
    assert [float(getattr(found, name)) for name in names] == pytest.approx(by_hand(rows))
    assert found.covariance != 0


def test_the_difference_is_the_coefficient_of_a_regression_on_arm_and_stratum() -> None:
    rows = [(place, *row[1:]) for place, row in enumerate(drawn(3))]  # each row a user
    design = np.array([[row[2], *(row[1] == stratum for stratum in range(3))] for row in rows], float)
    coefficients = np.linalg.lstsq(design, np.array([row[4] for row in rows]), rcond=None)[0]
    assert known(rows).contrast()[0] == pytest.approx(coefficients[0])


def test_it_is_inverse_propensity_weighting_with_the_strata_weighed_by_what_they_tell() -> None:
    rows = [(place, *row[1:]) for place, row in enumerate(drawn(4))]
    stratum, arm, value = (np.array([row[place] for row in rows]) for place in (1, 2, 4))
    share = np.array([arm[stratum == each].mean() for each in range(3)])[stratum]
    weight = share * (1 - share) / np.where(arm, share, 1 - share)
    found = [np.average(value[arm == each], weights=weight[arm == each]) for each in (False, True)]
    assert (known(rows).champion, known(rows).challenger) == pytest.approx(tuple(found))


def test_a_baseline_that_moves_during_the_ramp_is_no_effect() -> None:
    """At 10 % everybody is at 0.5, at 50 % at 0.9: the challenger has more of the later ones, and nothing else."""
    rows = [(user, 0, user < 10, 1, 0.5 + 0.1 * (-1) ** user) for user in range(100)]
    rows += [(user + 100, 1, user < 50, 1, 0.9 + 0.1 * (-1) ** user) for user in range(100)]
    gap, error = known(rows).contrast()
    assert gap == pytest.approx(0)
    assert error > 0
    pooled, narrow = known([(user, 0, arm, count, total) for user, _, arm, count, total in rows]).contrast()
    assert pooled > 4 * narrow


def test_a_stratum_counts_once_two_users_are_in_each_arm() -> None:
    start = drawn(1, strata=1)
    lone = [(100 + place, 5, False, 1.0, 9.0) for place in range(50)] + [(99, 5, True, 1.0, -9.0)]
    for field in fields(Estimate):
        assert getattr(known(start + lone), field.name) == pytest.approx(getattr(known(start), field.name))
    assert known([*start, *lone, (98, 5, True, 1.0, -9.0)]).effective > known(start).effective


def test_nobody_is_no_error() -> None:
    found = known([])
    assert math.isnan(found.champion)
    assert found.effective == found.champion_users == 0
    assert not enough(found)
    for interval in (difference(found, Boundary()), relative(found, Boundary()), challenger_level(found, Boundary())):
        assert (interval.lower, interval.upper) == (-math.inf, math.inf)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_neither_order_nor_names_nor_batches_of_rows_matter(seed: int, random: Random) -> None:
    rows = drawn(seed, users=12, replies=2)
    other = [
        (-7 * user, stratum, arm, count / 2, total * part)
        for user, stratum, arm, count, total in rows
        for part in (0.2, 0.8)
    ]
    random.shuffle(other)
    left, right = gather(outcomes(rows)), gather(outcomes(other))
    for field in fields(Estimate):
        assert getattr(estimate(left), field.name) == pytest.approx(getattr(estimate(right), field.name), nan_ok=True)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_other_labels_turn_the_sign_and_another_unit_scales(seed: int, unit: float) -> None:
    rows = drawn(seed, users=12, replies=2)
    gap, error = known(rows).contrast()
    turned = known([(user, stratum, not arm, count, total) for user, stratum, arm, count, total in rows]).contrast()
    assert turned == pytest.approx((-gap, error), nan_ok=True)
    scaled = known([(user, stratum, arm, count, unit * total) for user, stratum, arm, count, total in rows])
    assert scaled.contrast() == pytest.approx((unit * gap, unit * error), nan_ok=True, rel=1e-6, abs=1e-9)
    one, other = relative(known(rows), Boundary()), relative(scaled, Boundary())
    limits = [(float(each.lower), float(each.upper)) for each in (one, other)]
    assert limits[1] == pytest.approx(limits[0], nan_ok=True, rel=1e-5)


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_a_ratio_is_in_the_limits_exactly_if_the_contrast_with_it_may_be_nothing(seed: int) -> None:
    found, boundary = known(drawn(seed, users=100, replies=2)), Boundary(planned=60)
    limits = relative(found, boundary)
    for factor in np.linspace(0.2, 3, 57):
        gap, error = found.contrast(float(factor))
        inside = abs(gap) <= error * boundary.multiplier(found.effective)
        assert inside == (limits.lower <= factor - 1 <= limits.upper)
    assert limits.lower < limits.value < limits.upper
    assert (limits.lower > 0) == (difference(found, boundary).lower > 0)


def test_a_ratio_has_no_limits_while_the_champions_mean_may_be_nothing() -> None:
    rows = [(user, 0, user % 2 == 0, 1.0, float(user % 4 == 1 and user < 8)) for user in range(60)]
    limits = relative(known(rows), Boundary(planned=15))
    assert (limits.lower, limits.upper) == (-math.inf, math.inf)


def test_a_side_has_one_limit_and_it_is_the_tighter() -> None:
    found = known(drawn(2, users=200))
    both = difference(found, Boundary(planned=50))
    for side, one in ((Side.LOWER, "lower"), (Side.UPPER, "upper")):
        interval = difference(found, Boundary(planned=50, side=side))
        other = "upper" if one == "lower" else "lower"
        assert math.isinf(getattr(interval, other))
        assert abs(getattr(interval, one) - interval.value) < abs(getattr(both, one) - both.value)


def thumbs(champion: int, challenger: int, missed: int, misses: int) -> Estimate:
    """Users of each arm, and those of them with a thumb down."""
    rows = [(user, 0, False, 1, float(user >= missed)) for user in range(champion)]
    return known(rows + [(-1 - user, 0, True, 1, float(user >= misses)) for user in range(challenger)])


def test_below_200_users_or_10_of_the_rarer_outcome_an_arm_nothing_is_said() -> None:
    assert enough(thumbs(200, 1000, 10, 50))
    assert not enough(thumbs(200, 199, 10, 50))
    assert not enough(thumbs(200, 1000, 10, 49)), "10 of 200 are expected of both arms together"
    assert enough(thumbs(200, 1000, 10, 49), proportion=False)
    assert not enough(thumbs(199, 1000, 50, 50), proportion=False)
    assert enough(thumbs(1000, 1000, 50, 0)), "none where 25 are expected says a lot"


def test_an_arm_with_few_of_the_rarer_outcome_varies_as_both_together() -> None:
    """The champion's users, three quarters of all, vary by 0.09 * 900 / 899, the challenger's not at all."""
    found = steadied(thumbs(900, 300, 90, 0))
    assert found.challenger_variance == pytest.approx(0.75 * 0.09 * 900 / 899 / 300)
    assert found.champion_variance == pytest.approx(0.09 / 899)
    some = thumbs(900, 300, 90, 10)
    assert steadied(some).challenger_variance == pytest.approx(float(some.challenger_variance)), "ten are not few"
    assert steadied(some).champion_variance == pytest.approx(float(some.champion_variance))
    assert steadied(known([])).champion_variance == 0


def test_the_challengers_own_level_is_that_of_its_users() -> None:
    rows = [(user, 0, user < 300, 1, float(user % 10 == 0)) for user in range(900)]
    limits = challenger_level(known(rows), Boundary(planned=300))
    half = float(Boundary(planned=300).multiplier(300)) * math.sqrt(0.09 / 299)
    assert (limits.value, limits.lower, limits.upper) == pytest.approx((0.1, 0.1 - half, 0.1 + half))


def test_many_experiments_at_once_are_each_by_itself() -> None:
    several = [gather(outcomes(drawn(seed))) for seed in range(3)]
    stacked = Moments(*(np.stack([getattr(each, field.name) for each in several]) for field in fields(Moments)))
    for field in fields(Estimate):
        alone = [float(getattr(estimate(each), field.name)) for each in several]
        assert getattr(estimate(stacked), field.name) == pytest.approx(alone)


def test_ill_formed_outcomes_are_refused() -> None:
    columns = (np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(2, bool))
    for count, total in (([1.0], [1.0]), ([1, -1], [1, 1]), ([1, math.inf], [1, 1]), ([1, 1], [1, math.nan])):
        with pytest.raises(ValueError, match="must be"):
            Outcomes(*columns, np.array(count, float), np.array(total, float))


def test_each_user_is_counted_where_seen_first() -> None:
    user, stratum, arm = np.array([[7, 1, 0], [7, 0, 1], [8, 1, 1], [9, 0, 1], [9, 0, 0], [9, 2, 1]]).T
    assert first_seen(user, stratum, arm, strata=3, arms=2).tolist() == [[1, 1], [0, 1], [0, 0]]
