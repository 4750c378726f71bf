"""What tests of training share: a tenant, and TrainingService over a loopback server with keys."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from server.rpc import interceptors
from server.rpc import training as service
from server.storage import reviews, training
from tests.tenants import Tenant, a_tenant
from tests.training_api import Edge, serving


@pytest.fixture
async def tenant(pool: asyncpg.Pool) -> Tenant:
    """One of its own for each test, so that others' rows are not counted."""
    return await a_tenant(pool)


@pytest.fixture
async def edge(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    monkeypatch.setattr(service, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(interceptors, "RECHECK_SECONDS", 0.05)
    for name in ("READING", "WRITING"):
        for module in (training, reviews):
            monkeypatch.setattr(module, name, 20.0)  # a busy machine is no Postgres that is away
    edge = Edge(pool)
    async with serving(edge):
        yield edge
    await pool.execute("DELETE FROM training_runs WHERE tenant_id = $1", edge.tenant)
