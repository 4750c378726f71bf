"""How much each pair counts in an epoch, which sees only some of a crowded question's pairs. Pure."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trainer.data.inputs import Rows
from trainer.data.thinning import made_up
from trainer.reward.batching import Indices, PairIndex, useful
from trainer.reward.config import TrainConfig


def weighted(rows: Rows, config: TrainConfig, batches: Sequence[Indices]) -> Rows:
    """The rows with pairs weighted for training: 1 in the mean over those that `batches`, an epoch, sees.

    A response weighs the same, whether it was judged beside one other or beside fifty of which an epoch takes few.
    """
    if not len(rows.chosen):
        return rows
    weights = rows.pair_weights * _made_up(rows, config)
    index = PairIndex(rows)
    seen = weights[np.concatenate([index.within(batch)[0] for batch in batches])]
    mean = float(seen.mean()) if seen.any() else 1.0
    return replace(rows, pair_weights=weights / mean)


def _made_up(rows: Rows, config: TrainConfig) -> NDArray[np.float64]:
    """[P], 1 for pairs of two questions."""
    judged = np.bincount(rows.questions[useful(rows)], minlength=int(rows.questions.max()) + 1)
    taken = np.minimum(judged, config.responses_per_question) if config.responses_per_question else judged
    together = taken // np.maximum(1, -(-taken // config.batch_size))  # more than a batch is split
    factors = made_up(judged, together)[rows.questions[rows.chosen]]
    return np.where(rows.questions[rows.chosen] == rows.questions[rows.rejected], factors, 1.0)
