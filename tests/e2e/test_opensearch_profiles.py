"""A whole server that keeps its profiles in OpenSearch; each of its requests is held to the published API."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc, user_pb2, user_pb2_grpc
from tests.e2e.serving import Serving, serving
from tests.opensearch_api import ABSENT, PLACE, specification
from tests.opensearch_server import OpenSearchServer

pytestmark = pytest.mark.skipif(not PLACE.is_dir(), reason=ABSENT)


async def test_profiles_in_opensearch_reach_the_path_and_their_absence_is_told(home: Path) -> None:
    async with AsyncExitStack() as while_up:
        store = await while_up.enter_async_context(OpenSearchServer(specification()))
        with serving(home, "--backend=fake", "--profile-budget=5", OPENSEARCH_URL=store.url) as ratchet:
            known = await asyncio.to_thread(_ask_as_a_known_user, ratchet)
            assert known.profile_used
            assert not known.degradations
            learned = await asyncio.to_thread(_weight_after_learning, ratchet)
            assert learned == 1.0
            await while_up.aclose()
            poor = await asyncio.to_thread(_ask, ratchet)
    assert [each.reason for each in poor.degradations] == [pb.DEGRADATION_REASON_PROFILE_UNAVAILABLE]
    assert poor.response
    assert store.problems == []


def _ask_as_a_known_user(ratchet: Serving) -> pb.GenerateResponse:
    with grpc.insecure_channel(ratchet.started["serving"]) as channel:
        users = user_pb2_grpc.UserServiceStub(channel)
        users.UpdateProfile(user_pb2.UpdateProfileRequest(user_id="ann", attributes={"tier": "gold"}), timeout=60)
    return _ask(ratchet)


def _ask(ratchet: Serving) -> pb.GenerateResponse:
    with grpc.insecure_channel(ratchet.events[-1]["serving"]) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        request = pb.GenerateRequest(query="How long is the warranty?", user_id="ann", tool_use=pb.TOOL_USE_NONE)
        reply: pb.GenerateResponse = stub.Generate(request, timeout=60)
        return reply


def _weight_after_learning(ratchet: Serving) -> float:
    """How much the profile has learned; it does so after the reply has left."""
    with grpc.insecure_channel(ratchet.events[-1]["serving"]) as channel:
        users = user_pb2_grpc.UserServiceStub(channel)
        for _ in range(100):
            profile = users.GetProfile(user_pb2.GetProfileRequest(user_id="ann"), timeout=60).profile
            if profile.preference_weight:
                break
            time.sleep(0.1)
        return float(profile.preference_weight)
