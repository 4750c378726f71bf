"""What training makes small: alpha * MSE of scores + beta * ranking of logits + the aspects' MSE. Pure.

The ranking is Bradley and Terry's (1952) with a margin (Touvron et al. 2023, Llama 2), smoothed labels and centering
(Eisenstein et al. 2023). It is on logits: between two sigmoids it could never be surer than 0.731.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.reward.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Targets:
    """What a batch of N responses with P pairs should come out as.

    `ratings` [N] and `aspects` [N, A] are 0..1, NaN where there is none; `weights` [N] count only where there is a
    rating. `chosen` and `rejected` [P] are places among the N; `margins` [P] are gaps of ratings, 0..1.
    """

    ratings: Tensor
    weights: Tensor
    aspects: Tensor
    chosen: Tensor
    rejected: Tensor
    margins: Tensor
    pair_weights: Tensor

    def to(self, device: torch.device) -> "Targets":
        """The same on another device."""
        return Targets(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Losses:
    """Scalars; `loss` is the weighted sum that is trained on. A part with nothing to learn from is 0."""

    loss: Tensor
    mse: Tensor
    ranking: Tensor
    aspect: Tensor


def losses(logits: Tensor, targets: Targets, config: TrainConfig) -> Losses:
    """Of `logits` [N, 1 + A]: overall, then the aspects."""
    overall = logits[:, 0]
    mse = squared_error(overall, targets.ratings, targets.weights)
    ranking = preference(overall, targets, config)
    rated = torch.ones_like(targets.aspects)
    aspect = squared_error(logits[:, 1:], targets.aspects, rated)
    total = config.alpha * mse + config.beta * ranking + config.aspect_weight * aspect
    return Losses(total, mse, ranking, aspect)


def squared_error(logits: Tensor, ratings: Tensor, weights: Tensor) -> Tensor:
    """The mean of weight * (sigmoid(logit) - rating)^2 over what has a rating (is not NaN); 0 when nothing has.

    Divided by their number, not by their weights: otherwise a batch of distrusted ratings would count in full.
    """
    known = ~ratings.isnan()
    gap = torch.where(known, logits.sigmoid() - ratings.nan_to_num(), 0.0)
    return (weights * gap.square()).sum() / known.sum().clamp(min=1)


def preference(logits: Tensor, targets: Targets, config: TrainConfig) -> Tensor:
    """The weighted mean of the pairs' losses, 0 without pairs.

    A pair whose responses have no rating is centred: nothing else says where the middle of its logits is, while
    rated ones would be drawn away from their ratings.
    """
    chosen, rejected = logits[targets.chosen], logits[targets.rejected]
    each = bradley_terry(chosen - rejected, config.margin_scale * targets.margins, config.label_smoothing)
    unrated = (targets.ratings[targets.chosen].isnan() & targets.ratings[targets.rejected].isnan()).to(each.dtype)
    each = each + config.centering * unrated * (chosen + rejected).square()
    return (targets.pair_weights * each).sum() / max(1, len(targets.margins))


def bradley_terry(leads: Tensor, margins: Tensor, smoothing: float) -> Tensor:
    """The cross-entropy of sigmoid(lead - margin) to 1 - smoothing: softened labels (Szegedy et al. 2016).

    It is least where the lead is margin + logit(1 - smoothing): smoothing bounds how far beyond its margin a pair is
    drawn. A pair whose label errs is not thought to have the same margin the other way: nobody measured one there.
    """
    beyond = leads - margins
    return (1 - smoothing) * functional.softplus(-beyond) + smoothing * functional.softplus(beyond)
