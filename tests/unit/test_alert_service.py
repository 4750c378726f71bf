"""AlertService on a store in memory: who sees what, when watching ends, and that nothing stays behind."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from ratchet.v1 import alert_pb2 as pb
from server import identity
from server.alerts.evidence import Evidence
from server.alerts.rule import Severity
from server.alerts.rules import RULES
from server.alerts.types import Alert, Finding, Place
from server.errors import Draining, InvalidRequest
from server.identity import ANYONE, Caller, Role
from server.rpc import alerts as service
from server.rpc.alerts import AlertService
from server.rpc.messages import Defaults
from tests.windows import SetWindows, ratings

NOW = datetime(2026, 5, 1, tzinfo=UTC)
FINDING = Finding("rating_low", "policy-000001", Severity.WARNING, "Tệ", 1.5, 3.5, 20, "/live")


class Kept:
    """A store in memory, of every tenant."""

    def __init__(self) -> None:
        self.alerts: dict[UUID, Alert] = {}
        self.asked: list[tuple[Any, ...]] = []

    def put(self, number: int, tenant: str = "default", **changes: Any) -> Alert:
        known = self.alerts.get(UUID(int=number)) or Alert(tenant, UUID(int=number), FINDING, NOW, NOW, version=0)
        self.alerts[known.alert_id] = replace(known, version=known.version + 1, **changes)
        return self.alerts[known.alert_id]

    async def page(self, tenant: str, fires: bool | None, rule: str, after: Place | None, limit: int) -> list[Alert]:
        self.asked.append((tenant, fires, rule, after, limit))
        found = sorted(self.alerts.values(), key=lambda alert: (alert.fires, alert.alert_id), reverse=True)
        return [each for each in found if not after or (each.fires, each.alert_id) < (after.fires, after.alert_id)][
            :limit
        ]

    async def changes(self, tenant: str, since: datetime | None) -> list[Alert]:
        return [each for each in self.alerts.values() if each.tenant_id == tenant and (since or each.fires)]

    async def acknowledge(
        self, tenant: str, alert_id: UUID, actor: str, note: str, now: datetime, resolving: tuple[str, ...]
    ) -> Alert:
        self.asked.append((tenant, alert_id, actor, note, resolving))
        return self.put(alert_id.int, acknowledged_by=actor, note=note)


class Context:
    """A call without a deadline."""

    def time_remaining(self) -> None:
        return None


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture(autouse=True)
async def _caller(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(service, "LOOK_EVERY", 0.001)
    identity.enter(ANYONE)
    yield
    identity.enter(ANYONE)


def serving(kept: Kept, draining: Any = lambda: False, figures: SetWindows | None = None) -> AlertService:
    evidence = Evidence(figures or SetWindows(), clock=lambda: NOW)
    return AlertService(kept, evidence, Defaults(5, 128, 30.0, 120.0), draining)


async def test_who_watches_sees_what_fires_then_each_change_once(kept: Kept) -> None:
    kept.put(1)
    kept.put(2, resolved_at=NOW)
    kept.put(3, tenant="another")
    messages = aiter(serving(kept).WatchAlerts(pb.WatchAlertsRequest(), Context()))
    first, end = await anext(messages), await anext(messages)
    assert (first.alert.alert_id, first.initial) == (str(UUID(int=1)), True)
    assert (end.HasField("alert"), end.initial) == (False, True)
    kept.put(3, tenant="another", resolved_at=NOW)
    changing = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(0.02)
    assert not changing.done(), "nothing has changed for this tenant"
    kept.put(1, resolved_at=NOW)
    changed = await changing
    assert (changed.alert.state, changed.initial) == (pb.ALERT_STATE_RESOLVED, False)
    kept.put(4)
    assert (await anext(messages)).alert.alert_id == str(UUID(int=4))


async def test_a_server_that_stops_ends_the_watch_and_says_so(kept: Kept) -> None:
    stopping = asyncio.Event()
    messages = aiter(serving(kept, stopping.is_set).WatchAlerts(pb.WatchAlertsRequest(), Context()))
    await anext(messages)
    stopping.set()
    with pytest.raises(Draining):
        await anext(messages)


async def test_who_leaves_leaves_nothing_behind(kept: Kept) -> None:
    before = asyncio.all_tasks()
    for _ in range(20):
        messages = aiter(serving(kept).WatchAlerts(pb.WatchAlertsRequest(), Context()))
        await anext(messages)
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        with pytest.raises(StopAsyncIteration):
            await anext(messages)
    assert asyncio.all_tasks() == before


async def test_pages_go_on_by_a_token_of_the_same_listing(kept: Kept) -> None:
    for number in range(1, 6):
        kept.put(number, resolved_at=NOW if number % 2 else None)
    serve, seen, token = serving(kept), [], ""
    while True:
        reply = await serve.ListAlerts(pb.ListAlertsRequest(page_size=2, page_token=token), Context())
        seen.extend(UUID(alert.alert_id).int for alert in reply.alerts)
        token = reply.next_page_token
        if not token:
            break
        other = pb.ListAlertsRequest(rule="rating_low", page_token=token)
        with pytest.raises(InvalidRequest, match="page_token"):
            await serve.ListAlerts(other, Context())
    assert seen == [4, 2, 5, 3, 1]


async def test_what_is_asked_for_reaches_the_store_with_the_callers_tenant(kept: Kept) -> None:
    identity.enter(Caller("acme", frozenset(Role), key_id="k", name="Lan's key"))
    asked = pb.ListAlertsRequest(state=pb.ALERT_STATE_RESOLVED, rule="error_rate")
    await serving(kept).ListAlerts(asked, Context())
    alert_id = UUID(int=9)
    asked_too = pb.AcknowledgeAlertRequest(alert_id=str(alert_id), actor="somebody else", note="đã xem")
    await serving(kept).AcknowledgeAlert(asked_too, Context())
    assert kept.asked == [
        ("acme", False, "error_rate", None, 101),
        ("acme", alert_id, "Lan's key", "đã xem", ("safety_report",)),
    ]


@pytest.mark.parametrize(
    "request_",
    [
        pb.ListAlertsRequest(page_size=1001),
        pb.ListAlertsRequest(page_size=-1),
        pb.ListAlertsRequest(rule="DROP TABLE"),
        pb.ListAlertsRequest(page_token="not one"),
        pb.ListAlertsRequest(state=77),  # type: ignore[arg-type]
    ],
)
async def test_a_listing_that_can_not_be_is_refused(kept: Kept, request_: pb.ListAlertsRequest) -> None:
    with pytest.raises(InvalidRequest):
        await serving(kept).ListAlerts(request_, Context())


async def test_rules_show_the_worst_value_and_none_without_figures(kept: Kept) -> None:
    figures = SetWindows()
    figures.now = NOW
    figures.recent["default"] = {"policy-1": ratings(0, 0, 0, 0, 30), "policy-2": ratings(0, 30, 0, 0, 0)}
    reply = await serving(kept, figures=figures).ListAlertRules(pb.ListAlertRulesRequest(), Context())
    assert [rule.rule for rule in reply.rules] == [rule.name for rule in RULES]
    low = next(rule for rule in reply.rules if rule.rule == "rating_low")
    assert (low.value, low.subject, low.sample_count) == (2.0, "policy-2", 30)
    assert (low.threshold, low.clear_threshold, low.window_seconds) == (3.5, 3.7, 3600)
    assert not next(rule for rule in reply.rules if rule.rule == "error_rate").HasField("value")
    figures.away = True
    reply = await serving(kept, figures=figures).ListAlertRules(pb.ListAlertRulesRequest(), Context())
    assert len(reply.rules) == len(RULES)
    assert not any(rule.HasField("value") for rule in reply.rules)
