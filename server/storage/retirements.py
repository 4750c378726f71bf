"""Which releases nobody is to be served by any more, in Postgres.

Retiring one and starting a rollout with it exclude each other: both hold the champion of its kind. Taking a retirement
back and removing the files exclude each other, too: both hold the release's row, and look at the files meanwhile.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from server.errors import ReleaseInUse
from server.rollout.registry import Published, Retired
from server.storage import leases
from server.storage.database import Connection
from server.storage.releases import BY_NAME, HOLD, READING, WRITING, PostgresReleases, not_published, published_of

_KIND = "SELECT kind FROM releases WHERE release = $1"
_ROW = "SELECT digest, retired_at FROM releases WHERE release = $1 FOR UPDATE"
_CROWNED = "SELECT EXISTS (SELECT FROM champions WHERE release = $1)"
_USED = """
SELECT rollout_id, state, drain_seconds - extract(epoch FROM clock_timestamp() - since) AS lingers FROM rollouts
WHERE $1 IN (challenger, champion) AND (
    state NOT IN ('draft', 'verified', 'rolled_back', 'failed')
    OR state = 'verified' AND since > clock_timestamp() - make_interval(secs => drain_seconds)
)
ORDER BY state = 'verified', rollout_id LIMIT 1
"""
"""The rollout under way that it is part of, else the one that it may still have calls of."""
_RETIRE = "UPDATE releases SET retired_at = clock_timestamp() WHERE release = $1"
_READMIT = "UPDATE releases SET retired_at = NULL WHERE release = $1"
_RETIRED = """
SELECT release, digest FROM releases WHERE retired_at < clock_timestamp() - $1::interval ORDER BY retired_at, release
"""


class PostgresRetirements(PostgresReleases):
    """The store of releases, with their retirements; every method raises StoreUnavailable."""

    async def retire(self, release: str) -> tuple[Published, bool]:
        """Has a release serve nobody any more; gives it, and whether it was retired before.

        Raises ReleaseNotFound, and ReleaseInUse for a champion and for one of a rollout under way, or whose calls may
        still be.
        """

        async def retire_in(connection: Connection) -> tuple[Published, bool]:
            async with connection.transaction():
                kind = await connection.fetchval(_KIND, release)
                if kind is None:
                    raise not_published(release)
                await connection.execute(HOLD, kind)
                row: Any = await connection.fetchrow(_ROW, release)
                existed = row["retired_at"] is not None
                if not existed:
                    await _require_unused(connection, release)
                    await connection.execute(_RETIRE, release)
                return published_of(await connection.fetchrow(BY_NAME, release)), existed

        return await self._do(WRITING, retire_in)

    async def readmit(self, release: str, digest: bytes, there: Callable[[], bool]) -> bool:
        """Takes the retirement of the release of this `digest` back, if its files are `there` (asked in a thread).

        False: they are not, and it stays retired. Where nothing is retired there is nothing to take back.
        """

        async def readmit_in(connection: Connection) -> bool:
            async with connection.transaction():
                row = await connection.fetchrow(_ROW, release)
                if row is None or row["retired_at"] is None or row["digest"] != digest:
                    return True
                if not await asyncio.to_thread(there):
                    return False
                await connection.execute(_READMIT, release)
                return True

        return await self._do(WRITING, readmit_in)

    async def retired(self, age: timedelta) -> list[Retired]:
        """Those that were retired so long ago, or longer."""
        rows = await self._do(READING, lambda connection: connection.fetch(_RETIRED, age))
        return [Retired(row["release"], row["digest"]) for row in rows]

    async def while_retired(self, release: str, names: Sequence[str], work: Callable[[], None]) -> bool:
        """Does `work` in a thread while nobody takes the retirement back, or has one of the leases of these `names`.

        False: somebody has one, or it is not retired, and nothing was done.
        """

        async def work_in(connection: Connection) -> bool:
            async with connection.transaction():
                row = await connection.fetchrow(_ROW, release)
                if row is None or row["retired_at"] is None:
                    return False
                for name in names:
                    if not await leases.free(connection, name):  # ours until the transaction ends
                        return False
                await asyncio.to_thread(work)
                return True

        return await self._do(WRITING, work_in)


async def _require_unused(connection: Connection, release: str) -> None:
    if await connection.fetchval(_CROWNED, release):
        raise ReleaseInUse(f"{release} is the champion of its kind: roll out another one first.")
    used = await connection.fetchrow(_USED, release)
    if used is None:
        return
    if used["state"] == "verified":
        raise ReleaseInUse(
            f"{release} was the champion until a moment ago and may still have calls: retire it in"
            f" {max(1, round(used['lingers']))} seconds."
        )
    raise ReleaseInUse(
        f"{release} is part of the rollout {used['rollout_id']}, which is under way: wait for its end, or roll it back."
    )
