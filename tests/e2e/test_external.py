"""Real servers instead of the embedded ones: what has a URL is not started."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import psutil

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc, release_pb2, release_pb2_grpc
from tests.conftest import RunningStack
from tests.e2e.serving import serving


def test_three_urls_and_nothing_is_started(stack: RunningStack, home: Path) -> None:
    environment = {
        "DATABASE_URL": stack.endpoints.database_url,
        "REDIS_URL": stack.endpoints.redis_url,
        "TRITON_URL": stack.endpoints.triton_url,
        "RATCHET_TRITON_URLS": stack.endpoints.triton_url,
        "RATCHET_MODEL_REPOSITORY": str(stack.endpoints.model_repository),
    }
    with serving(home, **environment) as ratchet, grpc.insecure_channel(ratchet.started["serving"]) as channel:
        assert psutil.Process(ratchet.process.pid).children() == []
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        for number in range(2):
            reply = stub.Generate(pb.GenerateRequest(query=f"Hello {number}", session_id="s"), timeout=30)
            assert not reply.degradations
        assert_ready_at(stack.endpoints.triton_url, reply.reward_release, channel)
        secret = stack.endpoints.database_url.partition("://")[2].partition("@")[0].partition(":")[2]
        assert secret
        assert secret not in str(ratchet.events)


def assert_ready_at(replica: str, release: str, channel: grpc.Channel) -> None:
    """Waits until the leader has found it right there."""
    stub = release_pb2_grpc.ReleaseServiceStub(channel)
    for _ in range(200):
        found = stub.GetRelease(release_pb2.GetReleaseRequest(release=release), timeout=30).release
        if [(one.replica, one.state) for one in found.replicas] == [(replica, release_pb2.REPLICA_MODEL_STATE_READY)]:
            return
        time.sleep(0.1)
    raise AssertionError(f"{release} is not ready at {replica}: {found.replicas}")


def test_a_redis_that_is_away_is_told_and_costs_only_memory(stack: RunningStack, home: Path) -> None:
    environment = {"DATABASE_URL": stack.endpoints.database_url, "REDIS_URL": "redis://:hidden@127.0.0.1:1/0"}
    with serving(home, "--backend=fake", **environment) as ratchet:
        with grpc.insecure_channel(ratchet.started["serving"]) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            reply = stub.Generate(pb.GenerateRequest(query="Hello", session_id="s"), timeout=30)
        assert reply.response
        assert pb.DEGRADATION_REASON_MEMORY_UNAVAILABLE in [each.reason for each in reply.degradations]
        assert any("without conversation memory" in event.get("event", "") for event in ratchet.events)
        assert "hidden" not in str(ratchet.events)


def doctor(home: Path, **environment: str) -> tuple[int, dict[str, Any]]:
    """Exit status, and the checks of URLs by name."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "doctor", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "RATCHET_HOME": str(home), **environment},
    )
    assert "hidden" not in done.stdout + done.stderr
    return done.returncode, {
        check["name"]: check for check in json.loads(done.stdout)["checks"] if "URL" in check["name"]
    }


def test_doctor_asks_the_servers_behind_the_urls(stack: RunningStack, home: Path) -> None:
    good = {
        "DATABASE_URL": stack.endpoints.database_url,
        "REDIS_URL": stack.endpoints.redis_url,
        "TRITON_URL": stack.endpoints.triton_url,
    }
    status, checks = doctor(home, **good)
    assert status == 0
    assert "pgvector" in checks["DATABASE_URL"]["detail"]
    assert "PING" in checks["REDIS_URL"]["detail"]
    assert "Triton 2." in checks["TRITON_URL"]["detail"]
    wrong = {
        "DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/none",
        "REDIS_URL": "redis://:hidden@127.0.0.1:1",
        "TRITON_URL": "127.0.0.1:1",
        "RATCHET_TRITON_URLS": "127.0.0.1:2",
    }
    status, checks = doctor(home, **wrong)
    assert status == 1
    assert [check["ok"] for check in checks.values()] == [False] * 4
    assert all(name in check["fix"] for name, check in checks.items())


def test_a_url_that_leads_nowhere_is_one_sentence(stack: RunningStack, home: Path) -> None:
    good = {
        "DATABASE_URL": stack.endpoints.database_url,
        "REDIS_URL": stack.endpoints.redis_url,
        "TRITON_URL": stack.endpoints.triton_url,
        "RATCHET_MODEL_REPOSITORY": str(stack.endpoints.model_repository),
    }
    wrong = {
        "DATABASE_URL": ("postgresql://u:hidden@127.0.0.1:1/none", "Postgres can't be reached by DATABASE_URL"),
        "REDIS_URL": ("foo", "REDIS_URL can't be used: it must begin with redis://"),
        "TRITON_URL": ("127.0.0.1:1", "Triton can't be reached at 127.0.0.1:1"),
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
