"""Secrets that all server processes share."""

import asyncio
from uuid import uuid4

import asyncpg

from server.storage.secrets import SECRET_BYTES, shared_secret


async def test_processes_that_ask_at_once_get_the_same_secret(pool: asyncpg.Pool) -> None:
    purpose = f"receipt-{uuid4()}"
    found = await asyncio.gather(*(shared_secret(pool, purpose) for _ in range(20)))
    assert len(found[0]) == 1
    assert len(found[0][0]) == SECRET_BYTES
    assert all(each == found[0] for each in found)


async def test_purposes_have_secrets_of_their_own(pool: asyncpg.Pool) -> None:
    receipts, erasures = f"receipt-{uuid4()}", f"erasure-{uuid4()}"
    assert await shared_secret(pool, receipts) != await shared_secret(pool, erasures)


async def test_the_newest_secret_comes_first_and_the_older_ones_stay(pool: asyncpg.Pool) -> None:
    purpose = f"receipt-{uuid4()}"
    first = await shared_secret(pool, purpose)
    await pool.execute("INSERT INTO server_secrets VALUES ($1, 2, $2)", purpose, b"n" * SECRET_BYTES)
    assert await shared_secret(pool, purpose) == [b"n" * SECRET_BYTES, *first]
