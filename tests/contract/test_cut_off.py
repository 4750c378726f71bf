"""Statements whose connection is cut off at the worst moments, on a real Postgres.

The loop is held up past the time limit, as on a machine with too much to do: then the answer and the end of the time
are seen in one turn of the loop, the answer first.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from server.storage import database
from server.storage.database import GONE, Connection, bounded
from tests.conftest import RunningStack

LIMIT, HELD_UP = 1.0, 1.5
"""Seconds."""


@pytest.fixture(params=[False, True], ids=["reset", "stateless"])
async def small(stack: RunningStack, request: Any) -> AsyncIterator[asyncpg.Pool]:
    """A pool of one connection, so that what is not given back is missed."""
    async with await database.connect(stack.endpoints.database_url, size=1, stateless=request.param) as found:
        yield found


async def works(pool: asyncpg.Pool) -> bool:
    return bool(await bounded(pool, 30, lambda c: c.fetchval("SELECT true")))


def hold_up() -> None:
    """Holds the loop up in its next turn."""
    asyncio.get_running_loop().call_soon(time.sleep, HELD_UP)


async def test_time_that_is_up_as_a_statement_was_prepared_is_no_defect(small: asyncpg.Pool) -> None:
    async def call(connection: Connection) -> Any:
        hold_up()
        return await connection.fetch("SELECT 1 + $1::int", 1)

    with pytest.raises(GONE):
        await bounded(small, LIMIT, call)
    assert await works(small)


async def test_time_that_is_up_within_a_transaction_is_no_defect(small: asyncpg.Pool) -> None:
    async def call(connection: Connection) -> Any:
        async with connection.transaction():
            hold_up()
            return await connection.fetch("SELECT 2 + $1::int", 1)

    with pytest.raises(GONE):
        await bounded(small, LIMIT, call)
    assert await works(small)


async def test_time_that_is_up_as_a_transaction_begins_is_no_defect(small: asyncpg.Pool) -> None:
    async def call(connection: Connection) -> Any:
        hold_up()
        async with connection.transaction():
            return await connection.fetch("SELECT 3 + $1::int", 1)

    with pytest.raises(GONE):
        await bounded(small, LIMIT, call)
    assert await works(small)


async def test_what_was_answered_stands_when_time_is_up_as_the_connection_is_given_back(small: asyncpg.Pool) -> None:
    async def call(connection: Connection) -> Any:
        found = await connection.fetchval("SELECT 'answered'")
        hold_up()
        return found

    assert await bounded(small, LIMIT, call) == "answered"
    assert await works(small)


async def test_a_defect_of_the_work_is_told_as_what_it_is(small: asyncpg.Pool) -> None:
    async def call(_: Connection) -> Any:
        return None.nothing  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="nothing"):
        await bounded(small, LIMIT, call)
    assert await works(small)
