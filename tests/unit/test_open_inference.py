"""What the Open Inference endpoint asks of Triton."""

from types import SimpleNamespace
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from server.rpc.open_inference import OpenInferenceService


@pytest.mark.parametrize(("remaining", "granted"), [(600.0, 120.0), (5.0, 5.0), (None, 30.0)])
async def test_a_call_takes_no_longer_than_any_may(remaining: float | None, granted: float) -> None:
    """Else a release would be unloaded under it."""
    asked: list[tuple[str, float]] = []

    async def infer(request: Any, timeout: float) -> Any:
        asked.append((request.model_name, timeout))
        return pb.ModelInferResponse(model_name=request.model_name)

    triton: Any = SimpleNamespace(stub=SimpleNamespace(ModelInfer=infer))
    service = OpenInferenceService(triton, lambda: "reward-000007", "1.0", 120.0)
    context = SimpleNamespace(time_remaining=lambda: remaining)
    answer = await service.ModelInfer(pb.ModelInferRequest(model_name="reward"), context)
    assert (answer.model_name, asked) == ("reward", [("reward-000007", granted)])
