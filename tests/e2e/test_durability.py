"""The promise of the log: a reply that a caller received has its row, whatever dies when."""

import asyncio
import contextlib
import signal
from pathlib import Path

import asyncpg
import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc
from server.embedded import EmbeddedSettings, Stack
from tests.conftest import new_home
from tests.e2e.paused import paused
from tests.e2e.processes import first_named
from tests.e2e.serving import Serving, serving

CALLERS = 500


def kill_everything(ratchet: Serving) -> None:
    """SIGKILL to Ratchet and all that it started, at once: a power cut, as far as processes can tell."""
    tree = [psutil.Process(ratchet.process.pid), *psutil.Process(ratchet.process.pid).children(recursive=True)]
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(tree, timeout=30)


async def ask_until_killed(ratchet: Serving, replies: list[str], enough: int) -> int:
    """Asks with CALLERS callers at once, kills everything when `enough` replies came; gives how many calls failed."""
    limits = [("grpc.max_concurrent_streams", CALLERS)]
    async with grpc.aio.insecure_channel(ratchet.started["serving"], options=limits) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)

        async def ask(number: int) -> None:
            request = pb.GenerateRequest(
                query=f"Where is parcel {number}?",
                candidate_count=2,
                max_output_tokens=16,
                user_id=f"user-{number}",
                request_id=f"call-{number}" if number % 2 else "",
            )
            replies.append((await stub.Generate(request, timeout=120)).response_id)
            if len(replies) == enough:
                kill_everything(ratchet)

        outcomes = await asyncio.gather(*(ask(number) for number in range(CALLERS)), return_exceptions=True)
    return sum(isinstance(outcome, grpc.aio.AioRpcError) for outcome in outcomes)


async def logged(home: Path) -> set[str]:
    """The response ids in the log, read after Postgres has recovered."""
    settings = EmbeddedSettings(home, redis_url="none", triton_url="none")
    async with Stack(settings) as endpoints:
        connection = await asyncpg.connect(endpoints.database_url)
        rows = await connection.fetch("SELECT response_id FROM conversation_logs WHERE tenant_id = 'default'")
        await connection.close()
    return {str(row["response_id"]) for row in rows}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("enough", [40, 160])
def test_each_received_reply_has_its_row_after_everything_was_killed(enough: int) -> None:
    home, replies = new_home(), list[str]()
    with serving(home, f"--max-in-flight={CALLERS}") as ratchet:
        failed = asyncio.run(ask_until_killed(ratchet, replies, enough))
    assert failed > 0, "nothing was under way when it was killed"
    assert len(replies) >= enough
    with serving(home) as again:
        assert again.started["sample"]["response"]
    rows = asyncio.run(logged(home))
    assert set(replies) <= rows
    assert len(set(replies)) == len(replies)


@pytest.mark.timeout(300)
def test_with_postgres_paused_answers_leave_in_time_and_their_rows_survive_a_kill_of_everything() -> None:
    home = new_home()
    with serving(home) as ratchet, grpc.insecure_channel(ratchet.started["serving"]) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        with paused(first_named(ratchet.process.pid, "postgres").pid):
            requests = [pb.GenerateRequest(query=f"Where is parcel {n}?", request_id=f"spool-{n}") for n in range(3)]
            replies = [stub.Generate(request, timeout=10) for request in requests]
            again = stub.Generate(requests[0], timeout=10)
            kill_everything(ratchet)
    assert again.response_id == replies[0].response_id
    assert all(pb.DEGRADATION_REASON_LOG_SPOOLED in [d.reason for d in reply.degradations] for reply in replies)
    with serving(home) as restarted, grpc.insecure_channel(restarted.started["serving"]) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        assert stub.Generate(requests[1], timeout=20).response_id == replies[1].response_id
    assert {reply.response_id for reply in replies} <= asyncio.run(logged(home))


@pytest.mark.timeout(300)
def test_without_a_spool_a_paused_postgres_withholds_answers() -> None:
    with serving(new_home(), "--spool=off") as ratchet, grpc.insecure_channel(ratchet.started["serving"]) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        with paused(first_named(ratchet.process.pid, "postgres").pid), pytest.raises(grpc.RpcError) as caught:
            stub.Generate(pb.GenerateRequest(query="Where is parcel 1?"), timeout=5)
        assert caught.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


@pytest.mark.timeout(300)
def test_what_dies_alone_comes_back_and_the_answers_with_it() -> None:
    home = new_home()
    with serving(home) as ratchet, grpc.insecure_channel(ratchet.started["serving"]) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        for name in ("postgres", "valkey-server", "tritonserver"):
            first_named(ratchet.process.pid, name).kill()
            assert asyncio.run(answers_again(stub)), f"no answer after {name} was killed"


@pytest.mark.timeout(300)
def test_while_triton_starts_again_answers_are_late_and_none_fails() -> None:
    with serving(new_home(), "--policy-wait=60") as ratchet:
        address, first = ratchet.started["serving"], first_named(ratchet.process.pid, "tritonserver")

        async def ask_all() -> list[pb.GenerateResponse]:
            async with grpc.aio.insecure_channel(address) as channel:
                stub = inference_pb2_grpc.InferenceServiceStub(channel)

                async def ask(number: int) -> list[pb.GenerateResponse]:
                    query = f"Where is parcel {number}?"
                    return [await stub.Generate(pb.GenerateRequest(query=query), timeout=120) for _ in range(5)]

                asking = [asyncio.create_task(ask(number)) for number in range(8)]
                await asyncio.sleep(0.2)
                first.kill()
                return [reply for replies in await asyncio.gather(*asking) for reply in replies]

        replies = asyncio.run(ask_all())
        assert len(replies) == 40
        assert not any(reply.refused for reply in replies)
        assert first_named(ratchet.process.pid, "tritonserver").pid != first.pid


async def answers_again(stub: inference_pb2_grpc.InferenceServiceStub, seconds: float = 40) -> bool:
    """Whether an undegraded answer comes within `seconds`."""
    for _ in range(int(seconds / 0.5)):
        await asyncio.sleep(0.5)
        try:
            reply = stub.Generate(pb.GenerateRequest(query="Hello", session_id="s"), timeout=20)
        except grpc.RpcError:
            continue
        if not reply.degradations:
            return True
    return False


def test_a_signal_shows_in_the_health_and_lets_calls_under_way_finish() -> None:
    with serving(new_home(), "--lame-duck=2") as ratchet:
        address = ratchet.started["serving"]

        async def stop_under_load() -> list[object]:
            async with grpc.aio.insecure_channel(address) as channel:
                stub = inference_pb2_grpc.InferenceServiceStub(channel)
                calls = [stub.Generate(pb.GenerateRequest(query=f"Question {i}"), timeout=60) for i in range(10)]
                tasks = [asyncio.ensure_future(call) for call in calls]
                await asyncio.sleep(0.3)
                ratchet.process.send_signal(signal.SIGTERM)
                await not_serving(channel)
                with pytest.raises(grpc.aio.AioRpcError, match="stopping"):
                    await stub.Generate(pb.GenerateRequest(query="Too late"), timeout=5)
                return await asyncio.gather(*tasks, return_exceptions=True)

        outcomes = asyncio.run(stop_under_load())
        assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
        assert ratchet.process.wait(60) == 0


async def not_serving(channel: grpc.aio.Channel) -> None:
    """Returns once the health says NOT_SERVING; fails when it never does."""
    stub = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(2):
        while (await stub.Check(health_pb2.HealthCheckRequest())).status != health_pb2.HealthCheckResponse.NOT_SERVING:
            await asyncio.sleep(0.02)
