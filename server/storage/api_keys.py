"""API keys in Postgres: digests of their secrets, never the secrets. Rows stay when a key is revoked or expires."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from server.errors import ConfigurationError, StoreUnavailable, told
from server.identity import Caller, Role
from server.storage.database import GONE, Connection, bounded

SECONDS = 2.0
"""After which the connection is cut off on which Postgres has not answered."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept. `digest` is the SHA-256 of its secret."""

    key_id: str
    tenant_id: str
    name: str
    digest: bytes = field(repr=False)
    roles: frozenset[Role]
    created_at: datetime
    user_id: str = ""
    """The only user that it acts for; "" for all of the tenant."""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def caller(self) -> Caller:
        """Who calls with it."""
        return Caller(self.tenant_id, self.roles, self.key_id, self.name, self.user_id)


_COLUMNS = "key_id, tenant_id, name, digest, roles, created_at, user_id, expires_at, revoked_at"
_ADD = """
INSERT INTO api_keys (key_id, tenant_id, name, digest, roles, created_at, user_id, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_STATE = "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(key_id || xmin::text, 0)), 0) FROM api_keys"
"""Differs after any change of any row, by whomever: xmin is the transaction that wrote it."""
_USABLE = f"SELECT {_COLUMNS} FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
_REVOKE = f"UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = $1 RETURNING {_COLUMNS}"


class PostgresKeys:
    """The table of keys. Every method raises StoreUnavailable. The pool is the caller's."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def usable(self, known: str) -> tuple[str, list[ApiKey] | None]:
        """The table's state, and the keys that are neither revoked nor expired; None when the state is the `known`
        one: nothing has changed since."""

        async def read(connection: Connection) -> tuple[str, list[Any] | None]:
            state = str(await connection.fetchval(_STATE))
            return state, None if state == known else await connection.fetch(_USABLE)

        with _as_unavailable():
            state, rows = await bounded(self._pool, SECONDS, read)
        return state, None if rows is None else await asyncio.to_thread(_all, rows)

    async def add(self, key: ApiKey) -> None:
        """Keeps a new key."""
        values = (key.key_id, key.tenant_id, key.name, key.digest, sorted(key.roles), key.created_at, key.user_id)
        with _as_unavailable():
            await bounded(self._pool, SECONDS, lambda c: c.execute(_ADD, *values, key.expires_at))

    async def all(self, tenant: str | None = None) -> Sequence[ApiKey]:
        """All keys, also those that were revoked or have expired, oldest first; only a tenant's where one is named."""
        statement = f"SELECT {_COLUMNS} FROM api_keys WHERE $1::text IS NULL OR tenant_id = $1 ORDER BY created_at"
        with _as_unavailable():
            return _all(await bounded(self._pool, SECONDS, lambda c: c.fetch(statement, tenant)))

    async def revoke(self, key_id: str) -> ApiKey | None:
        """The key, revoked now or before; None when there is none."""
        with _as_unavailable():
            row = await bounded(self._pool, SECONDS, lambda c: c.fetchrow(_REVOKE, key_id))
        return _key(row) if row else None


def _all(rows: Sequence[Any]) -> list[ApiKey]:
    return [_key(row) for row in rows]


def _key(row: Any) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        digest=row["digest"],
        roles=frozenset(Role(role) for role in row["roles"]),
        created_at=row["created_at"],
        user_id=row["user_id"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise ConfigurationError("The database has no table of keys: start `ratchet serve` with it once.") from error
    except (*GONE, asyncpg.PostgresError) as error:
        raise StoreUnavailable(f"The store of API keys did not answer: {told(error)}.") from error
