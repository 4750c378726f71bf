"""When another candidate is not worth its cost."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.stages import stopping
from server.stages.stopping import Prediction, Prior, Priors, expected_gain, predict, upper_tail, waves, worth_drawing

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=16)
PRIORS = st.builds(Prior, st.floats(0, 1), st.floats(1e-6, 0.1), st.floats(1e-6, 0.1))


@pytest.mark.parametrize(
    ("z", "freedom", "tail"),
    [
        (0.0, 5, 0.5),
        (2.015048, 5, 0.05),
        (2.131847, 4, 0.05),
        (-2.131847, 4, 0.95),
        (2.527977, 20, 0.01),
        (1.724718, 20, 0.05),
        (3.249836, 9, 0.005),
    ],
)
def test_the_tail_of_students_t_is_that_of_the_tables(z: float, freedom: int, tail: float) -> None:
    assert upper_tail(z, freedom) == pytest.approx(tail, abs=1e-6)


def test_the_expected_gain_is_the_integral_of_the_tail() -> None:
    """E[max(0, min(X, 1) - b)] = integral of P(X > x) from b to 1, by the trapezoidal rule."""
    prediction, best = Prediction(7, 0.6, 0.2), 0.7
    steps = 20_000
    xs = [best + (1 - best) * i / steps for i in range(steps + 1)]
    tails = [upper_tail((x - 0.6) / 0.2, 7) for x in xs]
    area = (math.fsum(tails) - (tails[0] + tails[-1]) / 2) * (1 - best) / steps
    assert expected_gain(prediction, best) == pytest.approx(area, abs=1e-9)


def test_the_prediction_is_the_one_worked_out_by_hand() -> None:
    """within 0.02, between 0.01: the prior's mean is worth two scores; two scores of 0.8 meet a mean of 0.5.

    Mean (2 x 0.5 + 1.6) / 4 = 0.65; spread 0 + 2 x 2 / 4 x 0.09 = 0.09; variance (2 x 0.02 + 0.09) / 6,
    times 1 + 1 / 4.
    """
    found = predict(Prior(0.5, 0.01, 0.02), [0.8, 0.8])
    assert (found.freedom, found.location) == (6, pytest.approx(0.65))
    assert found.scale == pytest.approx(math.sqrt(0.13 / 6 * 1.25))


@given(PRIORS, SCORES)
def test_a_gain_is_never_negative_nor_more_than_what_is_left(prior: Prior, scores: list[float]) -> None:
    best = max(scores)
    assert 0 <= expected_gain(predict(prior, scores), best) <= 1 - best + 1e-12


@given(PRIORS, SCORES, st.floats(0, 1), st.floats(0, 1))
def test_the_better_the_best_the_less_there_is_to_gain(prior: Prior, scores: list[float], a: float, b: float) -> None:
    prediction = predict(prior, scores)
    low, high = sorted((a, b))
    assert expected_gain(prediction, high) <= expected_gain(prediction, low) + 1e-12


@given(PRIORS, SCORES, st.floats(0, 1), st.floats(0, 1))
def test_what_is_worth_a_higher_cost_is_worth_a_lower_one(
    prior: Prior, scores: list[float], a: float, b: float
) -> None:
    low, high = sorted((a, b))
    assert worth_drawing(scores, max(scores), low, prior) or not worth_drawing(scores, max(scores), high, prior)


def test_drawing_goes_on_without_an_answer_without_a_prior_and_without_a_cost() -> None:
    prior = Prior(0.5, 0.01, 0.0001)
    assert worth_drawing([0.9, 0.9], None, 1.0, prior)
    assert worth_drawing([0.9, 0.9], 0.9, 1.0, None)
    assert worth_drawing([0.9, 0.9], 0.9, 0.0, prior)
    assert not worth_drawing([0.9, 0.9], 0.9, 0.01, prior)


def test_scores_of_one_query_tell_of_its_next_one() -> None:
    """Where queries differ and answers hardly do, a query's own scores move the expectation to them."""
    alike, mixed = Prior(0.5, 0.04, 0.0025), Prior(0.5, 0.0025, 0.04)
    assert predict(alike, [0.9, 0.9]).location > 0.85
    assert predict(mixed, [0.9, 0.9]).location < 0.6


def test_the_prior_is_learned_from_what_was_scored() -> None:
    """3,000 queries from known variances are recovered, though each shows two scores only."""
    rng, priors = random.Random(3), Priors()
    for _ in range(3_000):
        query = rng.gauss(0.5, 0.1)
        priors.learn("r", [rng.gauss(query, 0.05) for _ in range(2)])
    found = priors.of("r")
    assert found is not None
    assert found.mean == pytest.approx(0.5, abs=0.015)
    assert found.between == pytest.approx(0.01, rel=0.2)
    assert found.within == pytest.approx(0.0025, rel=0.2)


def test_there_is_no_prior_from_a_few_queries_and_none_from_another_release() -> None:
    priors = Priors()
    for _ in range(stopping.LEARNED_QUERIES - 1):
        priors.learn("r", [0.4, 0.6])
    assert priors.of("r") is None
    for _ in range(2):
        priors.learn("r", [0.4, 0.6])
    assert priors.of("r") is not None
    assert priors.of("s") is None


def test_what_says_nothing_of_the_spread_is_left_out() -> None:
    priors = Priors()
    for scores in ([], [0.5], [0.5, math.nan]):
        for _ in range(100):
            priors.learn("r", scores)
    assert priors.of("r") is None


def test_only_so_many_releases_are_remembered() -> None:
    priors = Priors()
    for number in range(100):
        priors.learn(f"r{number}", [0.1, 0.2])
    assert len(priors._moments) == stopping.REMEMBERED_RELEASES


@given(st.integers(1, 16), st.integers(1, 16))
def test_waves_draw_every_candidate_once(count: int, first: int) -> None:
    sizes = waves(count, first)
    assert sum(sizes) == count
    assert all(0 < size <= first for size in sizes)


def test_stopping_early_reaches_the_same_reward_with_fewer_candidates() -> None:
    """Against five for every query: up to eight where it pays, fewer on the whole, no less reward (simulated)."""
    rng = random.Random(5)
    queries = []
    for _ in range(3_000):
        middle = rng.gauss(0.6, 0.05)
        queries.append([min(1.0, max(0.0, rng.gauss(middle, 0.1))) for _ in range(8)])
    priors = Priors()
    for scores in queries[:500]:
        priors.learn("r", scores[:2])
    stopped = [_until_stopped(scores, priors.of("r"), 0.01) for scores in queries[500:]]
    fixed = statistics.fmean(max(scores[:5]) for scores in queries[500:])
    assert statistics.fmean(max(scores) for scores in stopped) >= fixed
    assert statistics.fmean(len(scores) for scores in stopped) < 4.5


def _until_stopped(scores: list[float], prior: Prior | None, cost: float) -> list[float]:
    seen: list[float] = []
    for size in waves(len(scores), 2):
        if seen and not worth_drawing(seen, max(seen), cost, prior):
            break
        seen = scores[: len(seen) + size]
    return seen
