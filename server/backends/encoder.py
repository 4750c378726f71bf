"""An embedding or classifier release as callers see it: its serializer and the backend that computes."""

import asyncio
import unicodedata
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

from server.backends.inference import EncoderBackend, Floats
from server.errors import BackendTimeout
from triton_models.contract import REWARD_MAX_BATCH
from triton_models.manifest import Release
from triton_models.serializer import Encoded, Serializer

Texts = Sequence[str] | Sequence[tuple[str, str]]
"""All of one kind: each alone, or each with its second, such as (premise, hypothesis)."""


class ServedEncoder:
    """Computes one output of one release. Tokenising happens in `threads`, off the event loop."""

    def __init__(
        self, release: Release, directory: Path, backend: EncoderBackend, threads: Executor, *, width: int
    ) -> None:
        """`width` is the length of the output's rows. Raises ReleaseError for a tokenizer that can't be read."""
        self.release, self.width = release, width
        self._serializer = Serializer.load(directory, release.serializer)
        self._backend, self._threads = backend, threads
        (self._output,) = release.outputs

    async def rows(self, texts: Texts, timeout: float) -> Floats:
        """FP32 [N, width], computed within `timeout` seconds, in requests of at most REWARD_MAX_BATCH rows.

        Raises what `EncoderBackend` raises.
        """
        found: list[Floats] = []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            async with asyncio.timeout(timeout):
                for start in range(0, len(texts), REWARD_MAX_BATCH):
                    part = texts[start : start + REWARD_MAX_BATCH]
                    batch = await loop.run_in_executor(self._threads, self._batch, part)
                    found.append(await self._compute(batch, max(deadline - loop.time(), 0.001)))
        except TimeoutError as error:
            raise BackendTimeout(f"The model {self.release.id} did not answer in time.") from error
        return np.concatenate(found) if found else np.empty((0, self.width), dtype=np.float32)

    async def _compute(self, batch: Encoded, timeout: float) -> Floats:
        return await self._backend.encode(self.release.id, batch, self._output, self.width, timeout)

    def _batch(self, texts: Texts) -> Encoded:
        alone = [_composed(text) for text in texts if isinstance(text, str)]
        pairs = [(_composed(text[0]), _composed(text[1])) for text in texts if not isinstance(text, str)]
        rows = self._serializer.pairs(pairs) if pairs else self._serializer.texts(alone)
        return self._serializer.batch(rows, self.release.batching)


def _composed(text: str) -> str:
    """Not all tokenizers compose Vietnamese letters by themselves, and models know the composed ones."""
    return unicodedata.normalize("NFC", text)
