"""What is measured of a reward model, beside scipy, brute force and numbers worked out by hand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.judged import a_dataset
from trainer.data.pairs import build
from trainer.data.records import Dataset, Judgement, Question, Response, rating_of_stars
from trainer.errors import DataError
from trainer.reward import best_of, bootstrap, metrics
from trainer.reward.bootstrap import Draws
from trainer.reward.columns import columns
from trainer.reward.config import DataConfig
from trainer.reward.evaluation import Measure
from trainer.reward.findings import Estimate, Scored

DRAWS = Draws(resamples=200)
ROWS = np.arange(40)
ONES = np.ones(40)


def noise(seed: int, size: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size)


def test_a_tie_counts_half() -> None:
    assert metrics.ordered(np.array([2.0, 1.0, 1.0]), np.array([1.0, 2.0, 1.0])).tolist() == [1.0, 0.0, 0.5]


def test_lengths_are_similar_from_four_fifths_to_five_quarters_of_each_other() -> None:
    one, other = np.array([80.0, 79.0, 125.0, 126.0, 0.0, 1.0]), np.array([100.0, 100.0, 100.0, 100.0, 0.0, 0.0])
    assert metrics.similar(one, other).tolist() == [True, False, True, False, True, False]


def test_a_weighted_mean_is_that_of_its_rows() -> None:
    found = DRAWS.mean(np.array([1.0, 0.0, 0.5]), np.array([1.0, 2.0, 1.0]), np.arange(3))
    assert (found.value, found.count, found.clusters) == (pytest.approx(0.375), 3, 3)


def test_of_nothing_nothing_is_told() -> None:
    nothing = np.array([])
    assert DRAWS.mean(nothing, nothing, nothing.astype(int)) == Estimate()
    assert metrics.pearson(nothing, nothing, nothing, nothing.astype(int), DRAWS) == Estimate()
    assert metrics.spearman(nothing, nothing, nothing, nothing.astype(int), DRAWS) == Estimate()
    assert best_of.gain([], nothing, nothing, nothing.astype(int), DRAWS) == Estimate()


def test_weights_of_zero_tell_nothing_but_how_many_rows_there_were() -> None:
    found = DRAWS.mean(np.array([1.0, 0.0]), np.zeros(2), np.arange(2))
    assert found == Estimate(count=2, clusters=2)


def test_correlations_are_scipys() -> None:
    x, y = noise(1), np.round(noise(1) + noise(2), 0)  # with ties
    assert metrics.pearson(x, y, ONES, ROWS, DRAWS).value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert metrics.spearman(x, y, ONES, ROWS, DRAWS).value == pytest.approx(stats.spearmanr(x, y).statistic)


def test_a_whole_weight_is_so_many_equal_rows() -> None:
    x, y, weights = noise(3), noise(4) + noise(3), np.tile([1, 2, 3, 4], 10)
    again, rows = np.repeat(np.arange(40), weights), np.arange(weights.sum())
    for measure in (metrics.pearson, metrics.spearman):
        weighted = measure(x, y, weights.astype(float), ROWS, DRAWS).value
        assert weighted == pytest.approx(measure(x[again], y[again], np.ones(len(rows)), rows, DRAWS).value)


def test_what_does_not_vary_correlates_with_nothing() -> None:
    for measure in (metrics.pearson, metrics.spearman):
        assert measure(ONES, noise(5), ONES, ROWS, DRAWS).value is None


def test_a_correlation_far_from_zero_stays_exact() -> None:
    x = noise(6) + 1e6
    assert metrics.pearson(x, noise(6), ONES, ROWS, DRAWS).value == pytest.approx(1.0, abs=1e-6)


def test_an_interval_of_independent_rows_is_that_of_student() -> None:
    values = noise(7, 25)
    found = Draws(resamples=4000).mean(values, np.ones(25), np.arange(25))
    expected = stats.t.interval(0.95, 24, values.mean(), stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(expected[0], abs=0.04), pytest.approx(expected[1], abs=0.04))


def test_rows_of_one_cluster_add_no_certainty() -> None:
    values = noise(8)
    once = DRAWS.mean(values, ONES, ROWS)
    ten_times = DRAWS.mean(np.repeat(values, 10), np.ones(400), np.repeat(ROWS, 10))
    assert (ten_times.low, ten_times.high) == (pytest.approx(once.low), pytest.approx(once.high))
    by_row = DRAWS.mean(np.repeat(values, 10), np.ones(400), np.arange(400))
    assert by_row.high - by_row.low < 0.5 * (once.high - once.low)  # type: ignore[operator]


def test_one_cluster_alone_has_no_interval() -> None:
    found = DRAWS.mean(noise(9), ONES, np.zeros(40, dtype=int))
    assert (found.low, found.high, found.clusters) == (None, None, 1)
    assert found.value is not None


def test_the_same_seed_draws_the_same_however_much_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = DRAWS.mean(noise(10), ONES, ROWS)
    monkeypatch.setattr(bootstrap, "CHUNK", 100)
    in_chunks = DRAWS.mean(noise(10), ONES, ROWS)
    assert (in_chunks.low, in_chunks.high) == (pytest.approx(found.low), pytest.approx(found.high))
    assert replace(DRAWS, seed=2).mean(noise(10), ONES, ROWS).low != pytest.approx(found.low)


def test_clusters_may_have_any_numbers() -> None:
    assert DRAWS.mean(noise(11), ONES, ROWS * 1000 + 7) == DRAWS.mean(noise(11), ONES, ROWS)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=7),
    st.integers(1, 6),
)
@settings(max_examples=60, deadline=None)
def test_the_expected_pick_is_the_mean_over_all_draws(rows: list[tuple[int, int]], drawn: int) -> None:
    scores, ratings = np.array(rows, dtype=float).T
    drawn = min(drawn, len(rows))
    picks = []
    for subset in itertools.combinations(range(len(rows)), drawn):
        best = max(scores[list(subset)])
        picks.append(np.mean([ratings[one] for one in subset if scores[one] == best]))
    assert best_of.expected_pick(scores, ratings, drawn) == pytest.approx(np.mean(picks))


def test_of_thirty_five_responses_five_are_drawn() -> None:
    ratings = np.arange(35.0)
    expected = sum(rank * math.comb(rank, 4) / math.comb(35, 5) for rank in range(35))
    assert best_of.expected_pick(ratings, ratings) == pytest.approx(expected)


def test_the_gain_is_a_share_of_what_the_best_picks_would_gain() -> None:
    # Question 1: random 0.5, best 1.0, picked 0.5. Question 2: random 0.4, best 0.6, picked 0.6. Question 3: no choice.
    ratings = np.array([0.0, 0.5, 1.0, 0.2, 0.6, 0.9, 0.3, 0.3])
    scores = np.array([0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    questions = [np.array([0, 1, 2]), np.array([3, 4]), np.array([5]), np.array([6, 7])]
    found = best_of.gain(questions, scores, ratings, np.arange(4), DRAWS)
    assert found.value == pytest.approx((0.0 + 0.2) / (0.5 + 0.2))
    assert found.count == 2


def test_the_best_and_the_worst_ranking_gain_all_and_lose_all() -> None:
    ratings, questions = np.array([0.0, 1.0, 0.25, 0.75]), [np.array([0, 1]), np.array([2, 3])]
    assert best_of.gain(questions, ratings, ratings, np.arange(2), DRAWS).value == pytest.approx(1.0)
    assert best_of.gain(questions, -ratings, ratings, np.arange(2), DRAWS).value == pytest.approx(-1.0)
    assert best_of.gain(questions, np.zeros(4), ratings, np.arange(2), DRAWS).value == pytest.approx(0.0)


def test_rows_are_clustered_by_user_where_there_are_enough() -> None:
    found = columns(a_dataset(questions=80, users=40)[0])
    assert (found.clustered_by, found.users) == ("user", len(np.unique(found.rated_clusters)))


def test_few_users_and_nobody_in_particular_are_clustered_by_question() -> None:
    for users in (5, 0):
        found = columns(a_dataset(questions=30, users=users)[0])
        assert (found.clustered_by, len(np.unique(found.rated_clusters))) == ("question", 30)
    assert columns(a_dataset(questions=30, users=0)[0]).users == 0


def test_of_several_raters_the_one_who_judged_most_owns_a_row() -> None:
    data, _ = a_dataset(questions=60, users=30)
    joined = replace(data.labels[0], raters=("once", data.labels[-1].raters[0]))
    found = columns(replace(data, labels=(joined, *data.labels[1:])))
    assert found.rated_clusters[0] == found.rated_clusters[-1]


def test_labels_without_a_rating_or_a_weight_are_no_rows() -> None:
    data, _ = a_dataset(questions=3)
    unrated = replace(data.labels[0], rating=None, weight=0.0)
    weightless = replace(data.labels[1], weight=0.0)
    found = columns(replace(data, labels=(unrated, weightless, *data.labels[2:])))
    assert len(found.ratings) == len(data.labels) - 2
    assert len(found.places) == len(data.labels)


def test_aspects_are_measured_where_nobody_gave_a_rating() -> None:
    def judged(text: str, stars: float) -> Response:
        aspects = dict.fromkeys(("accuracy", "helpfulness"), rating_of_stars(stars))
        return Response(text=text, judgements=(Judgement(rater="file", aspects=aspects),))

    asked = [Question(id=name, topic=name, query=name, responses=(judged("a", 5), judged("b", 3))) for name in "qr"]
    measure = Measure(columns(build(asked, DataConfig())[0]), DRAWS)
    heads = {("q", 0): 0.9, ("q", 1): 0.3, ("r", 0): 0.4, ("r", 1): 0.5}  # rated 1.0 and 0.5: r is in the wrong order
    scored = {place: Scored(logit=0.0, aspects={"accuracy": head}) for place, head in heads.items()}
    (accuracy,), (error,) = measure.aspects(scored).values(), measure.aspect_errors(scored).values()
    assert (accuracy.value, accuracy.count, accuracy.clusters) == (0.5, 2, 2)
    assert (error.value, error.count) == (pytest.approx((0.1 + 0.2 + 0.6 + 0.0) / 4), 4)
    assert not len(measure.columns.ratings)


def test_a_missing_or_infinite_score_is_named() -> None:
    found = columns(a_dataset(questions=3)[0])
    scores = dict.fromkeys(found.places, 0.5)
    assert found.pick(scores, "it").tolist() == [0.5] * len(found.places)
    with pytest.raises(DataError, match="1 of 12 validation responses have no finite score by longer wins"):
        found.pick(scores | {found.places[0]: math.inf}, "longer wins")


def test_no_data_make_no_rows() -> None:
    found = columns(Dataset(questions={}, labels=(), pairs=()))
    assert (len(found.places), len(found.chosen), found.questions()[0]) == (0, 0, [])
