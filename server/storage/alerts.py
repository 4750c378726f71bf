"""Alerts in Postgres. What webhooks get is written in the transaction that changes an alert, so that none is lost."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import uuid_utils

from server.alerts.rule import Severity
from server.alerts.types import Alert, Describe, Finding, Place
from server.errors import AlertNotFound, StoreUnavailable, told
from server.storage import safety_reports
from server.storage.database import GONE, Connection, bounded
from server.storage.deliveries import in_batches
from server.storage.partitions import lower_bound

READING, WRITING = 2.0, 5.0
"""Seconds after which the connection is cut off on which Postgres has not answered."""
OVERLAP = timedelta(seconds=60)
"""How long ago a change may have begun that is first seen now: more than a write may take, clocks differing a bit."""
BATCH = 500
"""Alerts that one statement deletes at most."""
T = TypeVar("T")
Compose = Callable[[Alert], str]
"""The text of the message about an alert."""

_FINDING = "rule, subject, severity, reason, value, threshold, sample_count, link"
_ALERT = (
    f"tenant_id, alert_id, {_FINDING}, fired_at, resolved_at, acknowledged_at, acknowledged_by, note, version,"
    " changed_at"
)
_FIRE = (
    f"INSERT INTO alerts (tenant_id, alert_id, {_FINDING}, fired_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    " ON CONFLICT (tenant_id, rule, subject) WHERE resolved_at IS NULL DO NOTHING"
    f" RETURNING {_ALERT}"
)
_CHANGED = "version = version + 1, changed_at = now()"
_OF_FIRING = "WHERE tenant_id = $1 AND rule = $2 AND subject = $3 AND resolved_at IS NULL"
_SAY = f"UPDATE alerts SET reason = $4, value = $5, sample_count = $6, {_CHANGED} {_OF_FIRING}"
_RESOLVE = (
    f"UPDATE alerts SET reason = $4, value = $5, sample_count = $6, resolved_at = $7, {_CHANGED} {_OF_FIRING}"
    f" RETURNING {_ALERT}"
)
_ACKNOWLEDGE = (
    "UPDATE alerts SET acknowledged_at = coalesce(acknowledged_at, $3), acknowledged_by = $4, note = $5,"
    f" resolved_at = CASE WHEN $6 THEN coalesce(resolved_at, $3) ELSE resolved_at END, {_CHANGED}"
    f" WHERE tenant_id = $1 AND alert_id = $2 RETURNING {_ALERT}"
)
_PAGE = (
    f"SELECT {_ALERT} FROM alerts WHERE tenant_id = $1 AND ($2::boolean IS NULL OR (resolved_at IS NULL) = $2)"
    " AND ($3 = '' OR rule = $3) AND ($4::boolean IS NULL OR ((resolved_at IS NULL), alert_id) < ($4, $5))"
    " ORDER BY (resolved_at IS NULL) DESC, alert_id DESC LIMIT $6"
)
_TENANTS = """
WITH RECURSIVE known AS (
    (SELECT tenant_id FROM conversation_logs ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT l.tenant_id FROM conversation_logs l WHERE l.tenant_id > k.tenant_id ORDER BY l.tenant_id LIMIT 1)
    FROM known k WHERE k.tenant_id IS NOT NULL
)
SELECT k.tenant_id FROM known k
WHERE EXISTS (SELECT FROM conversation_logs l WHERE l.tenant_id = k.tenant_id AND l.response_id >= $1)
UNION
SELECT tenant_id FROM api_keys WHERE revoked_at IS NULL
"""
"""Hops from tenant to tenant in the log's key, instead of reading the log."""

_PRUNE = (
    "WITH gone AS (DELETE FROM alerts WHERE (tenant_id, alert_id) IN (SELECT tenant_id, alert_id FROM alerts"
    f" WHERE resolved_at < now() - $1::interval ORDER BY resolved_at LIMIT {BATCH}) RETURNING 1)"
    " SELECT count(*) FROM gone"
)
"""What belongs to them goes with them."""


class PostgresAlerts:
    """The store of alerts; every method raises StoreUnavailable. `compose` makes what each of the `webhooks` gets."""

    def __init__(self, pool: asyncpg.Pool, webhooks: Sequence[str], compose: Compose) -> None:
        self._pool, self._webhooks, self._compose = pool, tuple(webhooks), compose

    async def fire(self, tenant: str, finding: Finding, now: datetime) -> Alert | None:
        """The new alert; None when one of this rule and subject fires already, whoever raised it."""
        return await self._write(lambda connection: self.fire_in(connection, tenant, finding, now))

    async def say(self, tenant: str, finding: Finding) -> None:
        """Tells what the firing alert of this rule and subject sees now. Webhooks hear nothing of it."""
        await self._write(lambda connection: self.say_in(connection, tenant, finding))

    async def resolve(self, tenant: str, finding: Finding, now: datetime) -> Alert | None:
        """The alert of this rule and subject, which fires no more; None when none did."""
        return await self._write(lambda connection: self.resolve_in(connection, tenant, finding, now))

    async def acknowledge(
        self, tenant: str, alert_id: UUID, actor: str, note: str, now: datetime, resolving: Sequence[str] = ()
    ) -> Alert:
        """The alert, acknowledged; resolved as well when its rule is one of `resolving`.

        The first acknowledgement's time stays; the same one once more changes nothing. Raises AlertNotFound.
        """

        async def acknowledge_in(connection: Connection) -> Alert:
            find = f"SELECT {_ALERT} FROM alerts WHERE tenant_id = $1 AND alert_id = $2 FOR UPDATE"
            row = await connection.fetchrow(find, tenant, alert_id)
            if row is None:
                raise AlertNotFound("There is no alert of this id.")
            before = _alert(row)
            if before.acknowledged_at is not None and (before.acknowledged_by, before.note) == (actor, note):
                return before
            resolves = before.finding.rule in resolving
            row = await connection.fetchrow(_ACKNOWLEDGE, tenant, alert_id, now, actor, note, resolves)
            return await self._announced(connection, row) if before.fires and resolves else _alert(row)

        return await self._write(acknowledge_in)

    async def take_reports(self, describe: Describe, now: datetime) -> int:
        """Fires for each policy release with new safety reports; those that come while it fires count to it, those that
        are withdrawn leave it, and with the last one it resolves. Gives how many reports were new.

        Each counts once, whoever looks; one that was withdrawn and given again counts anew.
        """
        return await self._write(lambda connection: safety_reports.take(connection, self, describe, now))

    async def prune(self, age: timedelta) -> int:
        """Deletes alerts that were resolved so long ago, with their messages; gives how many."""

        async def batch(connection: Connection) -> int:
            found: int = await connection.fetchval(_PRUNE, age)
            return found

        return await in_batches(BATCH, lambda: self._write(batch))

    async def firing(self) -> list[Alert]:
        """All alerts that fire, of every tenant."""
        return await self._read(f"SELECT {_ALERT} FROM alerts WHERE resolved_at IS NULL")

    async def page(self, tenant: str, fires: bool | None, rule: str, after: Place | None, limit: int) -> list[Alert]:
        """Alerts after a place, those that fire first, then newest first; None and "" for any."""
        place = (after.fires, after.alert_id) if after else (None, None)
        return await self._read(_PAGE, tenant, fires, rule, *place, limit)

    async def changes(self, tenant: str, since: datetime | None) -> list[Alert]:
        """Alerts that changed since then, or somewhat before; without it, those that fire. Earliest change first.

        Commits come out of order: what was seen already is told by its version.
        """
        moved = "changed_at > $2" if since else "resolved_at IS NULL AND $2::timestamptz IS NULL"
        statement = f"SELECT {_ALERT} FROM alerts WHERE tenant_id = $1 AND {moved} ORDER BY changed_at, alert_id"
        return await self._read(statement, tenant, since - OVERLAP if since else None)

    async def tenants(self, since: datetime) -> list[str]:
        """Those that had replies since then, or have API keys."""
        with _as_unavailable():
            bound = lower_bound(since)
            rows = await bounded(self._pool, READING, lambda connection: connection.fetch(_TENANTS, bound))
        return [row["tenant_id"] for row in rows]

    async def fire_in(self, connection: Connection, tenant: str, finding: Finding, now: datetime) -> Alert | None:
        """`fire`, in a transaction that is under way."""
        values = (
            *(finding.rule, finding.subject, finding.severity, finding.reason, finding.value),
            *(finding.threshold, finding.sample_count, finding.link),
        )
        row = await connection.fetchrow(_FIRE, tenant, new_id(), *values, now)
        return await self._announced(connection, row) if row else None

    async def say_in(self, connection: Connection, tenant: str, finding: Finding) -> None:
        """`say`, in a transaction that is under way."""
        values = (finding.reason, finding.value, finding.sample_count)
        await connection.execute(_SAY, tenant, finding.rule, finding.subject, *values)

    async def resolve_in(self, connection: Connection, tenant: str, finding: Finding, now: datetime) -> Alert | None:
        """`resolve`, in a transaction that is under way."""
        values = (finding.reason, finding.value, finding.sample_count, now)
        row = await connection.fetchrow(_RESOLVE, tenant, finding.rule, finding.subject, *values)
        return await self._announced(connection, row) if row else None

    async def _announced(self, connection: Connection, row: Any) -> Alert:
        alert = _alert(row)
        body = self._compose(alert) if self._webhooks else ""
        await connection.executemany(
            "INSERT INTO alert_deliveries (delivery_id, tenant_id, alert_id, url, body) VALUES ($1, $2, $3, $4, $5)",
            [(new_id(), alert.tenant_id, alert.alert_id, url, body) for url in self._webhooks],
        )
        return alert

    async def _read(self, statement: str, *values: Any) -> list[Alert]:
        with _as_unavailable():
            rows = await bounded(self._pool, READING, lambda connection: connection.fetch(statement, *values))
        return [_alert(row) for row in rows]

    async def _write(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def in_transaction(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        with _as_unavailable():
            return await bounded(self._pool, WRITING, in_transaction)


def new_id() -> UUID:
    """A UUIDv7."""
    return UUID(int=uuid_utils.uuid7().int)


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except (*GONE, asyncpg.PostgresError) as error:
        raise StoreUnavailable(f"The store of alerts did not answer: {told(error)}.") from error


def _alert(row: Any) -> Alert:
    finding = Finding(
        rule=row["rule"],
        subject=row["subject"],
        severity=Severity(row["severity"]),
        reason=row["reason"],
        value=row["value"],
        threshold=row["threshold"],
        sample_count=row["sample_count"],
        link=row["link"],
    )
    return Alert(
        tenant_id=row["tenant_id"],
        alert_id=row["alert_id"],
        finding=finding,
        fired_at=row["fired_at"],
        changed_at=row["changed_at"],
        resolved_at=row["resolved_at"],
        acknowledged_at=row["acknowledged_at"],
        acknowledged_by=row["acknowledged_by"],
        note=row["note"],
        version=row["version"],
    )
