"""How far each rater is trusted: each step against numbers worked out by hand, or by scipy."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from trainer.data import raters
from trainer.data.raters import Ratings


def test_others_are_drawn_towards_zero_by_doubt_and_never_hold_one_s_own() -> None:
    group, rater = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])
    value, weight = np.array([0.4, 0.2, -0.3, 0.9]), np.array([1.0, 1.0, 0.5, 1.0])
    # Rater 0 sees only rater 1: 0.5 * -0.3 / (0.5 + 1); rater 1 sees both of rater 0's: (0.4 + 0.2) / (2 + 1).
    assert raters._others(group, rater, value, weight, 1.0) == pytest.approx([-0.1, -0.1, 0.2, 0.0])


def test_the_line_is_that_of_least_squares_and_the_mean_without_a_score() -> None:
    score, value = np.array([0.2, 0.4, 0.9, np.nan]), np.array([0.1, 0.5, 0.8, 0.3])
    found = raters._line(score, value, np.ones(4))
    expected = stats.linregress(score[:3], value[:3])
    assert found[:3] == pytest.approx(expected.intercept + expected.slope * score[:3])
    assert found[3] == pytest.approx(0.425)


def test_offsets_are_shrunk_by_how_little_is_known() -> None:
    # Two raters, four ratings each, 0.2 above and 0.2 below; within: 8 * 0.01 / 6; between: (8 * 0.04 - within) / 4.
    rest = np.array([0.3, 0.1, 0.3, 0.1, -0.1, -0.3, -0.1, -0.3])
    within, between = 0.08 / 6, (0.32 - 0.08 / 6) / 4
    shrunk = 0.2 * between / (between + within / 4)
    ratings = columns(np.repeat([0, 1], 4), rest)
    assert raters.offsets(ratings, np.zeros(8), np.ones(2)) == pytest.approx([shrunk, -shrunk])
    alike = columns(np.repeat([0, 1], 4), np.tile([0.2, -0.2], 4))
    assert raters.offsets(alike, np.zeros(8), np.ones(2)) == pytest.approx([0.0, 0.0]), "chance explains it"


def columns(rater: Iterable[int], value: Iterable[float]) -> Ratings:
    who, said = np.array(list(rater)), np.array(list(value), dtype=np.float64)
    place = np.arange(len(who))
    return Ratings(
        who, place, place, said, np.full(len(who), np.nan), np.ones(len(who)), np.zeros(who.max() + 1, np.bool_)
    )


def test_correlations_are_pearson_s() -> None:
    dice = np.random.default_rng(1)
    rater, value, expected = np.repeat([0, 1, 2], [6, 9, 4]), dice.random(19), dice.random(19)
    found, counts = raters._correlations(columns(rater, value), expected)
    for one in (0, 1):
        mine = rater == one
        assert found[one] == pytest.approx(stats.pearsonr(value[mine], expected[mine]).statistic)
    assert np.isnan(found[2]), "of four ratings nothing can be told"
    assert counts.tolist() == [6, 9, 4]


def test_log_odds_compare_two_normal_densities() -> None:
    z, noise = np.array([0.5, -0.2]), np.array([0.05, 0.2])
    about_zero = stats.norm.logpdf(z, 0, np.sqrt(noise))
    about_mean = stats.norm.logpdf(z, 0.6, np.sqrt(noise + (0.25 * 0.6) ** 2))
    assert raters._log_odds(z, noise, 0.6) == pytest.approx(about_mean - about_zero)


def test_the_mixture_finds_the_share_and_the_agreement_that_made_it() -> None:
    dice = np.random.default_rng(2)
    truth = np.where(np.arange(600) < 180, 0.0, dice.normal(0.8, 0.25 * 0.8, 600))
    share, mean = raters.mixture(truth + dice.normal(0, 0.2, 600), np.full(600, 0.04))
    assert share == pytest.approx(0.7, abs=0.04)
    assert mean == pytest.approx(0.8, abs=0.04)
    assert raters.mixture(np.empty(0), np.empty(0)) == (0.75, 0.0)


@pytest.mark.parametrize(("together", "part"), [(False, 0.5), (True, 1.0)])
def test_evidence_counts_in_full_only_where_others_rated_the_same_texts(together: bool, part: float) -> None:
    dice = np.random.default_rng(5)
    rater, expected = np.repeat(np.arange(6), 12), np.tile(dice.random(12), 6)
    value = expected + dice.normal(0, 0.3, 72)
    apart = columns(rater, value)
    found = raters.judged(replace(apart, item=np.tile(np.arange(12), 6)) if together else apart, expected)
    assert found.informative > raters.INFORMATIVE
    prior, weight, whole = (np.log(each / (1 - each)) for each in (found.share, found.weight, found.attentive))
    assert weight - prior == pytest.approx(part * (whole - prior))
    assert found.shared.tolist() == [12 * together] * 6
