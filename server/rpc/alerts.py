"""ratchet.v1.AlertService."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import alert_pb2 as pb
from ratchet.v1 import alert_pb2_grpc
from server.alerts.evidence import Evidence
from server.alerts.rule import Reading, Rule, Severity, worst
from server.alerts.rules import RULES, SAFETY_REPORT
from server.alerts.types import Alert, Place
from server.errors import DeadlineExceeded, Draining, InvalidRequest, MetricsUnavailable, Violation, told
from server.identity import caller
from server.patience import within
from server.rpc.documents import place_of, token_of
from server.rpc.messages import Defaults
from server.rpc.validation import require_valid

log = logging.getLogger(__name__)

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""
T = TypeVar("T")

PAGE_SIZE = 100
LOOK_EVERY = 1.0
"""Seconds between two looks for changes, of each who watches."""
_SEVERITIES = {
    Severity.WARNING: pb.ALERT_SEVERITY_WARNING,
    Severity.CRITICAL: pb.ALERT_SEVERITY_CRITICAL,
}
_FIRES = {pb.ALERT_STATE_UNSPECIFIED: None, pb.ALERT_STATE_FIRING: True, pb.ALERT_STATE_RESOLVED: False}


class Store(Protocol):
    """What the service needs of the store: see `server.storage.alerts`. Every method raises StoreUnavailable."""

    async def page(self, tenant: str, fires: bool | None, rule: str, after: Place | None, limit: int) -> list[Alert]:
        """Alerts after a place, those that fire first, then newest first."""

    async def changes(self, tenant: str, since: datetime | None) -> list[Alert]:
        """Alerts that changed since then, or somewhat before; without it, those that fire."""

    async def acknowledge(
        self, tenant: str, alert_id: UUID, actor: str, note: str, now: datetime, resolving: tuple[str, ...]
    ) -> Alert:
        """The alert, acknowledged, and resolved when its rule is one of `resolving`."""


class AlertService(alert_pb2_grpc.AlertServiceServicer):
    """See protos/ratchet/v1/alert.proto. `draining` tells when the server stops."""

    def __init__(
        self, store: Store, evidence: Evidence, defaults: Defaults, draining: Callable[[], bool] = lambda: False
    ) -> None:
        self._store, self._evidence, self._defaults, self._draining = store, evidence, defaults, draining

    async def ListAlerts(self, request: pb.ListAlertsRequest, context: Context) -> pb.ListAlertsResponse:
        """A page of alerts."""
        require_valid(request)
        tenant, size = caller().tenant_id, request.page_size or PAGE_SIZE
        scope = f"alerts:{len(tenant)}.{tenant}:{request.state}:{request.rule}"
        after = _place(place_of(request.page_token, scope)) if request.page_token else None
        page = self._store.page(tenant, _FIRES[request.state], request.rule, after, size + 1)
        found = await self._in_time(context, page)
        token = token_of(_text(found[size - 1]), scope) if len(found) > size else ""
        return pb.ListAlertsResponse(alerts=map(message_of, found[:size]), next_page_token=token)

    async def WatchAlerts(
        self, request: pb.WatchAlertsRequest, context: Context
    ) -> AsyncIterator[pb.WatchAlertsResponse]:
        """The present state, then changes."""
        tenant, since = caller().tenant_id, datetime.now(UTC)
        seen: dict[UUID, int] = {each.alert_id: each.version for each in await self._store.changes(tenant, since)}
        for alert in await self._store.changes(tenant, None):
            seen[alert.alert_id] = alert.version
            yield pb.WatchAlertsResponse(alert=message_of(alert), initial=True)
        yield pb.WatchAlertsResponse(initial=True)
        while not self._draining():
            await asyncio.sleep(LOOK_EVERY)
            now = datetime.now(UTC)
            changed = await self._store.changes(tenant, since)
            for alert in changed:
                if alert.version > seen.get(alert.alert_id, 0):
                    yield pb.WatchAlertsResponse(alert=message_of(alert))
            seen = {alert.alert_id: alert.version for alert in changed}
            since = now
        raise Draining("This server is stopping; watch another one.")

    async def AcknowledgeAlert(
        self, request: pb.AcknowledgeAlertRequest, context: Context
    ) -> pb.AcknowledgeAlertResponse:
        """Says who looks after an alert."""
        require_valid(request)
        who = caller()
        actor = who.name if who.key_id else request.actor  # a key says who somebody is
        acknowledged = self._store.acknowledge(
            who.tenant_id,
            UUID(request.alert_id),
            actor,
            request.note,
            datetime.now(UTC),
            resolving=(SAFETY_REPORT.name,),
        )
        return pb.AcknowledgeAlertResponse(alert=message_of(await self._in_time(context, acknowledged)))

    async def ListAlertRules(self, request: pb.ListAlertRulesRequest, context: Context) -> pb.ListAlertRulesResponse:
        """The rules, and how each stands."""
        tenant = caller().tenant_id
        try:
            readings = dict(await self._in_time(context, self._readings(tenant)))
        except MetricsUnavailable as error:
            log.warning("the rules are listed without values: %s", told(error))
            readings = {}
        return pb.ListAlertRulesResponse(rules=[_rule(rule, readings.get(rule.name, [])) for rule in RULES])

    async def _readings(self, tenant: str) -> list[tuple[str, list[Reading]]]:
        return [(rule.name, found) for rule, found in await self._evidence.readings(tenant)]

    async def _in_time(self, context: Context, work: Coroutine[Any, Any, T]) -> T:
        """Ends what takes longer than the call's deadline, or than calls may take."""
        remaining, defaults = context.time_remaining(), self._defaults
        seconds = min(defaults.deadline_seconds if remaining is None else remaining, defaults.max_seconds)
        try:
            return await within(seconds, work)
        except TimeoutError as error:
            raise DeadlineExceeded("The store of alerts did not answer in time.") from error


def message_of(alert: Alert) -> pb.Alert:
    """The message of an alert."""
    finding = alert.finding
    return pb.Alert(
        alert_id=str(alert.alert_id),
        rule=finding.rule,
        subject=finding.subject,
        severity=_SEVERITIES[finding.severity],
        state=pb.ALERT_STATE_FIRING if alert.fires else pb.ALERT_STATE_RESOLVED,
        reason=finding.reason,
        value=finding.value,
        threshold=finding.threshold,
        sample_count=finding.sample_count,
        link=finding.link,
        fire_time=_time(alert.fired_at),
        resolve_time=_time(alert.resolved_at),
        acknowledge_time=_time(alert.acknowledged_at),
        acknowledged_by=alert.acknowledged_by,
        note=alert.note,
    )


def _rule(rule: Rule, readings: list[Reading]) -> pb.AlertRule:
    message = pb.AlertRule(
        rule=rule.name,
        description=rule.description,
        severity=_SEVERITIES[rule.severity],
        threshold=rule.threshold,
        clear_threshold=rule.clear_threshold,
        minimum_samples=rule.minimum_samples,
        fire_seconds=rule.patience.fire,
        clear_seconds=rule.patience.clear,
        window_seconds=rule.window_seconds,
    )
    if found := worst(rule, readings):
        message.value, message.sample_count, message.subject = found.value, found.sample_count, found.subject
    return message


def _time(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    found = Timestamp()
    found.FromDatetime(moment)
    return found


def _text(alert: Alert) -> str:
    return f"{'firing' if alert.fires else 'resolved'} {alert.alert_id}"


def _place(text: str) -> Place:
    """The inverse of `_text`. Raises InvalidRequest."""
    state, _, alert_id = text.partition(" ")
    try:
        return Place(state == "firing", UUID(alert_id))
    except ValueError as error:
        raise InvalidRequest([Violation("page_token", "is not one that this listing gave")]) from error
