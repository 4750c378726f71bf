"""An inference server in this process: no models, no Triton, the same behaviour at the border.

For developing against Ratchet's API where no model can run (`RATCHET_BACKEND=fake`), and for tests that plant faults.
Texts and scores follow from the inputs alone, and pass the quality checks; it passes the contract tests of `inference`.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from server.backends.fake_texts import answer
from server.backends.inference import Floats, ModelState, RewardOutput
from server.errors import BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from server.types import FinishReason, Generation, Sampling
from triton_models import contract
from triton_models.serializer import Encoded

LOWEST, HIGHEST = 0.61, 0.97
"""Scores are spread evenly between these: above the threshold of most releases, so that any candidate may be chosen."""


@dataclass
class Faults:
    """What goes wrong next, in order; each is used up by one call. `delay` (seconds) holds for every call."""

    generate: list[BackendError] = field(default_factory=list)
    score: list[BackendError] = field(default_factory=list)
    encode: list[BackendError] = field(default_factory=list)
    delay: float = 0.0


class FakeTriton:
    """Implements PolicyBackend, RewardBackend, EncoderBackend and ModelControl."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.loaded: set[str] = set()
        self.cancelled = 0

    async def generate(self, model: str, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """See `PolicyBackend.generate`: a sample chosen by prompt, seed and preset, in the prompt's language."""
        await self._pause(model, timeout)
        if self.faults.generate:
            raise self.faults.generate.pop(0)
        tokens = answer(prompt, _digest(prompt, str(sampling.seed), sampling.preset.name)).split(" ")
        cut = tokens[: sampling.max_tokens]
        reason = FinishReason.LENGTH if len(cut) < len(tokens) else FinishReason.STOP
        return Generation(" ".join(cut), reason, len(cut))

    async def score(self, model: str, rows: Encoded, timeout: float) -> RewardOutput:
        """See `RewardBackend.score`: a score that follows from the row's ids, whatever its padding."""
        await self._pause(model, timeout)
        if self.faults.score:
            raise self.faults.score.pop(0)
        share = np.array([digest / 2**64 for digest in _digests(model, rows)])
        score = LOWEST + (HIGHEST - LOWEST) * share
        return RewardOutput(score.astype(np.float32), np.log(score / (1 - score)).astype(np.float32))

    async def encode(self, model: str, rows: Encoded, output: str, width: int, timeout: float) -> Floats:
        """See `EncoderBackend.encode`: random rows that follow from the row's ids, whatever its padding."""
        await self._pause(model, timeout)
        if self.faults.encode:
            raise self.faults.encode.pop(0)
        drawn = np.array([np.random.default_rng(seed).standard_normal(width) for seed in _digests(model, rows)])
        if output == contract.PROBABILITIES:
            drawn = np.exp(drawn) / np.exp(drawn).sum(axis=1, keepdims=True)
        else:
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn.astype(np.float32)

    async def load(self, model: str, timeout: float) -> None:
        """See `ModelControl.load`."""
        self.loaded.add(model)

    async def unload(self, model: str, timeout: float) -> None:
        """See `ModelControl.unload`."""
        self.loaded.discard(model)

    async def ready(self, model: str) -> bool:
        """See `ModelControl.ready`."""
        return model in self.loaded

    async def index(self, timeout: float) -> Mapping[str, ModelState]:
        """See `ModelControl.index`."""
        return dict.fromkeys(self.loaded, ModelState.READY)

    async def _pause(self, model: str, timeout: float) -> None:
        if model not in self.loaded:
            raise BackendUnavailable(f"The model {model} is not loaded.")
        try:
            await asyncio.wait_for(asyncio.sleep(self.faults.delay), timeout)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except TimeoutError:
            raise BackendTimeout(f"The model {model} did not answer in time.") from None


def _digests(model: str, rows: Encoded) -> list[int]:
    """A number a row that follows from its ids."""
    if rows.input_ids.shape != rows.attention_mask.shape or rows.input_ids.ndim != 2:
        raise BackendRefused(f"The model {model} refuses the input: input_ids and attention_mask differ in shape.")
    lengths = rows.attention_mask.sum(axis=1)
    return [_digest(ids[:n].tobytes().hex()) for ids, n in zip(rows.input_ids, lengths, strict=True)]


def _digest(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:8], "big")
