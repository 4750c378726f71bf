"""What the request path needs of an inference server. Implemented by `triton` (the real one) and by `fake`; both pass
the same contract tests. Tensors stay behind this border."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.types import Generation, Sampling
from triton_models.serializer import Encoded

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RewardOutput:
    """One row a response: `score` and `logit` are FP32 [N]; `aspects` FP32 [N, 4] where the release has them."""

    score: Floats
    logit: Floats
    aspects: Floats | None = None


class ModelState(StrEnum):
    """How a model stands on an inference server that knows of it."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"


class PolicyBackend(Protocol):
    """Draws texts from a policy model."""

    async def generate(self, model: str, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """One candidate for `prompt` within `timeout` seconds. Cancelling the call stops the generation.

        Raises BackendUnavailable, BackendTimeout, BackendBusy, BackendRefused.
        """


class RewardBackend(Protocol):
    """Scores token rows with a reward model."""

    async def score(self, model: str, rows: Encoded, timeout: float) -> RewardOutput:
        """Scores of `rows`, INT64 [N, L], within `timeout` seconds.

        Raises BackendUnavailable, BackendTimeout, BackendBusy, BackendRefused.
        """


class EncoderBackend(Protocol):
    """Computes an embedding's vectors or a classifier's probabilities."""

    async def encode(self, model: str, rows: Encoded, output: str, width: int, timeout: float) -> Floats:
        """The model's `output` (`contract.EMBEDDING` or `PROBABILITIES`): FP32 [N, width], a row a row, -1 to 1.

        Raises BackendUnavailable, BackendTimeout, BackendBusy, BackendRefused.
        """


class ModelControl(Protocol):
    """Loads and unloads models."""

    async def load(self, model: str, timeout: float) -> None:
        """Returns once the model is ready. Raises BackendError with what the inference server said."""

    async def unload(self, model: str, timeout: float) -> None:
        """Returns once unloading has begun; the model finishes the requests that it has."""

    async def ready(self, model: str) -> bool:
        """Whether the model answers now; false also when the inference server can't be reached."""

    async def index(self, timeout: float) -> Mapping[str, ModelState]:
        """The models that are loaded, being loaded, or being unloaded. Raises BackendError when it can't be asked."""
