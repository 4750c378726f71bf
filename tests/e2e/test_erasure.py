"""A user is erased from a whole server: nothing is left in tables, keys, files and logs, whatever happens meanwhile."""

import asyncio
import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from redis.asyncio import Redis

from ratchet.v1 import feedback_pb2, feedback_pb2_grpc, inference_pb2_grpc, user_pb2, user_pb2_grpc
from ratchet.v1 import inference_pb2 as pb
from server.embedded import EmbeddedSettings, running
from server.storage import database, memory
from tests import scan
from tests.conftest import new_home
from tests.e2e.paused import paused
from tests.e2e.processes import first_named
from tests.e2e.serving import Serving, serving


@dataclass
class User:
    """A user whose every text can be told from anybody else's."""

    name: str = field(default_factory=lambda: f"người-dùng-{secrets.token_hex(6)}")
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.words.append(self.name)

    def text(self, what: str) -> str:
        """A text of this user's."""
        self.words.append(f"{what}-{self.name}")
        return f"Cho mình hỏi về {what}-{self.name} nhé?"


@dataclass
class House:
    """A home, its server, and what looks into it from outside."""

    home: Path
    server: Serving
    address: str
    pool: asyncpg.Pool
    redis: Redis

    async def found(self, words: list[str]) -> set[tuple[str, str]]:
        """Where the words are."""
        folders = [self.home / name for name in ("spool", "exports", "logs", "run")]
        found = await scan.in_postgres(self.pool, words) | await scan.in_redis(self.redis, words)
        return found | scan.in_files(folders, words)

    def command(self, *arguments: str) -> Any:
        """What `ratchet …` says, as JSON."""
        line = [sys.executable, "-m", "cli.main", *arguments, "--address", self.address, "--json"]
        environment = {"RATCHET_HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(line, capture_output=True, text=True, timeout=100, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    path = new_home()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def house(home: Path) -> AsyncIterator[House]:
    with serving(home, "--backend=fake", "--console=off", "--processes=2") as server:
        address = str(server.started["serving"])
        urls = running.endpoints(EmbeddedSettings(home=home, triton=False))
        assert urls is not None
        async with await database.connect(urls.database_url, size=2) as pool:
            client = memory.connect(urls.redis_url)
            yield House(home, server, address, pool, client)
            await client.aclose()
    assert server.process.returncode is not None


def ask(address: str, user: User, number: int) -> pb.GenerateResponse:
    with grpc.insecure_channel(address) as channel:
        request = pb.GenerateRequest(
            query=user.text(f"query{number}"),
            context=user.text(f"given{number}"),
            user_id=user.name,
            session_id=user.text("session"),
            request_id=user.text(f"request{number}"),
        )
        return inference_pb2_grpc.InferenceServiceStub(channel).Generate(request, timeout=30)


def rate(address: str, user: User, reply: pb.GenerateResponse, number: int) -> None:
    with grpc.insecure_channel(address) as channel:
        request = feedback_pb2.SubmitFeedbackRequest(
            request_id=user.text(f"rating{number}"),
            response_id=reply.response_id,
            user_id=user.name,
            rating_overall=2,
            text_feedback=user.text(f"comment{number}"),
            receipt=reply.receipt,
        )
        feedback_pb2_grpc.FeedbackServiceStub(channel).SubmitFeedback(request, timeout=30)


def know(address: str, user: User) -> None:
    with grpc.insecure_channel(address) as channel:
        request = user_pb2.UpdateProfileRequest(user_id=user.name, attributes={"city": user.text("city")})
        user_pb2_grpc.UserServiceStub(channel).UpdateProfile(request, timeout=30)


async def whole(house: House, user: User) -> list[str]:
    """Every row of the user's, to the letter."""
    found = []
    for table in ("conversation_logs", "feedback_data", "feedback_requests", "profiles"):
        rows = await house.pool.fetch(f"SELECT t::text FROM {table} AS t WHERE user_id = $1 ORDER BY 1", user.name)
        found += [row["t"] for row in rows]
    return found


async def settled(house: House, user: User, rows: int) -> None:
    """Returns once nothing of the user is under way any more: rows, lessons of each query and rating, feedback's
    context."""
    async with asyncio.timeout(60):
        while True:
            done = await house.pool.fetchval(
                "SELECT (SELECT count(*) FROM conversation_logs WHERE user_id = $1) = $2"
                " AND (SELECT weight FROM profiles WHERE user_id = $1) >= 2 * $2"
                " AND NOT EXISTS (SELECT FROM feedback_data WHERE user_id = $1 AND context IS NULL)",
                user.name,
                rows,
            )
            if done and not list((house.home / "spool").glob("*")):
                return
            await asyncio.sleep(0.1)


async def test_nothing_of_an_erased_user_is_left_in_a_whole_server_nor_after_a_restart(home: Path) -> None:
    ann, other = User(), User()
    async with house(home) as found:
        for user in (ann, other):
            await asyncio.to_thread(know, found.address, user)
            for number in range(2):
                reply = await asyncio.to_thread(ask, found.address, user, number)
                await asyncio.to_thread(rate, found.address, user, reply, number)
        await settled(found, other, 2)
        for form in ("jsonl", "parquet"):
            found.command("logs", "export", "--format", form, "--to", str(home / "exports" / f"logs-{form}"))
            found.command("feedback", "export", "--format", form, "--to", str(home / "exports" / f"feedback-{form}"))
        with paused(postgres_of(found.server)):
            late = [await asyncio.to_thread(ask, found.address, ann, number) for number in (2, 3)]
            assert list((home / "spool").glob("*.rows")), "rows wait on disk"
        seen = {word for _, word in await found.found(ann.words)}
        assert seen >= {ann.name, ann.words[1]}, "the words can be found, else not finding them shows nothing"
        before = await whole(found, other)
        exported = {word for _, word in scan.in_files([home / "exports"], other.words)}
        said = found.command("user", "erase", ann.name, "--yes", "--timeout", "60")
        assert int(said["erased"]["exports"]) == 8
        await empty_spool(home)
        assert await found.found(ann.words) == set()
        assert await whole(found, other) == before
        assert {word for _, word in scan.in_files([home / "exports"], other.words)} == exported
        blank = await found.pool.fetch(
            "SELECT erased, user_id FROM conversation_logs WHERE response_id = ANY($1::uuid[])",
            [reply.response_id for reply in late],
        )
        assert [row["erased"] for row in blank] == [True, True]
        with pytest.raises(grpc.RpcError) as refusal:
            await asyncio.to_thread(rate, found.address, ann, late[0], 9)
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
        again = await asyncio.to_thread(ask, found.address, ann, 8)
        assert again.response, "who comes back is served"
        assert found.command("user", "erase", ann.name, "--yes")["erased"]["conversation_logs"] == "1"
        found.server.stop()
        logged = str(found.server.events) + str(found.server.rest()) + found.server.errors()
        assert not [word for word in (*ann.words, *other.words) if word in logged], "the server's log names nobody"
    async with house(home) as restarted:
        assert await restarted.found(ann.words) == set()
        assert await whole(restarted, other) == before


async def test_an_erasure_that_is_killed_midway_is_finished_by_the_next_one(home: Path) -> None:
    ann, rows = User(), 4000
    async with house(home) as found:
        reply = await asyncio.to_thread(ask, found.address, ann, 0)
        columns = await found.pool.fetchval(
            "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns"
            " WHERE table_name = 'conversation_logs' AND column_name NOT IN ('response_id', 'transaction_id')"
        )
        await found.pool.execute(
            f"INSERT INTO conversation_logs (response_id, {columns}) SELECT uuidv7(-interval '1 hour'), {columns}"
            " FROM conversation_logs, generate_series(1, $2) WHERE response_id = $1",
            reply.response_id,
            rows,
        )
        erasing = asyncio.create_task(asyncio.to_thread(erase, found.address, ann))
        count = "SELECT count(*) FROM conversation_logs WHERE user_id = $1"
        while await found.pool.fetchval(count, ann.name) == rows + 1:
            await asyncio.sleep(0.005)
        found.server.kill()
        await asyncio.gather(erasing, return_exceptions=True)
    async with house(home) as restarted:
        left = await restarted.pool.fetchval(count, ann.name)
        assert 0 < left <= rows, "it was killed midway"
        said = restarted.command("user", "erase", ann.name, "--yes", "--timeout", "100")
        assert int(said["erased"]["conversation_logs"]) == left
        assert await restarted.found(ann.words) == set()
        stands_for = "SELECT count(DISTINCT user_id) FROM conversation_logs WHERE response_id = $1 OR erased"
        assert await restarted.pool.fetchval(stands_for, reply.response_id) == 2, "this user, and the one before"


def erase(address: str, user: User) -> None:
    with grpc.insecure_channel(address) as channel:
        request = user_pb2.EraseUserRequest(user_id=user.name)
        user_pb2_grpc.UserServiceStub(channel).EraseUser(request, timeout=100)


def postgres_of(server: Serving) -> int:
    """The id of its first process."""
    return first_named(server.process.pid, "postgres").pid


async def empty_spool(home: Path) -> None:
    async with asyncio.timeout(30):
        while list((home / "spool").glob("*")):
            await asyncio.sleep(0.05)
