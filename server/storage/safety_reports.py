"""Alerts made of the safety reports in `feedback_data`, in the transaction that takes their changes off the list.

A trigger lists each report that is given, changed or withdrawn, in the transaction that does it: a change is seen once
it is committed, however late, and what was seen is never read again. Who takes changes waits for whoever takes earlier
ones, so two leaders never work on older and newer news of one report at once.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Protocol
from uuid import UUID

from server.alerts.types import Alert, Describe, Finding
from server.storage.database import Connection

CHANGES = 1000
"""That one look takes in at most."""

_TAKE = f"""
DELETE FROM alert_report_changes WHERE change_id IN (
    SELECT change_id FROM alert_report_changes ORDER BY change_id LIMIT {CHANGES} FOR UPDATE
) RETURNING tenant_id, feedback_id
"""
_NOW = """
SELECT f.tenant_id, f.policy_release, f.feedback_id, coalesce(f.safety_category, 'other') AS category, f.withdrawn,
       r.alert_id
FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::uuid[]) AS c (tenant_id, feedback_id)) AS changed
JOIN feedback_data AS f USING (tenant_id, feedback_id)
LEFT JOIN alert_reports AS r USING (tenant_id, feedback_id)
WHERE r.alert_id IS NOT NULL OR NOT f.withdrawn
ORDER BY f.tenant_id, f.policy_release, f.feedback_id
"""
_LEAVE = """
DELETE FROM alert_reports AS r USING unnest($1::text[], $2::uuid[]) AS w (tenant_id, feedback_id)
WHERE r.tenant_id = w.tenant_id AND r.feedback_id = w.feedback_id
"""
_JOIN = """
INSERT INTO alert_reports (tenant_id, feedback_id, alert_id) SELECT $1, unnest($2::uuid[]), $3 ON CONFLICT DO NOTHING
"""
_LATER = "INSERT INTO alert_report_changes (tenant_id, feedback_id) SELECT $1, unnest($2::uuid[])"
_FIRING = """
SELECT alert_id FROM alerts WHERE tenant_id = $1 AND rule = $2 AND subject = $3 AND resolved_at IS NULL FOR UPDATE
"""
_SUBJECT = "SELECT subject FROM alerts WHERE tenant_id = $1 AND alert_id = $2 AND resolved_at IS NULL FOR UPDATE"
_COUNTED = """
SELECT coalesce(f.safety_category, 'other') AS category, count(*) AS reports
FROM alert_reports AS r JOIN feedback_data AS f USING (tenant_id, feedback_id)
WHERE r.tenant_id = $1 AND r.alert_id = $2 GROUP BY 1
"""


class Alerts(Protocol):
    """What is done to alerts, in a transaction that is under way: see `server.storage.alerts`."""

    async def fire_in(self, connection: Connection, tenant: str, finding: Finding, now: datetime) -> Alert | None:
        """The new alert; None when one of this rule and subject fires already."""

    async def say_in(self, connection: Connection, tenant: str, finding: Finding) -> None:
        """Tells what the firing alert sees now."""

    async def resolve_in(self, connection: Connection, tenant: str, finding: Finding, now: datetime) -> Alert | None:
        """The alert, which fires no more; None when none did."""


async def take(connection: Connection, alerts: Alerts, describe: Describe, now: datetime) -> int:
    """Brings alerts up to what changed, and gives how many reports were new to them. Call it in a transaction."""
    changes = await connection.fetch(_TAKE)
    if not changes:
        return 0
    rows = await connection.fetch(_NOW, *_columns(changes))
    left = [row for row in rows if row["withdrawn"]]
    await connection.execute(_LEAVE, *_columns(left))
    touched = {(row["tenant_id"], row["alert_id"]) for row in rows if row["alert_id"]}
    new = [row for row in rows if not row["alert_id"]]
    for (tenant, release), rows_of in groupby(new, lambda row: (row["tenant_id"], row["policy_release"])):
        reports = {row["feedback_id"]: row["category"] for row in rows_of}
        finding = describe(release, Counter(reports.values()))
        if joined := await _add(connection, alerts, tenant, finding, list(reports), now):
            touched.add((tenant, joined))
    for tenant, alert_id in sorted(touched):
        await _tell(connection, alerts, tenant, alert_id, describe, now)
    return len(new)


async def _add(
    connection: Connection, alerts: Alerts, tenant: str, finding: Finding, reports: list[UUID], now: datetime
) -> UUID | None:
    """Makes an alert of new reports; or has them join the one that fires, and gives that one's id."""
    fired = await alerts.fire_in(connection, tenant, finding, now)
    known = None if fired else await connection.fetchval(_FIRING, tenant, finding.rule, finding.subject)
    alert_id = fired.alert_id if fired else known
    if alert_id is None:  # somebody resolved it at this moment
        await connection.execute(_LATER, tenant, reports)
    else:
        await connection.execute(_JOIN, tenant, reports, alert_id)
    return known


async def _tell(
    connection: Connection, alerts: Alerts, tenant: str, alert_id: UUID, describe: Describe, now: datetime
) -> None:
    """What an alert's reports say now; once none is left, it is over. One that is over keeps what it said."""
    release = await connection.fetchval(_SUBJECT, tenant, alert_id)
    if release is None:
        return
    counted = await connection.fetch(_COUNTED, tenant, alert_id)
    finding = describe(release, {row["category"]: row["reports"] for row in counted})
    if finding.sample_count:
        await alerts.say_in(connection, tenant, finding)
    else:
        await alerts.resolve_in(connection, tenant, finding, now)


def _columns(rows: Sequence[Any]) -> tuple[list[str], list[UUID]]:
    return [row["tenant_id"] for row in rows], [row["feedback_id"] for row in rows]
