"""A reward release as the request path sees it: its serializer and the backend that scores.

Calls that come while others are being scored share the next request to the backend: a busy server pays tokenising's
thread hop and the backend's round trip once for several calls, an idle one makes nobody wait.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from server.backends.inference import RewardBackend, RewardOutput
from server.errors import BackendError, BackendRefused, BackendTimeout
from server.types import Score
from triton_models.contract import REWARD_MAX_BATCH
from triton_models.manifest import Release
from triton_models.serializer import Encoded, RewardSerializer

log = logging.getLogger(__name__)

LANES = 2
"""Requests to the backend at a time: one is scored while the next is tokenised."""


@dataclass(frozen=True, slots=True)
class _Call:
    """Responses to score, until when (in the event loop's seconds), and who waits for it."""

    context: str
    query: str
    responses: Sequence[str]
    deadline: float
    scores: "asyncio.Future[list[Score]]"

    def fail(self, error: BackendError) -> None:
        if not self.scores.done():
            self.scores.set_exception(error)


class ServedReward:
    """Scores texts with one reward release. Tokenising happens in `threads`, off the event loop."""

    def __init__(self, release: Release, directory: Path, backend: RewardBackend, threads: Executor) -> None:
        self.release = release
        self._backend, self._threads = backend, threads
        self._serializer = RewardSerializer.load(directory, release.serializer)
        # Compiled backends batch equal shapes only: each call keeps the bucket of its own length.
        self._rows = REWARD_MAX_BATCH if release.batching == "ragged" else 1
        self._waiting: deque[_Call] = deque()
        self._lanes: set[asyncio.Task[None]] = set()

    async def score(self, context: str, query: str, responses: Sequence[str], timeout: float) -> list[Score]:
        """One score a response, tokenised and scored within `timeout` seconds. Raises what `RewardBackend` raises."""
        loop = asyncio.get_running_loop()
        call = _Call(context, query, responses, loop.time() + timeout, loop.create_future())
        self._waiting.append(call)
        if len(self._lanes) < LANES:
            lane = loop.create_task(self._work())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        try:
            async with asyncio.timeout(timeout):
                return await call.scores
        except TimeoutError as error:
            raise BackendTimeout(f"The model {self.release.id} did not answer in time.") from error

    async def _work(self) -> None:
        """Scores what waits, until nothing does."""
        while calls := self._take():
            try:
                await self._score(calls)
            except BackendRefused as error:
                await self._score_alone(calls, error)
            except Exception as error:  # a lane that ended by it would let its callers wait out their time
                _fail(calls, error)

    def _take(self) -> list[_Call]:
        """The next calls that still have somebody waiting, together of at most `_rows` rows (but at least one call)."""
        calls: list[_Call] = []
        rows = 0
        while self._waiting and (not calls or rows + len(self._waiting[0].responses) <= self._rows):
            call = self._waiting.popleft()
            if not call.scores.done():
                calls.append(call)
                rows += len(call.responses)
        return calls

    async def _score(self, calls: Sequence[_Call]) -> None:
        loop = asyncio.get_running_loop()
        rows, full = await loop.run_in_executor(self._threads, self._encode, calls)
        timeout = max(call.deadline for call in calls) - loop.time()
        output = await self._backend.score(self.release.id, rows, max(timeout, 0.001))
        scores = [_score(output, index, truncated) for index, truncated in enumerate(full)]
        for call in calls:
            mine, scores = scores[: len(call.responses)], scores[len(call.responses) :]
            if not call.scores.done():
                call.scores.set_result(mine)

    async def _score_alone(self, calls: Sequence[_Call], error: BackendRefused) -> None:
        """One call's rows may be what the backend refuses: each is tried by itself, so the others don't suffer."""
        if len(calls) == 1:
            calls[0].fail(error)
            return
        for call in calls:
            try:
                await self._score([call])
            except Exception as failure:
                _fail([call], failure)

    def _encode(self, calls: Sequence[_Call]) -> tuple[Encoded, list[bool]]:
        rows = [row for call in calls for row in self._serializer.serialize(call.context, call.query, call.responses)]
        full = [len(row) >= self._serializer.max_length for row in rows]
        return self._serializer.batch(rows, self.release.batching), full


def _fail(calls: Sequence[_Call], error: Exception) -> None:
    if not isinstance(error, BackendError):
        log.error("scoring failed", exc_info=error)
        error = BackendError("A defect in scoring; the server's log has it.")
    for call in calls:
        call.fail(error)


def _score(output: RewardOutput, index: int, truncated: bool) -> Score:
    aspects = None
    if output.aspects is not None:
        accuracy, helpfulness, clarity, safety = (float(value) for value in output.aspects[index])
        aspects = (accuracy, helpfulness, clarity, safety)
    return Score(min(max(float(output.score[index]), 0.0), 1.0), float(output.logit[index]), aspects, truncated)
