"""The whole request path as callers meet it: real Postgres, Valkey and Triton, the starter models, gRPC."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from ratchet.v1 import document_pb2, document_pb2_grpc, inference_pb2_grpc, user_pb2, user_pb2_grpc
from ratchet.v1 import inference_pb2 as pb
from tests.conftest import new_home
from tests.e2e.paused import paused
from tests.e2e.processes import first_named
from tests.e2e.serving import Serving, serving

ORDERS = json.loads((Path(__file__).parents[2] / "starter" / "orders.json").read_bytes())
FLAGS = ("--processes=2", "--web-search-url=http://127.0.0.1:9/search", "--exploration=0", "--memory-budget=0.5")


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """Two server processes on one port."""
    with serving(new_home(), *FLAGS) as found:
        assert found.started["sample"]["response"]
        yield found


@pytest.fixture(scope="module")
def channel(server: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.events[-1]["serving"], options=[("grpc.enable_http_proxy", 0)]) as found:
        yield found


def generate(channel: grpc.Channel, query: str, **fields: object) -> pb.GenerateResponse:
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    request = pb.GenerateRequest(query=query, **fields)  # type: ignore[arg-type]
    reply: pb.GenerateResponse = stub.Generate(request, timeout=60)
    return reply


def run_of(reply: pb.GenerateResponse, tool: str) -> pb.ToolRun:
    (run,) = [run for run in reply.tool_runs if run.tool == tool]
    return run


def reasons(reply: pb.GenerateResponse) -> set[str]:
    return {pb.DegradationReason.Name(d.reason).removeprefix("DEGRADATION_REASON_") for d in reply.degradations}


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("How long is the warranty?", "starter/help_pages/warranty.en.md"),
        ("Bảo hành kéo dài bao lâu?", "starter/help_pages/warranty.vi.md"),
    ],
)
def test_a_help_page_answers_with_its_citation(channel: grpc.Channel, query: str, page: str) -> None:
    """The starter policy samples, and errs at times: four of six answers must say what the page says and cite it."""
    cited = 0
    for _ in range(6):
        reply = generate(channel, query)
        assert run_of(reply, "docs").outcome == pb.TOOL_OUTCOME_FOUND
        pages = [citation.evidence for citation in reply.citations]
        cited += bool(pages) and "24" in reply.response and pages[0].uri == page and "24" in pages[0].text
    assert cited >= 4


def test_a_user_gets_their_own_order_and_nobody_elses(channel: grpc.Channel) -> None:
    (mine, *_) = [o for o in ORDERS["orders"] if o["customer"] == "Lan Nguyen"]
    query = f"What is the status of order {mine['order_id']}?"
    own = generate(channel, query, user_id="lan.nguyen", candidate_count=8)
    (row,) = run_of(own, "sql").evidence
    assert f"status {mine['status']}" in row.text
    assert mine["order_id"] in row.text
    for stranger in ("hoa.le", ""):
        other = generate(channel, query, user_id=stranger)
        assert not [e for run in other.tool_runs for e in run.evidence if mine["order_id"] in e.text]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM orders",
        "SELECT order_id FROM orders; DROP TABLE orders",
        "SELECT pg_sleep(30) FROM orders",
        "SELECT pg_read_file('/etc/passwd') FROM orders",
        "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone",
        "SELECT query_to_xml('SELECT 1', true, true, '') FROM orders",
        "SELECT set_config('ratchet.user_id', 'hoa.le', false) FROM orders",
    ],
)
def test_a_statement_that_must_not_run_is_refused_and_the_reply_still_comes(
    channel: grpc.Channel, statement: str
) -> None:
    reply = generate(channel, statement, user_id="lan.nguyen", tools=["sql"])
    run = run_of(reply, "sql")
    assert run.outcome == pb.TOOL_OUTCOME_REFUSED
    assert run.detail
    assert not run.evidence
    assert reply.response


def test_addresses_inside_are_refused_and_nothing_connects(channel: grpc.Channel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        for url in (
            "http://169.254.169.254/latest/meta-data",
            f"http://localhost:{port}/",
            f"http://127.0.0.1:{port}/",
        ):
            reply = generate(channel, f"What does {url} say?", tools=["web"], candidate_count=1)
            assert run_of(reply, "web").outcome == pb.TOOL_OUTCOME_REFUSED, url
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_stream_tells_what_happens_and_ends_with_the_reply_of_generate(channel: grpc.Channel) -> None:
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    request = pb.GenerateRequest(query="How long is the warranty?", request_id="streamed", candidate_count=4)
    events = list(stub.StreamGenerate(pb.StreamGenerateRequest(request=request), timeout=60))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[:2] == ["tools_selected", "tool_finished"]
    assert kinds.count("candidate_drawn") >= 4
    assert kinds.count("candidate_scored") >= 4
    assert kinds.index("candidate_drawn") < kinds.index("candidate_scored")
    assert kinds.count("result") == 1
    final = events[-1].result
    again = stub.Generate(request, timeout=60)
    assert again.replayed
    assert again.response_id == final.response_id
    assert again.response == final.response
    assert list(again.citations) == list(final.citations)
    assert [e.WhichOneof("event") for e in stub.StreamGenerate(pb.StreamGenerateRequest(request=request))] == ["result"]


def test_a_stream_of_a_caller_who_leaves_ends_quietly(channel: grpc.Channel) -> None:
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    stream = stub.StreamGenerate(pb.StreamGenerateRequest(request=pb.GenerateRequest(query="Hello")), timeout=60)
    next(stream)
    stream.cancel()
    assert generate(channel, "How long is the warranty?").response


def test_the_same_request_at_once_on_two_processes_gets_one_reply(server: Serving) -> None:
    address = server.events[-1]["serving"]
    barrier = threading.Barrier(6)

    def ask(number: int) -> str:
        # A connection of its own: the kernel spreads connections over the processes.
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, options=options) as own:
            barrier.wait(30)
            return generate(own, "How long is the warranty?", request_id="at once").response_id

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(ask, range(6)))) == 1


def test_two_users_with_opposite_profiles_get_different_evidence(channel: grpc.Channel) -> None:
    documents = document_pb2_grpc.DocumentServiceStub(channel)
    for sport, place in (("climbing", "rock walls"), ("sailing", "open water")):
        text = f"# Gift ideas\n\n## A good gift for {sport}\n\nThe best gift is a rope, for {sport} on {place}."
        request = document_pb2.AddDocumentRequest(uri=f"gifts/{sport}.md", content=text.encode())
        documents.AddDocument(request, timeout=30)
    users = user_pb2_grpc.UserServiceStub(channel)
    for user, sport in {"rocky": "climbing on rock walls", "salty": "sailing on open water"}.items():
        users.UpdateProfile(user_pb2.UpdateProfileRequest(user_id=user, attributes={"sport": sport}), timeout=30)
        for _ in range(12):
            generate(channel, f"Tell me about {sport}", user_id=user, candidate_count=1, tool_use=pb.TOOL_USE_NONE)
    _wait_for_lessons(users, ("rocky", "salty"))
    first = {}
    for user in ("rocky", "salty"):
        reply = generate(channel, "What is the best gift rope?", user_id=user, tools=["docs"])
        assert reply.profile_used
        first[user] = run_of(reply, "docs").evidence[0].text
    assert "climbing" in first["rocky"]
    assert "sailing" in first["salty"]


def _wait_for_lessons(users: user_pb2_grpc.UserServiceStub, names: tuple[str, ...]) -> None:
    for _ in range(100):
        found = [users.GetProfile(user_pb2.GetProfileRequest(user_id=name), timeout=30).profile for name in names]
        if all(profile.preference_weight >= 12 for profile in found):
            return
        threading.Event().wait(0.1)
    raise AssertionError("the profiles did not learn")


def test_with_postgres_paused_the_answer_comes_and_its_row_follows(server: Serving, channel: grpc.Channel) -> None:
    query, who = "How long is the warranty?", {"user_id": "lan.nguyen", "session_id": "p", "request_id": "paused"}
    with paused(first_named(server.process.pid, "postgres").pid):
        reply = generate(channel, query, **who)
        assert reply.response
        assert {"LOG_SPOOLED", "PROFILE_UNAVAILABLE"} <= reasons(reply)
    for _ in range(100):
        if not generate(channel, query, user_id="lan.nguyen").degradations:
            break
        threading.Event().wait(0.1)
    else:
        raise AssertionError("Postgres goes on, but replies are still degraded")
    again = generate(channel, query, **who)
    assert again.replayed
    assert again.response_id == reply.response_id


def test_with_redis_killed_the_answer_comes_and_says_so(server: Serving, channel: grpc.Channel) -> None:
    valkey = first_named(server.process.pid, "valkey-server")
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        reply = generate(channel, "How long is the warranty?", session_id="r", user_id="lan.nguyen")
        assert reply.response
        assert {"MEMORY_UNAVAILABLE", "MEMORY_NOT_UPDATED"} <= reasons(reply)
    finally:
        valkey.kill()
    reply = generate(channel, "How long is the warranty?", session_id="r", user_id="lan.nguyen")
    assert reply.response
