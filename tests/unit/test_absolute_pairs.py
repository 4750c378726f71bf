"""Good responses of some questions above bad ones of others: who meets whom, and what can be told from that."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.judged import a_dataset
from trainer.data import pairs
from trainer.data.pairs import build, met
from trainer.data.records import Dataset, Judgement, Pair, PairKind, Place, Question, Response
from trainer.reward import mistakes
from trainer.reward.bootstrap import Draws
from trainer.reward.columns import Columns, columns
from trainer.reward.config import DataConfig
from trainer.reward.evaluation import Measure

DRAWS = Draws(resamples=400)


def asked(name: str, rating: float, rater: str = "") -> Question:
    judgement = Judgement(rater=rater or f"of {name}", rating=rating, feedback_id=name)
    return Question(id=name, topic=name, query=name, responses=(Response(text=name, judgements=(judgement,)),))


def rated(good: int, bad: int, judging: bool = True) -> Dataset:
    """One response a question, each rated by somebody else."""
    questions = [asked(f"good {n}", 1.0) for n in range(good)] + [asked(f"bad {n}", 0.0) for n in range(bad)]
    return build(questions, DataConfig(), judging=judging)[0]


@given(good=st.integers(0, 40), bad=st.integers(0, 40), most=st.integers(1, 2000))
def test_nobody_meets_anybody_twice_all_take_part_and_the_whole_counts_as_the_scarcer_side(
    good: int, bad: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "MOST_MET", most)
        found, share = met(good, bad)
        couples = list(found)
    scarcer, turns = min(good, bad), min(good, bad, max(1, most // max(good, bad, 1)))
    assert len(set(couples)) == len(couples) == turns * max(good, bad) * (scarcer > 0)
    assert share * len(couples) == pytest.approx(scarcer)
    for number, side in ((good, 0), (bad, 1)):
        meetings = Counter(couple[side] for couple in couples)
        assert len(meetings) == (number if scarcer else 0)
        assert not couples or max(meetings.values()) - min(meetings.values()) <= turns


def test_to_learn_from_no_response_is_met_twice() -> None:
    found = rated(30, 5, judging=False).pairs
    assert len({pair.chosen for pair in found}) == len({pair.rejected for pair in found}) == len(found) == 5


def test_a_response_that_meets_many_is_counted_once() -> None:
    found = columns(rated(30, 5))
    assert len(found.chosen) == 150
    assert found.count(np.arange(150)) == 5
    assert found.count(np.flatnonzero(found.chosen == found.chosen[0])) == 1
    assert found.mean_of_pairs(np.ones(150), None, DRAWS).count == 5
    assert found.pair_weights.mean() == pytest.approx(1.0)


def test_comparisons_of_one_question_are_counted_each() -> None:
    found = columns(a_dataset(questions=20)[0])
    assert found.count(np.arange(len(found.chosen))) == len(found.chosen)


def test_each_side_belongs_to_who_judged_it() -> None:
    found = columns(rated(15, 15))
    assert found.clustered_by == "user"
    owner = dict(zip(found.rated.tolist(), found.rated_clusters.tolist(), strict=True))
    for row, (chosen, rejected) in enumerate(zip(found.chosen.tolist(), found.rejected.tolist(), strict=True)):
        assert found.pair_clusters[row].tolist() == [owner[chosen], owner[rejected]]


def test_one_preference_has_one_owner() -> None:
    data, _ = a_dataset(questions=1, responses=2)
    said = replace(data.pairs[0], praised_by=("ann",), blamed_by=("ann",))
    (owners,) = columns(replace(data, pairs=(said,))).pair_clusters.tolist()
    assert owners[0] == owners[1]


def test_rows_of_two_clusters_are_there_as_often_as_both_were_drawn_together() -> None:
    rng = np.random.default_rng(3)
    values, weights, codes = rng.normal(size=30), rng.uniform(0.5, 2, 30), rng.integers(0, 6, (30, 2))
    expected = []
    for counts in np.concatenate(list(DRAWS.counts(6))):
        times = [counts[a] if a == b else counts[a] * counts[b] for a, b in codes.tolist()] * weights
        expected.append((times @ values) / times.sum())
    found = DRAWS.mean(values, weights, codes)
    by_hand = DRAWS.estimate(float(weights @ values / weights.sum()), np.array(expected), 30, 6)
    assert (found.value, found.count, found.clusters) == (pytest.approx(by_hand.value), 30, 6)
    assert (found.low, found.high) == (pytest.approx(by_hand.low), pytest.approx(by_hand.high))


def test_rows_whose_two_clusters_are_one_are_drawn_as_rows_of_one() -> None:
    values, codes = np.random.default_rng(1).normal(size=40), np.arange(40) // 2
    found, twice = (DRAWS.mean(values, np.ones(40), each) for each in (codes, np.stack([codes, codes], axis=1)))
    assert (found.low, found.high) == (pytest.approx(twice.low), pytest.approx(twice.high))


def placed(found: Columns, scores: dict[Place, float]) -> np.ndarray:
    return np.array([scores[place] for place in found.places])


def test_its_interval_is_that_of_the_area_under_the_curve() -> None:
    """Beside DeLong, DeLong and Clarke-Pearson 1988: the variance of all good against all bad ones."""
    rng = np.random.default_rng(5)
    data = rated(90, 60)
    scores = {(one.question, 0): rng.normal(float(one.rating or 0), 1) for one in data.labels}
    good, bad = (np.array([scores[one.question, 0] for one in data.labels if one.rating == at]) for at in (1.0, 0.0))
    above = (good[:, None] > bad[None, :]).astype(float)
    deviation = np.sqrt(above.mean(axis=1).var(ddof=1) / 90 + above.mean(axis=0).var(ddof=1) / 60)
    found = columns(data)
    measure = Measure(found, Draws(resamples=3000))
    told = measure.over_pairs(measure.right(placed(found, scores)))
    assert told.low is not None
    assert told.high is not None
    assert told.value == pytest.approx(above.mean(), abs=1e-9)
    assert told.high - told.low == pytest.approx(2 * 1.96 * deviation, rel=0.12)


def test_all_against_all_tell_more_than_each_against_one() -> None:
    rng = np.random.default_rng(6)
    widths = []
    for judging in (False, True):
        found = columns(rated(200, 60, judging))
        measure = Measure(found, DRAWS)
        told = measure.over_pairs(measure.right(rng.normal(size=len(found.places))))
        assert told.low is not None
        assert told.high is not None
        widths.append(told.high - told.low)
    assert widths[1] < 0.85 * widths[0]


def test_a_question_is_in_one_of_the_mistakes_that_are_listed() -> None:
    found = columns(rated(30, 30))
    scores = np.array([0.2 if place[0].startswith("good") else 0.8 for place in found.places])
    _, listed = mistakes.analyse(found, scores, DRAWS)
    assert len(listed) == mistakes.MOST
    shown = [text for one in listed for text in (one.better.text, one.worse.text)]
    assert len(set(shown)) == 2 * mistakes.MOST


def test_an_absolute_pair_names_both_sides_raters() -> None:
    (pair,) = build([asked("good", 1.0, "ann"), asked("bad", 0.0, "bob")], DataConfig())[0].pairs
    assert pair == Pair(
        chosen=("good", 0),
        rejected=("bad", 0),
        kind=PairKind.ABSOLUTE,
        margin=1.0,
        praised_by=("ann",),
        blamed_by=("bob",),
        sources=("bad", "good"),
    )
    assert pair.raters == ("ann", "bob")
