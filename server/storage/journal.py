"""The durable log. A reply may leave only after `append` returned: by then its row is committed.

Rows of concurrent requests commit together (group commit): while one insert is under way the next ones queue, so that
a busy server pays one commit for many replies and an idle one waits for nobody. Writing the same row twice is safe, so
a write whose outcome is unknown is tried again. This module decides nothing about replies and never drops a row
silently: `append` either returns or raises.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import asyncpg

from server.errors import LogRowRefused, LogUnavailable, Overloaded, RequestIdReused
from server.metrics import LOG_BATCH, LOG_SECONDS
from server.storage import rows
from server.storage.database import GONE, WAIT_AND_RETRY
from server.storage.rows import COLUMNS, LogEntry
from server.types import Reply

log = logging.getLogger(__name__)

_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_ARRAYS = ", ".join(f"${index}::{kind}[]" for index, kind in enumerate(COLUMNS.values(), 1))
_FINGERPRINTS = len(COLUMNS) + 1

INSERT = f"""
WITH entry AS (
    SELECT * FROM unnest({_ARRAYS}, ${_FINGERPRINTS}::bytea[]) AS entry ({_NAMES}, fingerprint)
), first AS (
    INSERT INTO request_keys (tenant_id, request_id, response_id, fingerprint)
    SELECT tenant_id, request_id, response_id, fingerprint FROM entry WHERE request_id <> ''
    ON CONFLICT DO NOTHING
    RETURNING response_id
), logged AS (
    INSERT INTO conversation_logs ({_NAMES})
    SELECT {_NAMES} FROM entry WHERE request_id = '' OR response_id IN (SELECT response_id FROM first)
    ON CONFLICT DO NOTHING
    RETURNING response_id
)
SELECT response_id FROM entry
WHERE request_id <> '' AND response_id NOT IN (SELECT response_id FROM first)
"""
"""Inserts rows and their request keys in one statement; gives the response ids that came second."""

FIRST = """
SELECT keys.response_id AS first_id, keys.fingerprint, logs.*
FROM request_keys AS keys JOIN conversation_logs AS logs USING (tenant_id, response_id)
WHERE keys.tenant_id = $1 AND keys.request_id = $2
"""


Key = tuple[str, str, bytes]
"""Tenant, request id, fingerprint."""

_RETRIES = (0.05, 0.2, 0.5, 1.0)
"""Seconds to wait before each further try of a write while Postgres is away: embedded Postgres is back within these."""


class Log(Protocol):
    """What the request path needs of the log."""

    async def find(self, key: Key) -> Reply | None:
        """The reply that the key's request got before, or None. Raises RequestIdReused, LogUnavailable."""

    async def append(self, entry: LogEntry) -> Reply:
        """The entry's reply once its row is durable, or the first reply to the same request id.

        Raises RequestIdReused, LogRowRefused (this row only), LogUnavailable, Overloaded (too many rows wait).
        """


class Journal:
    """`Log` on Postgres: `writers` writing tasks, at most `batch` rows an insert and `pending` rows waiting."""

    def __init__(self, pool: asyncpg.Pool, *, writers: int = 2, batch: int = 256, pending: int = 4096) -> None:
        self._pool = pool
        self._batch, self._pending = batch, pending
        self._waiting: deque[_Waiting] = deque()
        self._filled = asyncio.Event()
        self._writers = writers
        self._tasks: list[asyncio.Task[None]] = []
        self._idle = asyncio.Condition()
        self._writing = 0

    async def start(self) -> None:
        """Starts the writing tasks."""
        self._tasks = [asyncio.create_task(self._write_forever()) for _ in range(self._writers)]

    async def stop(self) -> None:
        """Waits until each waiting row is written or refused, then ends the writing tasks."""
        async with self._idle:
            await self._idle.wait_for(lambda: not self._waiting and not self._writing)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def find(self, key: Key) -> Reply | None:
        """See `Log.find`."""
        try:
            row = await self._pool.fetchrow(FIRST, key[0], key[1])
        except (*GONE, *WAIT_AND_RETRY) as error:
            raise LogUnavailable("Postgres can't be reached to look up the request id; try again.") from error
        return _first_reply(row, key) if row else None

    async def append(self, entry: LogEntry) -> Reply:
        """See `Log.append`."""
        if len(self._waiting) >= self._pending:
            raise Overloaded("Too many replies wait for their log row.", retry_after=1.0)
        written: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, written))
        self._filled.set()
        return await written

    async def _write_forever(self) -> None:
        while True:
            await self._filled.wait()
            batch = self._take()
            if not batch:
                continue
            self._writing += 1
            try:
                await self._write(batch)
            finally:
                self._writing -= 1
            if not self._waiting:
                async with self._idle:
                    self._idle.notify_all()

    def _take(self) -> list["_Waiting"]:
        batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
        if not self._waiting:
            self._filled.clear()
        # One order for all writers: two batches with the same request ids can't deadlock.
        return sorted(batch, key=lambda waiting: (waiting[0].turn.tenant_id, waiting[0].turn.request_id))

    async def _write(self, batch: Sequence["_Waiting"]) -> None:
        """Writes the batch and settles each future; a refused row is split out of it."""
        try:
            second = await self._insert([entry for entry, _ in batch])
        except (*GONE, *WAIT_AND_RETRY) as error:
            log.warning("Postgres is away; %d replies are withheld: %s", len(batch), error or type(error).__name__)
            _fail(batch, LogUnavailable("Postgres can't be reached, so the reply's log row is not durable."))
        except asyncpg.PostgresError as error:
            await self._split(batch, error)
        except Exception:
            log.exception("the journal failed on a batch of %d", len(batch))
            _fail(batch, LogUnavailable("The reply's log row could not be written."))
        else:
            for entry, written in batch:
                if entry.turn.response_id in second:
                    await self._settle_second(entry, written)
                else:
                    _settle(written, entry.reply)

    async def _insert(self, entries: Sequence[LogEntry]) -> set[UUID]:
        """The response ids of the entries whose request id was taken. Tries again while Postgres is away."""
        columns = list(zip(*(rows.values(entry) for entry in entries), strict=True))
        fingerprints = [entry.fingerprint for entry in entries]
        for delay in (*_RETRIES, None):
            try:
                with LOG_SECONDS.time():
                    found = await self._pool.fetch(INSERT, *columns, fingerprints)
                LOG_BATCH.observe(len(entries))
                return {row["response_id"] for row in found}
            except (*GONE, *WAIT_AND_RETRY, asyncpg.DeadlockDetectedError):
                if delay is None:
                    raise
                await asyncio.sleep(delay)
        raise AssertionError("unreachable: the last try returns or raises")

    async def _split(self, batch: Sequence["_Waiting"], error: asyncpg.PostgresError) -> None:
        if len(batch) == 1:
            log.error("Postgres refuses the row of response %s: %s", batch[0][0].turn.response_id, error)
            _fail(batch, LogRowRefused(f"Postgres refuses the reply's log row: {error}."))
            return
        half = len(batch) // 2
        await self._write(batch[:half])
        await self._write(batch[half:])

    async def _settle_second(self, entry: LogEntry, written: asyncio.Future[Reply]) -> None:
        """Gives the first reply to who came second (or its own, when an earlier try of this write had succeeded)."""
        key = (entry.turn.tenant_id, entry.turn.request_id, entry.fingerprint)
        try:
            first = await self.find(key)
        except (RequestIdReused, LogUnavailable) as error:
            _fail([(entry, written)], error)
            return
        if first is None or first.response_id == entry.turn.response_id:
            _settle(written, entry.reply)
        else:
            _settle(written, first)


_Waiting = tuple[LogEntry, "asyncio.Future[Reply]"]


def _settle(written: "asyncio.Future[Reply]", reply: Reply) -> None:
    if not written.done():  # the caller may have left
        written.set_result(reply)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for _, written in batch:
        if not written.done():
            written.set_exception(error)


def _first_reply(row: asyncpg.Record, key: Key) -> Reply:
    if bytes(row["fingerprint"]) != key[2]:
        raise RequestIdReused(f"The request_id {key[1]!r} was used before for a different request; use a new one.")
    return rows.reply_of(dict(row))
