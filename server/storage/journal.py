"""The durable log. A reply may leave only after `append` returned: by then its row is committed, or on disk.

Rows of concurrent requests commit together (group commit): while one insert is under way the next ones queue, so that
a busy server pays one commit for many replies and an idle one waits for nobody. Writing the same row twice is safe, so
a write whose outcome is unknown is tried again. With a spool, rows that Postgres does not take in time go to disk (see
`backlog`). This module decides nothing about replies and never drops a row silently: `append` either returns or raises.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import asyncpg

from server.errors import LogRowRefused, LogUnavailable, Overloaded, RatchetError
from server.metrics import LOG_BATCH, LOG_SECONDS
from server.storage.backlog import LARGE, Backlog
from server.storage.database import GONE
from server.storage.erasure import Digest, nobody
from server.storage.ledger import Key, Ledger, is_rows_fault
from server.storage.records import Row
from server.storage.rows import LogEntry
from server.storage.spool import Spool
from server.types import Reply

log = logging.getLogger(__name__)

PATIENCE, LOOKUP_PATIENCE = 1.0, 0.3
"""Seconds, with a spool, after which Postgres counts as away that does not take a row, or find a request id."""
SHARE = 0.5
"""Of a turn's remaining time, what its row waits for Postgres before it goes to the spool."""
_FINDING = 64
"""Characters of a finding's names and numbers in its row."""


class Log(Protocol):
    """What the request path needs of the log."""

    async def find(self, key: Key, seconds: float) -> Reply | None:
        """The reply that the key's request got before, or None. Raises RequestIdReused, LogUnavailable.

        A log that can do without Postgres spends at most `seconds` on it; then the key counts as unknown.
        """

    async def append(self, entry: LogEntry) -> Reply:
        """The entry's reply once its row is durable, or the first reply to the same request id.

        A reply whose row is durable, but not in Postgres yet, says so (LOG_SPOOLED).
        Raises RequestIdReused, LogRowRefused (this row only), LogUnavailable, Overloaded (too much waits).
        """


@dataclass(slots=True, eq=False)
class _Waiting:
    """A row, and who waits for it. `size` is in characters, about; `second`: its request id was taken.

    `keeping` brings the row to the spool as well: once begun it can't be taken back, and its reply is the row's.
    """

    entry: LogEntry
    row: Row
    size: int
    written: "asyncio.Future[Reply]"
    second: bool = False
    keeping: "asyncio.Task[Reply] | None" = None

    @property
    def key(self) -> Key:
        turn = self.entry.turn
        return turn.tenant_id, turn.request_id, turn.fingerprint

    def settle(self, reply: Reply) -> None:
        if not self.written.done():  # the caller may have left
            self.written.set_result(reply)

    def fail(self, error: BaseException) -> None:
        if not self.written.done():
            self.written.set_exception(error)


class Journal:
    """`Log` on Postgres. `pool` has a connection for each of the `writers` tasks; lookups go by a pool of their own.

    An insert takes at most `batch` rows and about `batch_size` characters; at most `pending_size` characters wait.
    Without a `spool`, replies are withheld while Postgres is away. The journal closes the spool. Rows of users who were
    erased meanwhile, found by their `digest`, go in without texts.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        lookups: asyncpg.Pool | None = None,
        spool: Spool | None = None,
        writers: int = 2,
        batch: int = 256,
        batch_size: int = 1 << 20,
        pending_size: int = 64 << 20,
        digest: Digest = nobody,
    ) -> None:
        limits = {"patience": PATIENCE, "lookup_patience": LOOKUP_PATIENCE} if spool else {}
        self._ledger = Ledger(pool, lookups or pool, digest=digest, **limits)
        self._backlog = Backlog(spool, self._ledger) if spool else None
        self._batch, self._batch_size, self._pending_size = batch, batch_size, pending_size
        self._waiting: deque[_Waiting] = deque()
        self._waiting_size = 0
        self._filled = asyncio.Event()
        self._writers = writers
        self._tasks: list[asyncio.Task[None]] = []
        self._idle = asyncio.Condition()
        self._writing = 0

    @property
    def away(self) -> bool:
        """Whether Postgres is known not to answer; always false without a spool, where it is asked each time.

        One that answers, and only can't take rows or is still given those of the spool, is not away.
        """
        return bool(self._backlog and self._backlog.unreachable)

    async def start(self) -> None:
        """Starts the writing tasks; rows that an earlier process left in the spool go first.

        Raises ConfigurationError when the spool can't be used.
        """
        if self._backlog:
            await self._backlog.start()
        self._tasks = [asyncio.create_task(self._write_forever()) for _ in range(self._writers)]

    async def stop(self) -> None:
        """Waits until each waiting row is durable or refused, then ends the writing tasks."""
        try:
            async with self._idle:
                await self._idle.wait_for(lambda: not self._waiting and not self._writing)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._backlog:
                await self._backlog.stop()

    async def find(self, key: Key, seconds: float) -> Reply | None:
        """See `Log.find`. With a spool it is best effort while Postgres is away; `append` then marks the reply."""
        if self._backlog and (kept := await self._backlog.find(key)):
            return kept
        if self._backlog and self._backlog.away:
            return None
        try:
            first = await self._ledger.first(key, seconds if self._backlog else None)
        except (asyncpg.PostgresError, *GONE) as error:
            if self._backlog:
                if isinstance(error, GONE) and not is_rows_fault(error):
                    self._backlog.postgres_is_away(error)
                return None
            raise LogUnavailable("Postgres can't be reached to look up the request id; try again.") from error
        return first[1] if first else None

    async def append(self, entry: LogEntry) -> Reply:
        """See `Log.append`."""
        size = _size(entry)
        if self._backlog and self._backlog.away:
            return await asyncio.shield(self._backlog.keep(entry, size))
        if self._waiting_size + size > self._pending_size:
            raise Overloaded("Too many replies wait for their log row.", retry_after=1.0)
        row = Row.of(entry) if size < LARGE else await asyncio.to_thread(Row.of, entry)
        waiting = _Waiting(entry, row, size, asyncio.get_running_loop().create_future())
        self._waiting_size += size
        self._waiting.append(waiting)
        self._filled.set()
        return await (self._written_or_kept(waiting, self._backlog) if self._backlog else waiting.written)

    async def _written_or_kept(self, waiting: _Waiting, backlog: Backlog) -> Reply:
        """The row goes to the spool, too, when Postgres takes a large part of the turn's time."""
        loop = asyncio.get_running_loop()
        seconds = min(PATIENCE, (waiting.entry.turn.deadline - loop.time()) * SHARE)
        timer = loop.call_later(max(seconds, 0), self._keep, waiting, backlog)
        try:
            return await waiting.written
        finally:
            timer.cancel()

    def _keep(self, waiting: _Waiting, backlog: Backlog) -> None:
        """Settles `waiting` with what the backlog keeps; when it can't, with what the insert under way brings."""

        def settle(task: "asyncio.Task[Reply]") -> None:
            if not task.cancelled() and not task.exception():
                waiting.settle(task.result())

        if not waiting.second and waiting.keeping is None:
            waiting.keeping = backlog.keep(waiting.entry, waiting.size)
            waiting.keeping.add_done_callback(settle)

    async def _write_forever(self) -> None:
        while True:
            await self._filled.wait()
            if self._backlog:
                await self._backlog.admitted()
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
        if self._backlog and self._backlog.away:
            await self._keep_all(batch, self._backlog)
            return
        try:
            second = await self._insert(batch)
        except (asyncpg.PostgresError, *GONE) as error:
            if is_rows_fault(error):
                await self._split(batch, error)
            else:
                await self._give_up(batch, error)
        else:
            for waiting in batch:
                waiting.second = waiting.entry.turn.response_id in second
            for waiting in sorted(batch, key=lambda each: each.second):
                await self._settle(waiting)

    async def _insert(self, batch: Sequence[_Waiting]) -> set[UUID]:
        """The response ids of the entries whose request id was taken."""
        with LOG_SECONDS.time():
            second = await self._ledger.insert([waiting.row for waiting in batch])
        LOG_BATCH.observe(len(batch))
        return second

    async def _split(self, batch: Sequence[_Waiting], error: Exception) -> None:
        if len(batch) == 1:
            # Postgres's own words quote the row: they stay out of the log and out of the answer.
            constraint = getattr(error, "constraint_name", None) or getattr(error, "sqlstate", None) or "not encodable"
            log.error("Postgres refuses the row of response %s: %s", batch[0].entry.turn.response_id, constraint)
            batch[0].fail(LogRowRefused(f"Postgres refuses the reply's log row ({constraint})."))
            return
        half = len(batch) // 2
        await self._write(batch[:half])
        await self._write(batch[half:])

    async def _give_up(self, batch: Sequence[_Waiting], error: BaseException) -> None:
        if self._backlog:
            self._backlog.postgres_is_away(error)
            await self._keep_all(batch, self._backlog)
        else:
            _withhold(batch, error)

    async def _keep_all(self, batch: Sequence[_Waiting], backlog: Backlog) -> None:
        for waiting in batch:
            waiting.keeping = waiting.keeping or backlog.keep(waiting.entry, waiting.size)
        tasks = [waiting.keeping for waiting in batch if waiting.keeping]
        for waiting, kept in zip(batch, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            if isinstance(kept, BaseException):
                waiting.fail(kept)
            else:
                waiting.settle(kept)

    async def _settle(self, waiting: _Waiting) -> None:
        """Gives the reply whose row is written: the marked one where the row went to the spool, too."""
        if waiting.keeping:
            await asyncio.wait([waiting.keeping])
            if not waiting.keeping.cancelled() and not waiting.keeping.exception():
                waiting.settle(waiting.keeping.result())
                return
        if waiting.second:
            await self._settle_second(waiting)
        else:
            waiting.settle(waiting.entry.reply)

    async def _settle_second(self, waiting: _Waiting) -> None:
        """Gives the first reply to who came second, or its own when an earlier try of this write had succeeded.

        A key whose row was erased is stale: it is forgotten, and this row written as the first.
        """
        try:
            first = await self._ledger.first(waiting.key)
            if first and first[1]:
                own = first[0] == waiting.entry.turn.response_id
                waiting.settle(waiting.entry.reply if own else first[1])
                return
            if first:
                await self._ledger.forget(waiting.key, first[0])
            if await self._insert([waiting]):
                raise LogUnavailable("Another request took this request id just now; try again.")
            waiting.settle(waiting.entry.reply)
        except RatchetError as error:
            waiting.fail(error)
        except (asyncpg.PostgresError, *GONE) as error:
            _withhold([waiting], error)


def _size(entry: LogEntry) -> int:
    """Characters of all texts that go into the entry's row, about."""
    turn, recalled, reply = entry.turn, entry.recollection, entry.reply
    passages = [*(each for run in reply.tool_runs for each in run.evidence), *(c.evidence for c in reply.citations)]
    return (
        sum(map(len, (turn.context, turn.query, recalled.summary, reply.response)))
        + sum(len(each.query) + len(each.response) for each in recalled.exchanges)
        + sum(len(each.title) + len(each.text) + len(each.uri) for each in passages)
        + sum(len(candidate.text) for candidate in reply.candidates)
        + sum(_FINDING + len(finding.detail) for candidate in reply.candidates for finding in candidate.findings)
    )


def _withhold(batch: Sequence[_Waiting], error: BaseException) -> None:
    log.warning("Postgres is away; %d replies are withheld: %s", len(batch), type(error).__name__)
    for waiting in batch:
        waiting.fail(LogUnavailable("Postgres can't be reached, so the reply's log row is not durable."))
