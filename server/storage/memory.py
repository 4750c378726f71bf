"""Short-term memory of conversations, and who was asked for feedback lately. A cache: losing it loses no data."""

import json
from collections.abc import Sequence
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.errors import Unavailable
from server.types import Exchange


class MemoryUnavailable(Unavailable):
    """The memory did not answer; the request goes on without it."""


class Memory(Protocol):
    """What the request path needs of the memory. A conversation belongs to one tenant and user."""

    async def recall(self, tenant: str, user: str, session: str) -> tuple[Exchange, ...]:
        """The session's recent exchanges, oldest first. Raises MemoryUnavailable."""

    async def remember(self, tenant: str, user: str, session: str, exchange: Exchange) -> None:
        """Adds an exchange and forgets those past the bound. Raises MemoryUnavailable."""

    async def claim_feedback_prompt(self, tenant: str, user: str) -> bool:
        """Whether the user may be asked for feedback now; true once a while. Raises MemoryUnavailable."""


class RedisMemory:
    """`Memory` on Redis or Valkey (commands of the Redis 7.2 level).

    Keeps `turns` exchanges of a session for `ttl` seconds after the last one, texts cut to `characters`; asks a user
    for feedback once in `ask_every` seconds at most.
    """

    def __init__(
        self, client: Redis, *, turns: int = 8, ttl: int = 86_400, characters: int = 8_192, ask_every: int = 600
    ) -> None:
        self._redis = client
        self._turns, self._ttl, self._characters, self._ask_every = turns, ttl, characters, ask_every

    async def recall(self, tenant: str, user: str, session: str) -> tuple[Exchange, ...]:
        """See `Memory.recall`."""
        try:
            stored: Sequence[bytes | str] = await self._redis.lrange(_key("memory", tenant, user, session), 0, -1)
        except (RedisError, OSError, TimeoutError) as error:
            raise MemoryUnavailable(f"The conversation memory did not answer: {_text(error)}.") from error
        return tuple(Exchange(*json.loads(each)) for each in stored)

    async def remember(self, tenant: str, user: str, session: str, exchange: Exchange) -> None:
        """See `Memory.remember`."""
        key = _key("memory", tenant, user, session)
        texts = [exchange.query[: self._characters], exchange.response[: self._characters]]
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.rpush(key, json.dumps(texts, ensure_ascii=False))
        pipeline.ltrim(key, -self._turns, -1)
        pipeline.expire(key, self._ttl)
        try:
            await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise MemoryUnavailable(f"The conversation memory did not answer: {_text(error)}.") from error

    async def claim_feedback_prompt(self, tenant: str, user: str) -> bool:
        """See `Memory.claim_feedback_prompt`. An anonymous user has no memory and is always asked."""
        if not user:
            return True
        try:
            return bool(await self._redis.set(_key("asked", tenant, user), b"1", ex=self._ask_every, nx=True))
        except (RedisError, OSError, TimeoutError) as error:
            raise MemoryUnavailable(f"The conversation memory did not answer: {_text(error)}.") from error


def _key(room: str, *parts: str) -> str:
    """A key that no other parts can spell: each part is preceded by its length."""
    return f"ratchet:{room}:" + ":".join(f"{len(part)}.{part}" for part in parts)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def connect(url: str, *, timeout: float = 1.0) -> Redis:
    """A client of the Redis or Valkey at `url`; it connects on first use. Times are seconds."""
    return Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout, max_connections=256)
