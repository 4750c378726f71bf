"""The client of a real Triton, over its gRPC endpoint. Implements the protocols of `inference`.

Speaks the raw stubs: the wrapper of tritonclient copies each tensor once more and hides cancellation.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from server.backends import codec
from server.backends.inference import Floats, ModelState, RewardOutput
from server.errors import BackendBusy, BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from server.types import Generation, Sampling
from triton_models.contract import QUEUE_FULL, UNLOADING
from triton_models.serializer import Encoded

_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.enable_http_proxy", 0),
    # A Triton that restarts is back in seconds: do not back off for minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
CONNECT_SECONDS = 5.0
"""More than the longest back-off of the connection."""
_STATES = {state.name: state for state in ModelState}
"""By Triton's names for them; what it tells of others is why they are not loaded."""


class TritonClient:
    """One Triton replica, addressed by itself."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self.stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def close(self) -> None:
        """Closes the connection; calls under way fail."""
        await self._channel.close()

    async def generate(self, model: str, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """See `PolicyBackend.generate`. Each candidate has a stream of its own: cancelling one leaves the others."""
        call = self.stub.ModelStreamInfer(_once(codec.policy_request(model, prompt, sampling)), timeout=timeout)
        found: Generation | None = None
        try:
            async for response in call:
                if response.error_message:
                    raise _refusal(model, response.error_message)
                found = codec.generation(response.infer_response) or found
        except grpc.aio.AioRpcError as error:
            raise translate(model, error) from error
        finally:
            call.cancel()
        if found is None:
            raise BackendRefused(f"The model {model} ended its stream without a text.")
        return found

    async def score(self, model: str, rows: Encoded, timeout: float) -> RewardOutput:
        """See `RewardBackend.score`."""
        response = await self._call(model, self.stub.ModelInfer, codec.encoder_request(model, rows), timeout)
        return codec.reward_output(response, len(rows.input_ids))

    async def encode(self, model: str, rows: Encoded, output: str, width: int, timeout: float) -> Floats:
        """See `EncoderBackend.encode`."""
        response = await self._call(model, self.stub.ModelInfer, codec.encoder_request(model, rows), timeout)
        return codec.encoder_output(response, output, len(rows.input_ids), width)

    async def load(self, model: str, timeout: float) -> None:
        """See `ModelControl.load`. Waits CONNECT_SECONDS at most for a Triton that is away."""
        await self._connected(min(timeout, CONNECT_SECONDS))
        request = pb.RepositoryModelLoadRequest(model_name=model)
        try:
            await self.stub.RepositoryModelLoad(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL):
                raise BackendRefused(error.details() or f"it gives no reason for {model}.") from error
            raise translate(model, error) from error

    async def unload(self, model: str, timeout: float) -> None:
        """See `ModelControl.unload`."""
        request = pb.RepositoryModelUnloadRequest(model_name=model)
        await self._call(model, self.stub.RepositoryModelUnload, request, timeout)

    async def ready(self, model: str) -> bool:
        """See `ModelControl.ready`."""
        try:
            answer = await self._call(model, self.stub.ModelReady, pb.ModelReadyRequest(name=model), 2.0)
        except BackendError:
            return False
        return bool(answer.ready)

    async def index(self, timeout: float) -> Mapping[str, ModelState]:
        """See `ModelControl.index`. Does not wait for a Triton that is away."""
        answer = await self._call("", self.stub.RepositoryIndex, pb.RepositoryIndexRequest(), timeout)
        return {model.name: _STATES[model.state] for model in answer.models if model.state in _STATES}

    async def version(self, timeout: float) -> str:
        """Triton's own version. Waits up to `timeout` seconds for the server to be there."""
        call = self.stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=timeout, wait_for_ready=True)
        try:
            return str((await call).version)
        except grpc.aio.AioRpcError as error:
            raise translate("", error) from error

    async def _connected(self, timeout: float) -> None:
        """Returns when Triton can be asked: a call at once would only be told that it was away a moment ago."""
        try:
            async with asyncio.timeout(timeout):
                await self._channel.channel_ready()
        except TimeoutError as error:
            raise BackendUnavailable(f"Triton can't be reached at {self.address}.") from error

    async def _call(self, model: str, method: Any, request: Any, timeout: float) -> Any:
        try:
            return await method(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise translate(model, error) from error


async def _once(request: Any) -> AsyncIterator[Any]:
    yield request


def translate(model: str, error: grpc.aio.AioRpcError) -> BackendError:
    """Triton's gRPC error as ours. `model`: "" for what was asked of Triton itself."""
    detail = error.details() or error.code().name
    asked = _named(model)
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return BackendTimeout(f"{asked} did not answer in time.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return BackendBusy(f"{asked} has too much to do: {detail}")
        case grpc.StatusCode.UNAVAILABLE if _says_full(detail):
            return BackendBusy(f"{asked} has too much to do: {detail}")
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.INTERNAL:
            return _refusal(model, detail)
        case _:
            return BackendUnavailable(f"{asked} can't be reached{' at Triton' if model else ''}: {detail}")


def _named(model: str) -> str:
    return f"The model {model}" if model else "Triton"


def _refusal(model: str, message: str) -> BackendError:
    """Triton reports many things as one text; a full queue and a missing model are told from a refusal by it."""
    asked = _named(model)
    if _says_full(message):
        return BackendBusy(f"{asked} has too much to do: {message}")
    if UNLOADING in message or "unknown model" in message or "not ready" in message:
        return BackendUnavailable(f"{asked} is not loaded: {message}")
    return BackendRefused(f"{asked} refuses the input: {message}")


def _says_full(message: str) -> bool:
    """Our policy's queue, or one of Triton's own ("Exceeds maximum queue size")."""
    return QUEUE_FULL in message or "maximum queue size" in message
