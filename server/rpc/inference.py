"""InferenceService: Generate and Score."""

from collections.abc import Sequence
from typing import Any, Protocol

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc
from server.errors import BackendBusy, BackendError, BackendTimeout, DeadlineExceeded, Overloaded, RewardUnavailable
from server.rpc.messages import Defaults, response_of, response_score_of, turn_of
from server.rpc.validation import require_valid
from server.types import Reply, Score, Turn
from triton_models.manifest import Release

Context = Any  # grpc.aio.ServicerContext, whose stubs are generic and whose class is not


class Answering(Protocol):
    """What Generate needs: `server.pipeline.Pipeline`."""

    async def answer(self, turn: Turn) -> Reply:
        """The reply to a turn."""


class Scoring(Protocol):
    """What Score needs: the reward release in service."""

    release: Release

    async def score(self, context: str, query: str, responses: Sequence[str], timeout: float) -> list[Score]:
        """One score a response."""


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """See protos/ratchet/v1/inference.proto."""

    def __init__(self, pipeline: Answering, reward: Scoring, defaults: Defaults) -> None:
        self._pipeline, self._reward, self._defaults = pipeline, reward, defaults

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        """Answers a query with the best of N candidates."""
        require_valid(request)
        turn = turn_of(request, context.time_remaining(), self._defaults)
        return response_of(await self._pipeline.answer(turn))

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """Scores responses to a query."""
        require_valid(request)
        remaining = context.time_remaining()
        seconds = min(self._defaults.deadline_seconds if remaining is None else remaining, self._defaults.max_seconds)
        try:
            scores = await self._reward.score(request.context, request.query, request.responses, seconds)
        except BackendTimeout as error:
            raise DeadlineExceeded(str(error)) from error
        except BackendBusy as error:
            raise Overloaded(str(error), retry_after=0.5) from error
        except BackendError as error:
            raise RewardUnavailable(str(error)) from error
        return pb.ScoreResponse(
            scores=[response_score_of(score) for score in scores], reward_release=self._reward.release.id
        )
