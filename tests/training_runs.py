"""Runs as a trainer holds them: claimed, worked at, looked up."""

from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from tests.tenants import Tenant
from trainer import runs
from trainer.reward.findings import Outcome
from trainer.reward.job import Progress, Result, Stage
from trainer.runs import Run
from trainer.service import STARTER
from trainer.settings import TrainerSettings
from trainer.worker import Worker

PROGRESS = Progress(Stage.TRAINING, 0.5)
NOT_BETTER = Result(verdict=Outcome.NOT_BETTER, summary="Not better.", reasons=("It is behind.",))


async def claimed(pool: asyncpg.Pool, tenant: Tenant, seconds: float = 60.0) -> Run:
    """A run of its own, held."""
    run = await runs.claim(pool, seconds, await runs.ask(pool, tenant.name, {"train": {"max_epochs": 1}}, "somebody"))
    assert run is not None
    return run


async def row(pool: asyncpg.Pool, training_id: UUID) -> Any:
    return await pool.fetchrow("SELECT * FROM training_runs WHERE training_id = $1", training_id)


def trainer(tmp_path: Path, tenant: Tenant) -> TrainerSettings:
    defaults = {"base": str(STARTER / "encoder")}
    return TrainerSettings(home=tmp_path, database_url="", tenant=tenant.name, defaults=defaults)


async def work(pool: asyncpg.Pool, tenant: Tenant, settings: TrainerSettings) -> tuple[UUID, Any]:
    training_id = await runs.ask(pool, tenant.name, {}, "somebody")
    run = await runs.claim(pool, 60, training_id)
    assert run is not None
    return training_id, await Worker(pool, settings).work(run)
