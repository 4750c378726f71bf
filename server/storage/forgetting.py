"""Erases a user's keys in Redis, also against requests of theirs that are under way."""

from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.errors import StoreUnavailable, told
from server.storage import keys, windows
from server.storage.erasure import Digest
from server.storage.memory import USER, asked, mark

ALL = "f" * 32
"""Stands for every reply, those to come too."""
_AWAY = "The conversation memory did not answer, so the user is not erased: {}."


class UserKeys:
    """The keys of users. `longest` is how many seconds a request may take: marks outlive it, since a request that came
    in before an erasure writes until then."""

    def __init__(self, client: Redis, digest: Digest, longest: float) -> None:
        self._redis, self._digest = client, digest
        self._seconds = int(longest) + 60

    async def erase(self, tenant: str, user: str) -> int:
        """Deletes all keys of the user, gives how many, and lets no request write until `admit`. Raises
        StoreUnavailable."""
        try:
            await self._mark(tenant, user, ALL)
            lately = windows.key_of(windows.FEEDBACK, (tenant, "user", user))
            erased = int(await self._redis.unlink(asked(tenant, USER + user), lately))
            async for found in keys.of_user(self._redis, tenant, user):
                erased += int(await self._redis.unlink(*found))
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(_AWAY.format(told(error))) from error
        return erased

    async def admit(self, tenant: str, user: str, after: UUID) -> None:
        """Lets requests write again that came in after this reply's, and no earlier ones. Raises StoreUnavailable."""
        try:
            await self._mark(tenant, user, after.hex)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(_AWAY.format(told(error))) from error

    async def _mark(self, tenant: str, user: str, last: str) -> None:
        await self._redis.set(mark(tenant, self._digest(tenant, user)), last, ex=self._seconds)
