"""Messages to webhooks, through real Postgres and a real HTTP server."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from server.alerting import MESSAGES_KEPT
from server.alerts.delivery import Deliverer, Retries
from server.alerts.rule import Severity
from server.alerts.types import Finding
from server.alerts.webhooks import message_of
from server.storage import deliveries
from server.storage.alerts import PostgresAlerts
from server.storage.deliveries import PostgresDeliveries
from tests.webhook_receiver import SECRET, receiving

FINDING = Finding("rating_low", "policy-000001", Severity.WARNING, "Tệ quá", 1.5, 3.5, 20, "/live")
NOW = datetime(2026, 5, 1, tzinfo=UTC)
AT_ONCE = Retries(first=0.001, longest=0.001, timeout=5)


@pytest.fixture(autouse=True)
async def _empty(pool: asyncpg.Pool) -> AsyncIterator[None]:
    await pool.execute("TRUNCATE alerts, alert_reports, alert_deliveries")
    yield
    await pool.execute("TRUNCATE alerts, alert_reports, alert_deliveries")


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid4()}"


@asynccontextmanager
async def delivering(pool: asyncpg.Pool, url: str, retries: Retries = AT_ONCE) -> AsyncIterator[Deliverer]:
    deliverer = Deliverer(PostgresDeliveries(pool), url, SECRET, retries)
    try:
        yield deliverer
    finally:
        await deliverer.close()


async def until_taken(deliverer: Deliverer, count: int) -> None:
    async with asyncio.timeout(30):
        while count > 0:
            count -= await deliverer.deliver()
            await asyncio.sleep(0.002)


async def test_a_receiver_that_recovers_gets_the_message_once_under_the_same_id(
    pool: asyncpg.Pool, tenant: str
) -> None:
    async with receiving(lambda number: 500 if number < 4 else 204) as receiver:
        store = PostgresAlerts(pool, [receiver.url], message_of)
        await store.fire(tenant, FINDING, NOW)
        async with delivering(pool, receiver.url) as deliverer:
            await until_taken(deliverer, 1)
            assert await deliverer.deliver() == 0
    assert len(receiver.attempts) == 5
    assert len(set(receiver.attempts)) == 1
    assert [(each["type"], each["data"]["reason"]) for each in receiver.messages] == [("alert.firing", "Tệ quá")]
    row = await pool.fetchrow("SELECT attempts, delivered_at, last_error FROM alert_deliveries")
    assert (row["attempts"], row["last_error"]) == (5, "")
    assert row["delivered_at"] is not None


async def test_what_an_alert_says_comes_in_order(pool: asyncpg.Pool, tenant: str) -> None:
    async with receiving(lambda number: 503 if number < 3 else 200) as receiver:
        store = PostgresAlerts(pool, [receiver.url], message_of)
        await store.fire(tenant, FINDING, NOW)
        await store.resolve(tenant, FINDING, NOW)
        async with delivering(pool, receiver.url) as deliverer:
            await until_taken(deliverer, 2)
    assert [each["type"] for each in receiver.messages] == ["alert.firing", "alert.resolved"]
    assert len(set(receiver.attempts)) == 2


async def test_a_receiver_that_hangs_holds_up_no_other(pool: asyncpg.Pool, tenant: str) -> None:
    async with receiving(lambda _: 0) as hanging, receiving() as quick:
        store = PostgresAlerts(pool, [hanging.url, quick.url], message_of)
        await store.fire(tenant, FINDING, NOW)
        async with delivering(pool, hanging.url, Retries(timeout=60)) as waits, delivering(pool, quick.url) as other:
            stuck = asyncio.create_task(waits.deliver())
            while not hanging.attempts:
                await asyncio.sleep(0.001)
            assert await other.deliver() == 1
            assert not stuck.done()
            stuck.cancel()
            await asyncio.wait([stuck])
            assert stuck.cancelled()
    assert len(quick.messages) == 1


async def test_a_receiver_that_never_answers_in_time_is_tried_again(pool: asyncpg.Pool, tenant: str) -> None:
    async with receiving(lambda number: 0 if number == 0 else 200) as receiver:
        await PostgresAlerts(pool, [receiver.url], message_of).fire(tenant, FINDING, NOW)
        async with delivering(pool, receiver.url, Retries(first=0.001, timeout=0.3)) as deliverer:
            await until_taken(deliverer, 1)
    assert len(receiver.attempts) == 2


async def test_a_server_that_dies_between_commit_and_delivery_loses_nothing(pool: asyncpg.Pool, tenant: str) -> None:
    """One that dies with the message claimed, too: the claim ends."""
    async with receiving() as receiver:
        await PostgresAlerts(pool, [receiver.url], message_of).fire(tenant, FINDING, NOW)
        claimed = await PostgresDeliveries(pool).claim(receiver.url, timedelta(milliseconds=50))
        assert claimed is not None
        async with delivering(pool, receiver.url) as after_the_restart:
            await until_taken(after_the_restart, 1)
    assert receiver.attempts == [str(claimed.delivery_id)]


async def test_of_many_processes_one_delivers(pool: asyncpg.Pool, tenant: str) -> None:
    async with receiving() as receiver:
        store = PostgresAlerts(pool, [receiver.url], message_of)
        for number in range(10):
            await store.fire(f"{tenant}-{number}", FINDING, NOW)
        deliverers = [Deliverer(PostgresDeliveries(pool), receiver.url, SECRET) for _ in range(5)]
        taken = await asyncio.gather(*(each.deliver() for each in deliverers))
        await asyncio.gather(*(each.close() for each in deliverers))
    assert sum(taken) == 10
    assert len(receiver.attempts) == len(set(receiver.attempts)) == 10


@pytest.mark.parametrize("status", [301, 307, 404, 500])
async def test_anything_but_success_is_tried_again_and_no_redirect_is_followed(
    pool: asyncpg.Pool, tenant: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving(lambda _: status) as receiver:
        await PostgresAlerts(pool, [receiver.url], message_of).fire(tenant, FINDING, NOW)
        async with delivering(pool, receiver.url, Retries()) as deliverer:
            with caplog.at_level(logging.WARNING):
                assert await deliverer.deliver() == 0
    row = await pool.fetchrow("SELECT *, next_attempt > now() AS waits FROM alert_deliveries")
    assert (row["attempts"], row["last_error"], row["waits"]) == (1, f"HTTP {status}", True)
    assert (row["delivered_at"], row["given_up_at"]) == (None, None)
    assert "secret-path" not in caplog.text
    assert "http://127.0.0.1:" in caplog.text


async def test_a_message_is_given_up_after_a_day_or_when_its_receiver_is_gone(pool: asyncpg.Pool, tenant: str) -> None:
    async with receiving(lambda number: 410 if number else 500) as receiver:
        store = PostgresAlerts(pool, [receiver.url], message_of)
        await store.fire(tenant, FINDING, NOW)
        await pool.execute("UPDATE alert_deliveries SET created_at = now() - interval '25 hours'")
        async with delivering(pool, receiver.url) as deliverer:
            await deliverer.deliver()
            await store.resolve(tenant, FINDING, NOW)
            await deliverer.deliver()
    rows = await pool.fetch("SELECT * FROM alert_deliveries ORDER BY delivery_id")
    assert [row["last_error"] for row in rows] == ["HTTP 500", "HTTP 410"]
    assert all(row["given_up_at"] is not None and row["attempts"] == 1 for row in rows)


async def test_nobody_who_listens_is_tried_again(pool: asyncpg.Pool, tenant: str) -> None:
    url = "http://127.0.0.1:9/hook/secret-path"
    await PostgresAlerts(pool, [url], message_of).fire(tenant, FINDING, NOW)
    async with delivering(pool, url, Retries()) as deliverer:
        assert await deliverer.deliver() == 0
    row = await pool.fetchrow("SELECT attempts, last_error, given_up_at FROM alert_deliveries")
    assert (row["attempts"], row["given_up_at"]) == (1, None)
    assert "secret-path" not in row["last_error"]


async def test_messages_that_nobody_delivers_for_days_are_given_up(pool: asyncpg.Pool, tenant: str) -> None:
    """Those of a webhook that was taken out of the settings; another machine may have it still, so not at once."""
    store = PostgresAlerts(pool, ["http://127.0.0.1:1/a"], message_of)
    await store.fire(f"{tenant}-old", FINDING, NOW)
    await pool.execute("UPDATE alert_deliveries SET created_at = now() - interval '49 hours'")
    await store.fire(f"{tenant}-new", FINDING, NOW)
    await PostgresDeliveries(pool).give_up_older(timedelta(hours=48))
    rows = await pool.fetch("SELECT given_up_at IS NULL AS waits FROM alert_deliveries ORDER BY delivery_id")
    assert [row["waits"] for row in rows] == [False, True]


async def test_messages_are_deleted_a_month_after_they_were_done_and_never_while_they_wait(
    pool: asyncpg.Pool, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: a batch at a time."""
    store = PostgresAlerts(pool, ["http://127.0.0.1:1/a"], message_of)
    states = {"waits": "next_attempt", "delivered": "delivered_at", "given-up": "given_up_at"}
    for name, column in states.items():
        for days in (0, 29, 31, 32):
            fired = await store.fire(f"{tenant}-{name}-{days}", FINDING, NOW)
            assert fired is not None
            done = f"UPDATE alert_deliveries SET {column} = now() - $2::interval WHERE alert_id = $1"
            await pool.execute(done, fired.alert_id, timedelta(days=days))
    monkeypatch.setattr(deliveries, "BATCH", 2)
    monkeypatch.setattr(deliveries, "_PRUNE", deliveries._PRUNE.replace("LIMIT 1000", "LIMIT 2"))
    assert await PostgresDeliveries(pool).prune(MESSAGES_KEPT) == 4
    rows = await pool.fetch("SELECT tenant_id FROM alert_deliveries ORDER BY delivery_id")
    left = {"waits": (0, 29, 31, 32), "delivered": (0, 29), "given-up": (0, 29)}
    assert [row["tenant_id"] for row in rows] == [f"{tenant}-{name}-{d}" for name, ds in left.items() for d in ds]
