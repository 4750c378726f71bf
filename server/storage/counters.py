"""Live counters in Redis or Valkey (commands of the Redis 7.2 level), and how far they have followed the log.

Counters belong to a generation, whose state names the first transaction that they do not hold yet. Position and
counters change in one script, and only from the position that the writer has read: two writers, or one that repeats
what it does not know to have succeeded, count nothing twice. A rebuild fills a generation of its own and then names it
in one step. Calls and errors are counted apart: at best effort, and not again in a rebuild. Counters have no time to
live, so that a full Redis with a `volatile-*` policy drops its caches first; `sweep` removes what has expired.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.analytics.contributions import Bucket, Increments
from server.analytics.figures import Granularity, Reading
from server.errors import MetricsUnavailable, told
from server.patience import within

PREFIX = "ratchet:{analytics}:"
"""With a hash tag: in a cluster, all keys of a script must be in one slot."""
CURRENT = f"{PREFIX}generation"
GENERATIONS = f"{PREFIX}generations"
"""All generations, by when they were last written to."""
ABANDONED = 86_400.0
"""Seconds after which a generation that never came into service is removed."""
PATIENCE = 5.0
"""Seconds that Redis gets for one answer, its client's own retries included."""
CHUNK = 64
"""Buckets that are read or removed in one round trip."""

_APPLY = """
local position = redis.call('HGET', KEYS[1], 'position')
if position ~= ARGV[1] then return position or '' end
local buckets = cjson.decode(ARGV[4])
for i = 3, #KEYS do
    local kind = redis.call('TYPE', KEYS[i])['ok']
    if kind ~= 'hash' and kind ~= 'none' then return '' end
end
redis.call('HSET', KEYS[1], 'position', ARGV[2], 'followed', ARGV[3])
for i, bucket in ipairs(buckets) do
    local key = KEYS[2 + i]
    for name, amount in pairs(bucket[2]) do
        if redis.call('HINCRBY', key, name, amount) == 0 then redis.call('HDEL', key, name) end
    end
    if redis.call('EXISTS', key) == 1 then
        redis.call('ZADD', KEYS[2], bucket[1], key)
    else
        redis.call('ZREM', KEYS[2], key)
    end
end
return ARGV[2]
"""
"""Moves the position and adds to the buckets, or does nothing where it is not the expected one; gives where it is then,
'' where the generation is gone. A field at zero goes, and so does a bucket without fields."""

_READ = """
local found = {}
for i, key in ipairs(KEYS) do found[i] = table.concat(redis.call('HGETALL', key), '\\n') end
return found
"""
"""Each hash as one text, a line for each name and each value: its client takes long to read many small answers."""

_COUNT_CALLS = """
for i, key in ipairs(KEYS) do
    redis.call('HINCRBY', key, 'calls', ARGV[3 * i - 2])
    redis.call('HINCRBY', key, 'errors', ARGV[3 * i - 1])
    redis.call('EXPIREAT', key, ARGV[3 * i])
end
"""


@dataclass(frozen=True, slots=True)
class State:
    """The generation in service: it holds all transactions below `position` of the database. `followed`: seconds since
    1970; all that had committed by then is counted."""

    generation: str
    position: int
    followed: float
    database: str


class RedisCounters:
    """Raises MetricsUnavailable when Redis does not answer. Its answers are read in `threads`, or those of asyncio."""

    def __init__(self, client: Redis, threads: Executor | None = None) -> None:
        self._redis, self._threads = client, threads
        self._apply = client.register_script(_APPLY)
        self._read_script = client.register_script(_READ)
        self._count_calls = client.register_script(_COUNT_CALLS)

    async def state(self) -> State | None:
        """The generation in service; None when there is none, or what is there can't be used."""
        found: State | None = await self._ask(self._state())
        return found

    async def begin(self, database: str) -> State:
        """A generation that holds nothing yet and is not in service."""
        state = State(secrets.token_hex(8), 0, 0.0, database)
        fields = {"position": "0", "followed": "0", "database": database}

        async def write() -> None:
            async with self._redis.pipeline(transaction=True) as pipe:
                for name, value in fields.items():  # a repeated call that comes late must not set the position back
                    pipe.hsetnx(_state_key(state.generation), name, value)
                pipe.zadd(GENERATIONS, {state.generation: time.time()})
                await pipe.execute()

        await self._ask(write())
        return state

    async def apply(self, state: State, position: int, followed: float, increments: Increments) -> bool:
        """Adds what lies between the state's position and the new one. False: somebody else did, or the generation is
        gone. Raises MetricsUnavailable; whether it was added is then unknown, and `state` tells."""
        changes = [(_bucket_key(state.generation, bucket), bucket, fields) for bucket, fields in increments.items()]
        payload = [[bucket.expires, {name: str(n) for name, n in fields.items()}] for _, bucket, fields in changes]
        keys = [_state_key(state.generation), _index_key(state.generation), *(key for key, _, _ in changes)]
        values = [str(state.position), str(position), repr(followed), json.dumps(payload)]
        found = await self._ask(self._apply(keys=keys, args=values))
        return bool(found.decode() == str(position))

    async def switch(self, state: State) -> None:
        """Puts a generation into service in the place of the one that is, and removes that and abandoned ones."""
        before = await self._ask(self._redis.set(CURRENT, state.generation, get=True))
        if before and before.decode() != state.generation:
            await self.remove(before.decode())
        await self._remove_abandoned(state.generation)

    async def remove(self, generation: str) -> None:
        """Removes a generation: first its state, so that nobody adds to it any more."""
        await self._ask(self._redis.unlink(_state_key(generation)))
        while keys := await self._ask(self._redis.zrange(_index_key(generation), 0, CHUNK - 1)):
            await self._drop(_index_key(generation), keys)
        await self._ask(self._redis.zrem(GENERATIONS, generation))

    async def sweep(self, generation: str, now: float) -> None:
        """Removes the buckets that have expired by `now`, seconds since 1970."""
        index = _index_key(generation)
        while keys := await self._ask(self._redis.zrangebyscore(index, "-inf", now, start=0, num=CHUNK)):
            await self._drop(index, keys)

    async def whole(self, generation: str) -> bool:
        """Whether each bucket that was written is still there: a Redis that is full may have evicted some."""
        keys = await self._ask(self._redis.zrange(_index_key(generation), 0, -1))
        for begin in range(0, len(keys), CHUNK):
            some = keys[begin : begin + CHUNK]
            if await self._ask(self._redis.exists(*some)) < len(some):
                return False
        return True

    async def evicted(self) -> int:
        """How many keys, of whomever, this Redis has evicted since it started; 0 where it does not say."""
        try:
            found = await self._ask(self._redis.info("stats"))
        except MetricsUnavailable:
            return 0
        return int(found.get("evicted_keys", 0))

    async def count_calls(self, calls: Mapping[Bucket, tuple[int, int]]) -> None:
        """Adds calls and errors."""
        keys = [_calls_key(bucket.tenant_id, bucket.granularity, bucket.start) for bucket in calls]
        values = [value for bucket, counts in calls.items() for value in (*counts, bucket.expires)]
        await self._ask(self._count_calls(keys=keys, args=values))

    async def read(self, tenant: str, granularity: Granularity, starts: Sequence[int]) -> Reading:
        """See `server.analytics.figures.Counters`. All from one generation."""
        for _ in range(3):
            state = await self.state()
            if state is None:
                break
            cells, calls = await self._read(state.generation, tenant, granularity, starts)
            if await self._ask(self._redis.get(CURRENT)) == state.generation.encode():
                return Reading(cells, calls, max(time.time() - state.followed, 0.0))
        raise MetricsUnavailable("The live counters are being made again; try again soon.")

    async def dump(self, generation: str) -> dict[str, dict[str, int]]:
        """All counters of a generation, by bucket."""
        keys = await self._ask(self._redis.zrange(_index_key(generation), 0, -1))
        found: dict[str, dict[str, int]] = {}
        for begin in range(0, len(keys), CHUNK):
            some = [key.decode() for key in keys[begin : begin + CHUNK]]
            names = [key.removeprefix(_key(generation, "")) for key in some]
            found |= dict(zip(names, await self._hashes(some), strict=True))
        return found

    async def _state(self) -> State | None:
        generation: Any = await self._redis.get(CURRENT)
        if generation is None:
            return None
        stored: Any = await self._redis.hgetall(_state_key(generation.decode()))
        try:
            found = {name.decode(): value.decode() for name, value in stored.items()}
            return State(generation.decode(), int(found["position"]), float(found["followed"]), found["database"])
        except (KeyError, ValueError):
            return None

    async def _read(
        self, generation: str, tenant: str, granularity: Granularity, starts: Sequence[int]
    ) -> tuple[list[dict[str, int]], list[tuple[int, int]]]:
        cells: list[dict[str, int]] = []
        calls: list[tuple[int, int]] = []
        for begin in range(0, len(starts), CHUNK):
            some = starts[begin : begin + CHUNK]
            keys = [_bucket_key(generation, Bucket(tenant, granularity, start)) for start in some]
            keys += [_calls_key(tenant, granularity, start) for start in some]
            found = await self._hashes(keys)
            cells += found[: len(some)]
            calls += [(each.get("calls", 0), each.get("errors", 0)) for each in found[len(some) :]]
        return cells, calls

    async def _hashes(self, keys: Sequence[str]) -> list[dict[str, int]]:
        stored = await self._ask(self._read_script(keys=keys))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: [_numbers(each) for each in stored])

    async def _drop(self, index: str, keys: Sequence[bytes]) -> None:
        async def drop() -> None:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.unlink(*keys)
                pipe.zrem(index, *keys)
                await pipe.execute()

        await self._ask(drop())

    async def _remove_abandoned(self, current: str) -> None:
        before = time.time() - ABANDONED
        for each in await self._ask(self._redis.zrangebyscore(GENERATIONS, "-inf", before)):
            if each.decode() != current:
                await self.remove(each.decode())

    async def _ask(self, answer: Any) -> Any:
        """What Redis answers; its client says only that it is awaitable, or not.

        In a task of its own: with Python 3.11 the client's `asyncio.wait_for` now and then swallows a cancellation, and
        whoever follows the log would never end.
        """
        try:
            return await within(PATIENCE, _awaited(answer))
        except (RedisError, OSError, TimeoutError) as error:
            raise MetricsUnavailable(f"The live counters did not answer: {told(error)}.") from error


async def _awaited(answer: Any) -> Any:
    return await answer


def _numbers(stored: bytes) -> dict[str, int]:
    lines = stored.decode().split("\n")
    return dict(zip(lines[::2], map(int, lines[1::2]), strict=False))  # nothing at all is one empty line


def _key(generation: str, rest: str) -> str:
    return f"{PREFIX}{generation}:{rest}"


def _state_key(generation: str) -> str:
    return _key(generation, "state")


def _index_key(generation: str) -> str:
    """A sorted set of the generation's buckets, by when they expire."""
    return _key(generation, "index")


def _bucket_key(generation: str, bucket: Bucket) -> str:
    """The tenant comes last: whatever it holds, it can't spell another key."""
    return _key(generation, f"{bucket.granularity}:{bucket.start}:{bucket.tenant_id}")


def _calls_key(tenant: str, granularity: Granularity, start: int) -> str:
    return f"{PREFIX}calls:{granularity}:{start}:{tenant}"
