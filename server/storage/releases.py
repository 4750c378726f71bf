"""Releases, champions and what replicas have, in Postgres: the base of `server.storage.rollouts.PostgresRollouts`."""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import asyncpg

from server.errors import ReleaseExists, ReleaseNotFound
from server.rollout.documents import plain
from server.rollout.registry import Champion, Published, ReplicaModel, ReplicaState
from server.rollout.types import Kind
from server.storage.database import Connection, bounded
from server.storage.training import as_unavailable

READING, WRITING = 2.0, 5.0
"""Seconds after which the connection is cut off on which Postgres has not answered."""
T = TypeVar("T")

_RELEASE = "release, kind, manifest, digest, published_at, published_by, training_id, threshold, continuity, retired_at"
_PUBLISH = f"""
INSERT INTO releases ({_RELEASE}) VALUES ($1, $2, $3, $4, $5, $6, coalesce($7, (
    SELECT training_id FROM training_runs
    WHERE release = $1 AND snapshot = $3::jsonb ->> 'data_snapshot' AND state = 'SUCCEEDED' LIMIT 1
)), $8, $9, $10)
ON CONFLICT (release) DO NOTHING
"""
"""Who publishes a run's release by hand need not name the run."""
_MADE_BY = "UPDATE releases SET training_id = $2 WHERE release = $1 AND digest = $3 AND training_id IS NULL"
BY_NAME = f"SELECT {_RELEASE} FROM releases WHERE release = $1"
_PAGE = f"""
SELECT {_RELEASE} FROM releases
WHERE ($1::text IS NULL OR kind = $1)
    AND ($2 = '' OR (published_at, release) < (SELECT published_at, release FROM releases WHERE release = $2))
ORDER BY published_at DESC, release DESC LIMIT $3
"""
_THRESHOLD = "UPDATE releases SET threshold = $2, continuity = $3 WHERE release = $1"
_CHAMPIONS = "SELECT kind, release, since FROM champions"
_CROWN_FIRST = "INSERT INTO champions (kind, release) VALUES ($1, $2) ON CONFLICT (kind) DO NOTHING"
_CROWN_CONFIGURED = """
INSERT INTO champions AS known (kind, release) VALUES ($1, $2)
ON CONFLICT (kind) DO UPDATE SET release = excluded.release, since = now()
WHERE known.release <> excluded.release AND NOT EXISTS (
    SELECT FROM rollouts WHERE kind = $1 AND state NOT IN ('draft', 'rolled_back', 'failed')
)
"""
"""Not where a rollout made the champion, or compares with it."""
_BACK = "UPDATE releases SET retired_at = NULL WHERE release = $1 AND retired_at IS NOT NULL"
HOLD = "SELECT FROM champions WHERE kind = $1 FOR UPDATE"
"""Who starts a rollout holds it as well: what was started by then is seen by the next statement, not by one that
waited."""
_REPLICAS = """
SELECT replica, release, state, refusal, since, checked_at FROM replica_models
WHERE $1::text IS NULL OR release = $1 ORDER BY replica, release
"""
_ONE_BY_ONE = "SELECT pg_advisory_xact_lock(1382376526)"
"""Any number of our own: of two who believe to lead, one waits."""
_FORGET = "DELETE FROM replica_models"
_NOTE = """
INSERT INTO replica_models (replica, release, state, refusal, since, checked_at) VALUES ($1, $2, $3, $4, $5, $6)
"""


class PostgresReleases:
    """The store of releases; every method raises StoreUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def now(self) -> datetime:
        """Postgres's clock."""
        found: datetime = await self._do(READING, lambda connection: connection.fetchval("SELECT clock_timestamp()"))
        return found

    async def champions(self) -> dict[Kind, Champion]:
        """By kind; a kind that nobody serves yet is not in it."""
        rows = await self._do(READING, lambda connection: connection.fetch(_CHAMPIONS))
        return {Kind(row["kind"]): Champion(Kind(row["kind"]), row["release"], row["since"]) for row in rows}

    async def crown_first(self, kind: Kind, release: str) -> Champion:
        """Makes it the champion if the kind has none; gives the one that is. Raises ReleaseNotFound."""
        return await self._crown(_CROWN_FIRST, kind, release)

    async def crown_configured(self, kind: Kind, release: str) -> Champion:
        """Makes it the champion unless a rollout made the one that is, or is under way; gives the one that is.

        Raises ReleaseNotFound.
        """
        return await self._crown(_CROWN_CONFIGURED, kind, release)

    async def _crown(self, statement: str, kind: Kind, release: str) -> Champion:
        async def crown_in(connection: Connection) -> Champion:
            async with connection.transaction():
                await connection.execute(HOLD, kind.value)
                try:
                    await connection.execute(statement, kind.value, release)
                except asyncpg.ForeignKeyViolationError:
                    raise not_published(release) from None
                row: Any = await connection.fetchrow(f"{_CHAMPIONS} WHERE kind = $1", kind.value)
                await connection.execute(_BACK, row["release"])  # no champion is retired
                return Champion(kind, row["release"], row["since"])

        return await self._do(WRITING, crown_in)

    async def publish(self, release: Published) -> tuple[Published, bool]:
        """Registers a release; gives the registered one, and whether it was there before. Raises ReleaseExists."""

        async def publish_in(connection: Connection) -> tuple[Published, bool]:
            made = await connection.execute(_PUBLISH, *_values(release))
            if release.training_id is not None:
                await connection.execute(_MADE_BY, release.release, release.training_id, release.digest)
            found = published_of(await connection.fetchrow(BY_NAME, release.release))
            if (found.digest, found.kind) != (release.digest, release.kind):
                raise ReleaseExists(f"Another release has the id {release.release}: give this one an id of its own.")
            return found, made == "INSERT 0 0"

        return await self._do(WRITING, publish_in)

    async def release(self, release: str) -> Published:
        """Raises ReleaseNotFound."""
        row = await self._do(READING, lambda connection: connection.fetchrow(BY_NAME, release))
        if row is None:
            raise not_published(release)
        return published_of(row)

    async def releases(self, *, size: int, before: str, kind: Kind | None) -> list[Published]:
        """Newest first, those published before the release `before` ("": from the newest)."""
        values = kind.value if kind else None, before, size
        rows = await self._do(READING, lambda connection: connection.fetch(_PAGE, *values))
        return [published_of(row) for row in rows]

    async def set_threshold(self, release: str, threshold: float, continuity: object) -> None:
        """Keeps a reward release's threshold (0 to 1) and how it was found. Raises ReleaseNotFound."""
        values = release, threshold, dump(continuity)
        done = await self._do(WRITING, lambda connection: connection.execute(_THRESHOLD, *values))
        if done == "UPDATE 0":
            raise not_published(release)

    async def replicas(self, release: str | None = None) -> list[ReplicaModel]:
        """How releases stand on the replicas, by replica and release; of one release only, if it is named."""
        rows = await self._do(READING, lambda connection: connection.fetch(_REPLICAS, release))
        return [_model(row) for row in rows]

    async def report(self, models: Sequence[ReplicaModel], replicas: Sequence[str]) -> None:
        """Replaces what is known of the `replicas` by `models`, and forgets replicas that are not among them."""
        known = [each for each in models if each.replica in set(replicas)]

        async def report_in(connection: Connection) -> None:
            async with connection.transaction():
                await connection.execute(_ONE_BY_ONE)
                await connection.execute(_FORGET)
                await connection.executemany(_NOTE, [_row_of(each) for each in known])

        await self._do(WRITING, report_in)

    async def _do(self, seconds: float, work: Callable[[Connection], Awaitable[T]]) -> T:
        with as_unavailable("rollouts"):
            return await bounded(self._pool, seconds, work)


def not_published(release: str) -> ReleaseNotFound:
    """The error for a release that nobody published."""
    return ReleaseNotFound(f"No release {release} was published.")


def dump(value: object) -> str | None:
    """A value as jsonb takes it; None stays NULL."""
    return None if value is None else json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def load(text: str | None) -> Any:
    """What jsonb gives; None is NULL."""
    return None if text is None else json.loads(text)


def _values(release: Published) -> tuple[object, ...]:
    return (
        release.release,
        release.kind.value,
        dump(release.manifest),
        release.digest,
        release.published_at,
        release.published_by,
        release.training_id,
        release.threshold,
        dump(release.continuity),
        release.retired_at,
    )


def published_of(row: Any) -> Published:
    """A row of `releases`, as BY_NAME gives it."""
    return Published(
        release=row["release"],
        kind=Kind(row["kind"]),
        manifest=load(row["manifest"]),
        digest=row["digest"],
        published_at=row["published_at"],
        published_by=row["published_by"],
        training_id=row["training_id"],
        threshold=row["threshold"],
        continuity=load(row["continuity"]),
        retired_at=row["retired_at"],
    )


def _row_of(model: ReplicaModel) -> tuple[object, ...]:
    refusal = plain(model.refusal)
    return model.replica, model.release, model.state.value, refusal, model.since, model.checked_at


def _model(row: Any) -> ReplicaModel:
    return ReplicaModel(
        replica=row["replica"],
        release=row["release"],
        state=ReplicaState(row["state"]),
        refusal=row["refusal"],
        since=row["since"],
        checked_at=row["checked_at"],
    )
