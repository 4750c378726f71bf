"""The simple baselines that a reward model is held against."""

from dataclasses import replace

import numpy as np
import pytest

from trainer.data.records import Dataset, Pair, PairKind, Question, Response
from trainer.reward import baselines

EMPTY = Dataset(questions={}, labels=(), pairs=())


def a_word_dataset(count: int, seed: int) -> Dataset:
    """Pairs where the response with "xin cảm ơn" is the better one, at equal lengths."""
    rng = np.random.default_rng(seed)
    questions, pairs = {}, []
    for number in range(count):
        base = " ".join(rng.choice(["a", "bb", "ccc", "dddd"], 12))
        texts = Response(text=f"{base} xin cảm ơn"), Response(text=f"{base} xin hãy đợi")
        questions[str(number)] = Question(id=str(number), topic=str(number), query="?", responses=texts)
        pairs.append(Pair(chosen=(str(number), 0), rejected=(str(number), 1), kind=PairKind.PREFERENCE, margin=1.0))
    return Dataset(questions=questions, labels=(), pairs=tuple(pairs))


def test_tfidf_learns_which_words_people_prefer() -> None:
    train, validation = a_word_dataset(30, 1), a_word_dataset(20, 2)
    found = baselines.tfidf(train, validation, 1)
    assert found is not None
    assert all(found[pair.chosen] > found[pair.rejected] for pair in validation.pairs)
    assert baselines.tfidf(train, validation, 1) == found


def test_the_regression_is_scikit_learns_on_differences() -> None:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(5)
    seen, chosen, rejected = csr_matrix(rng.random((40, 6))), rng.integers(0, 40, 60), rng.integers(0, 40, 60)
    weights = rng.random(60) + 0.5
    difference = (seen[chosen] - seen[rejected]).toarray()
    both, right = np.concatenate([difference, -difference]), np.repeat([1, 0], 60)
    judge = LogisticRegression(fit_intercept=False, tol=1e-8, max_iter=1000)  # each pair once, and turned round
    expected = judge.fit(both, right, sample_weight=np.tile(weights, 2) / 2).coef_[0]
    assert baselines.regression(seen, chosen, rejected, weights) == pytest.approx(expected, abs=1e-3)  # type: ignore[arg-type]


def test_tfidf_is_absent_where_there_is_nothing_to_learn_from() -> None:
    validation = a_word_dataset(5, 2)
    assert baselines.tfidf(a_word_dataset(9, 1), validation, 1) is None
    wordless = {
        name: replace(one, responses=(Response(text="?"), Response(text="!")))
        for name, one in a_word_dataset(20, 1).questions.items()
    }
    assert baselines.tfidf(replace(a_word_dataset(20, 1), questions=wordless), validation, 1) is None
    assert baselines.tfidf(EMPTY, validation, 1) is None
    assert baselines.tfidf(a_word_dataset(20, 1), EMPTY, 1) == {}


def test_tfidf_learns_from_a_bounded_number_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_PAIRS", 12)
    train = a_word_dataset(30, 1)
    kept = baselines._some(list(train.pairs), 1)
    assert len(kept) == 12
    assert kept == [pair for pair in train.pairs if pair in kept]
