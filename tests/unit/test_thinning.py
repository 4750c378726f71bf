"""Fewer responses of crowded questions: every one as probable as before, good beside bad ones, and pairs that hold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.judged import a_dataset
from trainer.data.records import Dataset
from trainer.data.thinning import spread, thinned


@given(
    ratings=st.lists(st.one_of(st.sampled_from([0.0, 0.25, 1.0]), st.just(float("nan"))), max_size=40),
    most=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
def test_so_many_different_ones_are_taken_the_same_for_the_same_seed(
    ratings: list[float], most: int, seed: int
) -> None:
    values = np.array(ratings)
    found = spread(values, most, np.random.default_rng(seed)).tolist()
    assert len(found) == len(set(found)) == min(most, len(ratings))
    assert set(found) <= set(range(len(ratings)))
    assert spread(values, most, np.random.default_rng(seed)).tolist() == found


def test_each_is_taken_as_often_as_any_other() -> None:
    ratings = np.array([0.0, 0.0, 0.0, 0.1, 0.2, 0.9, 1.0])
    rng = np.random.default_rng(1)
    taken = np.bincount(np.concatenate([spread(ratings, 3, rng) for _ in range(7000)]), minlength=7)
    assert np.abs(taken / 7000 - 3 / 7).max() < 0.03  # five standard errors


def test_bad_and_good_ones_are_always_side_by_side() -> None:
    ratings = np.array([0.0] * 5 + [1.0] * 5)
    rng = np.random.default_rng(1)
    assert {tuple(sorted(ratings[spread(ratings, 2, rng)])) for _ in range(200)} == {(0.0, 1.0)}


def test_a_thinned_dataset_has_so_many_labels_of_each_question_and_only_pairs_among_them() -> None:
    dataset, _ = a_dataset(questions=20, responses=6)
    found = thinned(dataset, 3, seed=1)
    assert found.questions == dataset.questions
    for name in dataset.questions:
        assert sum(one.question == name for one in found.labels) == 3
    held = {(one.question, one.response) for one in found.labels}
    expected = [(one.chosen, one.rejected) for one in dataset.pairs if one.chosen in held and one.rejected in held]
    assert 0 < len(found.pairs) < len(dataset.pairs)
    assert [(one.chosen, one.rejected) for one in found.pairs] == expected
    assert thinned(dataset, 3, seed=1) == found
    assert thinned(dataset, 3, seed=2) != found
    assert thinned(dataset, 6, seed=1) == dataset


def test_a_crowded_question_weighs_what_its_responses_weigh_and_the_mean_is_one() -> None:
    crowded, _ = a_dataset(questions=30, responses=6)
    few = {f"few-{name}": question for name, question in list(crowded.questions.items())[:20]}
    alone = tuple(replace(crowded.pairs[0], chosen=(name, 0), rejected=(name, 1), weight=5.0) for name in few)
    within = tuple(replace(one, weight=1.0) for one in crowded.pairs)  # a fifth: each of six is in five pairs
    dataset = replace(crowded, questions={**crowded.questions, **few}, pairs=(*within, *alone))
    found = {one.chosen[0] in few: one.weight for one in thinned(dataset, 3, seed=1).pairs}
    assert found[True] / found[False] == pytest.approx(5 / (5 / 2))  # three of six: 2 others instead of 5
    assert np.mean([one.weight for one in thinned(dataset, 3, seed=1).pairs]) == pytest.approx(1)


def test_nothing_is_left_out_without_a_bound_or_where_nobody_rated() -> None:
    dataset, _ = a_dataset(questions=5, responses=6)
    assert thinned(dataset, 0, seed=1) is dataset
    preferred = Dataset(questions=dataset.questions, labels=(), pairs=dataset.pairs)
    assert thinned(preferred, 2, seed=1) == preferred
