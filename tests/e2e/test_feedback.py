"""Feedback through a whole server of two processes: limits, repetitions, receipts and what a spool holds back."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ratchet.v1 import feedback_pb2 as pb
from ratchet.v1 import feedback_pb2_grpc, inference_pb2, inference_pb2_grpc
from tests.conftest import new_home
from tests.e2e.paused import paused
from tests.e2e.processes import below, first_named
from tests.e2e.serving import Serving, serving

CONNECTIONS = 16


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """Two server processes on one port, with answers that need no models."""
    with serving(new_home(), "--processes=2", "--backend=fake") as found:
        assert found.started["serving"]
        yield found


@pytest.fixture(scope="module")
def channels(server: Serving) -> Iterator[list[grpc.Channel]]:
    """Connections to both processes: the kernel spreads them, once the second one serves too."""
    address = server.events[-1]["serving"]
    deadline = time.monotonic() + 60
    while True:
        with ExitStack() as stack:
            alone = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
            found = [stack.enter_context(grpc.insecure_channel(address, options=alone)) for _ in range(CONNECTIONS)]
            for each in found:
                grpc.channel_ready_future(each).result(20)
            if connected(server, int(address.rpartition(":")[2])) >= 2:
                yield found
                return
        assert time.monotonic() < deadline, "there is one process only"
        time.sleep(0.5)


def connected(server: Serving, port: int) -> int:
    """How many processes of the server have connections that came in at `port`."""

    def has_some(process: psutil.Process) -> bool:
        connections = process.net_connections("tcp")
        return any(c.laddr and c.laddr.port == port and c.status == "ESTABLISHED" for c in connections)

    return has_some(psutil.Process(server.process.pid)) + len(below(server.process.pid, has_some))


def generate(channel: grpc.Channel, user: str, **fields: object) -> inference_pb2.GenerateResponse:
    request = inference_pb2.GenerateRequest(query="How long is the warranty?", user_id=user, **fields)  # type: ignore[arg-type]
    reply: inference_pb2.GenerateResponse = inference_pb2_grpc.InferenceServiceStub(channel).Generate(
        request, timeout=60
    )
    return reply


def rate(channel: grpc.Channel, response_id: str, user: str, **fields: object) -> pb.SubmitFeedbackResponse:
    request = pb.SubmitFeedbackRequest(response_id=response_id, user_id=user, **fields)  # type: ignore[arg-type]
    reply: pb.SubmitFeedbackResponse = feedback_pb2_grpc.FeedbackServiceStub(channel).SubmitFeedback(
        request, timeout=30
    )
    return reply


def listed(channel: grpc.Channel, user: str) -> list[pb.Feedback]:
    request = pb.ListFeedbackRequest(user_id=user, include_withdrawn=True)
    return list(feedback_pb2_grpc.FeedbackServiceStub(channel).ListFeedback(request, timeout=30).feedback)


def refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, str, float]:
    """Code, reason, text, seconds to wait."""
    status = rpc_status.from_call(error)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status is not None
    seconds = [retry.retry_delay.ToTimedelta().total_seconds() for detail in status.details if detail.Unpack(retry)]
    reasons = [info.reason for detail in status.details if detail.Unpack(info)]
    return error.code(), reasons[0], status.message, sum(seconds)


def test_of_eleven_in_a_minute_ten_pass_whichever_process_they_reach(channels: list[grpc.Channel]) -> None:
    replies = [generate(channel, "eager") for channel in channels[:11]]
    told: list[tuple[grpc.StatusCode, str, str, float]] = []
    for channel, reply in zip(channels, replies, strict=False):
        try:
            rate(channel, reply.response_id, "eager", rating_overall=5)
        except grpc.RpcError as error:
            told.append(refusal(error))
    ((code, reason, _, seconds),) = told
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert 0 < seconds <= 60
    assert len(listed(channels[0], "eager")) == 10


def test_the_same_feedback_fifty_times_at_once_counts_once(channels: list[grpc.Channel]) -> None:
    reply = generate(channels[0], "twitchy")
    with ThreadPoolExecutor(50) as callers:
        calls = [
            callers.submit(
                rate, channels[n % CONNECTIONS], reply.response_id, "twitchy", request_id="once", rating_overall=4
            )
            for n in range(50)
        ]
    answers = [call.result() for call in calls]
    assert sum(not answer.replayed for answer in answers) == 1
    (kept,) = listed(channels[0], "twitchy")
    assert (kept.revision, kept.rating_overall) == (1, 4)
    for number in range(9):  # there is room for nine more
        rate(channels[number], reply.response_id, "twitchy", text_feedback=f"{number}")


def test_someone_elses_reply_is_not_told_from_one_that_never_was(channels: list[grpc.Channel]) -> None:
    reply = generate(channels[0], "ann")
    told = set()
    for response_id in (reply.response_id, str(uuid.uuid4())):
        with pytest.raises(grpc.RpcError) as caught:
            rate(channels[1], response_id, "mallory", rating_overall=1)
        told.add(refusal(caught.value))
    assert told == {(grpc.StatusCode.NOT_FOUND, "RESPONSE_NOT_FOUND", "No such reply was given to this user.", 0.0)}


def test_every_way_to_a_reply_brings_a_receipt_that_both_processes_take(channels: list[grpc.Channel]) -> None:
    first = generate(channels[0], "receiver", request_id="receipt-1", session_id="s")
    replayed = generate(channels[5], "receiver", request_id="receipt-1", session_id="s")
    stub = inference_pb2_grpc.InferenceServiceStub(channels[1])
    asked = inference_pb2.GenerateRequest(query="How long is the warranty?", user_id="receiver")
    *_, last = stub.StreamGenerate(inference_pb2.StreamGenerateRequest(request=asked), timeout=60)
    assert replayed.replayed
    assert replayed.receipt == first.receipt
    for reply in (first, last.result):
        for channel in channels[:8]:
            rate(
                channel,
                reply.response_id,
                "receiver",
                receipt=reply.receipt,
                rating_overall=3,
                request_id=reply.response_id,
            )
    with pytest.raises(grpc.RpcError) as caught:
        rate(channels[2], last.result.response_id, "receiver", receipt=first.receipt, rating_overall=3)
    assert refusal(caught.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "RECEIPT_INVALID")


def test_a_reply_whose_row_was_spooled_is_rated_and_the_rest_follows(
    server: Serving, channels: list[grpc.Channel]
) -> None:
    with paused(first_named(server.process.pid, "postgres").pid):
        reply = generate(channels[0], "patient")
    spooled = inference_pb2.DEGRADATION_REASON_LOG_SPOOLED
    assert spooled in [each.reason for each in reply.degradations]
    given = rate(
        channels[1], reply.response_id, "patient", receipt=reply.receipt, reaction_type=pb.REACTION_TYPE_THUMBS_UP
    )
    assert given.feedback[0].policy_release == reply.policy_release
    deadline = time.monotonic() + 40
    while not (found := listed(channels[0], "patient"))[0].arm and time.monotonic() < deadline:
        time.sleep(0.25)
    assert (found[0].arm, found[0].arm_share) == ("champion", 1.0)
    assert found[0].revision == 1


def test_the_command_rates_what_the_command_asked(server: Serving) -> None:
    def ratchet(*arguments: str) -> dict[str, object]:
        where = ["--address", server.events[-1]["serving"], "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments, *where], capture_output=True, text=True, check=True
        )
        found: dict[str, object] = json.loads(done.stdout)
        return found

    reply = ratchet("ask", "How long is the warranty?", "--user", "typist")
    identity = [str(reply["response_id"]), "--receipt", str(reply["receipt"]), "--user", "typist"]
    assert ratchet("feedback", "submit", *identity, "--down", "--comment", "Chậm quá")["replayed"] is False
    assert ratchet("feedback", "list", "--user", "typist")["feedback"]
