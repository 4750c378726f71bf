"""Erases a user everywhere that this server reaches, in an order that leaves no way back in.

First the erasure is noted: from then on whoever writes the log takes the texts out of the user's older rows. Then the
short memory goes, closed for the user meanwhile, and the profile. Only then is the last moment known that the erasure
reaches: what came in up to it may have seen the old texts, what comes in later can't have. Once every writer knows of
it, the tables are swept, and what training holds of the user is marked for the trainer. Does not reach backups, the
database's own log files, what models have learned, or what callers keep themselves.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from server.errors import DeadlineExceeded, StoreUnavailable, told
from server.storage import quarantine, sweep, trained
from server.storage.database import GONE, Connection, bounded
from server.storage.erasure import Erasure, Erasures
from server.storage.forgetting import UserKeys
from server.storage.profiles import Profiles
from server.storage.spool import holdings

DRAINING = 5.0
"""Seconds at most that an erasure waits for the spool's rows to reach Postgres."""
SHARE = 0.5
"""Of the remaining time, what of it may be spent on that."""
_POLL = 0.05
_WAITING = (
    "{} bytes of log rows wait on this server's disk for Postgres: any of the user's lose their texts on the way there."
)
_BUSY = "The spool's file {} is being written: repeat the call, so that it is looked through."
_UNREADABLE = (
    "The spool's file {} holds bytes that can't be read, whose they are can't be told: look at it, and delete it."
)


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did: rows or keys by place, and what is still to come, a sentence each. Replies to requests that
    came in up to `until` are erased. `trained_releases` learned from the user before."""

    counts: Mapping[str, int]
    until: datetime
    pending: tuple[str, ...]
    trained_releases: tuple[str, ...] = ()


class Eraser:
    """Erases one user at a time; others wait. `spool` is where this server's log rows wait for Postgres, if at all."""

    def __init__(
        self, pool: asyncpg.Pool, erasures: Erasures, keys: UserKeys, profiles: Profiles, spool: Path | None
    ) -> None:
        self._pool, self._erasures, self._keys = pool, erasures, keys
        self._profiles, self._spool = profiles, spool
        self._turn = asyncio.Lock()

    async def erase(self, tenant: str, user: str, seconds: float) -> Erased:
        """Erases the user within `seconds`. Repeating it is harmless, and goes on where an earlier one ended.

        Raises StoreUnavailable, DeadlineExceeded.
        """
        ends = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(ends):
                await self._turn.acquire()
            try:
                left = ends - asyncio.get_running_loop().time()
                return await bounded(self._pool, left, lambda c: self._erase(c, tenant, user, ends))
            finally:
                self._turn.release()
        except (*GONE, asyncpg.PostgresError) as error:
            if asyncio.get_running_loop().time() >= ends:
                raise DeadlineExceeded("The user is erased in part: repeat the call, it goes on.") from error
            raise StoreUnavailable(
                f"The user is erased in part, as Postgres stopped answering: {told(error)}."
            ) from error

    async def _erase(self, connection: Connection, tenant: str, user: str, ends: float) -> Erased:
        async with self._alone(connection, tenant, user):
            await self._erasures.mark(connection, tenant, user, datetime.now(UTC))
            counts = {"memory": await self._keys.erase(tenant, user)}
            deleted = await self._profiles.delete(tenant, user)
            erasure = await self._erasures.mark(connection, tenant, user, datetime.now(UTC))
            await self._keys.admit(tenant, user, erasure.last_response)
            # Again, for what was learned or set between: it may come from what was there before.
            counts["profiles"] = int(await self._profiles.delete(tenant, user) or deleted)
            counts |= await _sweep(connection, tenant, user, erasure)
            counts["rollout_failures"] = await self._failures(connection, tenant, user, erasure)
            learned = await trained.erase(connection, tenant, self._erasures.digest(tenant, user))
            examined, pending = await self._settle(tenant, user, erasure, ends)
        counts = {**counts, **learned.counts, "spool": examined}
        return Erased(counts, erasure.until, (*pending, *learned.pending), learned.releases)

    async def _failures(self, connection: Connection, tenant: str, user: str, erasure: Erasure) -> int:
        """Takes the user out of the failed calls of rollouts; those noted from now on name nobody for a while."""
        await sweep.writers_see(connection, "rollout_failures")
        digests = (self._erasures.digest(tenant, name) for name in (user, erasure.pseudonym))
        return await sweep.failures(connection, tenant, *digests)

    @asynccontextmanager
    async def _alone(self, connection: Connection, tenant: str, user: str) -> AsyncIterator[None]:
        """One erasure of a user at a time, over all processes. Postgres drops the lock with the connection."""
        lock = int.from_bytes(self._erasures.digest(tenant, user)[:8], signed=True)
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock):  # noqa: ASYNC110  # another process has it
            await asyncio.sleep(_POLL)
        try:
            yield
        finally:
            with suppress(*GONE):
                await connection.execute("SELECT pg_advisory_unlock($1)", lock)

    async def _settle(self, tenant: str, user: str, erasure: Erasure, ends: float) -> tuple[int, tuple[str, ...]]:
        """How many rows of the user were taken out of what the spool had set aside, and what is still to come."""
        if self._spool is None:
            return 0, ()
        waiting = await self._drained(self._spool, ends)
        found = await asyncio.to_thread(quarantine.erase, self._spool, tenant, user, erasure.last_response)
        pending = [_WAITING.format(waiting)] if waiting else []
        pending += [_BUSY.format(name) for name in found.busy]
        pending += [_UNREADABLE.format(name) for name in found.unreadable]
        return found.erased, tuple(pending)

    async def _drained(self, spool: Path, ends: float) -> int:
        """Waits for the spool to become empty; gives the bytes that are left in it."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(DRAINING, (ends - loop.time()) * SHARE)
        while waiting := (await asyncio.to_thread(holdings, spool)).waiting:
            if loop.time() >= until:
                break
            await asyncio.sleep(_POLL)
        return waiting


async def _sweep(connection: Connection, tenant: str, user: str, erasure: Erasure) -> dict[str, int]:
    """Takes the user out of all tables, once no writer is left that does not know of the erasure."""
    await sweep.writers_see(connection, "conversation_logs")
    counts = await sweep.logs(connection, tenant, user, erasure)
    await sweep.writers_see(connection, "feedback_data")
    counts |= await sweep.feedback(connection, tenant, user, erasure)
    counts["feedback_requests"] = await sweep.requests(connection, tenant, user)
    counts["api_keys"] = await sweep.api_keys(connection, tenant, user, erasure.pseudonym)
    return counts
