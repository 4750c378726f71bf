"""The client of a real Triton, over its gRPC endpoint. Implements the protocols of `inference`.

Speaks the raw stubs: the wrapper of tritonclient copies each tensor once more and hides cancellation.
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from server.backends import codec
from server.backends.inference import RewardOutput
from server.errors import BackendBusy, BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from server.types import Generation, Sampling
from triton_models.serializer import Encoded

_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.enable_http_proxy", 0),
    # A Triton that restarts is back in seconds: do not back off for minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


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
        response = await self._call(model, self.stub.ModelInfer, codec.reward_request(model, rows), timeout)
        return codec.reward_output(response, len(rows.input_ids))

    async def load(self, model: str, timeout: float) -> None:
        """See `ModelControl.load`."""
        request = pb.RepositoryModelLoadRequest(model_name=model)
        await self._call(model, self.stub.RepositoryModelLoad, request, timeout)

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

    async def version(self, timeout: float) -> str:
        """Triton's own version. Waits up to `timeout` seconds for the server to be there."""
        call = self.stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=timeout, wait_for_ready=True)
        try:
            return str((await call).version)
        except grpc.aio.AioRpcError as error:
            raise translate("", error) from error

    async def _call(self, model: str, method: Any, request: Any, timeout: float) -> Any:
        try:
            return await method(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise translate(model, error) from error


async def _once(request: Any) -> AsyncIterator[Any]:
    yield request


def translate(model: str, error: grpc.aio.AioRpcError) -> BackendError:
    """Triton's gRPC error as ours."""
    detail = error.details() or error.code().name
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return BackendTimeout(f"The model {model} did not answer in time.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return BackendBusy(f"The model {model} has too much to do: {detail}")
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.INTERNAL:
            return _refusal(model, detail)
        case _:
            return BackendUnavailable(f"The model {model} can't be reached at Triton: {detail}")


def _refusal(model: str, message: str) -> BackendError:
    """Triton reports many things as one text; a full queue and a missing model are told from a refusal by it."""
    if "queue" in message and ("full" in message or "exceed" in message.lower()):
        return BackendBusy(f"The model {model} has too much to do: {message}")
    if "unknown model" in message or "not ready" in message:
        return BackendUnavailable(f"The model {model} is not loaded: {message}")
    return BackendRefused(f"The model {model} refuses the input: {message}")
