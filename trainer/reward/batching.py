"""Which responses make a batch, and which of those are computed together. Pure: seeds are arguments.

The responses to a question stay together, so that all their pairs count. Batches are of about equal length, and within
a batch rows run in groups of almost the same length, whose logits make one loss: little is computed on padding,
whatever questions and answers look like.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.inputs import Rows
from trainer.data.thinning import spread
from trainer.reward.config import TrainConfig

WINDOW: Final = 64
"""Batches out of which those of equal length are made: wide enough for little padding, narrow enough to stay random."""
OPEN: Final = 8
"""Batches that are filled at a time, so that questions of odd sizes leave few places empty."""

Indices = NDArray[np.int64]


def plan(rows: Rows, config: TrainConfig, seed: int, epoch: int) -> tuple[Indices, ...]:
    """The batches of one epoch, each the rows of at most `batch_size` responses. The same arguments give the same.

    Rows that teach nothing, having neither a rating nor an aspect nor a pair, are left out.
    """
    rng = np.random.default_rng((seed, epoch))
    units, lengths = _units(rows, config, rng), rows.lengths
    order = _order([float(lengths[unit].mean()) for unit in units], len(rows), config, rng)
    batches = _filled(rows, [units[index] for index in order], config.batch_size)
    return tuple(batches[index] for index in rng.permutation(len(batches)))


def groups(batch: Indices, lengths: Indices, overhead: int, most: int) -> Iterator[Indices]:
    """The rows of a batch, longest first, in groups to be computed together: at most `overhead` tokens of padding each.

    `lengths` are of all rows. `overhead` is what one more group costs, in tokens; `most` bounds a group's tokens,
    padding included, unless it is one row.
    """
    order = batch[np.argsort(-lengths[batch], kind="stable")]
    first, padding = 0, 0
    for place in range(len(order)):
        longest = int(lengths[order[first]])
        padding += longest - int(lengths[order[place]])
        if padding > overhead or (place > first and (place - first + 1) * longest > most):
            yield order[first:place]
            first, padding = place, 0
    yield order[first:]


def useful(rows: Rows) -> NDArray[np.bool_]:
    """[N] Whether a row teaches anything: it has a rating, an aspect or a pair."""
    found = (rows.weights > 0) | ~np.isnan(rows.aspects).all(axis=1)
    found[rows.chosen] = found[rows.rejected] = True
    return found


class PairIndex:
    """Finds the pairs that lie within a batch."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._order = np.argsort(rows.chosen, kind="stable")
        self._starts = np.searchsorted(rows.chosen[self._order], np.arange(len(rows) + 1))
        self._place = np.full(len(rows), -1, dtype=np.int64)

    def within(self, batch: Indices) -> tuple[Indices, Indices, Indices]:
        """The numbers of pairs whose responses are both in `batch`, and the places there of the chosen and rejected."""
        self._place[batch] = np.arange(len(batch))
        begun = [self._order[self._starts[row] : self._starts[row + 1]] for row in batch.tolist()]
        found = np.concatenate(begun)
        found = found[self._place[self._rows.rejected[found]] >= 0]
        chosen, rejected = self._place[self._rows.chosen[found]], self._place[self._rows.rejected[found]]
        self._place[batch] = -1
        return found, chosen, rejected


def _units(rows: Rows, config: TrainConfig, rng: np.random.Generator) -> list[Indices]:
    """The rows of each question, or some of them from bad to good, in parts of at most a batch, split anew by `rng`."""
    taught = rng.permutation(np.flatnonzero(useful(rows)))
    grouped = taught[np.argsort(rows.questions[taught], kind="stable")]
    borders = np.flatnonzero(np.diff(rows.questions[grouped])) + 1
    parts = [part for part in np.split(grouped, borders) if len(part)]
    if config.responses_per_question:
        few = [part[spread(rows.ratings[part], config.responses_per_question, rng)] for part in parts]
        parts = [rng.permutation(part) for part in few]
    return [unit for part in parts for unit in np.array_split(part, -(-len(part) // config.batch_size))]


def _order(lengths: Sequence[float], count: int, config: TrainConfig, rng: np.random.Generator) -> list[int]:
    """The units at random; with buckets those of each window by length."""
    order: list[int] = rng.permutation(len(lengths)).tolist()
    if not config.bucket or not order:
        return order
    size = max(1, WINDOW * config.batch_size * len(lengths) // max(1, count))
    windows = [order[at : at + size] for at in range(0, len(order), size)]
    return [unit for window in windows for unit in sorted(window, key=lambda unit: lengths[unit])]


def _filled(rows: Rows, units: Sequence[Indices], size: int) -> list[Indices]:
    """Batches of whole units: each into the fullest open one that has room, and after it those it has pairs with."""
    linked = _linked(rows, units)
    waiting = set(range(len(units)))
    done: list[list[int]] = []
    open_ones: deque[list[int]] = deque()
    for unit in range(len(units)):
        if unit not in waiting:  # it came along with one that it has pairs with
            continue
        free = [batch for batch in open_ones if len(batch) + len(units[unit]) <= size]
        batch = max(free, key=len, default=None)
        if batch is None:
            batch = []
            open_ones.append(batch)
        _put(batch, unit, units, linked, waiting, size)
        while len(open_ones) > OPEN or any(len(one) == size for one in open_ones):
            fullest = max(open_ones, key=len)
            open_ones.remove(fullest)
            done.append(fullest)
    return [np.array(batch, dtype=np.int64) for batch in (*done, *open_ones)]


def _put(
    batch: list[int],
    unit: int,
    units: Sequence[Indices],
    linked: dict[int, list[int]],
    waiting: set[int],
    size: int,
) -> None:
    following = deque([unit])
    while following:
        unit = following.popleft()
        if unit in waiting and len(batch) + len(units[unit]) <= size:
            waiting.remove(unit)
            batch.extend(units[unit].tolist())
            following.extend(linked[unit])


def _linked(rows: Rows, units: Sequence[Indices]) -> dict[int, list[int]]:
    """Of each unit those that hold the other response of one of its pairs, of other questions mostly."""
    home = np.full(len(rows), -1, dtype=np.int64)
    for number, unit in enumerate(units):
        home[unit] = number
    linked: dict[int, list[int]] = defaultdict(list)
    ends = np.stack([home[rows.chosen], home[rows.rejected]], axis=1)
    for one, other in ends[(ends[:, 0] != ends[:, 1]) & (ends >= 0).all(axis=1)].tolist():
        linked[one].append(other)
        linked[other].append(one)
    return linked
