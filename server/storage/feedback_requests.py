"""Which requests to rate were done. An id belongs to its user; anonymous users are many: theirs is the reply's."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from server.errors import RequestIdReused, ResponseNotFound
from server.storage.database import Connection

REACHED = "EXISTS (SELECT FROM erasures WHERE tenant_id = $1 AND digest = {digest} AND last_response >= {response})"
"""SQL for whether the user was erased after the reply; the tenant is $1."""
NO_REPLY = "No such reply was given to this user."

_CLAIM = f"""
INSERT INTO feedback_requests (tenant_id, user_id, response_id, request_id, fingerprint)
SELECT $1, $2, $3, $4, $5 WHERE NOT {REACHED.format(digest="$6", response="$7")}
ON CONFLICT DO NOTHING
"""
"""Whoever comes at the same time waits here for the end of the first one's transaction."""
_CLAIMED = """
SELECT fingerprint FROM feedback_requests
WHERE tenant_id = $1 AND user_id = $2 AND response_id = $3 AND request_id = $4
"""
_FORGET = """
DELETE FROM feedback_requests WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM feedback_requests WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Makes a change idempotent. `id` "" does not; `fingerprint` is the SHA-256 of what is asked."""

    id: str
    fingerprint: bytes


def scope(user: str, response_id: UUID) -> UUID:
    """Which reply a request's id belongs to, where it does not belong to its user."""
    return UUID(int=0) if user else response_id


async def claim(
    connection: Connection, tenant: str, user: str, response_id: UUID, key: RequestKey, digest: bytes
) -> bool:
    """Whether this request is the first with its id. Raises RequestIdReused, and ResponseNotFound when the user was
    erased since the reply."""
    place = (tenant, user, scope(user, response_id), key.id)
    if not key.id or await connection.execute(_CLAIM, *place, key.fingerprint, digest, response_id) == "INSERT 0 1":
        return True
    if not await repeated(connection, tenant, user, response_id, key):
        raise ResponseNotFound(NO_REPLY)
    return False


async def repeated(connection: Connection, tenant: str, user: str, response_id: UUID, key: RequestKey) -> bool:
    """Whether the request was done before. Raises RequestIdReused."""
    fingerprint = await connection.fetchval(_CLAIMED, tenant, user, scope(user, response_id), key.id)
    if fingerprint is not None:
        require_same(key, fingerprint)
    return fingerprint is not None


def require_same(key: RequestKey, fingerprint: bytes) -> None:
    """Raises RequestIdReused unless what was done before by the request's id is what it asks now."""
    if fingerprint != key.fingerprint:
        raise RequestIdReused(f"The request_id {key.id!r} was used before for a different request; use a new one.")


async def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Forgets requests that were done before that moment, `limit` at most, the oldest first; how many it were."""
    return int((await connection.execute(_FORGET, before, limit)).rpartition(" ")[2])
