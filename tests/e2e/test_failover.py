"""Connections to Postgres that a failover leaves behind: nothing comes back on them, new ones are answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from server.errors import StoreUnavailable
from server.patience import Late, within
from server.storage import database
from server.storage.documents import PostgresDocuments, RequestKey
from server.storage.passages import PostgresPassages
from server.storage.profiles import Change, PostgresProfiles
from tests.conftest import RunningStack

SIZE = 3


class Network:
    """Between a pool and Postgres. `fail` makes the connections of now black holes."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._open: list[asyncio.Event] = []
        self._carrying: set[asyncio.Task[None]] = set()

    async def fail(self) -> None:
        for each in self._open:
            each.clear()

    @asynccontextmanager
    async def pool(self) -> AsyncIterator[asyncpg.Pool]:
        """All of its connections are open."""
        listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        user = f"{self._parts.username}:{self._parts.password or ''}"
        pool = await database.connect(
            f"postgresql://{user}@127.0.0.1:{port}{self._parts.path}?sslmode=disable", size=SIZE, stateless=True
        )
        await asyncio.gather(*(pool.fetchval("SELECT pg_sleep(0.1)") for _ in range(SIZE)))
        try:
            yield pool
        finally:
            pool.terminate()
            listening.close()
            for each in self._carrying:
                each.cancel()
            await asyncio.gather(*self._carrying, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._carrying.add(asyncio.create_task(self._carry(reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing = asyncio.Event()
        passing.set()
        self._open.append(passing)
        from_postgres, to_postgres = await self._postgres()
        ways = [_pass(reader, to_postgres, passing), _pass(from_postgres, writer, passing)]
        try:
            await asyncio.gather(*ways)
        finally:
            for each in (writer, to_postgres):
                each.close()
                with suppress(OSError):
                    await each.wait_closed()

    async def _postgres(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if sockets := parse_qs(self._parts.query).get("host"):
            return await asyncio.open_unix_connection(f"{sockets[0]}/.s.PGSQL.{self._parts.port or 5432}")
        return await asyncio.open_connection(self._parts.hostname, self._parts.port or 5432)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            await passing.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.fixture
def network(stack: RunningStack, pool: asyncpg.Pool) -> Network:
    """To a migrated database."""
    return Network(stack.endpoints.database_url)


async def test_reads_of_profiles_that_are_given_up_do_not_keep_their_connections(network: Network) -> None:
    async with network.pool() as pool:
        profiles = PostgresProfiles(pool)
        await profiles.put("failover", "lan", Change({"city": "Huế"}))
        await network.fail()
        late, found = 0, None
        while late <= SIZE:
            try:
                found = await within(0.5, profiles.get("failover", "lan"))
                break
            except Late:
                late += 1
        assert late > 0, "nothing was lost"
        assert found is not None
        assert found.attributes == {"city": "Huế"}


async def test_searches_that_are_given_up_do_not_keep_their_connections(network: Network) -> None:
    async with network.pool() as pool:
        passages = PostgresPassages(pool, "hashing-256", 256)
        await network.fail()
        for _ in range(SIZE):
            with pytest.raises(Late):
                await within(0.05, passages.vocabulary("failover"))
        assert (await passages.vocabulary("failover")).passages == 0


async def test_looks_at_the_documents_fail_one_by_one_and_then_succeed(network: Network) -> None:
    async with network.pool() as pool:
        passages = PostgresPassages(pool, "hashing-256", 256)
        await network.fail()
        for _ in range(SIZE):
            with pytest.raises(StoreUnavailable):
                await passages.versions(["failover"])
        assert await passages.versions(["failover"]) == {}


async def test_changes_that_are_given_up_do_not_keep_their_connections(network: Network) -> None:
    async with network.pool() as pool:
        profiles, documents = PostgresProfiles(pool), PostgresDocuments(pool)
        await network.fail()
        with pytest.raises(Late):
            await within(0.05, profiles.put("failover", "an", Change({"city": "Vinh"})))
        for _ in range(SIZE - 1):
            with pytest.raises(Late):
                await within(0.05, documents.repeated("failover", RequestKey("once", b"")))
        assert (await profiles.put("failover", "an", Change({"city": "Vinh"}))).attributes == {"city": "Vinh"}
        assert await documents.find("failover", "nothing") is None
