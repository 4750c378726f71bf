"""Scores that were given before, in Redis: for the same query, and for one nearly the same with the same response.

An entry belongs to one tenant, one release (its files, not only its name), one context and one response, all by their
full content; in it lies a score for each of the last few queries. A score is never another response's. What can't be
read is not there. Losing it all costs time only. Scoring again may differ a little: in int8 by up to 0.02, depending on
what a response is batched with.
"""

import asyncio
import hashlib
import logging
import math
import re
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.errors import Unavailable, told
from server.types import Score, ScoreSource
from triton_models.manifest import Release

log = logging.getLogger(__name__)

QUERIES = 4
"""Queries whose scores of one response are kept; of more, any one makes room."""
WRITES = 64
"""Writes under way at a time; more are dropped."""
CLOSING = 1.0
LARGE = 1 << 16
"""Characters from which a context is hashed in a thread."""
LONGEST = 8_192
"""Characters of a query that another may resemble; longer ones share no scores."""
_VERSION = 1
_FIXED = struct.Struct("<BBdd4d8s8s")
"""Version, flags, score, logit, aspects, digests of the query's numbers and of its embedding's model. The embedding
follows as float16."""
_ASPECTS, _TRUNCATED = 1, 2
_NUMBER = re.compile(r"\w*\d(?:\w|[-.,:/](?=\w))*")

_FIND = """
local found = {}
for i, key in ipairs(KEYS) do
    if redis.call('TYPE', key)['ok'] ~= 'hash' then
        found[i] = {}
    else
        local own = redis.call('HGET', key, ARGV[1])
        found[i] = own and {own} or ARGV[2] == '1' and {'', unpack(redis.call('HVALS', key))} or {}
    end
end
return found
"""
"""For each response: the query's own score alone; else, where asked for, nothing and then those of other queries."""

_KEEP = """
for i, key in ipairs(KEYS) do
    local kind = redis.call('TYPE', key)['ok']
    if kind == 'none' or kind == 'hash' then
        if redis.call('HEXISTS', key, ARGV[3]) == 0 and redis.call('HLEN', key) >= tonumber(ARGV[2]) then
            redis.call('HDEL', key, redis.call('HRANDFIELD', key))
        end
        redis.call('HSET', key, ARGV[3], ARGV[3 + i])
        redis.call('EXPIRE', key, ARGV[1], 'NX')
    end
end
"""
"""Adds one query's scores of several responses. The first score of an entry decides when all of it expires."""


class ScoreCacheUnavailable(Unavailable):
    """The cache did not answer; candidates are scored by the model."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What responses are scored against. `embedding` is the query's, of unit length, in the space `embedding_model`."""

    tenant_id: str
    context: str
    query: str
    embedding: Sequence[float] | None = None
    embedding_model: str = ""


class ScoreCache(Protocol):
    """What scoring needs of the cache."""

    async def find(self, subject: Subject, release: Release, responses: Sequence[str]) -> dict[str, Score]:
        """The scores of those responses that have one, with their source. Raises ScoreCacheUnavailable."""

    def keep(self, subject: Subject, release: Release, scores: Mapping[str, Score]) -> None:
        """Remembers a model's scores, by response; returns at once."""


class RedisScores:
    """`ScoreCache` on Redis or Valkey (commands of the Redis 7.2 level).

    A score lasts `ttl` seconds. Queries whose embeddings' cosine is at least `similarity`, and whose numbers are the
    same, share scores; with 1 none do. A lookup takes `budget` seconds at most.
    """

    def __init__(self, client: Redis, *, ttl: int = 86_400, similarity: float = 0.98, budget: float = 0.05) -> None:
        self._redis = client
        self._ttl, self._similarity, self._budget = ttl, similarity, budget
        self._find_script, self._keep_script = client.register_script(_FIND), client.register_script(_KEEP)
        self._writes: set[asyncio.Task[None]] = set()

    async def find(self, subject: Subject, release: Release, responses: Sequence[str]) -> dict[str, Score]:
        """See `ScoreCache.find`. One round trip, however many responses."""
        about = _about(subject) if self._similarity < 1 else None
        wanted: list[bytes | int] = [_field(subject.query), int(about is not None)]
        try:
            async with asyncio.timeout(self._budget):
                keys = await _keys(subject, release, responses)
                stored: list[list[bytes]] = await self._find_script(keys=keys, args=wanted)
        except TimeoutError as error:
            late = f"The score cache did not answer within {self._budget * 1000:.0f} ms."
            raise ScoreCacheUnavailable(late) from error
        except (RedisError, OSError) as error:
            raise ScoreCacheUnavailable(f"The score cache did not answer: {told(error)}.") from error
        found = {text: _reusable(each, about, self._similarity) for text, each in zip(responses, stored, strict=True)}
        return {text: score for text, score in found.items() if score is not None}

    def keep(self, subject: Subject, release: Release, scores: Mapping[str, Score]) -> None:
        """See `ScoreCache.keep`. Only what a model said is kept; when too much is under way, nothing."""
        told = {text: score for text, score in scores.items() if score.source is ScoreSource.MODEL}
        if not told or len(self._writes) >= WRITES:
            return
        task = asyncio.create_task(self._keep(subject, release, told))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Gives writes under way a second."""
        if self._writes:
            _, late = await asyncio.wait(self._writes, timeout=CLOSING)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _keep(self, subject: Subject, release: Release, scores: Mapping[str, Score]) -> None:
        about = _about(subject)
        values = [_pack(score, about) for score in scores.values()]
        try:
            keys = await _keys(subject, release, list(scores))
            await self._keep_script(keys=keys, args=[self._ttl, QUERIES, _field(subject.query), *values])
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("scores are not cached: %s", told(error))


@dataclass(frozen=True, slots=True)
class _About:
    """A query, as far as another may resemble it: digests of its numbers and its embedding's model, the embedding."""

    numbers: bytes
    model: bytes
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A score and the query that it was given for; `embedding` is packed, and may be empty."""

    score: Score
    numbers: bytes
    model: bytes
    embedding: bytes


def _reusable(stored: Sequence[bytes], about: _About | None, similarity: float) -> Score | None:
    """The score of the query itself, else that of the most similar one that is similar enough."""
    if stored and stored[0]:
        own = _unpack(stored[0])
        return replace(own.score, source=ScoreSource.CACHE) if own else None
    if about is None:
        return None
    entries = [entry for value in stored[1:] if (entry := _unpack(value)) and _comparable(entry, about)]
    if not entries:
        return None
    others = np.stack([np.frombuffer(entry.embedding, "<f2") for entry in entries]).astype(np.float32)
    cosines = _cosines(others, about.embedding)
    nearest = int(cosines.argmax())
    if not cosines[nearest] >= similarity:
        return None
    cosine = min(float(cosines[nearest]), 1.0)
    return replace(entries[nearest].score, source=ScoreSource.SIMILAR_QUERY, similarity=cosine)


def _comparable(entry: _Entry, about: _About) -> bool:
    same = entry.numbers == about.numbers and entry.model == about.model
    return same and len(entry.embedding) == 2 * len(about.embedding)


def _cosines(rows: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each row [N, D] with the vector [D]; 0 where there is none."""
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(vector)
    sound = np.isfinite(lengths) & (lengths > 0)
    return np.where(sound, np.nan_to_num(rows) @ np.nan_to_num(vector) / np.where(sound, lengths, 1), 0)


def _about(subject: Subject) -> _About | None:
    """None for a query that no other may share scores with: there is no embedding, or not of all of it."""
    if not subject.embedding or len(subject.query) > LONGEST:
        return None
    plain = unicodedata.normalize("NFKC", subject.query).casefold()
    numbers = _digest(*sorted(_NUMBER.findall(plain)))[:8]
    return _About(numbers, _digest(subject.embedding_model)[:8], np.asarray(subject.embedding, dtype=np.float32))


def _pack(score: Score, about: _About | None) -> bytes:
    flags = _ASPECTS * (score.aspects is not None) | _TRUNCATED * score.truncated
    aspects = score.aspects or (0.0, 0.0, 0.0, 0.0)
    numbers, model = (about.numbers, about.model) if about else (b"", b"")
    vector = about.embedding.astype("<f2").tobytes() if about else b""
    return _FIXED.pack(_VERSION, flags, score.score, score.logit, *aspects, numbers, model) + vector


def _unpack(value: bytes) -> _Entry | None:
    """None for what is no entry of ours."""
    if len(value) < _FIXED.size or value[0] != _VERSION or (len(value) - _FIXED.size) % 2:
        return None
    _, flags, score, logit, accuracy, helpfulness, clarity, safety, numbers, model = _FIXED.unpack_from(value)
    aspects = (accuracy, helpfulness, clarity, safety)
    if not all(map(math.isfinite, (score, logit, *aspects))) or not 0 <= score <= 1:
        return None
    told = Score(score, logit, aspects if flags & _ASPECTS else None, bool(flags & _TRUNCATED))
    return _Entry(told, numbers, model, value[_FIXED.size :])


async def _keys(subject: Subject, release: Release, responses: Sequence[str]) -> list[str]:
    """A key for each response. Tenants are legible, so that one's entries can be found."""
    if len(subject.context) < LARGE:
        return _hashed(subject, release, responses)
    return await asyncio.to_thread(_hashed, subject, release, responses)


def _hashed(subject: Subject, release: Release, responses: Sequence[str]) -> list[str]:
    weights = [part for name, sha256 in sorted(release.files.items()) for part in (name, sha256)]
    shared = _digest(subject.context, release.id, *weights).hex()
    tenant = f"{len(subject.tenant_id)}.{subject.tenant_id}"
    return [f"ratchet:scores:{tenant}:{_digest(shared, response).hex()}" for response in responses]


def _field(query: str) -> bytes:
    return _digest(query)[:16]


def _digest(*parts: str) -> bytes:
    """SHA-256 of the parts, each preceded by its length."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        found.update(struct.pack("<Q", len(data)))
        found.update(data)
    return found.digest()
