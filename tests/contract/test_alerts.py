"""Alerts through real Postgres: fired once, resolved once, told to webhooks, whoever looks and whatever fails."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from server.alerting import ALERTS_KEPT
from server.alerts.evaluator import Evaluator
from server.alerts.evidence import Evidence
from server.alerts.reports import describe
from server.alerts.rule import Severity
from server.alerts.types import Alert, Finding, Place
from server.alerts.webhooks import message_of
from server.errors import AlertNotFound, StoreUnavailable
from server.storage import database
from server.storage.alerts import PostgresAlerts, new_id
from tests.conftest import RunningStack
from tests.windows import SetWindows, ratings

RELEASE = "policy-000001"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
BAD, GOOD = {RELEASE: ratings(50, 10, 0, 0, 0)}, {RELEASE: ratings(0, 0, 0, 30, 70)}


@pytest.fixture
async def store(pool: asyncpg.Pool) -> AsyncIterator[PostgresAlerts]:
    await pool.execute("TRUNCATE alerts, alert_reports, alert_deliveries")
    yield PostgresAlerts(pool, ["http://127.0.0.1:1/hook"], message_of)
    await pool.execute("TRUNCATE alerts, alert_reports, alert_deliveries")


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid4()}"


def finding(rule: str = "rating_low", subject: str = RELEASE, value: float = 1.5) -> Finding:
    return Finding(rule, subject, Severity.WARNING, f"{value} is bad: xấu quá", value, 3.5, 20, "/live")


class Looks:
    """An evaluator whose clock a test moves."""

    def __init__(self, store: PostgresAlerts, tenant: str) -> None:
        self.store, self.tenant, self.figures, self.now = store, tenant, SetWindows(), NOW
        self.restart()

    def restart(self) -> None:
        self.evaluator = Evaluator(Evidence(self.figures, clock=lambda: self.now), self.store)

    async def see(self, recent: dict[str, object] | None, *, seconds: float = 0, every: float = 5) -> list[Alert]:
        """Looks `every` few seconds for so long, at least once, at these figures; the tenant's alerts afterwards."""
        self.figures.recent[self.tenant] = recent or {}  # type: ignore[assignment]
        ends = self.now + timedelta(seconds=seconds)
        while True:
            self.figures.now = self.now
            await self.evaluator.look()
            if self.now >= ends:
                return await self.store.page(self.tenant, None, "", None, 1000)
            self.now += timedelta(seconds=every)


@pytest.fixture
async def looks(store: PostgresAlerts, pool: asyncpg.Pool, tenant: str) -> AsyncIterator[Looks]:
    """Of a tenant that has an API key, which is how it is known while it has no replies."""
    await pool.execute(
        "INSERT INTO api_keys (key_id, tenant_id, name, digest, roles) VALUES ($1, $2, 'n', $3, '{caller}')",
        uuid4().hex,
        tenant,
        uuid4().bytes,
    )
    yield Looks(store, tenant)
    await pool.execute("DELETE FROM api_keys WHERE tenant_id = $1", tenant)


async def deliveries(pool: asyncpg.Pool, tenant: str) -> list[str]:
    rows = await pool.fetch("SELECT body FROM alert_deliveries WHERE tenant_id = $1 ORDER BY delivery_id", tenant)
    return [row["body"].split('"')[3] for row in rows]


async def test_a_burst_of_bad_ratings_fires_one_alert_not_fifty_and_it_clears(looks: Looks, pool: asyncpg.Pool) -> None:
    assert await looks.see(BAD) == []
    found = await looks.see(BAD, seconds=600)
    assert [(each.finding.rule, each.finding.subject, each.fires) for each in found] == [("rating_low", RELEASE, True)]
    assert await deliveries(pool, looks.tenant) == ["alert.firing"]
    assert [each.fires for each in await looks.see(GOOD, seconds=200)] == [True]
    assert [each.fires for each in await looks.see(GOOD, seconds=120)] == [False]
    found = await looks.see(GOOD, seconds=600)
    assert found[0].finding.reason.startswith("The average rating of policy-000001 is 4.70 stars")
    assert await deliveries(pool, looks.tenant) == ["alert.firing", "alert.resolved"]
    assert len(await looks.see(BAD, seconds=120)) == 2, "the next episode is another alert"


async def test_what_flaps_around_the_level_is_one_alert(looks: Looks, pool: asyncpg.Pool) -> None:
    await looks.see(BAD, seconds=100)
    for _ in range(20):
        await looks.see({RELEASE: ratings(0, 0, 8, 12, 0)}, seconds=30)
        found = await looks.see({RELEASE: ratings(0, 0, 11, 9, 0)}, seconds=30)
    assert [each.fires for each in found] == [True]
    assert await deliveries(pool, looks.tenant) == ["alert.firing"]


async def test_a_restart_goes_on_with_the_alerts_that_fire(looks: Looks, pool: asyncpg.Pool) -> None:
    await looks.see(BAD, seconds=100)
    looks.restart()
    assert len(await looks.see(BAD, seconds=100)) == 1
    looks.restart()
    assert [each.fires for each in await looks.see(GOOD, seconds=310)] == [False]
    assert await deliveries(pool, looks.tenant) == ["alert.firing", "alert.resolved"]


async def test_two_leaders_at_once_fire_one_alert(looks: Looks, store: PostgresAlerts, pool: asyncpg.Pool) -> None:
    made = await asyncio.gather(*(store.fire(looks.tenant, finding(), NOW) for _ in range(20)))
    assert sum(each is not None for each in made) == 1
    ended = await asyncio.gather(*(store.resolve(looks.tenant, finding(), NOW) for _ in range(20)))
    assert sum(each is not None for each in ended) == 1
    assert await deliveries(pool, looks.tenant) == ["alert.firing", "alert.resolved"]


async def test_while_the_figures_are_away_nothing_fires_and_nothing_clears(
    looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    await looks.see(BAD, seconds=100)
    looks.figures.away = True
    caplog.clear()
    with caplog.at_level(logging.WARNING, "server.alerts.evaluator"):
        assert [each.fires for each in await looks.see(GOOD, seconds=3600, every=60)] == [True]
    assert [record.message for record in caplog.records] == [
        "alerts stay as they are while the live figures can't be read: Redis is away"
    ]
    looks.figures.away, looks.figures.lag = False, 3600.0
    assert [each.fires for each in await looks.see(GOOD, seconds=400)] == [True], "old figures are none"
    looks.figures.lag = 1.0
    assert [each.fires for each in await looks.see(GOOD, seconds=400)] == [False]


FEW = {RELEASE: ratings(0, 0, 0, 0, 19)}
"""One rating too few for a verdict."""
TOO_LITTLE = f"There was too little data of {RELEASE} for 6 hours to tell: it counts as over."


@pytest.mark.parametrize("recent", [FEW, {}, {"policy-000002": ratings(0, 0, 0, 0, 9)}])
async def test_an_alert_with_too_few_ratings_keeps_its_state_for_six_hours_then_ends_and_says_why(
    looks: Looks, pool: asyncpg.Pool, recent: dict[str, object]
) -> None:
    """After a busy hour; when the service or the release is not used any more, too."""
    (fired,) = await looks.see(BAD, seconds=100)
    looks.now += timedelta(minutes=5)
    found = await looks.see(recent, seconds=6 * 3600 - 300, every=300)
    assert found == [fired]
    assert await deliveries(pool, looks.tenant) == ["alert.firing"]
    looks.now += timedelta(minutes=5)
    (ended,) = await looks.see(recent)
    assert (ended.fires, ended.finding.reason, ended.finding.value) == (False, TOO_LITTLE, fired.finding.value)
    await looks.see(recent, seconds=3600, every=300)
    assert await deliveries(pool, looks.tenant) == ["alert.firing", "alert.resolved"]
    assert [each.fires for each in await looks.see(BAD, seconds=100)] == [True, False], (
        "the next episode is another one"
    )


async def test_a_verdict_a_restart_and_an_outage_of_the_figures_begin_the_six_hours_anew_or_do_not_count(
    looks: Looks,
) -> None:
    async def fires(recent: dict[str, object], hours: float) -> bool:
        looks.now += timedelta(minutes=10)
        (alert,) = await looks.see(recent, seconds=hours * 3600, every=600)
        return alert.fires

    await looks.see(BAD, seconds=100)
    assert await fires(FEW, 5)
    assert await fires({RELEASE: ratings(0, 0, 8, 12, 0)}, 0), "neither bad nor good"
    assert await fires(FEW, 5)
    looks.restart()
    assert await fires(FEW, 5)
    looks.figures.away = True
    assert await fires(FEW, 5)
    looks.figures.away = False
    assert await fires(FEW, 0.5)
    assert not await fires(FEW, 0.5)


async def test_the_pending_cause_of_a_tenant_that_dropped_out_is_forgotten(looks: Looks, pool: asyncpg.Pool) -> None:
    assert await looks.see(BAD) == []
    await pool.execute("UPDATE api_keys SET revoked_at = now() WHERE tenant_id = $1", looks.tenant)
    await looks.see(BAD, seconds=180, every=61)
    await pool.execute("UPDATE api_keys SET revoked_at = NULL WHERE tenant_id = $1", looks.tenant)
    looks.now += timedelta(seconds=61)
    assert await looks.see(BAD) == [], "what was seen before it left does not count"
    assert [each.fires for each in await looks.see(BAD, seconds=65)] == [True]


async def test_a_firing_alert_tells_what_it_sees_now_and_webhooks_hear_of_it_once(
    looks: Looks, pool: asyncpg.Pool
) -> None:
    first = (await looks.see(BAD, seconds=100))[0]
    looks.now = datetime.now(UTC) + timedelta(minutes=10)
    found = (await looks.see({RELEASE: ratings(500, 10, 0, 0, 0)}))[0]
    assert found.finding.sample_count == 510
    assert found.version > first.version
    assert await deliveries(pool, looks.tenant) == ["alert.firing"]


async def test_a_store_that_fails_is_tried_again_with_nothing_forgotten(
    looks: Looks, store: PostgresAlerts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await looks.see(BAD, seconds=55)

    async def away(*_: object) -> None:
        raise StoreUnavailable("Postgres is away.")

    with monkeypatch.context() as patch:
        patch.setattr(store, "fire", away)
        looks.now += timedelta(seconds=5)
        with pytest.raises(StoreUnavailable):
            await looks.see(BAD)
    looks.now += timedelta(seconds=5)
    assert [each.fires for each in await looks.see(BAD)] == [True]


async def test_the_time_before_is_read_once_a_minute_not_at_each_look(looks: Looks) -> None:
    await looks.see(GOOD, seconds=50)
    before = [ask for ask in looks.figures.asked if ask[0] == looks.tenant and ask[1] < NOW]
    assert len(before) == 3, "one for each rule that compares"
    assert {ask[1].second for ask in before} == {59}, "whole buckets before the window"
    assert (NOW - max(ask[1] for ask in before)) < timedelta(minutes=15)


async def test_tenants_are_those_with_replies_lately_or_keys(looks: Looks, store: PostgresAlerts) -> None:
    assert looks.tenant in await store.tenants(datetime.now(UTC))


async def report(pool: asyncpg.Pool, tenant: str, release: str = RELEASE, category: str = "toxic") -> UUID:
    feedback_id = new_id()
    await pool.execute(
        "INSERT INTO feedback_data (tenant_id, feedback_id, response_id, kind, safety_category, timestamp, updated_at,"
        " policy_release) VALUES ($1, $2, $3, 'safety_report', $4, now(), now(), $5)",
        *(tenant, feedback_id, uuid4(), category, release),
    )
    return feedback_id


async def test_a_safety_report_fires_at_once_without_figures_and_an_acknowledgement_resolves_it(
    looks: Looks, store: PostgresAlerts, pool: asyncpg.Pool
) -> None:
    looks.figures.away = True
    await report(pool, looks.tenant)
    found = await looks.see(None)
    assert [(each.finding.rule, each.finding.severity, each.fires) for each in found] == [
        ("safety_report", "critical", True)
    ]
    await report(pool, looks.tenant, category="privacy")
    await report(pool, looks.tenant)
    found = await looks.see(None)
    assert len(found) == 1
    assert "3 safety reports on replies of policy-000001 (privacy 1, toxic 2)" in found[0].finding.reason
    resolving = ("safety_report",)
    done = await store.acknowledge(looks.tenant, found[0].alert_id, "Lan", "đã xem", NOW, resolving)
    assert not done.fires
    assert await looks.see(None) == [done], "what was looked at fires no more"
    assert await deliveries(pool, looks.tenant) == ["alert.firing", "alert.resolved"]
    await report(pool, looks.tenant)
    found = await looks.see(None)
    assert [(each.fires, each.finding.value) for each in found] == [(True, 1), (False, 3)]


async def test_a_report_counts_once_whoever_looks_and_again_when_it_is_given_again(
    looks: Looks, store: PostgresAlerts, pool: asyncpg.Pool
) -> None:
    given = await report(pool, looks.tenant)
    await asyncio.gather(*(store.take_reports(describe, NOW) for _ in range(10)))
    await store.take_reports(describe, NOW)
    found = await store.page(looks.tenant, None, "", None, 10)
    assert [each.finding.value for each in found] == [1]
    await store.acknowledge(looks.tenant, found[0].alert_id, "", "", NOW, ("safety_report",))
    set_withdrawn = "UPDATE feedback_data SET withdrawn = $2 WHERE feedback_id = $1"
    await pool.execute(set_withdrawn, given, True)
    await store.take_reports(describe, NOW)
    await pool.execute(set_withdrawn, given, False)
    await store.take_reports(describe, NOW)
    assert [each.fires for each in await store.page(looks.tenant, None, "", None, 10)] == [True, False]


async def change(pool: asyncpg.Pool, feedback_id: UUID, **columns: object) -> None:
    for name, value in columns.items():
        await pool.execute(f"UPDATE feedback_data SET {name} = $2 WHERE feedback_id = $1", feedback_id, value)


async def test_a_report_that_is_withdrawn_leaves_its_alert_and_the_last_one_ends_it(
    looks: Looks, pool: asyncpg.Pool
) -> None:
    first, second, third = [await report(pool, looks.tenant) for _ in range(3)]
    await looks.see(None)
    await change(pool, first, withdrawn=True)
    (alert,) = await looks.see(None)
    assert (alert.fires, alert.finding.value, alert.finding.sample_count) == (True, 2, 2)
    assert "2 safety reports on replies of policy-000001 (toxic 2)" in alert.finding.reason
    await change(pool, second, safety_category="privacy")
    (alert,) = await looks.see(None)
    assert "(privacy 1, toxic 1)" in alert.finding.reason
    assert await deliveries(pool, looks.tenant) == ["alert.firing"]
    await change(pool, second, withdrawn=True)
    await change(pool, third, withdrawn=True)
    (alert,) = await looks.see(None)
    assert (alert.fires, alert.finding.value) == (False, 0)
    assert alert.finding.reason == "All safety reports on replies of policy-000001 were withdrawn."
    assert await deliveries(pool, looks.tenant) == ["alert.firing", "alert.resolved"]
    assert await looks.see(None) == [alert]
    await change(pool, first, withdrawn=False)
    assert [each.fires for each in await looks.see(None)] == [True, False]


async def test_a_withdrawal_changes_nothing_about_an_alert_that_is_over(
    looks: Looks, store: PostgresAlerts, pool: asyncpg.Pool
) -> None:
    given = await report(pool, looks.tenant)
    (alert,) = await looks.see(None)
    over = await store.acknowledge(looks.tenant, alert.alert_id, "Lan", "", NOW, ("safety_report",))
    await report(pool, looks.tenant)
    await change(pool, given, withdrawn=True)
    found = await looks.see(None)
    assert [(each.fires, each.finding.value) for each in found] == [(True, 1), (False, 1)]
    assert found[1] == over


async def test_a_report_that_commits_late_is_missed_by_nobody(looks: Looks, pool: asyncpg.Pool) -> None:
    """Others that began later are seen first; so is one whose change waits while the report itself was taken."""
    given = await report(pool, looks.tenant, "policy-000002")
    async with pool.acquire() as slow:
        late = slow.transaction()
        await late.start()
        await slow.execute(
            "INSERT INTO feedback_data (tenant_id, feedback_id, response_id, kind, timestamp, updated_at,"
            " policy_release) VALUES ($1, $2, $3, 'safety_report', '2020-01-01', '2020-01-01', $4)",
            *(looks.tenant, new_id(), uuid4(), RELEASE),
        )
        await slow.execute("UPDATE feedback_data SET withdrawn = true WHERE feedback_id = $1", given)
        assert [each.finding.subject for each in await looks.see(None)] == ["policy-000002"]
        await late.commit()
    found = {each.finding.subject: each.fires for each in await looks.see(None)}
    assert found == {RELEASE: True, "policy-000002": False}


async def test_reports_that_were_seen_are_never_read_again(
    looks: Looks, store: PostgresAlerts, pool: asyncpg.Pool
) -> None:
    """Not even when the alert that was made of them is deleted, a year later."""
    await report(pool, looks.tenant)
    (alert,) = await looks.see(None)
    await store.acknowledge(looks.tenant, alert.alert_id, "", "", NOW, ("safety_report",))
    await pool.execute("UPDATE alerts SET resolved_at = now() - interval '366 days'")
    assert await store.prune(ALERTS_KEPT) >= 1
    assert await looks.see(None) == []
    assert await pool.fetchval("SELECT count(*) FROM alert_report_changes") == 0


async def test_alerts_are_deleted_a_year_after_they_were_resolved_and_never_while_they_fire(
    store: PostgresAlerts, pool: asyncpg.Pool, tenant: str
) -> None:
    now = datetime.now(UTC)
    for number, days in enumerate((400, 366, 364, 0)):
        each = finding(subject=f"policy-{number}")
        await store.fire(tenant, each, now - timedelta(days=500))
        await store.resolve(tenant, each, now - timedelta(days=days))
    await store.fire(tenant, finding(subject="policy-firing"), now - timedelta(days=500))
    assert await store.prune(ALERTS_KEPT) == 2
    left = [each.finding.subject for each in await store.page(tenant, None, "", None, 10)]
    assert left == ["policy-firing", "policy-3", "policy-2"]
    assert len(await deliveries(pool, tenant)) == 5, "messages go with their alerts"


async def test_reports_of_tenants_and_releases_are_alerts_of_their_own(
    looks: Looks, store: PostgresAlerts, pool: asyncpg.Pool
) -> None:
    other = f"{looks.tenant}-2"
    for name, release in ((looks.tenant, "policy-000001"), (looks.tenant, "policy-000002"), (other, "policy-000001")):
        await report(pool, name, release)
    found = await looks.see(None)
    assert sorted(each.finding.subject for each in found) == ["policy-000001", "policy-000002"]
    assert len(await store.page(other, None, "", None, 10)) == 1


async def test_nothing_of_a_user_is_in_an_alert(looks: Looks, pool: asyncpg.Pool) -> None:
    feedback_id = await report(pool, looks.tenant)
    await pool.execute("UPDATE feedback_data SET user_id = 'Ngọc', text_feedback = 'bí mật'")
    response_id = await pool.fetchval("SELECT response_id FROM feedback_data WHERE feedback_id = $1", feedback_id)
    await looks.see(None)
    rows = [
        *await pool.fetch("SELECT a::text FROM alerts a"),
        *await pool.fetch("SELECT d::text FROM alert_deliveries d"),
    ]
    assert len(rows) >= 2
    for secret in ("Ngọc", "bí mật", str(response_id), str(feedback_id)):
        assert not any(secret in row[0] for row in rows)


async def test_pages_have_firing_ones_first_then_the_newest_each_once(store: PostgresAlerts, tenant: str) -> None:
    for number in range(10):
        each = finding(subject=f"policy-{number}")
        await store.fire(tenant, each, NOW)
        if number % 2:
            await store.resolve(tenant, each, NOW)
    found: list[Alert] = []
    while page := await store.page(tenant, None, "", _place(found), 3):
        found.extend(page)
    assert [each.finding.subject for each in found] == [f"policy-{n}" for n in (8, 6, 4, 2, 0, 9, 7, 5, 3, 1)]
    assert len(await store.page(tenant, True, "", None, 100)) == 5
    assert len(await store.page(tenant, False, "rating_low", None, 100)) == 5
    assert await store.page(tenant, None, "error_rate", None, 100) == []
    assert await store.page("another tenant", None, "", None, 100) == []


def _place(found: list[Alert]) -> Place | None:
    return Place(found[-1].fires, found[-1].alert_id) if found else None


async def test_an_acknowledgement_is_idempotent_and_ends_no_alert_but_a_report(
    store: PostgresAlerts, tenant: str
) -> None:
    fired = await store.fire(tenant, finding(), NOW)
    assert fired is not None
    first = await store.acknowledge(tenant, fired.alert_id, "Lan", "đang xem", NOW, ("safety_report",))
    assert (first.fires, first.acknowledged_by, first.note, first.version) == (True, "Lan", "đang xem", 2)
    later = NOW + timedelta(hours=1)
    assert await store.acknowledge(tenant, fired.alert_id, "Lan", "đang xem", later, ("safety_report",)) == first
    other = await store.acknowledge(tenant, fired.alert_id, "Minh", "", later, ("safety_report",))
    assert (other.acknowledged_by, other.acknowledged_at) == ("Minh", NOW)
    for stranger, alert_id in (("another tenant", fired.alert_id), (tenant, uuid4())):
        with pytest.raises(AlertNotFound):
            await store.acknowledge(stranger, alert_id, "", "", NOW)


async def test_changes_are_told_by_their_versions(store: PostgresAlerts, tenant: str) -> None:
    began = datetime.now(UTC)
    assert await store.changes(tenant, began) == await store.changes(tenant, None) == []
    await store.fire(tenant, finding(), NOW)
    await store.say(tenant, finding(value=2.0))
    assert [(each.version, each.finding.value) for each in await store.changes(tenant, began)] == [(2, 2.0)]
    assert len(await store.changes(tenant, None)) == 1
    await store.resolve(tenant, finding(), NOW)
    assert [(each.version, each.fires) for each in await store.changes(tenant, began)] == [(3, False)]
    assert await store.changes(tenant, None) == []
    assert await store.changes(tenant, began + timedelta(minutes=2)) == []


async def test_a_database_that_is_away_is_said_so(stack: RunningStack, tenant: str) -> None:
    closed = await database.connect(stack.endpoints.database_url, size=1)
    await closed.close()
    store = PostgresAlerts(closed, (), message_of)
    for call in (store.firing(), store.fire(tenant, finding(), NOW), store.changes(tenant, None), store.tenants(NOW)):
        with pytest.raises(StoreUnavailable):
            await call
