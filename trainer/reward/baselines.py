"""The simple baselines that a reward model must beat, trained on the train part and scored on the validation part."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from trainer.data.records import Dataset, Pair, Place

LEAST_PAIRS: Final = 10
MOST_PAIRS: Final = 30_000
"""Of the train part; more than this change a linear model little and cost minutes."""
MOST_CHARACTERS: Final = 3000
"""Of a text."""
BEGINNING: Final = 1000
"""Characters that n-grams of characters are made of; there are many more of these than of words."""
MOST_FEATURES: Final = 100_000
"""Of words, and as many of characters."""

WORD: Final = r"(?u)\w+"  # also of one letter


def longest(validation: Dataset) -> dict[Place, float]:
    """Longer wins: the response's characters."""
    return {place: float(len(validation.text(place)[2])) for place in validation.places}


def tfidf(train: Dataset, validation: Dataset, seed: int) -> dict[Place, float] | None:
    """TF-IDF of words and characters, logistic regression on differences of pairs. None: too few pairs to train on."""
    pairs = _some([pair for pair in train.pairs if pair.weight > 0], seed)
    if len(pairs) < LEAST_PAIRS:
        return None
    held = list(dict.fromkeys(place for pair in pairs for place in (pair.chosen, pair.rejected)))
    row = {place: index for index, place in enumerate(held)}
    vectorizer = _vectorizer()
    try:
        seen = vectorizer.fit_transform(_texts(train, held))
    except ValueError:  # scikit-learn's word for texts without a single word
        return None
    chosen, rejected = (
        [row[place] for place in side] for side in zip(*((pair.chosen, pair.rejected) for pair in pairs), strict=True)
    )
    judge = regression(seen, chosen, rejected, [pair.weight for pair in pairs])
    asked = validation.places
    found = vectorizer.transform(_texts(validation, asked)) @ judge if asked else ()
    return dict(zip(asked, map(float, found), strict=True))


def regression(seen: Any, chosen: Sequence[int], rejected: Sequence[int], weights: Sequence[float]) -> Any:
    """[features] what each feature speaks for: logistic regression on differences of rows of `seen` [texts, features],
    without an intercept, regularised as scikit-learn's is at C = 1.

    The differences are never made: rows of long texts would be many times as large as the texts.
    """
    from scipy import optimize

    better, worse, weight = np.asarray(chosen), np.asarray(rejected), np.asarray(weights, dtype=np.float64)
    turned = seen.T.tocsr()

    def loss(judge: Any) -> tuple[float, Any]:
        scores = seen @ judge
        gap = scores[better] - scores[worse]
        pull = weight * np.exp(-np.logaddexp(0.0, gap))
        held = np.bincount(worse, pull, len(scores)) - np.bincount(better, pull, len(scores))
        return float(weight @ np.logaddexp(0.0, -gap) + judge @ judge / 2), turned @ held + judge

    start = np.zeros(seen.shape[1])
    return optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x


def _some(pairs: list[Pair], seed: int) -> list[Pair]:
    if len(pairs) <= MOST_PAIRS:
        return pairs
    drawn: Iterable[int] = np.sort(np.random.default_rng(seed).permutation(len(pairs))[:MOST_PAIRS])
    return [pairs[index] for index in drawn]


def _texts(dataset: Dataset, asked: Sequence[Place]) -> list[str]:
    return [dataset.text(place)[2][:MOST_CHARACTERS] for place in asked]


def _beginning(text: str) -> str:
    return text[:BEGINNING].lower()


def _vectorizer() -> Any:
    """Words and pairs of words, and characters within words: Vietnamese has its words in syllables."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    common: dict[str, Any] = {"sublinear_tf": True, "max_features": MOST_FEATURES, "dtype": np.float32}
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD, **common)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), preprocessor=_beginning, **common)
    return FeatureUnion([("words", words), ("characters", characters)])
