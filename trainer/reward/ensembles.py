"""What the members of an ensemble say of each other: where they disagree, a high score is not to be trusted.

Answers that please the flaws of one model rarely please those of another (Coste et al. 2024, "Reward model
ensembles help mitigate overoptimization"). Pure.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from trainer.data.records import Place
from trainer.reward import metrics
from trainer.reward.bootstrap import Floats
from trainer.reward.columns import Columns
from trainer.reward.findings import Calibration, Ensemble, Scored
from trainer.reward.scales import sigmoid

HIGH: Final = 0.8
"""Quantile of scores from which on a response is scored high."""
SPREAD: Final = 0.9
"""Quantile of the members' spread from which on they disagree."""


def spread(one: Scored, temperature: float) -> float:
    """The standard deviation of the members' scores of a response; 0 without members."""
    if not one.members:
        return 0.0
    return float(sigmoid(np.asarray(one.members) / temperature).std())


def agreement(found: Columns, scored: Mapping[Place, Scored], calibrated: Calibration) -> Ensemble | None:
    """How far the members agree on the validation part. None without an ensemble, or without responses."""
    sizes = {len(scored[place].members) for place in found.places}
    if len(sizes) != 1 or sizes <= {0, 1}:
        return None
    logits = np.array([scored[place].members for place in found.places])  # [P, members]
    deviation = sigmoid(logits / calibrated.temperature).std(axis=1)
    own = np.array([scored[place].logit for place in found.places])
    high = own >= np.quantile(own, HIGH)
    flagged = high & (deviation >= np.quantile(deviation, SPREAD)) & (deviation > 0)
    scores = sigmoid(own / calibrated.temperature)
    return Ensemble(
        accuracies=tuple(_accuracy(found, column) or 0.0 for column in logits.T),
        mean_accuracy=_accuracy(found, logits.mean(axis=1)),
        spread=float(deviation.mean()),
        flagged=int(flagged.sum()),
        flagged_residual=_residual(found, scores, flagged),
        other_residual=_residual(found, scores, high & ~flagged),
    )


def _accuracy(found: Columns, scores: Floats) -> float | None:
    right, total = metrics.ordered(scores[found.chosen], scores[found.rejected]), found.pair_weights.sum()
    return float(found.pair_weights @ right / total) if total > 0 else None


def _residual(found: Columns, scores: Floats, inside: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float | None:
    rows = inside[found.rated]
    weights, residual = found.weights[rows], (scores[found.rated] - found.ratings)[rows]
    return float(weights @ residual / weights.sum()) if weights.sum() > 0 else None
