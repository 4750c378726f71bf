"""ReleaseService and RolloutService as an operator sees them, and their tables as the controller writes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc

from ratchet.v1 import release_pb2, release_pb2_grpc, rollout_pb2, rollout_pb2_grpc
from server.identity import Role
from server.keyring import KeyRing
from server.publisher import Publisher
from server.rollout import documents
from server.rollout.guards import Look
from server.rollout.machine import move
from server.rollout.registry import Looked, ReplicaModel, ReplicaState
from server.rollout.types import CONTROLLER, Evidence, Rollout, Trigger
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from server.rpc.releases import ReleaseService
from server.rpc.rollouts import RolloutService
from server.storage.arrivals import PostgresArrivals
from server.storage.rollouts import PostgresRollouts
from server.storage.safety import PostgresSafetyReports
from tests.logged import entry_at, give_feedback, log
from tests.registered import report_on
from tests.rollouts import good
from tests.unit.test_keyring import Store

REPLICAS = ("a:8001", "b:8001")


class Edge:
    """A tenant of its own, an operator's key, and the controller's hand. `draining`: the server stops. `needed`: why
    the deployment can't do without a release, by its name."""

    def __init__(self, pool: asyncpg.Pool, repository: Path) -> None:
        self.pool, self.tenant, self.keys = pool, f"t-{uuid4().hex}", Store()
        self.rollouts, self.reports = PostgresRollouts(pool), PostgresSafetyReports(pool)
        self.repository = repository
        self.draining = False
        self.text = self.keys.add(Role.OPERATOR, tenant=self.tenant)
        self.stubs: dict[str, Any] = {}
        self.needed: dict[str, str] = {}

    async def call(self, method: str, key: str = "", **fields: Any) -> Any:
        """What a method of either service answers."""
        module = release_pb2 if "Release" in method else rollout_pb2
        return await self.send(method, getattr(module, f"{method}Request")(**fields), key)

    async def send(self, method: str, request: Any, key: str = "") -> Any:
        stub = self.stubs["releases" if "Release" in method else "rollouts"]
        return await getattr(stub, method)(request, metadata=self.being(key), timeout=20)

    def being(self, key: str = "") -> Any:
        return (("authorization", f"Bearer {key or self.text}"),)

    @asynccontextmanager
    async def watching(self, rollout_id: str, key: str = "") -> AsyncIterator[AsyncIterator[Any]]:
        request = rollout_pb2.WatchRolloutRequest(rollout_id=rollout_id)
        call = self.stubs["rollouts"].WatchRollout(request, metadata=self.being(key), timeout=20)
        try:
            yield aiter(call)
        finally:
            call.cancel()

    async def ready(self, *releases: str, state: ReplicaState = ReplicaState.READY, refusal: str = "") -> None:
        """What the leader notes of all replicas: these have the releases, and all else is forgotten."""
        now = datetime.now(UTC)
        models = [
            ReplicaModel(replica=replica, release=release, state=state, since=now, checked_at=now, refusal=refusal)
            for replica in REPLICAS
            for release in releases
        ]
        await self.rollouts.report(models, REPLICAS)

    async def look(self, rollout: Rollout, reason: str = "It waits.", **changes: Any) -> Evidence:
        """The controller's look, at which all is well but for the `changes`."""
        evidence = good(rollout, **changes)
        seen = Looked(rollout.version, datetime.now(UTC), reason, documents.of_evidence(evidence))
        await self.rollouts.look(rollout.rollout_id, seen)
        return evidence

    async def advance(self, rollout_id: str, trigger: Trigger = Trigger.ADVANCE, **changes: Any) -> Rollout:
        """The controller's step, long after the one before, at which all is well."""
        rollout = await self.rollouts.get(rollout_id)
        later = replace(rollout, served=30 * 86_400.0)
        step = move(Look(later, good(rollout, **changes), datetime.now(UTC)), trigger, CONTROLLER, "All is well.")
        await self.rollouts.apply(step)
        return step.rollout

    async def reported(self, rollout: Rollout, tenant: str = "", **says: Any) -> tuple[UUID, UUID]:
        """A safety report on a new reply of the challenger; the reply's id and the report's."""
        owner, number = tenant or self.tenant, uuid4().int & 0xFFFFFFFF
        (reply,) = await log(self.pool, entry_at(datetime.now(UTC), number, tenant_id=owner, user_id="ann"))
        await report_on(self.pool, owner, reply, rollout)
        given = {"kind": "safety_report", "safety_category": "dangerous", "text_feedback": "Nguy hiểm!", **says}
        return reply, await give_feedback(self.pool, owner, reply, **given)


@asynccontextmanager
async def serving(edge: Edge) -> AsyncIterator[str]:
    """Both services on loopback, which ask for keys of `edge`; their address."""
    ring = KeyRing(edge.keys, grace=60, every=0.05, at_most_every=0)
    await ring.start()
    server = grpc.aio.server(interceptors=[Guard(Admission(limit=64, watch_limit=4), ring)])
    defaults = Defaults()
    rollouts = RolloutService(edge.rollouts, edge.reports, defaults, lambda: edge.draining)
    rollout_pb2_grpc.add_RolloutServiceServicer_to_server(rollouts, server)
    publish = Publisher(edge.rollouts, edge.repository, {})
    releases = ReleaseService(
        edge.rollouts, PostgresArrivals(edge.pool), publish, lambda name: edge.needed.get(name, ""), defaults
    )
    release_pb2_grpc.add_ReleaseServiceServicer_to_server(releases, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        edge.stubs["rollouts"] = rollout_pb2_grpc.RolloutServiceStub(channel)
        edge.stubs["releases"] = release_pb2_grpc.ReleaseServiceStub(channel)
        yield address
    await server.stop(0)
    await ring.stop()
