"""What a trainer says of the run that it holds. Every statement asks whether it still does: LeaseLost when not.

A run ends once, in one transaction with everything that its end means: the report, the items to review, and which
feedback it used.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from trainer import numbering, points, reviews
from trainer.data.ingest import mark_used
from trainer.data.tables import Used
from trainer.database import Connection, answering
from trainer.errors import Cancelled, LeaseLost
from trainer.reward.findings import Outcome
from trainer.reward.job import Point, Progress, Result
from trainer.runs import MOST_ATTEMPTS, Run

_HELD: Final = "WHERE training_id = $1 AND lease_owner = $2 AND state = 'RUNNING'"
_RENEW = f"""
UPDATE training_runs SET lease_until = now() + make_interval(secs => $3), stage = $4, progress = $5,
    changed = changed + (stage <> $4 OR progress <> $5)::integer
{_HELD} RETURNING cancel_requested
"""
_KEEP = f"SELECT training_id FROM training_runs {_HELD} FOR UPDATE"
_BEGIN = f"""
UPDATE training_runs SET key = $3, snapshot = $4, config = $5, base_model = $6, compared_with = $7, release_path = $8,
    changed = changed + 1
{_HELD} RETURNING training_id
"""
_SAME = """
SELECT training_id FROM training_runs
WHERE tenant_id = $1 AND key = $2 AND state IN ('RUNNING', 'SUCCEEDED') AND training_id <> $3
"""
_LEFT = "lease_owner = '', lease_until = NULL, changed = changed + 1"
_ENDED = f"{_LEFT}, ended_at = now(), stage = ''"
_DUPLICATE = f"UPDATE training_runs SET state = 'DUPLICATE', duplicate_of = $3, {_ENDED} {_HELD} RETURNING training_id"
_END = f"""
UPDATE training_runs SET state = 'SUCCEEDED', progress = 1, verdict = $3, reasons = $4, metrics = $5, release = $6,
    compared_with = $7, report = $8, report_html = $9, {_ENDED}
{_HELD} AND NOT cancel_requested RETURNING training_id
"""
"""`release_path` stays, also without a release: who clears the run's directory away empties that place."""
_FAIL = f"UPDATE training_runs SET state = 'FAILED', error = $3, {_ENDED} {_HELD} RETURNING training_id"
_CANCEL = f"UPDATE training_runs SET state = 'CANCELLED', {_ENDED} {_HELD} RETURNING training_id"
_BACK = f"UPDATE training_runs SET state = 'QUEUED', key = NULL, attempts = attempts - $3, {_LEFT} {_HELD} RETURNING 1"

_ANEW = f"""
UPDATE training_runs SET state = 'QUEUED', key = NULL, snapshot = NULL, attempts = attempts - 1, {_LEFT}
{_HELD} RETURNING 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a run turned out to be, once its data were taken."""

    key: str
    snapshot: str
    config: Mapping[str, Any]
    base_model: str
    compared_with: str


class Lease:
    """A run that this trainer holds for `seconds`, and again with each renewal. Methods raise StoreAway, LeaseLost."""

    def __init__(self, pool: asyncpg.Pool, run: Run, seconds: float) -> None:
        self.run, self._pool, self._seconds = run, pool, seconds
        self._curve = points.Curve(run.training_id)
        self._who = (run.training_id, run.owner)

    async def renew(self, progress: Progress, new: Sequence[Point] = ()) -> None:
        """Goes on holding it, and writes how far it is. Raises Cancelled when somebody asked it to stop."""
        async with self._transaction() as connection:
            state = (str(progress.stage), progress.share)
            if await self._held(connection, _RENEW, self._seconds, *state):
                raise Cancelled("Somebody asked the run to stop.")
            await self._curve.write(connection, new)

    async def begin(self, start: Start, releases: Path, known: Sequence[str]) -> Path | UUID:
        """Writes what the run is; gives where its release belongs, below `releases` and numbered after those `known`.

        Or the run that is the same and was there before: then this one ends.
        """
        while (place := await self._begun(start, releases, known)) is None:
            async with self._transaction() as connection:
                same = await connection.fetchval(_SAME, self.run.tenant, start.key, self.run.training_id)
                if same is not None:
                    await self._held(connection, _DUPLICATE, same)
                    return UUID(str(same))
        return place

    async def _begun(self, start: Start, releases: Path, known: Sequence[str]) -> Path | None:
        """None: there is the same run already."""
        values = (start.key, start.snapshot, json.dumps(start.config), start.base_model, start.compared_with)
        with answering("training runs"):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    place = await numbering.place(connection, releases, self.run.release_path, known)
                    await self._held(connection, _BEGIN, *values, str(place))
            except asyncpg.UniqueViolationError:
                return None
        return place

    async def end(self, result: Result, used: Sequence[Used]) -> None:
        """It came to its end: with a release its data count as used, else they stay eligible. Raises Cancelled."""
        values = (
            str(result.verdict),
            json.dumps(result.reasons),
            json.dumps(dict(result.metrics)),
            result.release,
            result.compared_with,
            None if result.report is None else json.dumps(result.report),
            result.html,
        )
        async with self._transaction() as connection:
            if await connection.fetchval(_END, *self._who, *values) is None:
                await self._held(connection, _KEEP)
                raise Cancelled("Somebody asked the run to stop.")
            await reviews.write(connection, self.run, result.review)
            if result.verdict is Outcome.BETTER:
                await mark_used(connection, self.run.tenant, used)

    async def fail(self, sentence: str) -> None:
        """It ends without anything. Nothing was consumed."""
        await self._end(_FAIL, sentence)

    async def cancel(self) -> None:
        """It ends since somebody asked for it."""
        await self._end(_CANCEL)

    async def hand_back(self) -> None:
        """It waits for the next trainer, which goes on where this one stopped. That was no failure."""
        await self._end(_BACK, 1)

    async def begin_anew(self) -> None:
        """It waits for the next trainer, which takes other data: its own are gone. That was no failure."""
        await self._end(_ANEW)

    async def crashed(self, sentence: str) -> None:
        """Its process died: it is tried again, unless that was too often."""
        if self.run.attempts >= MOST_ATTEMPTS:
            await self.fail(sentence)
        else:
            await self._end(_BACK, 0)

    async def _end(self, statement: str, *values: object) -> None:
        async with self._transaction() as connection:
            await self._held(connection, statement, *values)

    async def _held(self, connection: Connection, statement: str, *values: object) -> Any:
        """The first value that the statement gives. Raises LeaseLost when the run is not ours any more."""
        row = await connection.fetchrow(statement, *self._who, *values)
        if row is None:
            raise LeaseLost("Another trainer took the run over, since this one did not renew its lease in time.")
        return row[0]

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        with answering("training runs"):
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection
