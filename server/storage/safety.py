"""Safety reports on the replies of a challenger, of all tenants, in Postgres."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from server.errors import FeedbackNotFound
from server.rollout.reports import SafetyReport
from server.rollout.trial import Trial
from server.rollout.types import Safety
from server.storage.database import Connection, bounded
from server.storage.rollouts import CONDEMNED
from server.storage.training import as_unavailable

READING = 2.0
"""Seconds after which the connection is cut off on which Postgres has not answered."""
CLOCKS_MILLISECONDS = 3_600_000
"""By how much the clock of whoever made a reply may be behind that of whoever drafted the rollout."""
T = TypeVar("T")

_ALL = """
FROM feedback_data AS f
LEFT JOIN conversation_logs AS l ON l.tenant_id = f.tenant_id AND l.response_id = f.response_id AND l.response_id >= $2
LEFT JOIN safety_decisions AS d ON d.tenant_id = f.tenant_id AND d.feedback_id = f.feedback_id
LEFT JOIN feedback_data AS s ON s.tenant_id = f.tenant_id AND s.response_id = f.response_id AND s.user_id = f.user_id
    AND s.kind = 'rating' AND NOT s.withdrawn
WHERE f.kind = 'safety_report' AND f.response_id >= $2 AND (
    l.assignments @> jsonb_build_array(jsonb_build_object('experiment', $1::text, 'challenger', true))
    OR l.response_id IS NULL AND CASE $3::text WHEN 'policy' THEN f.policy_release ELSE f.reward_release END = $4
)
"""
"""A reply whose row still waits in a spool is known by its release alone. Both ids begin with a time: only partitions
since the rollout's are looked at."""
_REPORTS = f"{_ALL} AND (NOT f.withdrawn OR d.confirmed)"
"""What its user took back counts if a person confirmed it."""
_COUNTED = f"""
SELECT count(*) FILTER (WHERE d.confirmed IS NULL) AS pending, count(*) FILTER (WHERE NOT d.confirmed) AS dismissed,
    greatest(count(*) FILTER (WHERE d.confirmed), ({CONDEMNED.format("$4")})) AS confirmed {_REPORTS}
"""
_REPORT = """
SELECT f.tenant_id, f.feedback_id, f.response_id, coalesce(f.safety_category, 'other') AS category,
    coalesce(nullif(f.text_feedback, ''), s.text_feedback, '') AS comment, f."timestamp" AS at, d.confirmed,
    coalesce(d.decided_by, '') AS decided_by
"""
_NEWEST = f"{_REPORT} {_REPORTS} ORDER BY (d.confirmed IS NULL) DESC, f.feedback_id DESC LIMIT $5"
_ONE = f"{_REPORT} {_ALL} AND (NOT f.withdrawn OR d.confirmed IS NOT NULL) AND f.tenant_id = $5 AND f.feedback_id = $6"


class PostgresSafetyReports:
    """The store of them: `server.rollout.reports.SafetyReports`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def counted(self, trial: Trial) -> Safety:
        """How many wait, were confirmed, were dismissed."""
        row: Any = await self._do(lambda connection: connection.fetchrow(_COUNTED, *_of(trial)))
        return Safety(pending=row["pending"], confirmed=row["confirmed"], dismissed=row["dismissed"])

    async def newest(self, trial: Trial, size: int) -> list[SafetyReport]:
        """Those that wait first, then the newest."""
        rows = await self._do(lambda connection: connection.fetch(_NEWEST, *_of(trial), size))
        return [SafetyReport(**row) for row in rows]

    async def one(self, trial: Trial, tenant_id: str, feedback_id: UUID) -> SafetyReport:
        """Raises FeedbackNotFound."""
        values = *_of(trial), tenant_id, feedback_id
        row = await self._do(lambda connection: connection.fetchrow(_ONE, *values))
        if row is None:
            raise FeedbackNotFound("There is no such safety report on a reply of its challenger.")
        return SafetyReport(**row)

    async def _do(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        with as_unavailable("safety reports"):
            return await bounded(self._pool, READING, work)


def _of(trial: Trial) -> tuple[object, ...]:
    return trial.experiment, _earliest(trial.experiment), trial.kind.value, trial.release


def _earliest(rollout_id: str) -> UUID:
    """The least id of a reply that the rollout can be part of: both ids begin with their time in milliseconds."""
    milliseconds = max(0, (UUID(rollout_id).int >> 80) - CLOCKS_MILLISECONDS)
    return UUID(int=milliseconds << 80)
