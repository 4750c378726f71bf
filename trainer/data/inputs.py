"""A dataset as token rows and arrays: what training and evaluation compute on. Every judged response is one row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.records import ASPECTS, Dataset, Place, Question
from triton_models.serializer import Encoded, RewardSerializer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """N rows, one for each response that a label or a pair speaks of; P pairs of them."""

    dataset: Dataset
    serializer: RewardSerializer
    places: tuple[Place, ...]  # [N]
    tokens: NDArray[np.int32]  # all rows' ids, one row after the other
    starts: NDArray[np.int64]  # [N + 1] where each row begins in `tokens`, and the end
    questions: NDArray[np.int64]  # [N] numbers of questions, from 0
    ratings: NDArray[np.float64]  # [N] 0..1; NaN: nobody rated it
    aspects: NDArray[np.float64]  # [N, 4] 0..1; NaN: nobody rated it
    weights: NDArray[np.float64]  # [N] of the pointwise loss; 0 where `ratings` is NaN
    raters: tuple[tuple[str, ...], ...]  # [N] who judged it
    chosen: NDArray[np.int64]  # [P] rows
    rejected: NDArray[np.int64]  # [P] rows
    margins: NDArray[np.float64]  # [P] 0..1
    pair_weights: NDArray[np.float64]  # [P]

    def __len__(self) -> int:
        """How many rows."""
        return len(self.places)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[N] tokens of each row."""
        return np.diff(self.starts)

    def ids(self, row: int) -> NDArray[np.int32]:
        """One row's tokens, its special ones included."""
        return self.tokens[self.starts[row] : self.starts[row + 1]]

    def pad(self, rows: NDArray[np.int64]) -> Encoded:
        """Some rows as model input, padded on the right to the longest of them."""
        return self.serializer.pad([self.ids(row).tolist() for row in rows.tolist()])

    def example(self, row: int) -> dict[str, Any]:
        """One row in the specification's format: input_ids, attention_mask, labels, metadata.

        `labels` is None where nobody rated it. Who asked in which session is not known here.
        """
        question, place = self.places[row]
        rating, ids = float(self.ratings[row]), self.ids(row).tolist()
        dimensions = zip(ASPECTS, self.aspects[row].tolist(), strict=True)
        return {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "labels": None if np.isnan(rating) else rating,
            "metadata": {
                "question": question,
                "response": place,
                "response_id": self.dataset.questions[question].responses[place].response_id,
                "user_ids": list(self.raters[row]),
                "feedback_dimensions": {name: value for name, value in dimensions if not np.isnan(value)},
            },
        }


def encode(dataset: Dataset, serializer: RewardSerializer) -> Rows:
    """The rows of a dataset, question by question. Too long ones lose their context first; none is left out."""
    labels = {(each.question, each.response): each for each in dataset.labels}
    asked = _asked(dataset)
    rows = [row for name, places in asked.items() for row in _serialized(dataset.questions[name], places, serializer)]
    places = tuple((name, place) for name, found in asked.items() for place in found)
    number = {place: row for row, place in enumerate(places)}
    held = [labels.get(place) for place in places]
    return Rows(
        dataset=dataset,
        serializer=serializer,
        places=places,
        tokens=np.concatenate([np.asarray(row, dtype=np.int32) for row in rows] or [np.empty(0, dtype=np.int32)]),
        starts=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        questions=np.repeat(np.arange(len(asked), dtype=np.int64), [len(found) for found in asked.values()]),
        ratings=_floats(None if one is None else one.rating for one in held),
        aspects=_floats(one.aspects.get(name) if one else None for one in held for name in ASPECTS).reshape(
            -1, len(ASPECTS)
        ),
        weights=_floats(0.0 if one is None or one.rating is None else one.weight for one in held),
        raters=tuple(() if one is None else one.raters for one in held),
        chosen=np.array([number[pair.chosen] for pair in dataset.pairs], dtype=np.int64),
        rejected=np.array([number[pair.rejected] for pair in dataset.pairs], dtype=np.int64),
        margins=_floats(pair.margin for pair in dataset.pairs),
        pair_weights=_floats(pair.weight for pair in dataset.pairs),
    )


def _asked(dataset: Dataset) -> dict[str, list[int]]:
    """The judged places of each question, in order."""
    found: dict[str, list[int]] = {}
    for name, place in sorted(dataset.places):
        found.setdefault(name, []).append(place)
    return {name: found[name] for name in dataset.questions if name in found}


def _serialized(question: Question, places: Sequence[int], serializer: RewardSerializer) -> list[list[int]]:
    texts = [question.responses[place].text for place in places]
    return serializer.serialize(question.context, question.query, texts)


def _floats(values: Iterable[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
