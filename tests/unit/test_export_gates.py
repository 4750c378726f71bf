"""When a converted graph ranks as its checkpoint does, and when it is fast enough: figures worked out by hand."""

from itertools import combinations

import numpy as np
import pytest

from exporters import latency, parity
from exporters.latency import Latency


def test_order_is_asked_of_pairs_that_are_further_apart_than_nobody_cares() -> None:
    """0 and 0.04 may change places; of the other five pairs, one does and one is a tie now."""
    reference = np.array([0.0, 0.04, 0.5, 1.0])
    assert parity.order_kept(reference, reference) == (1.0, 5)
    assert parity.order_kept(reference, np.array([0.04, 0.0, 0.5, 1.0])) == (1.0, 5)
    assert parity.order_kept(reference, np.array([0.6, 0.04, 0.5, 0.6])) == (pytest.approx(3 / 5), 5)
    assert parity.order_kept(np.zeros(3), np.arange(3.0)) == (1.0, 0)


def test_regret_is_what_the_checkpoint_loses_by_the_other_graphs_pick() -> None:
    """Six candidates, six choices of five: the other graph always takes the last but one, 0.2 below the best, unless
    it is not among the five; then it takes the best.
    """
    truth = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8])
    seen = np.array([0.1, 0.2, 0.3, 0.4, 0.9, 0.8])
    without_best = 0.0  # the pick is the best of those left
    expected = (4 * 0.2 + without_best + 0.0) / 6
    assert parity.regret(truth, seen, [6]) == pytest.approx(expected)
    assert parity.regret(truth, truth, [6]) == 0
    assert parity.regret(truth, seen, [3, 3]) == pytest.approx((0 + 0.2) / 2)


def test_regret_agrees_with_looking_at_every_choice_one_by_one() -> None:
    random = np.random.default_rng(1)
    truth, seen = random.random(16), random.random(16)
    losses = []
    for start in (0, 8):
        for five in combinations(range(start, start + 8), 5):
            picked = max(five, key=lambda place: seen[place])
            losses.append(max(truth[place] for place in five) - truth[picked])
    assert parity.regret(truth, seen, [8, 8]) == pytest.approx(np.mean(losses))


def _scores(count: int = 40) -> np.ndarray:
    return np.linspace(0, 1, count)


def test_a_graph_passes_that_ranks_as_the_checkpoint() -> None:
    figures, passed = parity.ranks(_scores(), _scores() + 0.01, [8] * 5)
    assert passed
    assert figures["order_kept"] == 1
    assert figures["judged_by"] == "order and regret"
    assert figures["score_largest_difference"] == pytest.approx(0.01)


def test_one_pair_in_fifty_is_too_many() -> None:
    """40 scores, a 39th apart: 779 pairs, of which 741 are over 0.05 apart. Two far swapped scores turn over 70."""
    scores = _scores()
    scores[[0, -1]] = scores[[-1, 0]]
    figures, passed = parity.ranks(_scores(), scores, [8] * 5)
    assert next(iter(figures)) == "order_kept"
    assert figures["order_kept"] < 0.99
    assert not passed


def test_the_best_of_five_must_be_as_good_though_the_order_is_kept() -> None:
    """Groups of two: the better one is 0.04 better, too near for the order to be asked, and never picked."""
    reference = np.ravel([[place, place + 0.04] for place in np.linspace(0, 0.9, 20)])
    converted = np.ravel([[place + 0.04, place] for place in np.linspace(0, 0.9, 20)])
    figures, passed = parity.ranks(reference, converted, [2] * 20)
    assert figures["best_of_5_regret"] == pytest.approx(0.04)
    assert not passed


def test_a_score_that_is_in_several_groups_is_in_one_pair_with_another() -> None:
    """Similarities stand twice in their square: here two of them, 0.5 apart, in a square of three texts."""
    square, once = np.array([0.5, 0.0, 0.5, 0.0, 0.0, 0.0]), np.array([True, True, False, True, False, False])
    assert parity.ranks(square, square, [2, 2, 2], once)[0]["pairs_apart"] == 2
    assert parity.ranks(square, square, [2, 2, 2])[0]["pairs_apart"] == 8


def test_scores_that_are_all_close_are_judged_by_regret_and_that_is_said() -> None:
    close = _scores() / 50
    figures, passed = parity.ranks(close, close[::-1], [8] * 5)
    assert passed is (figures["best_of_5_regret"] <= parity.MOST_REGRET)
    assert "order_kept" not in figures
    assert (figures["pairs_apart"], figures["judged_by"][:6]) == (0, "regret")


def test_what_is_no_number_never_passes() -> None:
    assert not parity.ranks(_scores(), np.full(40, np.nan), [8] * 5)[1]
    assert not parity.ranks(_scores() / 50, np.full(40, np.inf), [8] * 5)[1]


@pytest.mark.parametrize(
    ("batch", "fp32", "passes"),
    [(50, 100, True), (110, 100, True), (111, 100, False), (1.9, 1.0, True), (2.1, 1.0, False)],
)
def test_a_graph_may_be_a_tenth_slower_or_a_millisecond(batch: float, fp32: float, passes: bool) -> None:
    assert Latency(batch, fp32, 5, "here").passes is passes


def test_both_graphs_are_timed_in_turns_and_the_fastest_turn_counts() -> None:
    """The first call of each is not timed; the machine stalls in one turn of each."""
    said: list[str] = []
    now = 0.0
    own, other = iter((0.0, 0.09, 0.02, 0.03)), iter((0.0, 0.04, 0.05, 0.9))

    def converted() -> None:
        nonlocal now
        said.append("own")
        now += next(own)

    def fp32() -> None:
        nonlocal now
        said.append("fp32")
        now += next(other)

    found = latency.compare(converted, fp32, 5, "here", turns=3, clock=lambda: now)
    assert said == ["own", "fp32"] * 4
    assert found.figures() == {
        "batch_ms": pytest.approx(20),
        "fp32_batch_ms": pytest.approx(40),
        "rows": 5,
        "on": "here",
        "ratio": pytest.approx(0.5),
    }


def test_differences_and_correlation() -> None:
    left, right = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [3.0, 4.5]])
    assert parity.largest_difference(left, right) == 0.5
    assert parity.correlation(left, 2 * left + 1) == pytest.approx(1)
