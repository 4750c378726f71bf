"""TrainingService as callers of one tenant see it, and its tables as the trainer writes them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
from google.protobuf.json_format import ParseDict

from ratchet.v1 import training_pb2 as pb
from ratchet.v1 import training_pb2_grpc
from server.identity import Role
from server.keyring import KeyRing
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from server.rpc.training import TrainingService
from server.storage.reviews import PostgresReviews
from server.storage.training import PostgresTrainings, new_id
from tests.unit.test_keyring import Store


class Edge:
    """A tenant, by default one of its own, seen through a trainer's key, and its tables as a trainer sees them."""

    def __init__(self, pool: asyncpg.Pool, tenant: str = "") -> None:
        self.pool, self.tenant, self.keys = pool, tenant or f"t-{uuid4()}", Store()
        self.draining = False
        self.text = self.keys.add(Role.TRAINER, tenant=self.tenant)
        self.stub: Any = None

    def being(self, text: str = "") -> Any:
        return (("authorization", f"Bearer {text or self.text}"),)

    async def call(self, method: str, key: str = "", **fields: Any) -> Any:
        request = getattr(pb, f"{method}Request")(**fields)
        return await getattr(self.stub, method)(request, metadata=self.being(key), timeout=20)

    async def start(self, config: dict[str, Any] | None = None, key: str = "", **fields: Any) -> pb.Training:
        request = ParseDict({"config": config or {}, **fields}, pb.StartTrainingRequest())
        answer = await self.stub.StartTraining(request, metadata=self.being(key), timeout=20)
        return answer.training  # type: ignore[no-any-return]

    @asynccontextmanager
    async def watching(self, training_id: str, key: str = "") -> AsyncIterator[AsyncIterator[pb.WatchTrainingResponse]]:
        request = pb.WatchTrainingRequest(training_id=training_id)
        call = self.stub.WatchTraining(request, metadata=self.being(key), timeout=20)
        try:
            yield aiter(call)
        finally:
            call.cancel()

    async def run(self, training_id: str, **columns: Any) -> None:
        """Writes as the trainer does."""
        for name, value in columns.items():
            kind = "::jsonb" if isinstance(value, (dict, list)) else ""
            given = json.dumps(value) if kind else value
            change = f"UPDATE training_runs SET {name} = $2{kind}, changed = changed + 1 WHERE training_id = $1"
            await self.pool.execute(change, UUID(training_id), given)

    async def point(self, training_id: str, *steps: int, on: Any = None, **values: float) -> None:
        rows = [(UUID(training_id), step, json.dumps({"loss": 1 / (step + 1), **values})) for step in steps]
        insert = 'INSERT INTO training_points (training_id, step, "values") VALUES ($1, $2, $3)'
        await (on or self.pool).executemany(insert, rows)

    async def item(self, training_id: str, score: float = 0.5, tenant: str = "", **more: Any) -> str:
        columns = {"query": "Bảo hành bao lâu?", "response": "24 tháng.", "reason": "LOWEST", **more}
        names = ", ".join(columns)
        places = ", ".join(f"${number}" for number in range(5, 5 + len(columns)))
        item_id = new_id()
        await self.pool.execute(
            f"INSERT INTO review_items (item_id, tenant_id, training_id, score, {names})"
            f" VALUES ($1, $2, $3, $4, {places})",
            *(item_id, tenant or self.tenant, UUID(training_id), score, *columns.values()),
        )
        return str(item_id)


@asynccontextmanager
async def serving(edge: Edge) -> AsyncIterator[str]:
    """TrainingService on loopback, which asks for keys of `edge`; its address."""
    ring = KeyRing(edge.keys, grace=60, every=0.05, at_most_every=0)
    await ring.start()
    server = grpc.aio.server(interceptors=[Guard(Admission(limit=64, watch_limit=4), ring)])
    store = PostgresTrainings(edge.pool), PostgresReviews(edge.pool)
    training_pb2_grpc.add_TrainingServiceServicer_to_server(
        TrainingService(*store, Defaults(), 1000, lambda: edge.draining), server
    )
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        edge.stub = training_pb2_grpc.TrainingServiceStub(channel)
        yield address
    await server.stop(0)
    await ring.stop()
