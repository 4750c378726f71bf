"""The KServe V2 / Open Inference endpoint for the reward model in service, so that tritonclient and perf_analyzer work
against Ratchet unchanged. The model `reward` is an alias of the champion; its release's own id works too.

Only ModelInfer, metadata, configuration, statistics and health: loading and unloading is not for callers.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from server.backends.triton import TritonClient, translate
from server.errors import ModelNotFound

Context = Any  # grpc.aio.ServicerContext, whose stubs are generic and whose class is not
ALIAS = "reward"
UNASKED_SECONDS = 30.0
"""For a caller who sets no deadline."""
_PASSED_ON = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
"""The caller's own mistakes: Triton's words help a KServe client most."""


class OpenInferenceService(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # tritonclient is untyped
    """Forwards to Triton with the alias replaced. `longest`: seconds that a call may take."""

    def __init__(self, triton: TritonClient, champion: Callable[[], str], version: str, longest: float) -> None:
        self._stub, self._champion, self._version, self._longest = triton.stub, champion, version, longest

    async def ServerLive(self, request: Any, context: Context) -> Any:
        """Whether this process answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Context) -> Any:
        """Whether the champion answers."""
        answer = await self._forward(self._stub.ModelReady, pb.ModelReadyRequest(name=self._champion()), context)
        return pb.ServerReadyResponse(ready=answer.ready)

    async def ModelReady(self, request: Any, context: Context) -> Any:
        """Whether the named model answers; false for one that is not served."""
        if request.name not in (ALIAS, self._champion()):
            return pb.ModelReadyResponse(ready=False)
        request.name = self._champion()
        return await self._forward(self._stub.ModelReady, request, context)

    async def ServerMetadata(self, request: Any, context: Context) -> Any:
        """Name and version of Ratchet; the extensions are Triton's."""
        answer = await self._forward(self._stub.ServerMetadata, request, context)
        answer.name, answer.version = "ratchet", self._version
        return answer

    async def ModelMetadata(self, request: Any, context: Context) -> Any:
        """Inputs and outputs of the model, under the name that was asked for."""
        asked = self._resolve(request)
        answer = await self._forward(self._stub.ModelMetadata, request, context)
        answer.name = asked
        return answer

    async def ModelConfig(self, request: Any, context: Context) -> Any:
        """Triton's configuration of the model, under the name that was asked for."""
        asked = self._resolve(request)
        answer = await self._forward(self._stub.ModelConfig, request, context)
        answer.config.name = asked
        return answer

    async def ModelStatistics(self, request: Any, context: Context) -> Any:
        """Triton's statistics of the model, under the name that was asked for."""
        request.name = request.name or ALIAS
        asked = self._resolve(request)
        answer = await self._forward(self._stub.ModelStatistics, request, context)
        for model in answer.model_stats:
            model.name = asked
        return answer

    async def ModelInfer(self, request: Any, context: Context) -> Any:
        """The model's outputs for the given tensors."""
        asked = request.model_name
        request.model_name = self._known(asked)
        answer = await self._forward(self._stub.ModelInfer, request, context)
        answer.model_name = asked
        return answer

    def _resolve(self, request: Any) -> str:
        """Puts the release's id in the request; gives the name that was asked for."""
        asked = str(request.name)
        request.name = self._known(asked)
        return asked

    def _known(self, name: str) -> str:
        champion = self._champion()
        if name not in (ALIAS, champion):
            raise ModelNotFound(f"No model {name!r} is served here; ask for {ALIAS!r} or {champion!r}.")
        return champion

    async def _forward(self, method: Callable[..., Awaitable[Any]], request: Any, context: Context) -> Any:
        remaining = context.time_remaining()
        seconds = min(UNASKED_SECONDS if remaining is None else remaining, self._longest)
        try:
            return await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() in _PASSED_ON:
                await context.abort(error.code(), error.details() or "")
            raise translate(self._champion(), error) from error
