"""Statements within bounded time, on a pool that does what asyncpg's does."""

import asyncio
from typing import Any

import asyncpg
import pytest

from server.storage.database import GONE, bounded


class Connection:
    """Answers when `answering` is set; a statement on a connection that is cut off fails at once."""

    def __init__(self) -> None:
        self.answering, self.cut = asyncio.Event(), asyncio.Event()
        self.released = False

    def terminate(self) -> None:
        if self.released:
            raise asyncpg.InterfaceError("cannot call Connection.terminate(): released back to the pool")
        self.cut.set()

    def is_closed(self) -> bool:
        return self.cut.is_set()

    async def fetch(self) -> str:
        if self.released or self.cut.is_set():
            raise asyncpg.InterfaceError("the connection is closed")
        waits = [asyncio.ensure_future(each.wait()) for each in (self.answering, self.cut)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        if self.cut.is_set():
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return "rows"


class Pool:
    """One connection; giving it back takes `releasing` seconds."""

    def __init__(self, releasing: float = 0.0) -> None:
        self.connection, self.free, self.releasing = Connection(), asyncio.Semaphore(1), releasing

    async def acquire(self) -> Connection:
        await self.free.acquire()
        return self.connection

    async def release(self, connection: Connection) -> None:
        connection.released = True
        self.free.release()
        await asyncio.sleep(self.releasing)


async def ask(pool: Any, seconds: float) -> str:
    async def call(connection: Any) -> str:
        return str(await connection.fetch())

    return await bounded(pool, seconds, call)


async def test_a_statement_that_is_answered_gives_its_rows_and_the_connection_back() -> None:
    pool = Pool()
    pool.connection.answering.set()
    assert await ask(pool, 5) == "rows"
    assert pool.connection.released
    assert not pool.connection.cut.is_set()


async def test_a_statement_that_is_never_answered_fails_as_gone_and_its_connection_is_cut_off() -> None:
    pool = Pool()
    with pytest.raises(GONE):
        await ask(pool, 0.01)
    assert pool.connection.cut.is_set()
    assert pool.connection.released


async def test_waiting_for_a_connection_counts() -> None:
    pool = Pool()
    await pool.free.acquire()
    with pytest.raises(TimeoutError):
        await ask(pool, 0.01)


async def test_a_caller_who_leaves_waits_for_no_server_not_even_in_what_the_call_does_at_its_end() -> None:
    pool = Pool()

    async def call(connection: Any) -> str:
        try:
            return str(await connection.fetch())
        finally:
            await connection.fetch()  # as the rollback of a transaction

    asking = asyncio.create_task(bounded(pool, 600, call))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert pool.connection.cut.is_set()
    assert pool.connection.released


async def test_time_that_is_up_once_the_connection_is_back_in_the_pool_is_no_error() -> None:
    pool, errors = Pool(releasing=0.05), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    pool.connection.answering.set()
    assert await ask(pool, 0.01) == "rows"
    assert errors == []
