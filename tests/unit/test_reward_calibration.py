"""Scores that can be taken at their word: beside scikit-learn, and on data whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from trainer.reward import calibration
from trainer.reward.bootstrap import Draws
from trainer.reward.scales import sigmoid

DRAWS = Draws(resamples=100)


def judged(size: int, scale: float, shift: float = 0.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `scale` times too large, and ratings of 0 or 1 drawn by the true ones, moved by `shift`."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 1.5, size)
    return scale * true, (rng.random(size) < sigmoid(true + shift)).astype(float)


def fitted(logits: np.ndarray, ratings: np.ndarray) -> tuple[calibration.Calibration, np.ndarray]:
    return calibration.fit(logits, ratings, np.ones(len(logits)), np.arange(len(logits)), DRAWS)


def test_the_sigmoid_of_any_logit_is_a_probability() -> None:
    assert sigmoid(np.array([-1e308, -800.0, 0.0, 800.0, 1e308])).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_the_temperature_is_that_of_a_logistic_regression_of_one_weight() -> None:
    logits, ratings = judged(400, 3.0)
    weights = np.tile([1.0, 2.0], 200)
    judge = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    expected = 1 / judge.fit(logits[:, None], ratings, sample_weight=weights).coef_[0, 0]
    assert calibration.temperature(logits, ratings, weights) == pytest.approx(expected, rel=1e-3)


def test_the_temperature_of_ratings_between_0_and_1_is_found_exactly() -> None:
    logits = np.linspace(-4, 4, 50)
    assert calibration.temperature(logits, sigmoid(logits / 2.5), np.ones(50)) == pytest.approx(2.5, abs=1e-3)


def test_logits_that_say_the_opposite_get_the_highest_temperature() -> None:
    logits = np.linspace(-4, 4, 50)
    assert calibration.temperature(logits, sigmoid(-logits), np.ones(50)) == pytest.approx(20.0, rel=1e-3)


def test_the_calibration_error_of_two_bins_by_hand() -> None:
    # 50 rows at 0.2 with ratings of 0.3 on average, 50 at 0.8 with 0.6: (0.1 + 0.2) / 2.
    scores = np.repeat([0.2, 0.8], 50)
    ratings = np.concatenate([np.tile([0.0, 0.6], 25), np.tile([0.2, 1.0], 25)])
    found = calibration.reliability(scores, ratings, np.ones(100))
    assert found.ece == pytest.approx(0.15)
    assert [each.count for each in found.bins] == [50, 50]
    assert found.brier == pytest.approx(np.mean((scores - ratings) ** 2))


def test_the_brier_score_is_scikit_learns() -> None:
    logits, ratings = judged(300, 1.0)
    weights = np.tile([1.0, 0.5, 2.0], 100)
    expected = brier_score_loss(ratings, sigmoid(logits), sample_weight=weights)
    assert calibration.reliability(sigmoid(logits), ratings, weights).brier == pytest.approx(expected)


def test_a_perfect_model_errs_about_as_much_as_chance_says() -> None:
    found = []
    for seed in range(20):
        logits, ratings = judged(600, 1.0, seed=seed)
        one = calibration.reliability(sigmoid(logits), ratings, np.ones(600))
        assert one.ece is not None
        assert one.floor is not None
        found.append(one.ece / one.floor)
    assert np.mean(found) == pytest.approx(1.0, abs=0.15)


def test_of_no_rows_nothing_is_told() -> None:
    nothing = np.array([])
    found, scores = fitted(nothing, nothing)
    assert (found.temperature, found.on, found.count, len(scores)) == (1.0, "nothing", 0, 0)
    assert (found.after.ece, found.after.bins) == (None, ())


def test_too_few_ratings_and_equal_logits_calibrate_nothing() -> None:
    assert fitted(*judged(29, 3.0))[0].on == "nothing"
    assert fitted(np.zeros(100), judged(100, 1.0)[1])[0].on == "nothing"
    assert fitted(*judged(30, 3.0))[0].on == "ratings"


def test_an_overconfident_model_is_cooled_and_errs_less() -> None:
    found, _ = fitted(*judged(800, 4.0))
    assert found.temperature == pytest.approx(4.0, rel=0.2)
    assert found.before.ece is not None
    assert found.after.ece is not None
    assert found.after.ece < 0.5 * found.before.ece


def test_clusters_are_never_torn_between_folds() -> None:
    codes = np.repeat(np.arange(23), 7)
    found = calibration.folds(codes, seed=3)
    assert all(len(np.unique(found[codes == each])) == 1 for each in range(23))
    assert np.ptp(np.bincount(found)) <= 7
    assert len(np.unique(calibration.folds(np.array([5, 5, 9]), seed=3))) == 2


def test_no_row_is_judged_by_a_fit_that_saw_its_cluster() -> None:
    logits, ratings = judged(200, 2.0)
    codes = np.repeat(np.arange(40), 5)
    changed = np.where(codes == 11, 1 - ratings, ratings)
    before, after = (calibration.fit(logits, each, np.ones(200), codes, DRAWS)[1] for each in (ratings, changed))
    assert np.array_equal(before[codes == 11], after[codes == 11])
    assert not np.array_equal(before, after)


def test_isotonic_regression_needs_a_thousand_ratings() -> None:
    assert fitted(*judged(999, 1.0))[0].isotonic is None
    assert fitted(*judged(1000, 1.0))[0].isotonic is not None


def test_isotonic_regression_is_better_only_where_a_temperature_is_not_enough() -> None:
    assert not fitted(*judged(2000, 2.0))[0].isotonic_better
    found, _ = fitted(*judged(2000, 2.0, shift=1.5))
    assert found.isotonic_better
    knots = np.asarray(found.isotonic_knots)
    assert (np.diff(knots[:, 0]) > 0).all()
    assert (np.diff(knots[:, 1]) >= 0).all()


def test_preferences_calibrate_differences_of_logits() -> None:
    rng = np.random.default_rng(4)
    true = rng.normal(0, 1.5, 3000)
    gaps = 3 * np.where(rng.random(3000) < sigmoid(true), true, -true)  # of the preferred one
    found = calibration.of_preferences(gaps, np.ones(3000), np.arange(3000), DRAWS)
    assert found.on == "preferences"
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert found.after.ece is not None
    assert found.after.ece < 0.03


def test_the_same_seed_gives_the_same_calibration() -> None:
    logits, ratings = judged(200, 2.0)
    ones, codes = np.ones(200), np.arange(200)
    found = calibration.fit(logits, ratings, ones, codes, DRAWS)[0]
    assert calibration.fit(logits, ratings, ones, codes, DRAWS)[0] == found
    assert calibration.fit(logits, ratings, ones, codes, replace(DRAWS, seed=9))[0].temperature == found.temperature
