"""Short-term memory of conversations, and who was asked for feedback lately. A cache: losing it loses no data."""

import json
import logging
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.errors import Unavailable, told
from server.storage.erasure import Digest, nobody
from server.storage.keys import key
from server.types import Exchange, Recollection

log = logging.getLogger(__name__)

CHARACTERS_OF_A_TOKEN = 4
"""About, in English; no tokenizer is asked here, because releases differ and the memory outlives them."""
GIST = 120
"""Characters that are kept of a query whose exchange fell out."""
FALLEN = 32
"""Fallen exchanges of which gist and response id are kept: a late retry of one of these adds nothing."""
SUMMARY = 600
"""Characters of a summary at most."""
USER = "user "
"""What stands before a user's id in the name of who is asked for feedback."""
_SEPARATOR = " / "
_HEAD = "-" * 32
"""Stands in place of a response id before the list of what fell out, which is the first element once there is one."""


class MemoryUnavailable(Unavailable):
    """The memory did not answer; the request goes on without it."""


class Memory(Protocol):
    """What the request path needs of the memory. A conversation belongs to one tenant and user."""

    async def recall(self, tenant: str, user: str, session: str) -> Recollection:
        """The session's recent exchanges, oldest first, and the gist of what fell out. Raises MemoryUnavailable."""

    async def remember(self, tenant: str, user: str, session: str, response_id: UUID, exchange: Exchange) -> None:
        """Adds an exchange, once for each response id; those past the bounds fall out. Raises MemoryUnavailable."""

    async def claim_feedback_prompt(self, tenant: str, who: str) -> bool:
        """Whether `who` may be asked for feedback now; true once a while. Raises MemoryUnavailable."""


_REMEMBER = """
local erased = redis.call('GET', KEYS[2])
if erased and string.sub(ARGV[2], 1, 32) <= erased then return 0 end
local known = redis.call('LRANGE', KEYS[1], 0, -1)
local head, id, turns, tokens = ARGV[1], string.sub(ARGV[2], 1, 32), tonumber(ARGV[3]), tonumber(ARGV[4])
local function size(element) return tonumber(string.sub(element, 33, 40)) or tokens end
local fallen = {}
if known[1] and string.sub(known[1], 1, 32) == head then
    local readable, found = pcall(cjson.decode, string.sub(table.remove(known, 1), 33))
    if readable and type(found) == 'table' then fallen = found end
end
for _, each in ipairs(fallen) do
    if each[1] == id then return 0 end
end
for _, each in ipairs(known) do
    if string.sub(each, 1, 32) == id then return 0 end
end
known[#known + 1] = ARGV[2]
redis.call('RPUSH', KEYS[1], ARGV[2])
local kept, total = 1, size(ARGV[2])
while kept < #known and kept < turns and total + size(known[#known - kept]) <= tokens do
    total = total + size(known[#known - kept])
    kept = kept + 1
end
for place = 1, #known - kept do
    local readable, texts = pcall(cjson.decode, string.sub(known[place], 41))
    fallen[#fallen + 1] = {string.sub(known[place], 1, 32), readable and texts['gist'] or ''}
end
if #known > kept then
    while #fallen > tonumber(ARGV[5]) do table.remove(fallen, 1) end
    redis.call('LTRIM', KEYS[1], -kept, -1)
    redis.call('LPUSH', KEYS[1], head .. cjson.encode(fallen))
end
redis.call('EXPIRE', KEYS[1], ARGV[6])
return 1
"""
"""Adds an exchange unless its response id is known, and lets the oldest fall out of the bounds, in one step: no retry
and no other server process comes between. An element is a response id (32 digits), its tokens (8 digits) and JSON.
Replies up to the last one that an erasure reaches are not remembered: their requests may be under way still."""

_CLAIM = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
return redis.call('SET', KEYS[1], '1', 'EX', ARGV[1], 'NX') and 1 or 0
"""
"""Notes that somebody is asked for feedback, unless noted before; nothing is noted of who was erased just now."""


class RedisMemory:
    """`Memory` on Redis or Valkey (commands of the Redis 7.2 level).

    Keeps `turns` exchanges and about `tokens` tokens of a session for `ttl` seconds after the last one. The newest
    exchange always stays: each of its texts is cut to half of the tokens. A user may be asked for feedback once in
    `ask_every` seconds. `digest` names the marks of erased users.
    """

    def __init__(
        self,
        client: Redis,
        *,
        turns: int = 8,
        tokens: int = 2048,
        ttl: int = 86_400,
        ask_every: int = 600,
        digest: Digest = nobody,
    ) -> None:
        self._redis, self._digest = client, digest
        self._turns, self._tokens, self._ttl, self._ask_every = turns, tokens, ttl, ask_every
        self._remember, self._claim = client.register_script(_REMEMBER), client.register_script(_CLAIM)

    async def recall(self, tenant: str, user: str, session: str) -> Recollection:
        """See `Memory.recall`. What can't be read is skipped."""
        try:
            stored: Sequence[bytes | str] = await self._redis.lrange(key("session", tenant, user, session), 0, -1)
        except (RedisError, OSError, TimeoutError) as error:
            raise MemoryUnavailable(f"The conversation memory did not answer: {told(error)}.") from error
        elements = [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in stored]
        fallen = _gists(elements.pop(0)[32:]) if elements and elements[0].startswith(_HEAD) else []
        return Recollection(tuple(found for each in elements if (found := _read(each))), summary(fallen))

    async def remember(self, tenant: str, user: str, session: str, response_id: UUID, exchange: Exchange) -> None:
        """See `Memory.remember`."""
        kept = cut(exchange, self._tokens)
        texts = {"query": kept.query, "response": kept.response, "gist": gist(exchange.query)}
        element = f"{response_id.hex}{size(kept):08d}{json.dumps(texts, ensure_ascii=False)}"
        values: list[str | int] = [_HEAD, element, self._turns, self._tokens, FALLEN, self._ttl]
        try:
            await self._remember(keys=[key("session", tenant, user, session), self._mark(tenant, user)], args=values)
        except (RedisError, OSError, TimeoutError) as error:
            raise MemoryUnavailable(f"The conversation memory did not answer: {told(error)}.") from error

    async def claim_feedback_prompt(self, tenant: str, who: str) -> bool:
        """See `Memory.claim_feedback_prompt`. Nobody in particular is always asked."""
        if not who:
            return True
        try:
            keys = [asked(tenant, who), self._mark(tenant, who.removeprefix(USER))]
            return bool(await self._claim(keys=keys, args=[self._ask_every]))
        except (RedisError, OSError, TimeoutError) as error:
            raise MemoryUnavailable(f"The conversation memory did not answer: {told(error)}.") from error

    def _mark(self, tenant: str, user: str) -> str:
        return mark(tenant, self._digest(tenant, user))


def asked(tenant: str, who: str) -> str:
    """The key that says that somebody was asked for feedback lately."""
    return key("asked", tenant, who)


def mark(tenant: str, digest: bytes) -> str:
    """The key that holds the last reply that the erasure of a user reaches, as 32 hexadecimal digits."""
    return key("erased", tenant, digest.hex())


def size(exchange: Exchange) -> int:
    """Its tokens, about, rounded up."""
    return -(-(len(exchange.query) + len(exchange.response)) // CHARACTERS_OF_A_TOKEN)


def cut(exchange: Exchange, tokens: int) -> Exchange:
    """The exchange, each text cut to its beginning so that both fit into about `tokens`."""
    characters = tokens * CHARACTERS_OF_A_TOKEN // 2
    return Exchange(_begin(exchange.query, characters), _begin(exchange.response, characters))


def gist(query: str) -> str:
    """The beginning of a query, on one line."""
    text = " ".join(query[: 4 * GIST].split())
    return text if len(text) <= GIST else _begin(text, GIST - 1).rstrip() + "…"


def summary(gists: Iterable[str]) -> str:
    """The newest gists that fit, oldest first; "" when nothing fell out."""
    kept: list[str] = []
    room = SUMMARY
    for each in reversed([each for each in gists if each]):
        room -= len(each) + len(_SEPARATOR)
        if room < 0:
            break
        kept.insert(0, each)
    return f"Asked before: {_SEPARATOR.join(kept)}" if kept else ""


def _begin(text: str, characters: int) -> str:
    """At most so many characters, and no letter without the marks that belong to it."""
    end = min(characters, len(text))
    while 0 < end < len(text) and unicodedata.combining(text[end]):
        end -= 1
    return text[:end]


def _gists(stored: str) -> list[str]:
    try:
        return [str(text) for _, text in json.loads(stored)]
    except (TypeError, ValueError):
        log.warning("a summary in the memory can't be read and is skipped")
        return []


def _read(stored: str) -> Exchange | None:
    """The exchange behind the 32 digits of its response id and 8 of its tokens; None when it can't be read."""
    try:
        found = json.loads(stored[40:])
        return Exchange(str(found["query"]), str(found["response"]))
    except (KeyError, TypeError, ValueError):
        log.warning("an exchange in the memory can't be read and is skipped")
        return None


def connect(url: str, *, timeout: float = 1.0) -> Redis:
    """A client of the Redis or Valkey at `url`; it connects on first use. Times are seconds."""
    return Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout, max_connections=256)
