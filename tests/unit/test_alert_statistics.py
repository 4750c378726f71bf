"""The tests against chance, beside sums written out and published tables."""

import itertools
import math
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.alerts.statistics import (
    binomial_upper,
    hypergeometric_upper,
    kolmogorov_smirnov,
    kolmogorov_upper,
    poisson_rate_lower,
    quantile,
)


def test_the_lady_who_tasted_tea() -> None:
    """Fisher's own example: all four of four cups right is 1 in 70, three or more 17 in 70."""
    assert hypergeometric_upper(4, 4, 4, 8) == pytest.approx(1 / 70)
    assert hypergeometric_upper(3, 4, 4, 8) == pytest.approx(17 / 70)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_a_hypergeometric_tail_is_the_sum_of_its_terms(hits: int, drawn: int, marked: int, rest: int) -> None:
    total = max(drawn, marked) + rest
    wanted = sum(
        comb(marked, k) * comb(total - marked, drawn - k)
        for k in range(max(hits, 0, drawn + marked - total), min(drawn, marked) + 1)
    ) / comb(total, drawn)
    assert hypergeometric_upper(hits, drawn, marked, total) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.001, 0.999))
def test_a_binomial_tail_is_the_sum_of_its_terms(hits: int, trials: int, chance: float) -> None:
    terms = [
        comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(min(hits, trials + 1), trials + 1)
    ]
    assert binomial_upper(hits, trials, chance) == pytest.approx(math.fsum(terms), rel=1e-9, abs=1e-12)


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.floats(0.001, 0.999))
def test_large_counts_take_no_longer_and_stay_probabilities(hits: int, trials: int, chance: float) -> None:
    assert 0.0 <= binomial_upper(hits, trials, chance) <= 1.0
    assert 0.0 <= hypergeometric_upper(hits, trials, trials // 3, 2 * trials) <= 1.0


def test_a_rate_that_halved_is_unlikely_by_chance_only_with_enough_events() -> None:
    assert poisson_rate_lower(5, 100, 10, 100) > 0.1
    assert poisson_rate_lower(500, 10_000, 1000, 10_000) < 1e-20
    assert poisson_rate_lower(100, 1000, 100, 1000) == pytest.approx(0.5, abs=0.05)
    assert poisson_rate_lower(0, 1, 3, 1) == pytest.approx(1 / 8), "of three events, none fell in this half"


def test_kolmogorovs_distribution_has_its_published_quantiles() -> None:
    """Smirnov's table (1948)."""
    for value, chance in ((1.2238, 0.10), (1.3581, 0.05), (1.6276, 0.01), (1.9495, 0.001)):
        assert kolmogorov_upper(value) == pytest.approx(chance, rel=2e-3)
    assert kolmogorov_upper(0.0) == kolmogorov_upper(0.299) == 1.0
    assert kolmogorov_upper(0.3) == pytest.approx(0.99999069, abs=1e-7)
    assert kolmogorov_upper(50.0) == 0.0


def test_the_distance_of_two_histograms_is_that_of_their_shares() -> None:
    distance, chance = kolmogorov_smirnov((10, 0, 0), (0, 0, 30))
    assert distance == 1.0
    assert chance < 1e-4
    distance, chance = kolmogorov_smirnov((5, 5), (50, 50))
    assert (distance, chance) == (0.0, 1.0)
    assert kolmogorov_smirnov((3, 1), (1, 3))[0] == 0.5


def test_a_quarter_of_a_deviation_is_seen_in_a_thousand_scores_and_nothing_is_seen_in_none() -> None:
    def normal(mean: float, size: int) -> list[int]:
        edges = [-math.inf, *(-2 + 0.2 * k for k in range(21)), math.inf]
        below = [0.5 * (1 + math.erf((edge - mean) / math.sqrt(2))) for edge in edges]
        return [round(size * (b - a)) for a, b in itertools.pairwise(below)]

    assert kolmogorov_smirnov(normal(0.25, 1000), normal(0, 10_000))[1] < 1e-4
    assert kolmogorov_smirnov(normal(0, 1000), normal(0, 10_000))[1] > 0.5


def test_a_quantile_lies_straight_within_its_bin() -> None:
    assert quantile(0.5, (1.0, 2.0), (10, 0, 0)) == 0.5
    assert quantile(0.95, (1.0, 2.0), (90, 10, 0)) == pytest.approx(1.5)
    assert quantile(0.95, (1.0, 2.0), (0, 0, 7)) == 2.0, "past the last bound nothing is known"
    assert quantile(1.0, (1.0, 2.0, 4.0), (1, 0, 1, 0)) == 4.0
