"""Secrets that all server processes share. They are made here, and never leave the database and the processes."""

import secrets

import asyncpg

from server.errors import StoreUnavailable, told
from server.storage.database import GONE

SECRET_BYTES = 32
"""Of each secret: as many as SHA-256 gives, which is what RFC 2104 asks of an HMAC's key."""

_ALL = "SELECT secret FROM server_secrets WHERE purpose = $1 ORDER BY secret_id DESC"
_FIRST = "INSERT INTO server_secrets (purpose, secret_id, secret) VALUES ($1, 1, $2) ON CONFLICT DO NOTHING"


async def shared_secret(pool: asyncpg.Pool, purpose: str) -> list[bytes]:
    """The secrets of a purpose, newest first: the first one signs, all of them verify. Never empty.

    The first one is made by whichever process asks first; the others wait for its commit and read it. Raises
    StoreUnavailable.
    """
    try:
        if not await pool.fetchval(f"SELECT EXISTS ({_ALL})", purpose):
            # A conflicting insert waits until the other one has committed, so what is read below is there.
            await pool.execute(_FIRST, purpose, secrets.token_bytes(SECRET_BYTES))
        return [bytes(row["secret"]) for row in await pool.fetch(_ALL, purpose)]
    except (*GONE, asyncpg.PostgresError) as error:
        raise StoreUnavailable(f"The secrets that servers share can't be read: {told(error)}.") from error
