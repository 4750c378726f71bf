"""User profiles: attributes that callers set, and a preference vector that is learned.

`PostgresProfiles` is the default; `server.storage.opensearch` keeps them in OpenSearch. One contract test holds both.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg

from server.errors import Conflict, InvalidRequest, RequestIdReused, StoreUnavailable, Violation, told
from server.storage.database import GONE, Connection, bounded
from server.types import Profile

LONGEST_MEMORY = 50.0
"""Bound of a preference's weight: beyond it, old embeddings fade, so that preferences can move."""
ATTRIBUTES = 32
"""Attributes of a user at most."""
REQUESTS = 16
"""Changes whose request ids are kept, to recognise a repeated one."""
READING, WRITING = 1.0, 5.0
"""Seconds after which the connection is cut off on which Postgres has not answered."""
_NOTHING = 1e-6
"""Length of a mean below which likes and dislikes have cancelled each other."""
_INDEXED = 2000
"""Dimensions that pgvector can index."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A user whose preference is like an embedding; `similarity` is the cosine, -1 to 1."""

    user_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of a user's attributes. `replace`: those that are not given go; else they stay.

    `etag`, if any, is that of the attributes as the caller read them. A repeated `request_id` changes nothing.
    """

    attributes: Mapping[str, str]
    remove: tuple[str, ...] = ()
    replace: bool = False
    etag: str = ""
    request_id: str = ""

    def digest(self) -> str:
        """Tells this change from others."""
        asked = [sorted(self.attributes.items()), sorted(self.remove), self.replace, self.etag]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Attributes:
    """A user's attributes, with (request id, digest) of the newest changes, oldest first."""

    values: Mapping[str, str]
    requests: tuple[tuple[str, str], ...] = ()

    def after(self, change: Change) -> "Attributes":
        """These, changed; the same ones when there is nothing to do.

        Raises Conflict when they are not those of the change's etag (unless it has happened already), RequestIdReused
        when its request id was another change's, InvalidRequest when they would be too many.
        """
        for request_id, digest in self.requests:
            if change.request_id == request_id:
                if digest != change.digest():
                    raise RequestIdReused(f"The request id {request_id!r} was used before for a different change.")
                return self
        values = {} if change.replace else dict(self.values)
        values = {name: value for name, value in values.items() if name not in change.remove} | dict(change.attributes)
        if change.etag and values != self.values and change.etag != etag(self.values):
            raise Conflict("The profile was changed since it was read: read it again.")
        if len(values) > ATTRIBUTES:
            raise InvalidRequest([Violation("attributes", f"would be {len(values)}; at most {ATTRIBUTES} are kept")])
        requests = (*self.requests, (change.request_id, change.digest())) if change.request_id else self.requests
        return Attributes(values, requests[-REQUESTS:])


class Profiles(Protocol):
    """The store of profiles. Every method raises StoreUnavailable."""

    async def prepare(self, model: str, dimension: int) -> None:
        """Makes what finding neighbours among embeddings of a model needs; harmless when repeated, by any process."""

    async def get(self, tenant: str, user: str) -> Profile | None:
        """The profile; None when nothing is kept of the user."""

    async def put(self, tenant: str, user: str, change: Change) -> Profile:
        """Changes the attributes, atomically; the profile afterwards. Raises what `Attributes.after` does."""

    async def learn(self, tenant: str, user: str, embedding: Sequence[float], weight: float, model: str) -> None:
        """Moves the preference towards an embedding of unit length, or away from it where `weight` is negative.

        The vector is the mean of all embeddings by weight, whatever their order, until their weights reach
        LONGEST_MEMORY; an exponentially fading one from there on. Another `model` starts anew. Atomic. Nothing happens
        for a weight of 0.
        """

    async def delete(self, tenant: str, user: str) -> bool:
        """Erases everything that is kept of the user; whether there was anything."""

    async def nearest(self, tenant: str, embedding: Sequence[float], model: str, limit: int) -> list[Neighbour]:
        """The users whose preferences are most like an embedding, most alike first; a change may take a second to
        show."""

    async def close(self) -> None:
        """Gives back what the store holds."""


def etag(attributes: Mapping[str, str]) -> str:
    """Stands for these attributes, and no others. What is learned does not change it."""
    return hashlib.sha256(json.dumps(sorted(attributes.items())).encode()).hexdigest()[:16]


def unit(mean: Sequence[float] | None) -> tuple[float, ...] | None:
    """The mean at length 1; None without one, or when it points nowhere."""
    length = math.hypot(*mean) if mean else 0.0
    return tuple(value / length for value in mean) if mean and length > _NOTHING else None


_PROFILE = "attributes, requests, mean::real[] AS mean, weight, model, updated_at"
_GET = f"SELECT {_PROFILE} FROM profiles WHERE tenant_id = $1 AND user_id = $2"
_SAME_SPACE = "p.model = excluded.model AND vector_dims(p.mean) = vector_dims(excluded.mean)"
_PART = "array_fill(({0}.weight / (p.weight + excluded.weight))::real, ARRAY[vector_dims({0}.mean)])::vector"
"""pgvector multiplies vectors by vectors only."""
_LEARN = f"""
INSERT INTO profiles AS p (tenant_id, user_id, mean, weight, model)
VALUES ($1, $2, $3::real[]::vector, least($4::float8, $6::float8), $5)
ON CONFLICT (tenant_id, user_id) DO UPDATE SET
    mean = CASE WHEN {_SAME_SPACE}
        THEN p.mean * {_PART.format("p")} + excluded.mean * {_PART.format("excluded")}
        ELSE excluded.mean END,
    weight = CASE WHEN {_SAME_SPACE} THEN least(p.weight + excluded.weight, $6) ELSE excluded.weight END,
    model = excluded.model,
    updated_at = now()
"""


class PostgresProfiles:
    """`Profiles` in Postgres with pgvector 0.8 or newer. The pool is the caller's."""

    def __init__(self, pool: asyncpg.Pool, away: Callable[[], bool] = lambda: False) -> None:
        """`away` tells whether Postgres is known not to answer: reading a profile then does not wait for it."""
        self._pool, self._away = pool, away

    async def prepare(self, model: str, dimension: int) -> None:
        """See `Profiles.prepare`: an HNSW index over the preferences of one model. Without one, search is exact."""
        if dimension > _INDEXED:
            return
        digest = hashlib.sha256(f"{model}:{dimension}".encode()).hexdigest()[:12]
        with _as_unavailable():
            statement = await self._pool.fetchval(
                "SELECT format('CREATE INDEX IF NOT EXISTS %I ON profiles USING hnsw ((mean::vector(%s))"
                " vector_cosine_ops) WHERE model = %L', $1::text, $2::text, $3::text)",
                f"profiles_near_{digest}",
                str(dimension),
                model,
            )
            with suppress(asyncpg.UniqueViolationError, asyncpg.DuplicateTableError):  # another process was quicker
                await self._pool.execute(statement)

    async def get(self, tenant: str, user: str) -> Profile | None:
        """See `Profiles.get`."""
        if self._away():
            raise StoreUnavailable("The profiles can't be read while Postgres is away.")
        with _as_unavailable():
            row = await bounded(self._pool, READING, lambda c: c.fetchrow(_GET, tenant, user))
        return _profile(tenant, user, row) if row else None

    async def put(self, tenant: str, user: str, change: Change) -> Profile:
        """See `Profiles.put`."""

        async def change_in(connection: Connection) -> Profile:
            async with connection.transaction():
                row = await connection.fetchrow(  # takes the row's lock, and makes the row where there is none
                    "INSERT INTO profiles (tenant_id, user_id) VALUES ($1, $2)"
                    f" ON CONFLICT (tenant_id, user_id) DO UPDATE SET user_id = excluded.user_id RETURNING {_PROFILE}",
                    tenant,
                    user,
                )
                before = _attributes(row)
                after = before.after(change)
                if after == before:
                    return _profile(tenant, user, row)
                row = await connection.fetchrow(
                    "UPDATE profiles SET attributes = $3, requests = $4, updated_at = now()"
                    f" WHERE tenant_id = $1 AND user_id = $2 RETURNING {_PROFILE}",
                    tenant,
                    user,
                    json.dumps(after.values),
                    json.dumps(after.requests),
                )
                return _profile(tenant, user, row)

        with _as_unavailable():
            return await bounded(self._pool, WRITING, change_in)

    async def learn(self, tenant: str, user: str, embedding: Sequence[float], weight: float, model: str) -> None:
        """See `Profiles.learn`."""
        if not weight:
            return
        towards = [math.copysign(1.0, weight) * value for value in embedding]
        with _as_unavailable():
            values = (tenant, user, towards, abs(weight), model, LONGEST_MEMORY)
            await bounded(self._pool, WRITING, lambda c: c.execute(_LEARN, *values))

    async def delete(self, tenant: str, user: str) -> bool:
        """See `Profiles.delete`."""
        with _as_unavailable():
            statement = "DELETE FROM profiles WHERE tenant_id = $1 AND user_id = $2"
            done = await bounded(self._pool, WRITING, lambda c: c.execute(statement, tenant, user))
        return bool(done != "DELETE 0")

    async def nearest(self, tenant: str, embedding: Sequence[float], model: str, limit: int) -> list[Neighbour]:
        """See `Profiles.nearest`."""
        distance = f"mean::vector({len(embedding)}) <=> $2::real[]::vector({len(embedding)})"

        async def search(connection: Connection) -> list[Any]:
            async with connection.transaction(readonly=True):
                # Else the index gives up after its first candidates, which may all be another tenant's.
                await connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
                return await connection.fetch(
                    f"SELECT user_id, 1 - ({distance}) AS similarity FROM profiles"
                    f" WHERE tenant_id = $1 AND model = $3 AND vector_norm(mean) > {_NOTHING}"
                    f" ORDER BY {distance} LIMIT $4",
                    tenant,
                    list(embedding),
                    model,
                    limit,
                )

        with _as_unavailable():
            rows = await bounded(self._pool, READING, search)
        return [Neighbour(row["user_id"], float(row["similarity"])) for row in rows]

    async def close(self) -> None:
        """See `Profiles.close`: nothing, here."""


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except (*GONE, asyncpg.PostgresError) as error:
        raise StoreUnavailable(f"The store of profiles did not answer: {told(error)}.") from error


def _attributes(row: Any) -> Attributes:
    requests = tuple((request_id, digest) for request_id, digest in json.loads(row["requests"]))
    return Attributes(json.loads(row["attributes"]), requests)


def _profile(tenant: str, user: str, row: Any) -> Profile:
    attributes = dict(sorted(json.loads(row["attributes"]).items()))
    return Profile(tenant, user, attributes, unit(row["mean"]), row["weight"], row["model"], row["updated_at"])
