"""Looks at the figures again and again, and fires and resolves alerts. One process does it, the leader.

Which alerts fire is kept in Postgres and read at each look, so that a restart, or a second leader, never fires twice.
How long a cause has been there, or gone, or out of sight, is kept in memory only: after a restart that time begins
anew.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from server.alerts.evidence import Evidence
from server.alerts.machine import FIRING, QUIET, Standing, advance, interrupted
from server.alerts.reports import describe
from server.alerts.rule import ALL, HOUR, Reading, Rule
from server.alerts.types import Alert, Describe, Finding
from server.errors import MetricsUnavailable, told
from server.identity import DEFAULT_TENANT

log = logging.getLogger(__name__)

SAY_EVERY = timedelta(seconds=30)
"""Between two changes of what a firing alert sees."""
TENANTS_EVERY = timedelta(seconds=60)
TENANTS_WITHIN = timedelta(hours=25)
"""Tenants that had replies in that time are looked at."""

Key = tuple[str, str, str]
"""Tenant, rule, subject."""


class Store(Protocol):
    """What the evaluator needs of the store: see `server.storage.alerts`. Every method raises StoreUnavailable."""

    async def fire(self, tenant: str, finding: Finding, now: datetime) -> Alert | None:
        """The new alert; None when one of this rule and subject fires already."""

    async def say(self, tenant: str, finding: Finding) -> None:
        """Tells what the firing alert sees now."""

    async def resolve(self, tenant: str, finding: Finding, now: datetime) -> Alert | None:
        """The alert, which fires no more; None when none did."""

    async def take_reports(self, describe: Describe, now: datetime) -> int:
        """Fires for new safety reports, and resolves what was made of withdrawn ones alone."""

    async def firing(self) -> list[Alert]:
        """All alerts that fire."""

    async def tenants(self, since: datetime) -> list[str]:
        """Those to look at."""


class Evaluator:
    """Call `look` every few seconds, never twice at once."""

    def __init__(self, evidence: Evidence, store: Store) -> None:
        self._evidence, self._store = evidence, store
        self._standings: dict[Key, Standing] = {}
        self._tenants: tuple[list[str], datetime] | None = None
        self._blind = False

    async def look(self) -> None:
        """One look at everything. Raises StoreUnavailable; without figures, all stays as it is."""
        now = self._evidence.clock()
        await self._store.take_reports(describe, now)  # first: they need no figures
        firing = {
            (each.tenant_id, each.finding.rule, each.finding.subject): each for each in await self._store.firing()
        }
        tenants = {*await self._known_tenants(now), *(tenant for tenant, _, _ in firing)}
        self._standings = {key: each for key, each in self._standings.items() if key[0] in tenants}
        try:
            await self._judge(sorted(tenants), firing, now)
        except MetricsUnavailable as error:
            self._standings = {key: interrupted(each) for key, each in self._standings.items()}
            self._say_blind(error)
        else:
            self._blind = False

    async def _judge(self, tenants: Iterable[str], firing: Mapping[Key, Alert], now: datetime) -> None:
        known: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for tenant, name, subject in (*firing, *self._standings):
            known[tenant, name].add(subject)
        for tenant in tenants:
            for rule, found in await self._evidence.readings(tenant):
                readings = {each.subject: each for each in found}
                for subject in sorted(readings.keys() | known.get((tenant, rule.name), set())):
                    key = (tenant, rule.name, subject)
                    await self._advance(key, rule, readings.get(subject), firing.get(key), now)

    async def _advance(self, key: Key, rule: Rule, reading: Reading | None, alert: Alert | None, now: datetime) -> None:
        """One step of one subject. It counts as done only once the store has it."""
        before = self._standings.get(key, QUIET)
        if before.fires != bool(alert):  # after a restart, or somebody else fired or resolved it
            before = FIRING if alert else QUIET
        after = advance(before, reading.verdict if reading else None, now.timestamp(), rule.patience)
        if reading:
            await self._tell(key[0], Finding.of(rule, reading), before, after, alert, now)
        elif alert and not after.fires:
            await self._tell(key[0], _unknown(alert.finding, rule), before, after, alert, now)
        if after == QUIET:
            self._standings.pop(key, None)
        else:
            self._standings[key] = after

    async def _tell(
        self, tenant: str, finding: Finding, before: Standing, after: Standing, alert: Alert | None, now: datetime
    ) -> None:
        if after.fires and not before.fires:
            if fired := await self._store.fire(tenant, finding, now):
                log.warning("alert %s fires: %s", finding.rule, fired.finding.reason)
        elif before.fires and not after.fires:
            await self._store.resolve(tenant, finding, now)
            log.info("alert %s is resolved: %s", finding.rule, finding.reason)
        elif alert and now - alert.changed_at >= SAY_EVERY and finding.reason != alert.finding.reason:
            await self._store.say(tenant, finding)

    async def _known_tenants(self, now: datetime) -> list[str]:
        if self._tenants is None or not timedelta() <= now - self._tenants[1] < TENANTS_EVERY:
            self._tenants = ([DEFAULT_TENANT, *await self._store.tenants(now - TENANTS_WITHIN)], now)
        return self._tenants[0]

    def _say_blind(self, error: MetricsUnavailable) -> None:
        if not self._blind:
            log.warning("alerts stay as they are while the live figures can't be read: %s", told(error))
        self._blind = True


def _unknown(finding: Finding, rule: Rule) -> Finding:
    """What there is to say at the end of an alert of which nothing could be said for long. Its figures stay."""
    hours, subject = rule.patience.silence / HOUR, "" if finding.subject == ALL else f" of {finding.subject}"
    reason = f"There was too little data{subject} for {hours:g} hours to tell: it counts as over."
    return replace(finding, reason=reason)
