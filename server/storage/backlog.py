"""What happens to log rows while Postgres is away: they go to the spool, and on to Postgres once it is back, in order.

While `away`, rows are kept on disk without asking Postgres first. It ends when all is written that the spool holds: the
last rows go while new ones are held back, so that a session's rows arrive in their order (within one process; over
several, their UUIDv7s tell it). Writing a row twice is one row, so that nothing must be remembered of how far it got.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from uuid import UUID

import asyncpg

from server.errors import RatchetError, told
from server.metrics import REPLAYED_ROWS, SPOOL_AGE, SPOOL_BYTES, SPOOLED_ROWS
from server.storage import records
from server.storage.database import GONE
from server.storage.ledger import Key, Ledger, is_rows_fault, require_same
from server.storage.records import Row, UnreadableRecord
from server.storage.rows import LogEntry
from server.storage.spool import DAMAGED, REFUSED, Segment, Spool
from server.types import Reply

log = logging.getLogger(__name__)

BATCH, BATCH_SIZE = 256, 1 << 20
"""Rows, and about so many bytes, of one insert."""
HANDOVER = 64 << 10
"""Bytes in the spool below which new rows are held back for the rest to go first."""
RECENT, RECENT_SIZE = 4096, 16 << 20
"""Request ids, and characters of their replies, that are remembered while their rows wait."""
LARGE = 1 << 16
"""Characters from which a row is serialised in a thread."""
_DELAYS = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Seconds between tries while Postgres is away."""
_LOOK_AROUND = 10.0
"""Seconds between looking for segments of processes that ended."""
_STARTING = 10.0
"""Seconds that the start waits for the rows of an earlier process: repeated request ids then find them."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A reply whose row waits in the spool, or is on its way there. `size` is in characters, about."""

    fingerprint: bytes
    response_id: UUID
    reply: "asyncio.Task[Reply]"
    size: int


class Backlog:
    """`ledger` should be impatient: while a row waits for it, the other rows of the spool wait too."""

    def __init__(self, spool: Spool, ledger: Ledger) -> None:
        self._spool, self._ledger = spool, ledger
        self._away = self._unreachable = False
        self._admitting = asyncio.Event()
        self._admitting.set()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._recent: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._recent_size = 0
        self._keeping: set[asyncio.Task[Reply]] = set()
        self._replaying: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether rows go to the spool without Postgres being asked: also while it takes the rows that wait there."""
        return self._away

    @property
    def unreachable(self) -> bool:
        """Whether Postgres did not even answer when it was last asked: one that refuses rows, or is slow, does."""
        return self._unreachable

    async def start(self) -> None:
        """Takes over the rows that an earlier process left. Raises ConfigurationError when the spool can't be used."""
        if await self._spool.adopt():
            self._away = True
            self._work.set()
        else:
            self._idle.set()
        self._replaying = asyncio.create_task(self._replay_forever())
        try:
            async with asyncio.timeout(_STARTING):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d bytes of earlier log rows still wait for Postgres", self._spool.pending)

    async def stop(self) -> None:
        """Makes durable what is on its way to the spool; what Postgres has not taken stays there for the next start."""
        if self._keeping:
            await asyncio.wait(self._keeping)
        if self._replaying is not None:
            self._replaying.cancel()
            await asyncio.gather(self._replaying, return_exceptions=True)
        await self._spool.close()

    async def admitted(self) -> None:
        """Returns when a row may be written to Postgres without overtaking the spool's last."""
        await self._admitting.wait()

    def postgres_is_away(self, error: BaseException) -> None:
        """Notes that Postgres did not take rows, or did not answer in time; whether it answers at all is asked next."""
        if not self._away:
            log.warning("Postgres is away, log rows go to the spool: %s", told(error))
        self._away = True
        self._work.set()

    def keep(self, entry: LogEntry, size: int) -> "asyncio.Task[Reply]":
        """Gives the entry's reply, marked, once its row is on disk, or the reply that its request id got just now.

        The task ends also when nobody waits for it. Raises RequestIdReused, LogUnavailable, Overloaded.
        """
        turn = entry.turn
        first = self._recent.get((turn.tenant_id, turn.request_id)) if turn.request_id else None
        task = asyncio.create_task(self._repeat(first, entry) if first else self._keep(entry, size))
        if turn.request_id and not first:
            self._remember((turn.tenant_id, turn.request_id), _Kept(turn.fingerprint, turn.response_id, task, size))
        self._keeping.add(task)
        task.add_done_callback(self._kept)
        return task

    async def find(self, key: Key) -> Reply | None:
        """The reply of this process to the key's request whose row is not in Postgres yet. Raises RequestIdReused."""
        kept = self._recent.get(key[:2])
        if kept is None:
            return None
        require_same(key, kept.fingerprint)
        try:
            return replace(await asyncio.shield(kept.reply), replayed=True)
        except RatchetError:  # it was not kept after all
            return None

    async def _keep(self, entry: LogEntry, size: int) -> Reply:
        marked = records.spooled(entry)
        payload = _payload(marked) if size < LARGE else await asyncio.to_thread(_payload, marked)
        try:
            await self._spool.append(payload)
        except RatchetError:
            self._drop((entry.turn.tenant_id, entry.turn.request_id))
            raise
        SPOOLED_ROWS.inc()
        self._work.set()
        return marked.reply

    async def _repeat(self, first: _Kept, entry: LogEntry) -> Reply:
        turn = entry.turn
        require_same((turn.tenant_id, turn.request_id, turn.fingerprint), first.fingerprint)
        reply = await asyncio.shield(first.reply)
        return reply if reply.response_id == turn.response_id else replace(reply, replayed=True)

    def _kept(self, task: "asyncio.Task[Reply]") -> None:
        self._keeping.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it has it

    def _remember(self, request: tuple[str, str], kept: _Kept) -> None:
        self._recent[request] = kept
        self._recent_size += kept.size
        while len(self._recent) > RECENT or (self._recent_size > RECENT_SIZE and len(self._recent) > 1):
            self._drop(next(iter(self._recent)))

    def _drop(self, request: tuple[str, str]) -> None:
        if kept := self._recent.pop(request, None):
            self._recent_size -= kept.size

    async def _replay_forever(self) -> None:
        failures = 0
        while True:
            try:
                await self._until_work(failures)
                await self._replay()
                failures = 0
            except (*GONE, asyncpg.PostgresError) as error:
                failures += 1
                self.postgres_is_away(error)
            except Exception:  # a broken disk, or a defect of ours, must not end the replaying
                failures += 1
                log.exception("rows of the spool could not be brought to Postgres and are tried again")
            self._show()

    async def _until_work(self, failures: int) -> None:
        if failures:
            await asyncio.sleep(_DELAYS[min(failures, len(_DELAYS)) - 1])
            return
        try:
            async with asyncio.timeout(_LOOK_AROUND):
                await self._work.wait()
        except TimeoutError:
            await self._spool.adopt()

    async def _replay(self) -> None:
        """Brings all to Postgres that the spool holds, the last of it while new rows are held back."""
        self._work.clear()
        if self._away:
            await self._ping()
        await self._catch_up()
        if self._away or self._spool.pending:
            await self._hand_over()
        self._idle.set()

    async def _ping(self) -> None:
        try:
            await self._ledger.ping()
        except (*GONE, asyncpg.PostgresError):
            self._unreachable = True
            raise
        self._unreachable = False

    async def _catch_up(self) -> None:
        """Until little is left, or as much comes as goes."""
        before = self._spool.pending + 1
        while HANDOVER < self._spool.pending < before and (segment := await self._spool.oldest()):
            before = self._spool.pending
            await self._restore(segment)

    async def _hand_over(self) -> None:
        """From here on rows go to Postgres again, but not before the spool's last."""
        was_away, self._away = self._away, False
        self._admitting.clear()
        try:
            if self._keeping:
                await asyncio.wait(self._keeping)
            while segment := await self._spool.oldest():
                await self._restore(segment)
        except BaseException:
            self._away = True
            raise
        finally:
            self._admitting.set()
        if was_away:
            log.warning("Postgres is back and has all log rows of the spool")

    async def _restore(self, segment: Segment) -> None:
        """Brings a segment's rows to Postgres and removes it; what is refused, or can't be read, is set aside."""
        found = await self._spool.read(segment)
        refused: list[bytes] = []
        for payloads in _batches([piece.data for piece in found if piece.whole]):
            entries, unreadable = await asyncio.to_thread(_decode, payloads)
            refused += unreadable
            for _, same in groupby(entries, key=lambda row: tuple(row.columns)):
                refused += await self._insert(list(same))
            self._forget(entries)
            self._show()
        if damaged := [piece.data for piece in found if not piece.whole]:
            await self._spool.set_aside(segment, DAMAGED, damaged)
        if refused:
            await self._spool.set_aside(segment, REFUSED, [record + b"\n" for record in refused])
        await self._spool.remove(segment)

    async def _insert(self, entries: Sequence[Row]) -> list[bytes]:
        """Inserts the rows; those that Postgres refuses are split out and given back as records."""
        try:
            # One order for all processes: two batches with the same request ids can't deadlock.
            await self._ledger.restore(sorted(entries, key=lambda row: row.request))
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if not is_rows_fault(error):
                raise
            if len(entries) == 1:
                log.error("Postgres refuses the spooled row of response %s", entries[0].response_id)  # noqa: TRY400
                return [records.encode(entries[0])]
            half = len(entries) // 2
            return await self._insert(entries[:half]) + await self._insert(entries[half:])
        REPLAYED_ROWS.inc(len(entries))
        return []

    def _forget(self, entries: Sequence[Row]) -> None:
        """Postgres knows these request ids now."""
        for row in entries:
            kept = self._recent.get(row.request)
            if kept and kept.response_id == row.response_id:
                self._drop(row.request)

    def _show(self) -> None:
        SPOOL_BYTES.set(self._spool.pending)
        SPOOL_AGE.set(self._spool.age)


def _payload(entry: LogEntry) -> bytes:
    return records.encode(Row.of(entry))


def _batches(payloads: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for payload in payloads:
        if batch and (len(batch) >= BATCH or size + len(payload) > BATCH_SIZE):
            yield batch
            batch, size = [], 0
        batch.append(payload)
        size += len(payload)
    if batch:
        yield batch


def _decode(payloads: Sequence[bytes]) -> tuple[list[Row], list[bytes]]:
    """The rows, and the records that are none of ours."""
    found: list[Row] = []
    unreadable: list[bytes] = []
    for payload in payloads:
        try:
            found.append(records.decode(payload))
        except UnreadableRecord as error:
            log.error("a record of the spool can't be read: %s", error)  # noqa: TRY400
            unreadable.append(payload)
    return found, unreadable
