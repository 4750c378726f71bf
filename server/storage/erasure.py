"""Who was erased, and up to which reply. The id itself is kept nowhere: a keyed digest stands for it.

An erasure reaches every reply whose request came in up to a moment: a reply's id, a UUIDv7, tells that. Whoever writes
something of a user checks it here, in the transaction of the write or before and after it.
"""

import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

import asyncpg

from server.errors import StoreUnavailable, told
from server.storage.database import GONE, Connection, bounded
from server.storage.secrets import shared_secret

PURPOSE = "erasure"
"""Of the digests' key among the server's secrets."""
LOOKING = 1.0
"""Seconds after which the connection is cut off on which Postgres has not said whether a user was erased."""
_RANDOM = 80
"""Bits of a UUIDv7 below its milliseconds (RFC 9562, 5.7)."""
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)

Digest = Callable[[str, str], bytes]
"""Of tenant and user; empty for nobody in particular."""

_MARK = """
INSERT INTO erasures AS known (tenant_id, digest, pseudonym, erased_at, last_response) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, digest) DO UPDATE SET
    erased_at = greatest(known.erased_at, excluded.erased_at),
    last_response = greatest(known.last_response, excluded.last_response)
RETURNING pseudonym, last_response
"""
_REACHED = "SELECT EXISTS (SELECT FROM erasures WHERE tenant_id = $1 AND digest = $2 AND last_response >= $3)"


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure reaches: replies up to `last_response`. `pseudonym` stands for the user in what stays."""

    pseudonym: str
    last_response: UUID

    @property
    def until(self) -> datetime:
        """When the last request came in that it reaches."""
        return _EPOCH + (self.last_response.int >> _RANDOM) * _MILLISECOND


class Erasures:
    """The erasures of all tenants. `open` makes one."""

    def __init__(self, pool: asyncpg.Pool, secret: bytes) -> None:
        self._pool, self._secret = pool, secret

    @classmethod
    async def open(cls, pool: asyncpg.Pool) -> Self:
        """With the servers' shared secret: the first one ever made, since digests are looked up by it. Raises
        StoreUnavailable."""
        return cls(pool, (await shared_secret(pool, PURPOSE))[-1])

    def digest(self, tenant: str, user: str) -> bytes:
        """HMAC-SHA256 (RFC 2104) of tenant and user; empty for nobody in particular."""
        if not user:
            return b""
        named = tenant.encode()
        return hmac.digest(self._secret, struct.pack("<Q", len(named)) + named + user.encode(), hashlib.sha256)

    async def reached(self, tenant: str, user: str, response_id: UUID) -> bool:
        """Whether the user was erased after the request of this reply came in. Raises StoreUnavailable."""
        if not user:
            return False
        wanted = (tenant, self.digest(tenant, user), response_id)
        try:
            return bool(await bounded(self._pool, LOOKING, lambda c: c.fetchval(_REACHED, *wanted)))
        except (*GONE, asyncpg.PostgresError) as error:
            raise StoreUnavailable(f"Whether the user was erased can't be looked up: {told(error)}.") from error

    async def mark(self, connection: Connection, tenant: str, user: str, moment: datetime) -> Erasure:
        """Erases the user up to `moment`, at least; from its commit on, nothing of theirs from before gets in.

        The pseudonym is random, and stays the same when the user is erased again.
        """
        row: Any = await connection.fetchrow(
            _MARK, tenant, self.digest(tenant, user), f"erased-{secrets.token_hex(12)}", moment, last_of(moment)
        )
        return Erasure(row["pseudonym"], row["last_response"])


def last_of(moment: datetime) -> UUID:
    """The greatest UUID whose first 48 bits are the moment's milliseconds."""
    return UUID(int=((moment - _EPOCH) // _MILLISECOND + 1 << _RANDOM) - 1)


def nobody(tenant: str, user: str) -> bytes:  # noqa: ARG001  # a Digest
    """The digest where nobody is ever erased."""
    return b""
