"""What the request path may expect of an inference server: the fake and a real Triton with the starter models pass the
same tests."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.backends import triton as triton_client
from server.backends.fake import FakeTriton
from server.backends.triton import TritonClient
from server.errors import BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from server.models import Source, deploy, load, served_policy
from server.settings import STARTER
from server.types import FinishReason, Preset, Sampling
from tests.conftest import RunningStack
from triton_models.config import Options
from triton_models.manifest import read
from triton_models.serializer import Encoded, RewardSerializer

POLICY, REWARD = "policy-000001", "reward-000001"
WARM = Preset("temperature_1.0", 1.0, 0.95)
QUERY = "How long does delivery take?"


PROMPT = served_policy(STARTER / POLICY, FakeTriton()).render([{"role": "user", "content": QUERY}])


@pytest.fixture(scope="session")
async def triton(stack: RunningStack) -> AsyncIterator[TritonClient]:
    repository = stack.endpoints.model_repository
    assert repository is not None
    client = TritonClient(stack.endpoints.triton_url)
    await deploy(Source("policy", STARTER / POLICY, Options()), repository)
    await deploy(Source("reward", STARTER / REWARD, Options()), repository)
    await load((POLICY, REWARD), client)
    yield client
    await client.close()


@pytest.fixture(params=["fake", "triton"])
async def backend(request: pytest.FixtureRequest, triton: TritonClient) -> Any:
    if request.param == "triton":
        return triton
    fake = FakeTriton()
    await load((POLICY, REWARD), fake)
    return fake


@pytest.fixture(scope="module")
def serializer() -> RewardSerializer:
    directory: Path = STARTER / REWARD
    return RewardSerializer.load(directory, read(directory).serializer)


def rows(serializer: RewardSerializer, *responses: str, multiple: int = 1) -> Encoded:
    return serializer.pad(serializer.serialize("", QUERY, responses), multiple)


async def test_a_candidate_has_a_text_a_reason_and_a_length(backend: Any) -> None:
    found = await backend.generate(POLICY, PROMPT, Sampling(WARM, 1, 64), 30)
    assert found.text.strip()
    assert found.finish_reason in set(FinishReason)
    assert 0 < found.output_tokens <= 64


async def test_the_token_limit_cuts_and_says_so(backend: Any) -> None:
    found = await backend.generate(POLICY, PROMPT, Sampling(WARM, 1, 2), 30)
    assert found.finish_reason is FinishReason.LENGTH
    assert found.output_tokens == 2


async def test_many_at_once_are_all_answered(backend: Any) -> None:
    calls = [backend.generate(POLICY, f"{PROMPT} {i}", Sampling(WARM, i, 16), 60) for i in range(40)]
    assert all(found.text for found in await asyncio.gather(*calls))


async def test_scores_are_probabilities_and_follow_their_rows(backend: Any, serializer: RewardSerializer) -> None:
    texts = ["Yes.", "You can return it within thirty days.", "🎉 Cảm ơn bạn", "Yes."]
    together = (await backend.score(REWARD, rows(serializer, *texts), 30)).score
    assert together.shape == (4,)
    assert ((together >= 0) & (together <= 1)).all()
    assert together[0] == pytest.approx(together[3], abs=1e-6)
    alone = [(await backend.score(REWARD, rows(serializer, text), 30)).score[0] for text in texts]
    assert together == pytest.approx(np.array(alone), abs=0.02)  # int8 activations are scaled by batch


async def test_padding_changes_nothing(backend: Any, serializer: RewardSerializer) -> None:
    tight, loose = rows(serializer, "Yes, gladly."), rows(serializer, "Yes, gladly.", multiple=64)
    assert loose.input_ids.shape[1] > tight.input_ids.shape[1]
    scores = [(await backend.score(REWARD, each, 30)).score[0] for each in (tight, loose)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


async def test_rows_of_different_shape_are_refused(backend: Any, serializer: RewardSerializer) -> None:
    good = rows(serializer, "Yes.")
    bad = Encoded(good.input_ids, good.attention_mask[:, :-1], good.token_type_ids)
    with pytest.raises(BackendRefused):
        await backend.score(REWARD, bad, 30)


async def test_what_is_late_is_a_timeout(backend: Any) -> None:
    if isinstance(backend, FakeTriton):
        backend.faults.delay = 5
    with pytest.raises(BackendTimeout):
        await backend.generate(POLICY, PROMPT, Sampling(WARM, 1, 512), 0.001)


async def test_a_model_that_is_not_loaded_is_unavailable(backend: Any, serializer: RewardSerializer) -> None:
    with pytest.raises(BackendUnavailable):
        await backend.generate("policy-999999", PROMPT, Sampling(WARM, 1, 8), 10)
    with pytest.raises(BackendUnavailable):
        await backend.score("reward-999999", rows(serializer, "Yes."), 10)


async def test_cancelling_a_call_leaves_the_others(backend: Any) -> None:
    if isinstance(backend, FakeTriton):
        backend.faults.delay = 0.2
    tasks = [asyncio.create_task(backend.generate(POLICY, PROMPT, Sampling(WARM, i, 64), 30)) for i in range(6)]
    await asyncio.sleep(0.01)
    tasks[2].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(outcome, BaseException) for outcome in outcomes] == [i == 2 for i in range(6)]


async def test_readiness_follows_loading(backend: Any) -> None:
    assert await backend.ready(REWARD)
    assert not await backend.ready("reward-999999")
    await backend.unload(REWARD, 30)
    for _ in range(100):
        if not await backend.ready(REWARD):
            break
        await asyncio.sleep(0.05)
    assert not await backend.ready(REWARD)
    await backend.load(REWARD, 60)
    assert await backend.ready(REWARD)


async def test_loading_what_is_not_there_says_so(triton: TritonClient) -> None:
    with pytest.raises(BackendError, match="reward-999999"):
        await triton.load("reward-999999", 10)


class _Loads(service_pb2_grpc.GRPCInferenceServiceServicer):
    """As much of Triton as loading takes."""

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        return service_pb2.RepositoryModelLoadResponse()


async def test_a_triton_that_has_just_come_back_loads_although_it_was_found_away_a_moment_ago() -> None:
    """The connection backs off after each failure: whoever does not wait for it fails for up to two seconds more."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    client, server = TritonClient(address), grpc.aio.server()
    for _ in range(8):
        assert not await client.ready(POLICY)
        await asyncio.sleep(0.1)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Loads(), server)
    assert server.add_insecure_port(address)
    await server.start()
    await client.load(POLICY, 30)
    await client.close()
    await server.stop(None)


async def test_loading_does_not_wait_for_a_triton_that_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_client, "CONNECT_SECONDS", 0.2)
    client = TritonClient("127.0.0.1:1")
    async with asyncio.timeout(20):
        with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:1"):
            await client.load(POLICY, 300)
    await client.close()


async def test_a_triton_that_is_away_is_unavailable() -> None:
    client = TritonClient("127.0.0.1:1")
    with pytest.raises(BackendUnavailable):
        await client.generate(POLICY, PROMPT, Sampling(WARM, 1, 8), 5)
    assert not await client.ready(POLICY)
    await client.close()
