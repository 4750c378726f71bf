"""Whether the model does worse for some than for others: languages, sources, user groups, lengths, new users. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.reward import metrics
from trainer.reward.bootstrap import Draws, Floats
from trainer.reward.columns import Columns, known
from trainer.reward.findings import Group

LENGTHS: Final = ((200, "up to 200 characters"), (800, "201 to 800"), (2000, "801 to 2,000"))
LONGEST_BAND: Final = "over 2,000"
MOST_VALUES: Final = 12
"""Of one attribute; the rarer ones go together."""
REST: Final = "all others"
UNKNOWN: Final = "unknown"
Names = NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is compared across groups: the new model's scores [P], the cross-fitted ones [L] of rated responses, and
    the scores of the release in service [P], if there is one."""

    scores: Floats
    rated_scores: Floats
    service: Floats | None = None


def groups(
    columns: Columns, judged: Judged, draws: Draws, minimum: int, train_users: Collection[str] | None = None
) -> tuple[Group, ...]:
    """Every group of every attribute with two values or more, the largest first.

    Pairs of two groups count in neither. `minimum` is how many pairs it takes to tell anything; `train_users` are who
    judged in the train part, None where that is not known.
    """
    found = []
    for attribute, values in _attributes(columns, train_users):
        pairs = np.where(values[columns.chosen] == values[columns.rejected], values[columns.chosen], "")
        rated = values[columns.rated]
        names = [name for name, _ in Counter([*pairs.tolist(), *rated.tolist()]).most_common() if name]
        found += [
            _group(columns, judged, draws, minimum, (attribute, name), pairs == name, rated == name) for name in names
        ]
    return tuple(found)


def band(length: float) -> str:
    """The band of lengths that so many characters lie in."""
    return next((name for most, name in LENGTHS if length <= most), LONGEST_BAND)


def _group(
    columns: Columns,
    judged: Judged,
    draws: Draws,
    minimum: int,
    name: tuple[str, str],
    pairs: NDArray[np.bool_],
    rated: NDArray[np.bool_],
) -> Group:
    chosen, rejected = columns.chosen[pairs], columns.rejected[pairs]
    right = metrics.ordered(judged.scores[chosen], judged.scores[rejected])
    accuracy = columns.mean_of_pairs(right, pairs, draws)
    difference = None
    if judged.service is not None:
        gained = right - metrics.ordered(judged.service[chosen], judged.service[rejected])
        difference = columns.mean_of_pairs(gained, pairs, draws)
    residual = (judged.rated_scores - columns.ratings)[rated]
    return Group(
        attribute=name[0],
        value=name[1],
        accuracy=accuracy,
        residual=draws.mean(residual, columns.weights[rated], columns.rated_clusters[rated]),
        difference=difference,
        small=accuracy.count < minimum,
    )


def _attributes(columns: Columns, train_users: Collection[str] | None) -> Iterator[tuple[str, Names]]:
    """(attribute, its value at every place), for attributes that vary."""
    questions = [columns.dataset.questions[question] for question, _ in columns.places]
    for attribute in sorted({name for question in questions for name in question.groups}):
        yield from _varying(attribute, [question.groups.get(attribute) or UNKNOWN for question in questions])
    yield from _varying("length", [band(length) for length in columns.lengths])
    if train_users is not None:
        seen = set(train_users)
        users = [known(_users(columns, question, place)) for question, place in columns.places]
        yield from _varying("user", [UNKNOWN if not each else "seen" if seen & set(each) else "new" for each in users])


def _users(columns: Columns, question: str, place: int) -> list[str]:
    asked = columns.dataset.questions[question]
    preferring = [one.rater for one in asked.preferences if place in (one.chosen, one.rejected)]
    return preferring + [one.rater for one in asked.responses[place].judgements]


def _varying(attribute: str, values: Sequence[str]) -> Iterator[tuple[str, Names]]:
    counted = Counter(values).most_common()
    if len(counted) > 1:
        kept = {name for name, _ in counted[:MOST_VALUES]}
        yield attribute, np.array([value if value in kept else REST for value in values])
