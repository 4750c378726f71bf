"""What one SubmitFeedback costs: against a call of the same server that does nothing, and against one insert of a row
into the same Postgres, in turns."""

import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks import load, ratchets
from benchmarks.load import Load
from ratchet.v1 import feedback_pb2 as pb
from ratchet.v1 import feedback_pb2_grpc, inference_pb2, inference_pb2_grpc
from server.embedded.layout import Layout
from server.embedded.postgres import DATABASE, ROLE

Figures = dict[str, Any]
Call = Callable[[int], Awaitable[object]]
CALLERS = (1, 16)
TURNS = 3
REPLIES = 60_000
"""Each feedback is a first one, on a reply of its own: no rate is so high that they run out."""

_REPLIES = """
INSERT INTO conversation_logs
SELECT (jsonb_populate_record(logs, jsonb_build_object(
    'response_id', uuidv7(), 'user_id', 'bench-' || number, 'request_id', ''
))).*
FROM conversation_logs AS logs, generate_series(1, $2) AS number
WHERE logs.response_id = $1
RETURNING response_id, user_id
"""
_TABLE = "CREATE TABLE IF NOT EXISTS bench_rows (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), text text)"


async def measure(home: Path, seconds: float) -> Figures:
    """At 1 and 16 callers: first ratings with stars and a comment, with a request id, as the console sends them."""
    with ratchets.serving(home, backend="fake") as running:
        async with AsyncExitStack() as stack:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(running.address))
            postgres = await stack.enter_async_context(_postgres(home))
            replies = await _replies(channel, postgres)
            await postgres.execute(_TABLE)
            rivals = {
                "ratchet": _submit(channel, replies),
                "insert": _insert(postgres),
                "empty_call": _nothing(channel),
            }
            return {f"{callers} callers": await _in_turns(rivals, callers, seconds) for callers in CALLERS}


async def _in_turns(rivals: dict[str, Call], callers: int, seconds: float) -> Figures:
    """The best turn of each: other work on the machine then hits all alike."""
    found: dict[str, list[Load]] = {name: [] for name in rivals}
    for _ in range(TURNS):
        for name, call in rivals.items():
            found[name].append(await load.run(call, callers=callers, seconds=seconds / TURNS / len(rivals)))
    best = {name: max(loads, key=lambda each: each.per_second) for name, loads in found.items()}
    ours = best["ratchet"]
    return {
        **{name: asdict(each) for name, each in best.items()},
        "p50_to_insert": ours.p50 / best["insert"].p50,
        "p50_to_empty_call": ours.p50 / best["empty_call"].p50,
        "throughput_to_insert": ours.per_second / best["insert"].per_second,
    }


def _postgres(home: Path) -> Any:
    layout = Layout.of(home)
    password = (layout.postgres / "password").read_text().strip()
    return asyncpg.create_pool(
        host=str(layout.postgres_socket), user=ROLE, database=DATABASE, password=password, min_size=1, max_size=16
    )


async def _replies(channel: grpc.aio.Channel, postgres: asyncpg.Pool) -> Iterator[tuple[UUID, str]]:
    """Replies to rate: copies of the log row of one that was given."""
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    reply = await stub.Generate(inference_pb2.GenerateRequest(query="How long is the warranty?", session_id="bench"))
    rows = await postgres.fetch(_REPLIES, UUID(reply.response_id), REPLIES)
    await postgres.execute("ANALYZE conversation_logs")
    return iter([(row["response_id"], row["user_id"]) for row in rows])


def _submit(channel: grpc.aio.Channel, replies: Iterator[tuple[UUID, str]]) -> Call:
    stub = feedback_pb2_grpc.FeedbackServiceStub(channel)
    stars = itertools.cycle(range(1, 6))

    async def call(_: int) -> object:
        response_id, user = next(replies)
        request = pb.SubmitFeedbackRequest(
            request_id=f"bench-{response_id}",
            response_id=str(response_id),
            user_id=user,
            rating_overall=next(stars),
            text_feedback="Rõ ràng và đúng, cảm ơn.",
        )
        return await stub.SubmitFeedback(request, timeout=60)

    return call


def _insert(postgres: asyncpg.Pool) -> Call:
    return lambda _: postgres.execute("INSERT INTO bench_rows (text) VALUES ($1)", "Rõ ràng và đúng, cảm ơn.")


def _nothing(channel: grpc.aio.Channel) -> Call:
    stub = health_pb2_grpc.HealthStub(channel)
    return lambda _: stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
