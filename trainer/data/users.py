"""What stands for users outside of the database: the digests that erasures go by, and who was erased."""

import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from trainer.errors import DataError

_OLDEST = "SELECT secret FROM server_secrets WHERE purpose = 'erasure' ORDER BY secret_id LIMIT 1"
_ERASED = "SELECT digest, last_response FROM erasures WHERE tenant_id = $1"
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Users:
    """The users of one tenant. `erased`: digest -> the last reply that the erasure reached."""

    tenant: str
    secret: bytes
    erased: Mapping[str, UUID]

    def digest(self, user: str) -> str:
        """HMAC-SHA256 of tenant and user in hexadecimal, as the server makes it; "" for nobody in particular."""
        return self._mac("", user) if user else ""

    def rater(self, user: str, session: str, response_id: UUID) -> str:
        """The user's digest. Who gave no name is one rater in each session, or else in each reply."""
        return self.digest(user) or "anonymous-" + self._mac("\0anonymous", session or str(response_id))

    def forgotten(self, digest: str, response_id: UUID | None) -> bool:
        """Whether an erasure of the user reached this reply; one that is not known is taken for an old one."""
        last = self.erased.get(digest)
        return last is not None and (response_id is None or response_id <= last)

    def _mac(self, kind: str, name: str) -> str:
        tenant = (self.tenant + kind).encode()
        return hmac.digest(self.secret, struct.pack("<Q", len(tenant)) + tenant + name.encode(), hashlib.sha256).hex()


async def users_of(connection: Connection | asyncpg.Pool, tenant: str) -> Users:
    """As of now. Raises DataError where no server was started yet."""
    secret = await connection.fetchval(_OLDEST)
    if secret is None:
        raise DataError("The database has no secret to make users' digests with: start a server on it first.")
    rows = await connection.fetch(_ERASED, tenant)
    return Users(tenant, bytes(secret), {row["digest"].hex(): row["last_response"] for row in rows})
