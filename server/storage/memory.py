"""Short-term memory of conversations, and who was asked for feedback lately. A cache: losing it loses no data."""

import json
import logging
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.errors import Unavailable
from server.types import Exchange

log = logging.getLogger(__name__)


class MemoryUnavailable(Unavailable):
    """The memory did not answer; the request goes on without it."""


class Memory(Protocol):
    """What the request path needs of the memory. A conversation belongs to one tenant and user."""

    async def recall(self, tenant: str, user: str, session: str) -> tuple[Exchange, ...]:
        """The session's recent exchanges, oldest first. Raises MemoryUnavailable."""

    async def remember(self, tenant: str, user: str, session: str, response_id: UUID, exchange: Exchange) -> None:
        """Adds an exchange, once for each response id, and forgets those past the bound. Raises MemoryUnavailable."""

    async def claim_feedback_prompt(self, tenant: str, who: str) -> bool:
        """Whether `who` may be asked for feedback now; true once a while. Raises MemoryUnavailable."""


_REMEMBER = """
for _, known in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    if string.sub(known, 1, #ARGV[1]) == ARGV[1] then return 0 end
end
redis.call('RPUSH', KEYS[1], ARGV[1] .. ARGV[2])
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""
"""Adds an exchange unless one that begins with the same response id is there; in one step, for retries at once."""


class RedisMemory:
    """`Memory` on Redis or Valkey (commands of the Redis 7.2 level).

    Keeps `turns` exchanges of a session for `ttl` seconds after the last one, texts cut to `characters`; lets a user be
    asked for feedback once in `ask_every` seconds.
    """

    def __init__(
        self, client: Redis, *, turns: int = 8, ttl: int = 86_400, characters: int = 8_192, ask_every: int = 600
    ) -> None:
        self._redis = client
        self._turns, self._ttl, self._characters, self._ask_every = turns, ttl, characters, ask_every
        self._remember = client.register_script(_REMEMBER)

    async def recall(self, tenant: str, user: str, session: str) -> tuple[Exchange, ...]:
        """See `Memory.recall`. An exchange that another version wrote in a form of its own is skipped."""
        try:
            stored: Sequence[bytes | str] = await self._redis.lrange(_key("memory", tenant, user, session), 0, -1)
        except (RedisError, OSError, TimeoutError) as error:
            raise MemoryUnavailable(f"The conversation memory did not answer: {_text(error)}.") from error
        return tuple(exchange for each in stored if (exchange := _read(each)) is not None)

    async def remember(self, tenant: str, user: str, session: str, response_id: UUID, exchange: Exchange) -> None:
        """See `Memory.remember`."""
        texts = {"query": exchange.query[: self._characters], "response": exchange.response[: self._characters]}
        values: list[str | int] = [response_id.hex, json.dumps(texts, ensure_ascii=False), self._turns, self._ttl]
        try:
            await self._remember(keys=[_key("memory", tenant, user, session)], args=values)
        except (RedisError, OSError, TimeoutError) as error:
            raise MemoryUnavailable(f"The conversation memory did not answer: {_text(error)}.") from error

    async def claim_feedback_prompt(self, tenant: str, who: str) -> bool:
        """See `Memory.claim_feedback_prompt`. Nobody in particular is always asked."""
        if not who:
            return True
        try:
            return bool(await self._redis.set(_key("asked", tenant, who), b"1", ex=self._ask_every, nx=True))
        except (RedisError, OSError, TimeoutError) as error:
            raise MemoryUnavailable(f"The conversation memory did not answer: {_text(error)}.") from error


def _read(stored: bytes | str) -> Exchange | None:
    """The exchange behind the 32 digits of its response id; None when it can't be read."""
    try:
        found = json.loads(stored[32:])
        return Exchange(str(found["query"]), str(found["response"]))
    except (KeyError, TypeError, ValueError):
        log.warning("an exchange in the memory can't be read and is skipped")
        return None


def _key(room: str, *parts: str) -> str:
    """A key that no other parts can spell: each part is preceded by its length."""
    return f"ratchet:{room}:" + ":".join(f"{len(part)}.{part}" for part in parts)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def connect(url: str, *, timeout: float = 1.0) -> Redis:
    """A client of the Redis or Valkey at `url`; it connects on first use. Times are seconds."""
    return Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout, max_connections=256)
