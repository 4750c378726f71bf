"""Training runs in Postgres, as the API asks for them and shows them. The trainer, which does them, has its own SQL."""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import uuid_utils

from server.errors import Overloaded, RequestIdReused, StoreUnavailable, TrainingHasNoReport, TrainingNotFound, told
from server.storage.database import GONE, Connection, bounded
from server.training.types import Asked, Point, Report, Run, State, Verdict

READING, WRITING = 2.0, 5.0
"""Seconds after which the connection is cut off on which Postgres has not answered."""
MOST_POINTS = 1000
"""Of a curve that is given at once."""
MOST_WAITING_RUNS = 100
"""Of a tenant, beyond which no more are taken."""
MOST_WAITING_FEEDBACK = 10_000
"""It is counted no further, unless a run begins at more."""
RETRY_SECONDS = 60.0
T = TypeVar("T")

_RUN = (
    "r.training_id, r.kind, r.state, r.stage, r.progress, r.verdict, r.reasons, r.release, r.compared_with,"
    " r.base_model, r.snapshot, coalesce(s.feedback_count, 0) AS feedback_count, coalesce(s.new_count, 0) AS new_count,"
    " r.config, r.metrics, r.requested_by, r.created_at, r.started_at, r.ended_at, r.error, r.duplicate_of,"
    " r.not_reproducible, r.cancel_requested, r.attempts, r.changed, r.fingerprint"
)
_RUNS = f"SELECT {_RUN} FROM training_runs r LEFT JOIN training_snapshots s ON s.snapshot = r.snapshot"
_BY_ID = f"{_RUNS} WHERE r.tenant_id = $1 AND r.training_id = $2"
_BY_REQUEST = f"{_RUNS} WHERE r.tenant_id = $1 AND r.request_id = $2"
_PAGE = (
    f"{_RUNS} WHERE r.tenant_id = $1 AND ($2::text IS NULL OR r.state = $2)"
    " AND ($3::uuid IS NULL OR r.training_id < $3) ORDER BY r.training_id DESC LIMIT $4"
)
_START = """
INSERT INTO training_runs (tenant_id, training_id, kind, asked, requested_by, request_id, fingerprint)
SELECT $1, $2, $3, $4, $5, nullif($6, ''), $7
WHERE (SELECT count(*) FROM training_runs WHERE tenant_id = $1 AND state = 'QUEUED') < $8
ON CONFLICT (tenant_id, request_id) WHERE request_id IS NOT NULL DO NOTHING
"""
_CANCEL = """
UPDATE training_runs AS r SET cancel_requested = true, changed = changed + 1,
    state = CASE WHEN idle THEN 'CANCELLED' ELSE state END, ended_at = CASE WHEN idle THEN now() ELSE ended_at END
FROM (
    SELECT training_id, state = 'QUEUED' OR lease_until < now() AS idle FROM training_runs
    WHERE tenant_id = $1 AND training_id = $2 AND state IN ('QUEUED', 'RUNNING') FOR UPDATE
) AS found
WHERE r.training_id = found.training_id AND (idle OR NOT cancel_requested)
"""
"""A run that waits, and one whose trainer has died, has nobody who would end it."""
_CURVE = f"""
SELECT step, "values", written_at FROM (
    SELECT *, count(*) OVER () AS whole, count(*) OVER (PARTITION BY marked) AS alike,
        row_number() OVER (PARTITION BY marked ORDER BY step DESC) - 1 AS place
    FROM (SELECT *, "values" ? 'validation_loss' AS marked FROM training_points WHERE training_id = $1) AS points
) AS placed
WHERE whole <= {MOST_POINTS} OR place % ceil(alike / {MOST_POINTS / 2})::bigint = 0
ORDER BY step
"""
"""Of a long curve each n-th point from its end, and of the few that tell of the validation part as many again."""
_POINTS = f"""
SELECT step, "values", written_at FROM training_points WHERE training_id = $1 AND (step > $2 OR written_at > $3)
ORDER BY step LIMIT {MOST_POINTS}
"""
"""An attempt writes in the order of steps: what is of an earlier one and was written later, another attempt wrote."""
_REPORT = """
SELECT report::text AS json, coalesce(report_html, '') AS html FROM training_runs
WHERE tenant_id = $1 AND training_id = $2
"""
_LOOKED = """
SELECT max(s.watermark::text::bigint) FROM training_runs AS r JOIN training_snapshots AS s USING (snapshot)
WHERE r.tenant_id = $1 AND r.state = 'SUCCEEDED'
"""
"""Below it some run has looked at all feedback."""
_UNUSED = "SELECT count(*) FROM (SELECT FROM training_unused_v1 WHERE tenant_id = $1 {} LIMIT $2) AS waiting"
_SINCE = """
AND feedback_id IN (
    SELECT feedback_id FROM training_changes_v1 WHERE tenant_id = $1 AND transaction_id >= $3::text::xid8
)
"""
_WAITING, _WAITING_SINCE = _UNUSED.format(""), _UNUSED.format(_SINCE)
_BY_ITS_VALUES = "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)"
"""A plan for any mark reads all that no run has used, where most often little or nothing came since."""


class PostgresTrainings:
    """The store of training runs; every method raises StoreUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def start(self, tenant: str, asked: Asked) -> Run:
        """The run, which waits for a trainer, or the one that the same request made before.

        Raises RequestIdReused, and Overloaded when too many wait already.
        """

        async def start_in(connection: Connection) -> Run:
            if found := await _of_request(connection, tenant, asked):
                return found
            new, values = new_id(), (asked.kind, json.dumps(asked.config), asked.requested_by)
            key = (asked.request_id, asked.fingerprint)
            made = await connection.execute(_START, tenant, new, *values, *key, MOST_WAITING_RUNS)
            if made == "INSERT 0 1":
                return _run(await connection.fetchrow(_BY_ID, tenant, new))
            if found := await _of_request(connection, tenant, asked):  # who came at the same time
                return found
            raise Overloaded(f"{MOST_WAITING_RUNS} runs wait for a trainer already; cancel some first.", RETRY_SECONDS)

        return await self._do(WRITING, start_in)

    async def get(self, tenant: str, training_id: UUID) -> Run:
        """One run. Raises TrainingNotFound."""
        return await self._do(READING, lambda connection: _get(connection, tenant, training_id))

    async def page(self, tenant: str, state: State | None, after: UUID | None, limit: int) -> list[Run]:
        """Runs after one, newest first."""
        rows = await self._do(READING, lambda connection: connection.fetch(_PAGE, tenant, state, after, limit))
        return [_run(row) for row in rows]

    async def waiting(self, tenant: str, minimum: int) -> int:
        """How much feedback there is to train on that no run has looked at yet, MOST_WAITING_FEEDBACK or `minimum` at
        most."""

        async def count_in(connection: Connection) -> int:
            async with connection.transaction(readonly=True):
                await connection.execute(_BY_ITS_VALUES)
                looked = await connection.fetchval(_LOOKED, tenant)
                since = () if looked is None else (str(looked),)
                most = max(MOST_WAITING_FEEDBACK, minimum)
                return int(await connection.fetchval(_WAITING_SINCE if since else _WAITING, tenant, most, *since))

        return await self._do(READING, count_in)

    async def curve(self, run: Run) -> list[Point]:
        """At most MOST_POINTS points, spread evenly, in the order of steps."""
        rows = await self._do(READING, lambda connection: connection.fetch(_CURVE, run.training_id))
        return [_point(row) for row in rows]

    async def points(self, run: Run, after: Point | None) -> list[Point]:
        """The first MOST_POINTS of the points that came after one: of later steps, or written anew by another attempt,
        which then come first."""
        last = (after.step, after.written_at) if after else (-1, None)
        rows = await self._do(READING, lambda connection: connection.fetch(_POINTS, run.training_id, *last))
        return [_point(row) for row in rows]

    async def cancel(self, tenant: str, training_id: UUID) -> Run:
        """The run, which ends or will; one that has ended stays as it is. Raises TrainingNotFound."""

        async def cancel_in(connection: Connection) -> Run:
            await connection.execute(_CANCEL, tenant, training_id)
            return await _get(connection, tenant, training_id)

        return await self._do(WRITING, cancel_in)

    async def report(self, tenant: str, training_id: UUID) -> Report:
        """What was found out, without whose data its mistakes show. Raises TrainingNotFound, TrainingHasNoReport."""
        row = await self._do(READING, lambda connection: connection.fetchrow(_REPORT, tenant, training_id))
        if row is None:
            raise _not_found()
        if row["json"] is None:
            raise TrainingHasNoReport("This run has no report: it has not ended, or ended before there was one.")
        return Report(_without_users(row["json"]), row["html"])

    async def _do(self, seconds: float, work: Callable[[Connection], Awaitable[T]]) -> T:
        with as_unavailable("training runs"):
            return await bounded(self._pool, seconds, work)


def new_id() -> UUID:
    """A UUIDv7."""
    return UUID(int=uuid_utils.uuid7().int)


@contextmanager
def as_unavailable(what: str) -> Iterator[None]:
    """Tells what Postgres says as StoreUnavailable."""
    try:
        yield
    except (*GONE, asyncpg.PostgresError) as error:
        raise StoreUnavailable(f"The store of {what} did not answer: {told(error)}.") from error


async def _get(connection: Connection, tenant: str, training_id: UUID) -> Run:
    row = await connection.fetchrow(_BY_ID, tenant, training_id)
    if row is None:
        raise _not_found()
    return _run(row)


async def _of_request(connection: Connection, tenant: str, asked: Asked) -> Run | None:
    """The run that a request of this id made. Raises RequestIdReused when that asked for something else."""
    row = await connection.fetchrow(_BY_REQUEST, tenant, asked.request_id) if asked.request_id else None
    if row is not None and row["fingerprint"] != asked.fingerprint:
        raise RequestIdReused(
            f"The request_id {asked.request_id!r} was used before for a different run; use a new one."
        )
    return _run(row) if row is not None else None


def _not_found() -> TrainingNotFound:
    return TrainingNotFound("There is no training run of this id.")


def _run(row: Any) -> Run:
    return Run(
        training_id=row["training_id"],
        kind=row["kind"],
        state=State(row["state"]),
        stage=row["stage"],
        progress=row["progress"],
        verdict=Verdict(row["verdict"]) if row["verdict"] else None,
        reasons=tuple(str(each) for each in json.loads(row["reasons"])),
        release=row["release"],
        compared_with=row["compared_with"],
        base_model=row["base_model"],
        snapshot=row["snapshot"] or "",
        feedback_count=row["feedback_count"],
        new_count=row["new_count"],
        config=json.loads(row["config"]),
        metrics=_numbers(row["metrics"]),
        requested_by=row["requested_by"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        error=row["error"],
        duplicate_of=row["duplicate_of"],
        not_reproducible=row["not_reproducible"],
        cancel_requested=row["cancel_requested"],
        attempts=row["attempts"],
        version=row["changed"],
    )


def _without_users(report: str) -> str:
    """A report as JSON without the digests of users: an erasure needs them, and nobody who reads it."""
    found = json.loads(report)
    for mistake in found.get("mistakes", ()):
        mistake["users"] = []
    return json.dumps(found, ensure_ascii=False)


def _point(row: Any) -> Point:
    return Point(row["step"], _numbers(row["values"]), row["written_at"])


def _numbers(text: str) -> Mapping[str, float]:
    """The numbers of a JSON object; what is null was not known."""
    found = json.loads(text).items()
    return {name: float(value) for name, value in found if isinstance(value, (int, float))}
