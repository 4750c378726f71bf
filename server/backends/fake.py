"""An inference server in this process: no models, no Triton, the same behaviour at the border.

For developing against Ratchet's API where no model can run (`RATCHET_BACKEND=fake`), and for tests that plant faults.
Texts and scores follow from the inputs alone; it passes the contract tests of `inference`.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field

import numpy as np

from server.backends.inference import RewardOutput
from server.errors import BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from server.types import FinishReason, Generation, Sampling
from triton_models.serializer import Encoded

_OPENINGS = ("Certainly", "Of course", "Thank you for asking", "Here is what I know", "Let me explain")


@dataclass
class Faults:
    """What goes wrong next, in order; each is used up by one call. `delay` (seconds) holds for every call."""

    generate: list[BackendError] = field(default_factory=list)
    score: list[BackendError] = field(default_factory=list)
    delay: float = 0.0


class FakeTriton:
    """Implements PolicyBackend, RewardBackend and ModelControl."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.loaded: set[str] = set()
        self.cancelled = 0

    async def generate(self, model: str, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """See `PolicyBackend.generate`: an opening chosen by the seed, then words of the prompt."""
        await self._pause(model, timeout)
        if self.faults.generate:
            raise self.faults.generate.pop(0)
        digest = _digest(prompt, str(sampling.seed), sampling.preset.name)
        words = prompt.split() or ["nothing"]
        start = digest % len(words)
        text = f"{_OPENINGS[digest % len(_OPENINGS)]}: {' '.join(words[start : start + 12])}"
        tokens = text.split(" ")
        cut = tokens[: sampling.max_tokens]
        reason = FinishReason.LENGTH if len(cut) < len(tokens) else FinishReason.STOP
        return Generation(" ".join(cut), reason, len(cut))

    async def score(self, model: str, rows: Encoded, timeout: float) -> RewardOutput:
        """See `RewardBackend.score`: a score that follows from the row's ids, whatever its padding."""
        await self._pause(model, timeout)
        if self.faults.score:
            raise self.faults.score.pop(0)
        if rows.input_ids.shape != rows.attention_mask.shape or rows.input_ids.ndim != 2:
            raise BackendRefused(f"The model {model} refuses the input: input_ids and attention_mask differ in shape.")
        lengths = rows.attention_mask.sum(axis=1)
        logits = [
            (_digest(ids[:n].tobytes().hex()) % 8001 - 4000) / 1000
            for ids, n in zip(rows.input_ids, lengths, strict=True)
        ]
        logit = np.array(logits, dtype=np.float32)
        return RewardOutput((1 / (1 + np.exp(-logit))).astype(np.float32), logit)

    async def load(self, model: str, timeout: float) -> None:
        """See `ModelControl.load`."""
        self.loaded.add(model)

    async def unload(self, model: str, timeout: float) -> None:
        """See `ModelControl.unload`."""
        self.loaded.discard(model)

    async def ready(self, model: str) -> bool:
        """See `ModelControl.ready`."""
        return model in self.loaded

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


def _digest(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:8], "big")
