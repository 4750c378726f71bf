"""The gRPC edge over a loopback server with stubs behind it: what each kind of request is answered."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import REGISTRY

from ratchet.v1 import errors_pb2, inference_pb2_grpc
from ratchet.v1 import inference_pb2 as pb
from server.errors import BackendBusy, BackendRefused, BackendTimeout, BackendUnavailable, LogUnavailable
from server.feedback.receipts import Receipts
from server.rpc.inference import InferenceService
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults, fingerprint
from tests.path import Path, StubReward

SECRET = b"s" * 32
METHOD = "/ratchet.v1.InferenceService/Generate"


class Edge:
    def __init__(self, path: Path, admission: Admission, channel: grpc.aio.Channel) -> None:
        self.path, self.admission, self.channel = path, admission, channel
        self.stub = inference_pb2_grpc.InferenceServiceStub(channel)


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    path, admission = Path(), Admission(limit=4)
    server = grpc.aio.server(interceptors=[Guard(admission)])
    service = InferenceService(path.pipeline, lambda: path.reward, Receipts([SECRET]), Defaults(candidate_count=3))
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Edge(path, admission, channel)
    await server.stop(0)


class Refusal:
    """What a failed call told its caller."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code, self.text = error.code(), error.details() or ""
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        self.reason, self.fields, self.retry_after = "", [], 0.0
        for detail in status.details if status else []:
            info, bad, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if detail.Unpack(info):
                self.reason, self.domain = info.reason, info.domain
            if detail.Unpack(bad):
                self.fields = [violation.field for violation in bad.field_violations]
            if detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Refusal(caught.value)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GenerateRequest(), "query"),
        (pb.GenerateRequest(query=" \n\t"), "query"),
        (pb.GenerateRequest(query="x" * (1 << 20)), "query"),
        (pb.GenerateRequest(query="a\0b"), "query"),
        (pb.GenerateRequest(query="bell\x07"), "query"),
        (pb.GenerateRequest(query="q", context="c\0"), "context"),
        (pb.GenerateRequest(query="q", candidate_count=0), "candidate_count"),
        (pb.GenerateRequest(query="q", candidate_count=1000), "candidate_count"),
        (pb.GenerateRequest(query="q", candidate_count=-1), "candidate_count"),
        (pb.GenerateRequest(query="q", seed=-1), "seed"),
        (pb.GenerateRequest(query="q", selection_method=99), "selection_method"),  # type: ignore[arg-type]
        (pb.GenerateRequest(query="q", max_output_tokens=0), "max_output_tokens"),
        (pb.GenerateRequest(query="q", user_id="u" * 200), "user_id"),
        (pb.GenerateRequest(query="q", session_id="a\nb"), "session_id"),
        (pb.GenerateRequest(query="q", request_id="r" * 200), "request_id"),
    ],
)
async def test_a_bad_field_is_named(edge: Edge, request_: pb.GenerateRequest, field: str) -> None:
    refusal = await refused(edge.stub.Generate(request_))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "INVALID_FIELD"
    assert refusal.fields == [field]
    assert "\\x" not in refusal.text, "a pattern is not an explanation"


async def test_every_bad_response_to_score_is_named(edge: Edge) -> None:
    refusal = await refused(edge.stub.Score(pb.ScoreRequest(query="q", responses=["fine", "a\0", "b" * 70_000])))
    assert refusal.fields == ["responses[1]", "responses[2]"]


async def test_score_needs_a_response_and_takes_at_most_64(edge: Edge) -> None:
    for responses in ([], ["a"] * 65):
        assert (await refused(edge.stub.Score(pb.ScoreRequest(query="q", responses=responses)))).fields == ["responses"]


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x22\x02\xc3\x28", b"\x22\xff\x01short"])
async def test_bytes_that_are_no_message_are_the_callers_mistake(edge: Edge, data: bytes) -> None:
    call = edge.channel.unary_unary(METHOD, request_serializer=bytes, response_deserializer=bytes)
    refusal = await refused(call(data))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "MALFORMED_MESSAGE"


@pytest.mark.parametrize(
    "query", ["Đơn hàng của tôi đâu rồi?", "👩‍👩‍👧‍👦 🎉?", "أين طلبي؟ \u202eabc", "a\tb\r\nc", "e\u0301"]
)
async def test_every_script_is_answered(edge: Edge, query: str) -> None:
    reply = await edge.stub.Generate(pb.GenerateRequest(query=query))
    assert reply.response
    assert edge.path.log.entries[-1].turn.query == query


async def test_the_reply_package_is_that_of_the_specification(edge: Edge) -> None:
    reply = await edge.stub.Generate(pb.GenerateRequest(query="q", candidate_count=5, seed=9))
    assert reply.response == "an answer of middling length"
    assert 0 < reply.reward_score < 1
    assert len(reply.response_id) == 36
    assert reply.candidates_count == 5
    assert reply.generation_method == "top_k_50"
    assert [c.selected for c in reply.candidates] == [False, False, True, False, False]
    assert reply.candidates[0].sampling.preset == "temperature_0.7"
    assert reply.selection_method == pb.SELECTION_METHOD_BEST
    assert reply.selection_probability == 1
    assert (reply.policy_release, reply.reward_release) == ("policy-000001", "reward-000001")
    assert reply.seed == 9
    assert not reply.candidates[0].sampling.seed_honored
    assert reply.latencies[0].stage == "context"


async def test_an_unscored_reply_has_no_score(edge: Edge) -> None:
    edge.path.reward.failures = [BackendUnavailable("away")]
    reply = await edge.stub.Generate(pb.GenerateRequest(query="q"))
    assert not reply.HasField("reward_score")
    assert reply.degradations[0].reason == pb.DEGRADATION_REASON_SCORING_UNAVAILABLE


async def test_a_query_that_fills_the_window_is_refused_with_numbers(edge: Edge) -> None:
    refusal = await refused(edge.stub.Generate(pb.GenerateRequest(query="w " * 600)))
    assert (refusal.reason, refusal.fields) == ("QUERY_TOO_LONG", ["query"])
    assert "600 tokens" in refusal.text
    assert "512" in refusal.text


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (BackendUnavailable("away"), grpc.StatusCode.UNAVAILABLE, "REWARD_UNAVAILABLE"),
        (BackendRefused("no"), grpc.StatusCode.UNAVAILABLE, "REWARD_UNAVAILABLE"),
        (BackendTimeout("slow"), grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (BackendBusy("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    ],
)
async def test_score_says_why_it_can_not(edge: Edge, failure: Any, code: grpc.StatusCode, reason: str) -> None:
    edge.path.reward.failures = [failure]
    refusal = await refused(edge.stub.Score(pb.ScoreRequest(query="q", responses=["a"])))
    assert (refusal.code, refusal.reason) == (code, reason)


async def test_a_log_that_is_away_withholds_the_reply(edge: Edge) -> None:
    edge.path.log.failures = [LogUnavailable("Postgres is away.")]
    refusal = await refused(edge.stub.Generate(pb.GenerateRequest(query="q")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE")


async def test_a_defect_is_ours_and_shows_no_trace(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    edge.path.log.failures = [ZeroDivisionError("secret detail")]
    refusal = await refused(edge.stub.Generate(pb.GenerateRequest(query="q")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in refusal.text
    assert "secret detail" in caplog.text


async def test_too_many_calls_are_refused_early_with_a_delay(edge: Edge) -> None:
    edge.admission.in_flight = 4
    refusal = await refused(edge.stub.Generate(pb.GenerateRequest(query="q")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert refusal.retry_after > 0


async def test_a_draining_server_takes_no_more(edge: Edge) -> None:
    edge.admission.draining = True
    refusal = await refused(edge.stub.Generate(pb.GenerateRequest(query="q")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_a_deadline_in_the_past_is_answered_at_once(edge: Edge) -> None:
    refusal = await refused(edge.stub.Generate(pb.GenerateRequest(query="q"), timeout=-1))
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_deadline_that_passes_cancels_every_candidate(edge: Edge) -> None:
    edge.path.policy.delay = 30
    refusal = await refused(edge.stub.Generate(pb.GenerateRequest(query="q", candidate_count=3), timeout=0.2))
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    for _ in range(50):
        if edge.path.policy.cancelled == 3 and not edge.admission.in_flight:
            break
        await asyncio.sleep(0.02)
    assert (edge.path.policy.cancelled, edge.admission.in_flight) == (3, 0)
    assert edge.path.log.entries == []


async def test_an_honest_retry_asks_the_same_whatever_the_defaults_are(edge: Edge) -> None:
    request = pb.GenerateRequest(query="q", request_id="r1")
    assert fingerprint(request) == fingerprint(pb.GenerateRequest(query="q", request_id="r2"))
    assert fingerprint(request) != fingerprint(pb.GenerateRequest(query="q", candidate_count=3))
    first, again = [await edge.stub.Generate(request) for _ in range(2)]
    assert (again.response_id, again.replayed) == (first.response_id, True)
    assert list(again.candidates) == list(first.candidates)
    refusal = await refused(edge.stub.Generate(pb.GenerateRequest(query="other", request_id="r1")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_an_unknown_method_is_unimplemented(edge: Edge) -> None:
    call = edge.channel.unary_unary("/ratchet.v1.InferenceService/Nothing", request_serializer=bytes)
    assert (await refused(call(b""))).code is grpc.StatusCode.UNIMPLEMENTED


async def test_calls_are_counted_as_go_grpc_prometheus_does(edge: Edge) -> None:
    def handled(code: str) -> float:
        labels = {"grpc_type": "unary", "grpc_service": "ratchet.v1.InferenceService", "grpc_method": "Generate"}
        return REGISTRY.get_sample_value("grpc_server_handled_total", labels | {"grpc_code": code}) or 0

    fine, bad = handled("OK"), handled("INVALID_ARGUMENT")
    await edge.stub.Generate(pb.GenerateRequest(query="q"))
    await refused(edge.stub.Generate(pb.GenerateRequest()))
    async with asyncio.timeout(5):  # what is refused is counted after the caller knows
        while handled("INVALID_ARGUMENT") - bad < 1 or edge.admission.in_flight:
            await asyncio.sleep(0.01)
    assert (handled("OK") - fine, handled("INVALID_ARGUMENT") - bad) == (1, 1)
    assert edge.admission.in_flight == 0


def test_every_reason_an_error_can_carry_is_in_the_api() -> None:
    from server import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RatchetError)]
    assert {f"ERROR_REASON_{kind.reason}" for kind in kinds} <= set(errors_pb2.ErrorReason.keys())


async def test_scores_are_the_champions_of_the_moment(edge: Edge) -> None:
    request = pb.ScoreRequest(query="Where is it?", responses=["It left."])
    assert (await edge.stub.Score(request)).reward_release == "reward-000001"
    edge.path.reward = StubReward("reward-000009")
    assert (await edge.stub.Score(request)).reward_release == "reward-000009"
