"""The arms of an ablation and the intervals of their differences, against numbers worked out by hand."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainer.data.records import Dataset, Labelled, Pair, PairKind, Question, Response
from trainer.errors import TrainerError
from trainer.reward.ablation import NONE, Trial, arms, compared, over_seeds
from trainer.reward.bootstrap import Draws
from trainer.reward.columns import columns
from trainer.reward.config import AugmentConfig, RewardConfig
from trainer.reward.evaluation import Measure
from trainer.reward.findings import Estimate

BETTER = ("long and better by far", "long and better as well", "better")
WORSE = ("long and worse by far, too", "long and worse as usual", "very much worse than the other one, at length")


def test_each_way_is_switched_on_alone_beside_none() -> None:
    config = AugmentConfig(paraphrase_model="p", forward_model="f", backward_model="b", embedding_noise=5.0, share=0.5)
    found = arms(config)
    assert list(found) == [NONE, "paraphrase", "back-translation", "embedding noise"]
    assert found[NONE] == AugmentConfig(share=0.5)
    assert found["paraphrase"] == AugmentConfig(share=0.5, paraphrase_model="p")
    assert found["back-translation"] == AugmentConfig(share=0.5, forward_model="f", backward_model="b")
    assert found["embedding noise"] == AugmentConfig(share=0.5, embedding_noise=5.0)


def test_with_nothing_switched_on_there_is_nothing_to_measure() -> None:
    with pytest.raises(TrainerError, match="Nothing is switched on"):
        arms(AugmentConfig(share=0.9))


def _measure() -> Measure:
    """Three questions of one pair each; the first two are of similar length."""
    questions = {
        f"q{index}": Question(
            id=f"q{index}", topic=f"q{index}", query="?", responses=(Response(text=better), Response(text=worse))
        )
        for index, (better, worse) in enumerate(zip(BETTER, WORSE, strict=True))
    }
    labels = tuple(
        Labelled(question=name, response=place, rating=1.0 - place, aspects={}, weight=1.0)
        for name in questions
        for place in (0, 1)
    )
    pairs = tuple(Pair(chosen=(name, 0), rejected=(name, 1), kind=PairKind.DIRECT, margin=1.0) for name in questions)
    return Measure(columns(Dataset(questions=questions, labels=labels, pairs=pairs)), Draws(resamples=200))


def test_accuracies_and_differences_are_means_over_seeds_and_pairs() -> None:
    measure = _measure()
    bare = Trial(np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]), 3, measure)
    noisy = Trial(np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]), 3, measure)
    found = compared({NONE: bare, "embedding noise": noisy}, RewardConfig(seed=4, seeds=2))
    assert (found.seeds, found.pairs, found.clustered_by) == ((4, 5), 3, "question")
    none, noise = found.arms
    assert none.accuracy.value == pytest.approx(3 / 6)
    assert none.similar.value == pytest.approx(2 / 4)
    assert (none.difference, none.difference_similar) == (None, None)
    assert noise.by_seed == pytest.approx((2 / 3, 2 / 3))
    assert noise.difference is not None
    assert noise.difference_similar is not None
    assert noise.difference.value == pytest.approx(1 / 6)
    assert noise.difference_similar.value == pytest.approx(1 / 4)
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert [one["name"] for one in document["arms"]] == ["none", "embedding noise"]


def test_seeds_widen_the_interval_as_satterthwaite_says() -> None:
    """By hand: errors 0.01 of clusters and 0.02 / sqrt(4) = 0.01 of seeds; 0.01414 at (2)^2 / (1 / 3) = 12 degrees."""
    over_questions = Estimate(value=0.05, low=0.05 - 0.0195996, high=0.05 + 0.0195996, count=100, clusters=50)
    seeds = 0.05 + 0.02 * np.array([-1.0, 1.0, 1.0, -1.0]) * 3**0.5 / 2
    found = over_seeds(over_questions, list(seeds), 0.95)
    assert found.value == 0.05
    assert found.high == pytest.approx(0.05 + 2.178813 * 0.0141421, abs=1e-6)
    assert found.low == pytest.approx(0.05 - 2.178813 * 0.0141421, abs=1e-6)
    assert (found.count, found.clusters) == (100, 50)


@pytest.mark.parametrize("by_seed", [[], [0.05], [0.05, 0.05], [0.0, 2.6e-98], [0.0, 5e-324]])
def test_where_seeds_tell_nothing_the_interval_stays_that_of_the_clusters(by_seed: Sequence[float]) -> None:
    over_questions = Estimate(value=0.05, low=0.01, high=0.08, count=9, clusters=3)
    assert over_seeds(over_questions, by_seed, 0.95) is over_questions
    assert over_seeds(Estimate(), [0.1, 0.2], 0.95) == Estimate()


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=10), st.floats(0.001, 0.5))
@example([0.0, 1e-83], 0.001)
def test_an_interval_over_seeds_too_is_never_narrower(by_seed: list[float], reach: float) -> None:
    over_questions = Estimate(value=0.0, low=-reach, high=reach, count=9, clusters=3)
    found = over_seeds(over_questions, by_seed, 0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= -reach * 0.999
    assert found.high >= reach * 0.999
