"""A reward release as the request path sees it: its serializer and the backend that scores."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from server.backends.inference import RewardBackend, RewardOutput
from server.errors import BackendTimeout
from server.types import Score
from triton_models.contract import BUCKETS
from triton_models.manifest import Release
from triton_models.serializer import Encoded, RewardSerializer


class ServedReward:
    """Scores texts with one reward release. Tokenising happens in `threads`, off the event loop."""

    def __init__(self, release: Release, directory: Path, backend: RewardBackend, threads: Executor) -> None:
        self.release = release
        self._backend, self._threads = backend, threads
        self._serializer = RewardSerializer.load(directory, release.serializer)

    async def score(self, context: str, query: str, responses: Sequence[str], timeout: float) -> list[Score]:
        """One score a response, tokenised and scored within `timeout` seconds. Raises what `RewardBackend` raises."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                rows, full = await loop.run_in_executor(self._threads, self._encode, context, query, responses)
                output = await self._backend.score(self.release.id, rows, timeout)
        except TimeoutError as error:
            raise BackendTimeout(f"The model {self.release.id} did not answer in time.") from error
        return [_score(output, index, truncated) for index, truncated in enumerate(full)]

    def _encode(self, context: str, query: str, responses: Sequence[str]) -> tuple[Encoded, list[bool]]:
        rows = self._serializer.serialize(context, query, responses)
        full = [len(row) >= self._serializer.max_length for row in rows]
        if self.release.batching == "bucketed":
            longest = max(len(row) for row in rows)
            multiple = next((b for b in BUCKETS if b >= longest), self._serializer.max_length)
            return self._serializer.pad(rows, multiple), full
        return self._serializer.pad(rows), full


def _score(output: RewardOutput, index: int, truncated: bool) -> Score:
    aspects = None
    if output.aspects is not None:
        accuracy, helpfulness, clarity, safety = (float(value) for value in output.aspects[index])
        aspects = (accuracy, helpfulness, clarity, safety)
    return Score(min(max(float(output.score[index]), 0.0), 1.0), float(output.logit[index]), aspects, truncated)
