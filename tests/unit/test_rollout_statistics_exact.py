"""What is exact of experiments, beside enumerations of all that could happen, and closed forms."""

import itertools
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.rollout.statistics.events import log_evidence, rate_limits, rate_ratio
from server.rollout.statistics.mismatch import CONCENTRATION, mismatch

HALF = np.array([0.5])


@pytest.mark.parametrize("ratio", [0.2, 1.0, 5.0])
def test_over_all_that_can_happen_the_evidence_against_the_true_ratio_is_one(ratio: float) -> None:
    """Four users with a failure at a share of 0.1, three at 0.5: that is what makes it valid at any look (Ville)."""
    shares, users = np.array([0.1, 0.5]), (4, 3)
    chances = shares * ratio / (shares * ratio + 1 - shares)
    total = 0.0
    for hits in itertools.product(*(range(count + 1) for count in users)):
        events = np.array([[count - hit, hit] for count, hit in zip(users, hits, strict=True)])
        chance = math.prod(
            math.comb(n, k) * p**k * (1 - p) ** (n - k) for n, k, p in zip(users, hits, chances, strict=True)
        )
        total += chance * math.exp(log_evidence(events, shares, math.log(ratio)))
    assert total == pytest.approx(1.0)


def test_the_likeliest_ratio_is_that_of_the_rates_at_one_share() -> None:
    """12 of a tenth of the users and 27 of the others: 12 / 0.1 by 27 / 0.9."""
    value, lower, upper = rate_ratio(np.array([[27, 12]]), np.array([0.1]))
    assert value == pytest.approx(4)
    assert 1 < lower < 4 < upper
    for limit in (lower, upper):
        assert log_evidence(np.array([[27, 12]]), np.array([0.1]), math.log(limit)) == pytest.approx(-math.log(0.05))


def test_arms_that_change_places_turn_the_ratio_over() -> None:
    one = rate_ratio(np.array([[5, 30], [2, 9]]), np.array([0.3, 0.6]))
    other = rate_ratio(np.array([[30, 5], [9, 2]]), np.array([0.7, 0.4]))
    assert other == pytest.approx((1 / one[0], 1 / one[2], 1 / one[1]))


def test_what_happened_on_one_side_only_has_one_limit_and_nothing_has_none() -> None:
    value, lower, upper = rate_ratio(np.array([[0, 9]]), np.array([0.1]))
    assert (value, upper) == (math.inf, math.inf)
    assert lower > 1
    value, lower, upper = rate_ratio(np.array([[9, 0]]), HALF)
    assert (value, lower) == (0.0, 0.0)
    assert upper < 1
    value, lower, upper = rate_ratio(np.array([[0, 0]]), HALF)
    assert math.isnan(value)
    assert (lower, upper) == (0.0, math.inf)


@pytest.mark.parametrize("share", [0.0, 1.0, math.nan])
def test_a_stratum_with_one_arm_compares_nothing(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        rate_ratio(np.array([[1, 1]]), np.array([share]))


def test_a_ramp_that_moves_users_to_the_challenger_is_no_ratio() -> None:
    """At a tenth nine of ten failures are the champion's, at a half half of them. Forgetting the strata, it is one."""
    events, shares = np.array([[90, 10], [400, 400]]), np.array([0.1, 0.5])
    assert rate_ratio(events, shares)[0] == pytest.approx(1)
    assert rate_ratio(events.sum(axis=0, keepdims=True), np.array([0.1]))[1] > 5


@pytest.mark.parametrize("users", [1, 200, 5000])
def test_nobody_of_many_leaves_the_closed_form(users: int) -> None:
    """1 / ((n + 1) (1 - r)^n) = 1 / alpha."""
    assert rate_limits(0, users) == pytest.approx((0.0, 1 - (0.05 / (users + 1)) ** (1 / users)))
    assert rate_limits(users, users) == pytest.approx(((0.05 / (users + 1)) ** (1 / users), 1.0))


@given(st.integers(0, 400), st.integers(1, 400))
@settings(max_examples=20)
def test_limits_of_a_rate_hold_it_and_shrink_with_alpha(events: int, more: int) -> None:
    lower, upper = rate_limits(events, events + more)
    assert lower <= events / (events + more) < upper
    wider = rate_limits(events, events + more, alpha=0.01)
    assert wider[0] <= lower
    assert upper <= wider[1]


def test_of_no_users_nothing_is_known() -> None:
    assert rate_limits(0, 0) == (0.0, 1.0)
    for events in (-1, 4):
        with pytest.raises(ValueError, match="share"):
            rate_limits(events, 3)


@given(st.lists(st.tuples(*[st.integers(0, 40)] * 3), min_size=1, max_size=3), st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_a_mismatch_is_what_an_urn_gives_user_by_user(rows: list[tuple[int, int, int]], random: Random) -> None:
    """The Dirichlet mixture foretells each user from those before (Pólya's urn), in whatever order they come."""
    shares = np.array([[0.6, 0.3, 0.1], [0.4, 0.2, 0.4], [0.2, 0.4, 0.4]])[: len(rows)]
    against = 0.0
    for row, split in zip(rows, shares, strict=True):
        arrivals, seen = [arm for arm, count in enumerate(row) for _ in range(count)], [0, 0, 0]
        random.shuffle(arrivals)
        for arm in arrivals:
            foretold = (CONCENTRATION * split[arm] + seen[arm]) / (CONCENTRATION + sum(seen))
            against += math.log(foretold / split[arm])
            seen[arm] += 1
    users = np.array(rows)
    found = mismatch(users, shares)
    assert found.probability == pytest.approx(min(1.0, math.exp(-against)), rel=1e-6)
    assert found.found == (found.probability <= 0.01)
    assert found.seen == tuple(users.sum(axis=0))
    assert found.expected == pytest.approx((users.sum(axis=1, keepdims=True) * shares).sum(axis=0))


def test_a_lost_twentieth_of_the_challengers_users_is_found_and_a_ramp_is_none() -> None:
    shares = np.array([[0.9, 0.1], [0.5, 0.5]])
    assert not mismatch(np.array([[9000, 1000], [20_000, 20_000]]), shares).found
    assert mismatch(np.array([[9000, 950], [20_000, 19_000]]), shares).found


def test_nobody_may_be_in_an_arm_without_a_share_and_shares_sum_to_one() -> None:
    assert mismatch(np.array([[500, 1]]), np.array([[1.0, 0.0]])).found
    assert not mismatch(np.array([[500, 0]]), np.array([[1.0, 0.0]])).found
    for shares in ([[0.5, 0.6]], [[1.2, -0.2]], [[1.0]]):
        with pytest.raises(ValueError, match="shares"):
            mismatch(np.array([[1, 1]]), np.array(shares))
