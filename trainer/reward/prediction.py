"""What a trained model says of rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from exporters.errors import ExportError
from exporters.reward_model import RewardModel
from trainer.data.inputs import Rows
from trainer.errors import TrainerError
from trainer.reward import devices
from trainer.reward.devices import Device
from trainer.reward.job import Heed, unheeding


@dataclass(frozen=True, slots=True)
class Predictions:
    """Uncalibrated logits in the rows' order: overall [N], aspects [N, 4] (None: the model was not taught them)."""

    logits: NDArray[np.float64]
    aspects: NDArray[np.float64] | None


def predict(model: Path, rows: Rows, *, threads: int = 0, heed: Heed = unheeding) -> Predictions:
    """The logits of the model in the directory `model`, row by row. Raises TrainerError.

    In fp32, however it was trained: what is judged and calibrated is served that way.
    """
    device = Device.find("fp32")
    try:
        loaded = RewardModel.load(model).to(device.place)
    except ExportError as error:
        raise TrainerError(str(error)) from error
    with devices.threads(threads):
        found = logits(loaded, rows, device, heed)
    return Predictions(found[:, 0], found[:, 1:] if loaded.aspects else None)


def logits(model: RewardModel, rows: Rows, device: Device, heed: Heed = unheeding) -> NDArray[np.float64]:
    """[N, 5] in the rows' order, without dropout; the model is left in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            found, order, _ = device.logits(model, rows, np.arange(len(rows)), heed)
    finally:
        model.train(training)
    placed = np.empty(tuple(found.shape), dtype=np.float64)
    placed[order] = found.cpu().numpy()
    return placed
