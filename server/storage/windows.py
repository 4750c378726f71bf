"""Moving windows: how often something happened in the last minute, counted for all server processes together.

Ours and not the library `limits`: its moving window has an entry for each hit, so that a request and its repeats at the
same moment would count as many, and it goes by the clocks of its clients.
"""

import asyncio
import hashlib
import json
import logging
import uuid
from collections import OrderedDict
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.errors import told

log = logging.getLogger(__name__)

FEEDBACK = "feedback"
"""The window of what one user submits."""
SECONDS = 60
"""Length of the window."""
PATIENCE, AWAY_PATIENCE = 1.0, 0.1
"""Seconds that Redis gets to answer, and that it gets after it did not."""
REMEMBERED = 10_000
"""Windows that one process keeps while Redis is away; the one that was used least lately makes room."""

_ENTER = """
local time = redis.call('TIME')
local now, span, limit = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - span))
if redis.call('ZSCORE', KEYS[1], ARGV[3]) then return 0 end
if redis.call('ZCARD', KEYS[1]) < limit then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[3])
    redis.call('PEXPIRE', KEYS[1], span / 1000)
    return 0
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return oldest[2] + span - now
"""
"""Enters a member, in one step, by the clock of Redis: microseconds until there is room, 0 when it is in. A member that
is in already does not count again."""


class Window(Protocol):
    """Lets so many different members of a key in during any 60 seconds."""

    async def enter(self, parts: tuple[str, ...], member: str) -> float:
        """0 when the member is in, now or before; else the seconds until the oldest one leaves. "" is never in."""


class LocalWindow:
    """`Window` of this process alone, for `limit` members a key."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entered: OrderedDict[tuple[str, ...], OrderedDict[str, float]] = OrderedDict()

    async def enter(self, parts: tuple[str, ...], member: str) -> float:
        """See `Window.enter`."""
        now, members = asyncio.get_running_loop().time(), self._entered.setdefault(parts, OrderedDict())
        self._entered.move_to_end(parts)
        if len(self._entered) > REMEMBERED:
            self._entered.popitem(last=False)
        while members and next(iter(members.values())) <= now - SECONDS:
            members.popitem(last=False)
        if member in members:
            return 0.0
        if len(members) < self._limit:
            members[member or uuid.uuid4().hex] = now
            return 0.0
        return next(iter(members.values())) + SECONDS - now


class RedisWindow:
    """`Window` on Redis or Valkey (commands of the Redis 7.2 level), for `limit` members a key.

    While Redis is away each process counts for itself: a limit that is too generous for a while is better than none,
    and than turning people away.
    """

    def __init__(self, client: Redis, name: str, limit: int) -> None:
        self._name, self._limit = name, limit
        self._script = client.register_script(_ENTER)
        self._local = LocalWindow(limit)
        self._away = False

    async def enter(self, parts: tuple[str, ...], member: str) -> float:
        """See `Window.enter`. Never fails."""
        values: list[str | int] = [SECONDS * 1_000_000, self._limit, member or uuid.uuid4().hex]
        try:
            async with asyncio.timeout(AWAY_PATIENCE if self._away else PATIENCE):
                left = await self._script(keys=[key_of(self._name, parts)], args=values)
        except (RedisError, OSError, TimeoutError) as error:
            if not self._away:
                log.warning("this process counts %s for itself: %s", self._name, told(error))
            self._away = True
            return await self._local.enter(parts, member)
        self._away = False
        return float(left) / 1e6


def key_of(name: str, parts: tuple[str, ...]) -> str:
    """By digest: names of users are not left in Redis, however short the time."""
    return f"ratchet:{name}:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"
