"""InferenceService: Generate, StreamGenerate and Score."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc
from server.errors import BackendBusy, BackendError, BackendTimeout, DeadlineExceeded, Overloaded, RewardUnavailable
from server.feedback.receipts import Receipts
from server.progress import Observer, Progress, ignore
from server.rpc.messages import Defaults, event_of, given_of, response_of, response_score_of, turn_of
from server.rpc.validation import require_valid
from server.types import Reply, Score, Turn
from triton_models.manifest import Release

Context = Any  # grpc.aio.ServicerContext, whose stubs are generic and whose class is not


READING_SECONDS = 10.0
"""What the caller of a stream gets beyond the deadline to read what was sent."""


class Answering(Protocol):
    """What Generate needs: `server.pipeline.Pipeline`."""

    async def answer(self, turn: Turn, watch: Observer = ignore) -> Reply:
        """The reply to a turn."""


class Scoring(Protocol):
    """What Score needs: the reward release in service."""

    release: Release

    async def score(self, context: str, query: str, responses: Sequence[str], timeout: float) -> list[Score]:
        """One score a response."""


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """See protos/ratchet/v1/inference.proto."""

    def __init__(
        self, pipeline: Answering, champion: Callable[[], Scoring], receipts: Receipts, defaults: Defaults
    ) -> None:
        self._pipeline, self._champion, self._receipts, self._defaults = pipeline, champion, receipts, defaults

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        """Answers a query with the best of N candidates."""
        require_valid(request)
        turn = turn_of(request, context.time_remaining(), self._defaults)
        return self._response(turn, await self._pipeline.answer(turn))

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: Context
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        """Generate, and what happens on the way."""
        require_valid(request)
        turn = turn_of(request.request, context.time_remaining(), self._defaults)
        events: asyncio.Queue[Progress | None] = asyncio.Queue()  # bounded by the number of tools and candidates
        loop, call = asyncio.get_running_loop(), asyncio.current_task()
        assert call is not None
        # The answer ends by its deadline; a caller who does not read it must not keep this call for ever.
        reading = loop.call_at(turn.deadline + READING_SECONDS, call.cancel)
        answering = asyncio.create_task(self._pipeline.answer(turn, events.put_nowait))
        answering.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (progress := await events.get()) is not None:
                yield event_of(progress)
            yield pb.StreamGenerateResponse(result=self._response(turn, await answering))
        finally:  # the caller may have left
            reading.cancel()
            answering.cancel()
            await asyncio.wait([answering])

    def _response(self, turn: Turn, reply: Reply) -> pb.GenerateResponse:
        response = response_of(reply)
        response.receipt = self._receipts.make(given_of(turn, reply))
        return response

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """Scores responses to a query."""
        require_valid(request)
        remaining = context.time_remaining()
        seconds = min(self._defaults.deadline_seconds if remaining is None else remaining, self._defaults.max_seconds)
        reward = self._champion()
        try:
            scores = await reward.score(request.context, request.query, request.responses, seconds)
        except BackendTimeout as error:
            raise DeadlineExceeded(str(error)) from error
        except BackendBusy as error:
            raise Overloaded(str(error), retry_after=0.5) from error
        except BackendError as error:
            raise RewardUnavailable(str(error)) from error
        return pb.ScoreResponse(scores=[response_score_of(score) for score in scores], reward_release=reward.release.id)
