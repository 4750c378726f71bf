"""What the servers named by URLs say when they are asked, for `ratchet doctor` and for the start."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
from redis.exceptions import RedisError

from server.backends.triton import TritonClient
from server.embedded.preflight import Check
from server.errors import RatchetError, told
from server.redaction import redact
from server.settings import Settings
from server.storage import database, memory

SECONDS = 5.0


class Unreachable(RatchetError):
    """A server that a URL names does not answer, or lacks something."""


async def run(settings: Settings) -> list[Check]:
    """One check for each URL that is given; none changes anything."""
    urls = settings.embedded()
    checks = (
        _check("DATABASE_URL", urls.database_url, postgres),
        _check("REDIS_URL", urls.redis_url, redis),
        _check("TRITON_URL", urls.triton_url, triton),
        *(_check("RATCHET_TRITON_URLS", address, triton) for address in settings.replicas if urls.triton),
    )
    return [check for check in await asyncio.gather(*checks) if check is not None]


async def _check(name: str, url: str | None, ask: Callable[[str], Awaitable[str]]) -> Check | None:
    if not url:
        return None
    try:
        return Check(name, True, f"{redact(url)}, {await ask(url)}")
    except RatchetError as error:
        return Check(name, False, str(error), f"start the server at {redact(url)}, or correct {name}")


async def postgres(url: str) -> str:
    """Its version and pgvector's. Raises a RatchetError: not reached, refused, or without pgvector."""
    pool = await database.connect(url, size=1)
    try:
        version = await pool.fetchval("SHOW server_version")
        vector = await pool.fetchval("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
    except (*database.GONE, asyncpg.PostgresError) as error:
        raise Unreachable(f"Postgres does not answer: {told(error)}.") from error
    finally:
        await database.close(pool, SECONDS)
    if vector is None:
        raise Unreachable("Postgres has no pgvector: install its package (such as postgresql-18-pgvector) there.")
    return f"PostgreSQL {version} with pgvector {vector}"


async def redis(url: str) -> str:
    """That it answers PING. Raises Unreachable."""
    try:
        client = memory.connect(url)
        try:
            await client.ping()
        finally:
            await client.aclose()
    except (RedisError, OSError, TimeoutError, ValueError) as error:
        raise Unreachable(f"Redis does not answer: {told(error)}.") from error
    return "answers PING"


async def triton(address: str) -> str:
    """Its version. Raises Unreachable."""
    client = TritonClient(address)
    try:
        return f"Triton {await client.version(SECONDS)}"
    except RatchetError as error:
        raise Unreachable(f"No Triton answers at {address} within {SECONDS:g} seconds.") from error
    finally:
        await client.close()
