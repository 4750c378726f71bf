"""A model, its optimiser and one step of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from exporters.reward_model import RewardModel
from trainer.data.inputs import Rows
from trainer.errors import TrainerError
from trainer.reward import metrics
from trainer.reward.batching import Indices, PairIndex
from trainer.reward.config import TrainConfig
from trainer.reward.devices import Device
from trainer.reward.losses import Losses, Targets, losses
from trainer.reward.prediction import logits
from trainer.reward.schedule import peak, rate, warmup

FIGURES: Final = ("loss", "mse_loss", "ranking_loss", "aspect_loss", "gradient_norm")


@dataclass(frozen=True, slots=True)
class Step:
    """What a step came to; `figures` are on the device, so that reading them does not hold the next step up."""

    figures: torch.Tensor
    learning_rate: float
    responses: int
    tokens: int  # of them, without padding
    computed: int  # tokens, padding included

    def values(self) -> dict[str, float]:
        """By name. Raises TrainerError when a loss or the gradient is no number any more."""
        found = dict(zip(FIGURES, self.figures.tolist(), strict=True))
        if not np.isfinite(list(found.values())).all():
            raise TrainerError("The loss or its gradient is no number any more: train with a lower learning_rate.")
        return found | {"learning_rate": self.learning_rate}


class Learner:
    """Trains a model on `rows`, a batch at a time, for about `steps` steps; `peak` is the highest learning rate."""

    def __init__(self, model: RewardModel, rows: Rows, config: TrainConfig, device: Device, steps: int) -> None:
        self.model = model.to(device.place).train()
        self.optimizer = _optimizer(model, config)
        self._rows = rows
        self._pairs = PairIndex(rows)
        self._config = config
        self._device = device
        self._steps = steps
        self.peak = _peak(model, config)
        self._warm = warmup(steps, config.warmup_steps, config.warmup_share)

    def step(self, number: int, batch: Indices) -> Step:
        """Step `number` (from 0)."""
        share = rate(number, self._steps, self._warm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * share
        found, order, computed = self._device.logits(self.model, self._rows, batch)
        lost = losses(found, self._targets(order), self._config)
        lost.loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._config.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        figures = torch.stack([*_parts(lost), norm]).detach()
        tokens = int(self._rows.lengths[batch].sum())
        return Step(figures, self.peak * share, len(batch), tokens, computed)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        cuda = torch.cuda.get_rng_state() if self._device.place.type == "cuda" else None
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "cuda_random": cuda,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if state["cuda_random"] is not None and self._device.place.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_random"])

    def _targets(self, order: Indices) -> Targets:
        pairs, chosen, rejected = self._pairs.within(order)
        return targets(self._rows, order, pairs, chosen, rejected).to(self._device.place)


def validate(model: RewardModel, rows: Rows, config: TrainConfig, device: Device) -> dict[str, float]:
    """The losses over all rows and pairs, and the weighted share of pairs in the right order (ties count half).

    `rows` are not empty. Raises TrainerError for losses that are no numbers.
    """
    found = logits(model, rows, device)
    every = targets(rows, np.arange(len(rows)), np.arange(len(rows.chosen)), rows.chosen, rows.rejected)
    parts = _parts(losses(torch.from_numpy(found).float(), every, config))
    names = ("validation_loss", "validation_mse", "validation_ranking", "validation_aspect")
    values = dict(zip(names, (float(part) for part in parts), strict=True))
    if not np.isfinite(list(values.values())).all():
        raise TrainerError("The validation loss is no number any more: train with a lower learning_rate.")
    if rows.pair_weights.any():
        right = metrics.ordered(found[rows.chosen, 0], found[rows.rejected, 0])
        values["validation_accuracy"] = float(np.average(right, weights=rows.pair_weights))
    return values


def targets(rows: Rows, order: Indices, pairs: Indices, chosen: Indices, rejected: Indices) -> Targets:
    """Of the rows `order` and the pairs `pairs`, which lie at the places `chosen` and `rejected` of `order`."""
    return Targets(
        ratings=_floats(rows.ratings[order]),
        weights=_floats(rows.weights[order]),
        aspects=_floats(rows.aspects[order]),
        chosen=torch.from_numpy(chosen),
        rejected=torch.from_numpy(rejected),
        margins=_floats(rows.margins[pairs]),
        pair_weights=_floats(rows.pair_weights[pairs]),
    )


def _peak(model: RewardModel, config: TrainConfig) -> float:
    width = int(model.inner.config.hidden_size)
    return peak(config.learning_rate, width) if config.scale_rate else config.learning_rate


def _optimizer(model: RewardModel, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019); biases and the scales of norms don't decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _parts(lost: Losses) -> tuple[torch.Tensor, ...]:
    return lost.loss, lost.mse, lost.ranking, lost.aspect


def _floats(values: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
