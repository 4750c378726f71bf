"""What a trainer made is published by the server beside it, also by the next one, and rolled out where that is set."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest

from ratchet.v1 import release_pb2, release_pb2_grpc, rollout_pb2, rollout_pb2_grpc
from tests.conftest import RunningStack
from tests.e2e.serving import Serving, serving
from tests.releases import reward_directory

SECONDS = 60


@dataclass
class Place:
    """A home, and a database of its own."""

    home: Path
    url: str
    redis: str

    def serving(self, *flags: str) -> AbstractContextManager[Serving]:
        return serving(self.home, "--backend=fake", *flags, DATABASE_URL=self.url, REDIS_URL=self.redis)

    async def make(self, name: str) -> UUID:
        """A run that ended with a better release."""
        run, path = uuid4(), reward_directory(self.home / "training" / "releases" / name)
        connection = await asyncpg.connect(self.url)
        await connection.execute(
            "INSERT INTO training_runs (tenant_id, training_id, kind, state, verdict, release, release_path,"
            " requested_by, ended_at) VALUES ('default', $1, 'reward', 'SUCCEEDED', 'BETTER', $2, $3, 'test', $4)",
            *(run, name, str(path), datetime.now(UTC)),
        )
        await connection.close()
        return run


@pytest.fixture
async def place(stack: RunningStack, pool: asyncpg.Pool, home: Path) -> AsyncIterator[Place]:
    name = f"arrivals_{uuid4().hex}"
    await pool.execute(f"CREATE DATABASE {name}")
    url = urlunsplit(urlsplit(stack.endpoints.database_url)._replace(path=f"/{name}"))
    yield Place(home, url, stack.endpoints.redis_url)
    await pool.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def releases(channel: grpc.aio.Channel) -> dict[str, release_pb2.Release]:
    stub = release_pb2_grpc.ReleaseServiceStub(channel)
    answer = await stub.ListReleases(release_pb2.ListReleasesRequest(), timeout=10)
    return {each.release: each for each in answer.releases}


async def rollouts(channel: grpc.aio.Channel) -> Sequence[rollout_pb2.Rollout]:
    stub = rollout_pb2_grpc.RolloutServiceStub(channel)
    answer = await stub.ListRollouts(rollout_pb2.ListRolloutsRequest(), timeout=10)
    return list(answer.rollouts)


async def arrived(channel: grpc.aio.Channel, name: str) -> release_pb2.Release:
    async with asyncio.timeout(SECONDS):
        while name not in (found := await releases(channel)):
            await asyncio.sleep(0.2)
    return found[name]


async def test_a_release_of_a_run_is_published_and_rolled_out_only_where_that_is_set(place: Place) -> None:
    first, second = f"reward-{uuid4().hex[:10]}", f"reward-{uuid4().hex[:10]}"
    with place.serving() as server:
        async with grpc.aio.insecure_channel(server.started["serving"]) as channel:
            run = await place.make(first)
            found = await arrived(channel, first)
            assert (found.training_id, found.publisher, found.champion) == (str(run), "training", False)
            assert await rollouts(channel) == []
        await place.make(second)
        server.kill()  # at the latest now, so that another one may have to begin with it
    with place.serving("--rollout-new=on") as server:
        async with grpc.aio.insecure_channel(server.started["serving"]) as channel:
            await arrived(channel, second)
            async with asyncio.timeout(SECONDS):
                while not (found_rollouts := await rollouts(channel)) or found_rollouts[0].version < 3:
                    await asyncio.sleep(0.2)
    (rollout,) = found_rollouts
    assert (rollout.challenger, rollout.champion, rollout.creator) == (second, "reward-000001", "RATCHET_ROLLOUT_NEW")
    assert rollout.state not in (rollout_pb2.ROLLOUT_STATE_DRAFT, rollout_pb2.ROLLOUT_STATE_FAILED), "it is loaded"
