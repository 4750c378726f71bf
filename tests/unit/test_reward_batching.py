"""Batches of a reward's training: who is in them, together with whom, and how little of them is padding."""

from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.inputs import Rows
from trainer.data.records import Dataset
from trainer.reward.batching import PairIndex, groups, plan
from trainer.reward.config import TrainConfig
from trainer.reward.schedule import rate, warmup
from trainer.reward.weighting import weighted


def rows(
    sizes: list[int], lengths: list[int] | None = None, pairs: list[tuple[int, int]] | None = None, rated: bool = True
) -> Rows:
    """Rows of questions with so many responses each, of these lengths; pairs are (chosen, rejected) rows."""
    count = sum(sizes)
    found = pairs or []
    nothing: Any = None
    return Rows(
        dataset=Dataset(questions={}, labels=(), pairs=()),
        serializer=nothing,
        places=tuple((str(row), 0) for row in range(count)),
        tokens=np.zeros(sum(lengths or [1] * count), dtype=np.int32),
        starts=np.cumsum([0, *(lengths or [1] * count)], dtype=np.int64),
        questions=np.repeat(np.arange(len(sizes)), sizes),
        ratings=np.full(count, 0.5 if rated else np.nan),
        aspects=np.full((count, 4), np.nan),
        weights=np.full(count, 1.0 if rated else 0.0),
        raters=((),) * count,
        chosen=np.array([one for one, _ in found], dtype=np.int64),
        rejected=np.array([other for _, other in found], dtype=np.int64),
        margins=np.zeros(len(found)),
        pair_weights=np.ones(len(found)),
    )


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(1, 20), st.booleans(), st.integers(0, 3))
def test_every_row_is_in_exactly_one_batch_and_none_is_too_large(
    sizes: list[int], batch: int, bucket: bool, seed: int
) -> None:
    data = rows(sizes, lengths=[1 + 7 * row % 90 for row in range(sum(sizes))])
    batches = plan(data, TrainConfig(batch_size=batch, bucket=bucket, responses_per_question=0), seed, epoch=1)
    assert Counter(np.concatenate(batches).tolist()) == Counter(range(sum(sizes)))
    assert max(map(len, batches)) <= batch


@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(1, 20), st.integers(0, 3))
def test_the_responses_to_a_question_share_a_batch_where_they_fit_in_one(
    sizes: list[int], batch: int, seed: int
) -> None:
    data = rows(sizes)
    home = {
        row: number
        for number, found in enumerate(plan(data, TrainConfig(batch_size=batch, responses_per_question=0), seed, 0))
        for row in found
    }
    for question, size in enumerate(sizes):
        batches = {home[row] for row in np.flatnonzero(data.questions == question)}
        assert len(batches) <= -(-size // batch)  # as few as can be


def test_a_question_of_more_responses_than_a_batch_is_split_anew_each_epoch() -> None:
    data, config = rows([12]), TrainConfig(batch_size=6, responses_per_question=0)
    splits = [{frozenset(batch.tolist()) for batch in plan(data, config, 1, epoch)} for epoch in range(4)]
    assert all(len(split) == 2 for split in splits)
    assert len({frozenset(split) for split in splits}) > 1


def test_the_same_seed_and_epoch_give_the_same_batches_and_others_do_not() -> None:
    data, config = rows([3] * 40), TrainConfig()

    def told(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in plan(data, config, seed, epoch)]

    assert told(1, 0) == told(1, 0)
    assert told(1, 0) != told(1, 1)
    assert told(1, 0) != told(2, 0)


def test_some_responses_of_each_question_are_drawn_when_asked_for_and_others_the_next_time() -> None:
    data, config = rows([5] * 8), TrainConfig(responses_per_question=2)
    epochs = [np.concatenate(plan(data, config, 1, epoch)) for epoch in range(30)]
    assert all(Counter(data.questions[found].tolist()) == dict.fromkeys(range(8), 2) for found in epochs)
    assert set(np.concatenate(epochs).tolist()) == set(range(40))


def test_rows_that_teach_nothing_are_left_out() -> None:
    data = rows([4], pairs=[(0, 2)], rated=False)
    assert sorted(np.concatenate(plan(data, TrainConfig(), 1, 0)).tolist()) == [0, 2]
    assert plan(rows([3], rated=False), TrainConfig(), 1, 0) == ()


def test_questions_that_share_a_pair_come_into_one_batch() -> None:
    pairs = [(row, row + 200) for row in range(200)]  # one response a question, its partner far away
    data = rows([1] * 400, lengths=[10] * 200 + [90] * 200, pairs=pairs)
    index = PairIndex(data)
    assert sum(len(index.within(batch)[0]) for batch in plan(data, TrainConfig(), 1, 0)) == 200


def test_batches_hold_few_empty_places_when_sizes_are_odd() -> None:
    data = rows([5, 3, 7, 1, 9, 2] * 40)
    batches = plan(data, TrainConfig(batch_size=16), 1, 0)
    assert len(batches) <= 1.05 * len(data) / 16


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 512), min_size=1, max_size=40), st.integers(0, 200), st.integers(1, 4096))
def test_groups_hold_each_row_once_longest_first_with_bounded_padding_and_size(
    lengths: list[int], overhead: int, most: int
) -> None:
    sizes = np.array(lengths)
    parts = list(groups(np.arange(len(sizes)), sizes, overhead, most))
    joined = np.concatenate(parts)
    assert sorted(joined.tolist()) == list(range(len(sizes)))
    assert (np.diff(sizes[joined]) <= 0).all()
    for part in parts:
        longest = sizes[part].max()
        assert longest * len(part) - sizes[part].sum() <= overhead
        assert len(part) == 1 or longest * len(part) <= most


def test_padding_is_below_a_tenth_for_answers_of_all_lengths() -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(60, 512, 600)
    data = rows([5] * 120, lengths=lengths.tolist())
    computed = sum(
        int(lengths[part].max()) * len(part)
        for batch in plan(data, TrainConfig(), 1, 0)
        for part in groups(batch, data.lengths, 64, 4096)
    )
    assert 1 - lengths.sum() / computed < 0.1


def test_pairs_within_a_batch_are_found_with_their_places() -> None:
    data = rows([4, 2], pairs=[(0, 1), (2, 0), (4, 5), (1, 3)])
    pairs, chosen, rejected = PairIndex(data).within(np.array([3, 0, 1, 5]))
    found = sorted(zip(pairs.tolist(), chosen.tolist(), rejected.tolist(), strict=True))
    assert found == [(0, 1, 2), (3, 2, 0)]


def test_the_rate_goes_up_in_a_line_then_down_along_a_cosine_to_almost_nothing() -> None:
    rates = [rate(step, 101, 4) for step in range(101)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[52] == pytest.approx(0.5005)  # half way down
    assert rates[-1] == pytest.approx(0.001)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rate(150, 101, 4) == rates[-1]  # an epoch had a batch more than the first
    assert rate(0, 1, 0) == 1.0


@pytest.mark.parametrize(("steps", "expected"), [(20_000, 500), (1000, 100), (9, 0)])
def test_warming_up_takes_500_steps_but_no_more_than_a_tenth_of_all(steps: int, expected: int) -> None:
    config = TrainConfig()
    assert warmup(steps, config.warmup_steps, config.warmup_share) == expected


def test_some_responses_of_a_question_are_bad_and_good_ones_in_no_order() -> None:
    data = rows([10] * 40)
    data.ratings[:] = np.tile([0.0] * 5 + [1.0] * 5, 40)
    orders = set()
    for batch in plan(data, TrainConfig(responses_per_question=2, batch_size=2), 1, 0):
        orders.add(tuple(data.ratings[batch].tolist()))
    assert orders == {(0.0, 1.0), (1.0, 0.0)}


def shared(sizes: list[int]) -> Rows:
    """Every response of a question above each that comes later; weights as comparisons.py shares them out, mean 1."""
    ends = np.cumsum([0, *sizes]).tolist()
    pairs = [each for first, last in pairwise(ends) for each in combinations(range(first, last), 2)]
    data = rows(sizes, pairs=pairs)
    weights = 1 / (np.array(sizes)[data.questions[data.chosen]] - 1)
    return replace(data, pair_weights=weights / weights.mean())


@pytest.mark.parametrize("config", [TrainConfig(), TrainConfig(responses_per_question=0)], ids=["drawn", "split"])
def test_pairs_weigh_one_in_the_mean_over_an_epoch_whatever_the_sizes_of_questions(config: TrainConfig) -> None:
    data = shared([35] * 20 + [2] * 200)
    found = weighted(data, config, plan(data, config, 1, 0))
    index = PairIndex(found)
    for epoch in range(3):
        batches = [index.within(batch)[0] for batch in plan(found, config, 1, epoch)]
        assert found.pair_weights[np.concatenate(batches)].mean() == pytest.approx(1, rel=0.05)


def test_a_response_weighs_the_same_beside_one_other_or_beside_many_of_which_few_are_drawn() -> None:
    data, config = shared([35] * 20 + [2] * 200), TrainConfig()
    found = weighted(data, config, plan(data, config, 1, 0))
    crowded = data.questions[data.chosen] < 20
    crowds, couples = found.pair_weights[crowded], found.pair_weights[~crowded]
    assert crowds == pytest.approx(crowds[0])
    assert 3 * crowds[0] == pytest.approx(couples[0])  # three others in a draw of four, instead of one


def test_weights_stay_as_they_are_where_an_epoch_sees_every_pair() -> None:
    data, config = shared([4, 3, 2] * 30), TrainConfig()
    found = weighted(data, config, plan(data, config, 1, 0))
    assert found.pair_weights == pytest.approx(data.pair_weights)
