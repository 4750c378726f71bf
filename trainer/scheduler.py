"""When a run is due that nobody asked for. Pure, but for `look`, which asks Postgres how things stand."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from trainer.data import ingest
from trainer.database import answering
from trainer.settings import Schedule

REST: Final = timedelta(days=1)
"""After a run that failed or was cancelled: what broke it is probably still there, and who stopped it meant it."""
MONDAY: Final = 0

_LAST = """
SELECT training_id, state, created_at, ended_at, (
    SELECT max(s.watermark::text::bigint) FROM training_runs AS r JOIN training_snapshots AS s USING (snapshot)
    WHERE r.tenant_id = $1 AND r.state = 'SUCCEEDED'
) AS watermark, EXISTS (
    SELECT FROM training_runs WHERE tenant_id = $1 AND state IN ('QUEUED', 'RUNNING')
) AS busy
FROM training_runs WHERE tenant_id = $1 ORDER BY training_id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """How things stand. `unseen` is new feedback that no run has looked at: one that was no better has looked at its
    own, which stays eligible. `busy`: a run waits or goes on. The rest is of the newest run."""

    unseen: int
    busy: bool = False
    stopped: bool = False  # without a verdict: it failed or was cancelled
    began: datetime | None = None
    ended: datetime | None = None
    newest: UUID | None = None
    looked: int | None = None  # the watermark up to which some run that succeeded has looked


def due(schedule: Schedule, minimum: int, hour: int, found: Situation, now: datetime) -> str:
    """Who asks for a run now: "count", "schedule", or "" for nobody. `hour` is of UTC, `now` in UTC."""
    if found.busy or not found.unseen or schedule is Schedule.OFF:
        return ""
    if found.stopped and found.ended is not None and now - found.ended < REST:
        return ""
    if schedule is Schedule.COUNT:
        return "count" if 0 < minimum <= found.unseen else ""
    moment = last_moment(schedule, hour, now)
    return "schedule" if found.began is None or found.began < moment else ""


def last_moment(schedule: Schedule, hour: int, now: datetime) -> datetime:
    """The newest moment, up to now, at which a daily or weekly run was to begin."""
    moment = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    days = 1 if schedule is Schedule.DAILY else 7
    if schedule is Schedule.WEEKLY:
        moment -= timedelta(days=(moment.weekday() - MONDAY) % 7)
    return moment if moment <= now else moment - timedelta(days=days)


async def look(
    pool: asyncpg.Pool, tenant: str, schedule: Schedule, minimum: int, hour: int, now: datetime
) -> tuple[str, Situation]:
    """Who asks for a tenant's run now, as `due` has it, and how things stand.

    Feedback is looked at where nothing else is in the way, and counted as far as it takes: `unseen` is no more than
    what a run begins at. Raises TrainerError.
    """
    found = await _without_feedback(pool, tenant)
    enough = minimum if schedule is Schedule.COUNT else 1
    if not due(schedule, minimum, hour, replace(found, unseen=enough), now):
        return "", found
    found = replace(found, unseen=await ingest.unseen(pool, tenant, found.looked, enough))
    return due(schedule, minimum, hour, found, now), found


async def _without_feedback(pool: asyncpg.Pool, tenant: str) -> Situation:
    with answering("training runs"):
        last = await pool.fetchrow(_LAST, tenant)
    if last is None:
        return Situation(unseen=0)
    return Situation(
        unseen=0,
        busy=last["busy"],
        stopped=last["state"] in ("FAILED", "CANCELLED"),
        began=last["created_at"],
        ended=last["ended_at"],
        newest=last["training_id"],
        looked=last["watermark"],
    )
