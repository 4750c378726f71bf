"""Real servers instead of the embedded ones: what has a URL is not started."""

from pathlib import Path

import grpc
import psutil

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc
from tests.conftest import RunningStack
from tests.e2e.serving import serving


def test_three_urls_and_nothing_is_started(stack: RunningStack, home: Path) -> None:
    environment = {
        "DATABASE_URL": stack.endpoints.database_url,
        "REDIS_URL": stack.endpoints.redis_url,
        "TRITON_URL": stack.endpoints.triton_url,
        "RATCHET_MODEL_REPOSITORY": str(stack.endpoints.model_repository),
    }
    with serving(home, **environment) as ratchet, grpc.insecure_channel(ratchet.started["serving"]) as channel:
        assert psutil.Process(ratchet.process.pid).children() == []
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        for number in range(2):
            reply = stub.Generate(pb.GenerateRequest(query=f"Hello {number}", session_id="s"), timeout=30)
            assert not reply.degradations
        secret = stack.endpoints.database_url.partition("://")[2].partition("@")[0].partition(":")[2]
        assert secret
        assert secret not in str(ratchet.events)


def test_a_url_that_leads_nowhere_is_one_sentence(stack: RunningStack, home: Path) -> None:
    good = {
        "DATABASE_URL": stack.endpoints.database_url,
        "REDIS_URL": stack.endpoints.redis_url,
        "TRITON_URL": stack.endpoints.triton_url,
        "RATCHET_MODEL_REPOSITORY": str(stack.endpoints.model_repository),
    }
    wrong = {
        "DATABASE_URL": ("postgresql://u:hidden@127.0.0.1:1/none", "Postgres can't be reached by DATABASE_URL"),
        "TRITON_URL": ("127.0.0.1:1", "can't be reached at Triton"),
        "RATCHET_MODEL_REPOSITORY": ("", "RATCHET_MODEL_REPOSITORY must name"),
    }
    for name, (value, words) in wrong.items():
        environment = {**good, name: value}
        if not value:
            del environment[name]
        with serving(home, **environment) as refused:
            said = refused.errors().replace("\n", " ")
            assert refused.process.returncode == 1
        assert words in said
        assert "Traceback" not in said
        assert "hidden" not in said
