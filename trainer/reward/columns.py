"""The validation part as arrays: which responses were rated, which pairs are known, whose judgement each row is."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.records import NOBODY, Dataset, PairKind, Place
from trainer.errors import DataError
from trainer.reward.bootstrap import Codes, Draws, Floats
from trainer.reward.findings import Estimate

Flags = NDArray[np.bool_]

LEAST_USERS: Final = 20
"""Fewer users than this make intervals by user worthless: then questions are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """P places; L of them rated; N pairs. Positions point into `places`; clusters count from 0."""

    dataset: Dataset
    places: tuple[Place, ...]
    lengths: Floats  # [P] characters
    rated: Codes  # [L] positions
    ratings: Floats  # [L]
    weights: Floats  # [L]
    rated_clusters: Codes  # [L]
    label_clusters: Codes  # of every label of the dataset, also of those that rate aspects alone
    chosen: Codes  # [N] positions
    rejected: Codes  # [N] positions
    pair_weights: Floats  # [N]
    pair_clusters: Codes  # [N, 2] of who judged each side
    absolute: Flags  # [N] whether its sides answer different questions
    clustered_by: str  # "user" or "question"
    users: int  # known raters

    def pick(self, scores: Mapping[Place, float], name: str) -> Floats:
        """[P] the scores of every place. Raises DataError where one is missing or no number."""
        found = np.array([scores.get(place, np.nan) for place in self.places], dtype=np.float64)
        if missing := int(np.count_nonzero(~np.isfinite(found))):
            raise DataError(f"{missing} of {len(found)} validation responses have no finite score by {name}.")
        return found

    def mean_of_pairs(self, values: Floats, rows: Codes | Flags | None, draws: Draws) -> Estimate:
        """The weighted mean over those pairs that are `rows` (None: all), of which `values` are.

        A response of many absolute pairs is no more than one: `count` is how many there would be without.
        """
        inside = np.arange(len(self.chosen))[slice(None) if rows is None else rows]
        found = draws.mean(values, self.pair_weights[inside], self.pair_clusters[inside])
        return replace(found, count=self.count(inside))

    def count(self, rows: Codes) -> int:
        """How many pairs they are, of absolute ones as many as the scarcer side has responses."""
        met = rows[self.absolute[rows]]
        return len(rows) - len(met) + min(len(np.unique(side[met])) for side in (self.chosen, self.rejected))

    def questions(self) -> tuple[list[Codes], Codes]:
        """The rows of `rated` of each rated question, and each one's cluster: its commonest."""
        rows: dict[str, list[int]] = {}
        for row, position in enumerate(self.rated):
            rows.setdefault(self.places[position][0], []).append(row)
        found: list[Codes] = [np.asarray(each, dtype=np.int64) for each in rows.values()]
        return found, _codes(int(np.bincount(self.rated_clusters[each]).argmax()) for each in found)


def columns(dataset: Dataset) -> Columns:
    """The arrays of a dataset; its order is kept. Labels without a rating or a weight take part in pairs only."""
    places = dataset.places
    position = {place: index for index, place in enumerate(places)}
    rows = [row for row, one in enumerate(dataset.labels) if one.rating is not None and one.weight > 0]
    labels = [dataset.labels[row] for row in rows]
    owners, clustered_by, users = _owners(dataset)
    return Columns(
        dataset=dataset,
        places=places,
        lengths=_floats(len(dataset.text(place)[2]) for place in places),
        rated=_codes(position[one.question, one.response] for one in labels),
        ratings=_floats(one.rating for one in labels),
        weights=_floats(one.weight for one in labels),
        rated_clusters=owners[_codes(rows)],
        label_clusters=owners[: len(dataset.labels)],
        chosen=_codes(position[pair.chosen] for pair in dataset.pairs),
        rejected=_codes(position[pair.rejected] for pair in dataset.pairs),
        pair_weights=_floats(pair.weight for pair in dataset.pairs),
        pair_clusters=owners[len(dataset.labels) :].reshape(2, -1).T,
        absolute=np.array([pair.kind is PairKind.ABSOLUTE for pair in dataset.pairs], dtype=bool),
        clustered_by=clustered_by,
        users=users,
    )


def known(raters: Sequence[str]) -> list[str]:
    """Those of them that are somebody: rows of the others are clustered by question."""
    return [rater for rater in raters if rater not in NOBODY]


def _owners(dataset: Dataset) -> tuple[Codes, str, int]:
    """The cluster of each label, then of all pairs' chosen sides, then of their rejected ones; what they are clustered
    by; and how many users are known.
    """
    judged = [((one.question, one.response), known(one.raters)) for one in dataset.labels]
    judged += [(pair.chosen, known(pair.praised_by)) for pair in dataset.pairs]
    judged += [(pair.rejected, known(pair.blamed_by)) for pair in dataset.pairs]
    held = Counter(rater for _, rater in {(place, rater) for place, raters in judged for rater in raters})
    by_user = len(held) >= LEAST_USERS
    keys = [
        # Of several raters the one who judged most: too large clusters are safe, too small ones are not.
        ("user", max(raters, key=lambda rater: (held[rater], rater)))
        if by_user and raters
        else ("question", dataset.questions[place[0]].topic)
        for place, raters in judged
    ]
    numbered = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return _codes(numbered[key] for key in keys), "user" if by_user else "question", len(held)


def _floats(values: Iterable[Any]) -> Floats:
    return np.array(list(values), dtype=np.float64)


def _codes(values: Iterable[int]) -> Codes:
    return np.array(list(values), dtype=np.int64)
