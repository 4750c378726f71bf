"""The durable log. A reply may leave only after `append` returned: by then its row is committed.

Rows of concurrent requests commit together (group commit): while one insert is under way the next ones queue, so that
a busy server pays one commit for many replies and an idle one waits for nobody. Writing the same row twice is safe, so
a write whose outcome is unknown is tried again. This module decides nothing about replies and never drops a row
silently: `append` either returns or raises.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

import asyncpg

from server.errors import LogRowRefused, LogUnavailable, Overloaded, RatchetError, RequestIdReused
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
FROM request_keys AS keys LEFT JOIN conversation_logs AS logs USING (tenant_id, response_id)
WHERE keys.tenant_id = $1 AND keys.request_id = $2
"""
"""Who came first with a request id; the log's columns are null when its row was erased."""

FORGET = "DELETE FROM request_keys WHERE tenant_id = $1 AND request_id = $2 AND response_id = $3"

_RETRIES = (0.05, 0.2, 0.5, 1.0)
"""Seconds to wait before each further try of a write while Postgres is away: embedded Postgres is back within these."""
_ROW_FAULTS = ("22", "23", "54")
"""SQLSTATE classes that are a row's own fault (data, constraint, limit); all others are the server's state."""
_LARGE = 1 << 16
"""Characters from which a row is serialised in a thread."""

T = TypeVar("T")
Key = tuple[str, str, bytes]
"""Tenant, request id, fingerprint."""


class Log(Protocol):
    """What the request path needs of the log."""

    async def find(self, key: Key) -> Reply | None:
        """The reply that the key's request got before, or None. Raises RequestIdReused, LogUnavailable."""

    async def append(self, entry: LogEntry) -> Reply:
        """The entry's reply once its row is durable, or the first reply to the same request id.

        Raises RequestIdReused, LogRowRefused (this row only), LogUnavailable, Overloaded (too much waits).
        """


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A serialised row, and who waits for it. `size` is in characters, about."""

    entry: LogEntry
    values: tuple[Any, ...]
    size: int
    written: "asyncio.Future[Reply]"

    @property
    def key(self) -> Key:
        turn = self.entry.turn
        return turn.tenant_id, turn.request_id, turn.fingerprint

    def settle(self, reply: Reply) -> None:
        if not self.written.done():  # the caller may have left
            self.written.set_result(reply)

    def fail(self, error: Exception) -> None:
        if not self.written.done():
            self.written.set_exception(error)


class Journal:
    """`Log` on Postgres. `pool` has a connection for each of the `writers` tasks; lookups go by a pool of their own.

    An insert takes at most `batch` rows and about `batch_size` characters; at most `pending_size` characters wait.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        lookups: asyncpg.Pool | None = None,
        writers: int = 2,
        batch: int = 256,
        batch_size: int = 1 << 20,
        pending_size: int = 64 << 20,
    ) -> None:
        self._pool, self._lookups = pool, lookups or pool
        self._batch, self._batch_size, self._pending_size = batch, batch_size, pending_size
        self._waiting: deque[_Waiting] = deque()
        self._waiting_size = 0
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
        try:
            async with self._idle:
                await self._idle.wait_for(lambda: not self._waiting and not self._writing)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def find(self, key: Key) -> Reply | None:
        """See `Log.find`."""
        first = await self._first(key)
        return first[1] if first else None

    async def append(self, entry: LogEntry) -> Reply:
        """See `Log.append`."""
        size = len(entry.turn.context) + len(entry.turn.query) + sum(len(c.text) for c in entry.reply.candidates)
        if self._waiting_size + size > self._pending_size:
            raise Overloaded("Too many replies wait for their log row.", retry_after=1.0)
        values = rows.values(entry) if size < _LARGE else await asyncio.to_thread(rows.values, entry)
        self._waiting_size += size
        waiting = _Waiting(entry, values, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._filled.set()
        return await waiting.written

    async def _write_forever(self) -> None:
        while True:
            await self._filled.wait()
            batch = self._take()
            if not batch:
                continue
            self._writing += 1
            try:
                await self._write(batch)
            except Exception:
                log.exception("the journal failed on a batch of %d", len(batch))
                for waiting in batch:
                    waiting.fail(LogUnavailable("The reply's log row could not be written."))
            finally:
                self._writing -= 1
            if not self._waiting:
                async with self._idle:
                    self._idle.notify_all()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < self._batch and (not batch or size < self._batch_size):
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        self._waiting_size -= size
        if not self._waiting:
            self._filled.clear()
        # One order for all writers: two batches with the same request ids can't deadlock.
        return sorted(batch, key=lambda waiting: waiting.key[:2])

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        """Writes the batch and settles each future; a refused row is split out of it."""
        try:
            second = await self._insert(batch)
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "")[:2] in _ROW_FAULTS:
                await self._split(batch, error)
            else:
                _withhold(batch, error)
        except GONE as error:
            _withhold(batch, error)
        else:
            for waiting in batch:
                if waiting.entry.turn.response_id in second:
                    await self._settle_second(waiting)
                else:
                    waiting.settle(waiting.entry.reply)

    async def _insert(self, batch: Sequence[_Waiting]) -> set[UUID]:
        """The response ids of the entries whose request id was taken. Tries again while Postgres is away."""
        columns = list(zip(*(waiting.values for waiting in batch), strict=True))
        fingerprints = [waiting.entry.turn.fingerprint for waiting in batch]
        with LOG_SECONDS.time():
            found = await _patiently(lambda: self._pool.fetch(INSERT, *columns, fingerprints))
        LOG_BATCH.observe(len(batch))
        return {row["response_id"] for row in found}

    async def _split(self, batch: Sequence[_Waiting], error: asyncpg.PostgresError) -> None:
        if len(batch) == 1:
            # Postgres's own words quote the row: they stay out of the log and out of the answer.
            constraint = getattr(error, "constraint_name", None) or error.sqlstate
            log.error("Postgres refuses the row of response %s: %s", batch[0].entry.turn.response_id, constraint)
            batch[0].fail(LogRowRefused(f"Postgres refuses the reply's log row ({constraint})."))
            return
        half = len(batch) // 2
        await self._write(batch[:half])
        await self._write(batch[half:])

    async def _settle_second(self, waiting: _Waiting) -> None:
        """Gives the first reply to who came second, or its own when an earlier try of this write had succeeded.

        A key whose row was erased is stale: it is forgotten, and this row written as the first.
        """
        try:
            first = await self._first(waiting.key)
            if first and first[1]:
                own = first[0] == waiting.entry.turn.response_id
                waiting.settle(waiting.entry.reply if own else first[1])
                return
            if first:
                await self._pool.execute(FORGET, *waiting.key[:2], first[0])
            if await self._insert([waiting]):
                raise LogUnavailable("Another request took this request id just now; try again.")
            waiting.settle(waiting.entry.reply)
        except RatchetError as error:
            waiting.fail(error)
        except (asyncpg.PostgresError, *GONE) as error:
            _withhold([waiting], error)

    async def _first(self, key: Key) -> tuple[UUID, Reply | None] | None:
        """Who came first with the key: the response id and, unless its row was erased, the reply."""
        try:
            row = await _patiently(lambda: self._lookups.fetchrow(FIRST, key[0], key[1]))
        except (asyncpg.PostgresError, *GONE) as error:
            raise LogUnavailable("Postgres can't be reached to look up the request id; try again.") from error
        if row is None:
            return None
        if bytes(row["fingerprint"]) != key[2]:
            raise RequestIdReused(f"The request_id {key[1]!r} was used before for a different request; use a new one.")
        if row["selected_response"] is None:
            return row["first_id"], None
        try:
            return row["first_id"], rows.reply_of(dict(row) | {"response_id": row["first_id"]})
        except (KeyError, TypeError, ValueError) as error:
            raise LogUnavailable("A newer Ratchet wrote the first reply to this request id; ask that one.") from error


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What `call` gives; it is tried again while Postgres is away, and must do no harm when done twice."""
    for delay in _RETRIES:
        try:
            return await call()
        except (*GONE, *WAIT_AND_RETRY, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(delay)
    return await call()


def _withhold(batch: Sequence[_Waiting], error: BaseException) -> None:
    log.warning("Postgres is away; %d replies are withheld: %s", len(batch), type(error).__name__)
    for waiting in batch:
        waiting.fail(LogUnavailable("Postgres can't be reached, so the reply's log row is not durable."))
