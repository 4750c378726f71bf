"""From ratings to webhooks: feedback in Postgres, counters in a real Valkey, rules, alerts, messages."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from server.alerts.delivery import Deliverer
from server.alerts.evaluator import Evaluator
from server.alerts.evidence import Evidence
from server.alerts.machine import Patience
from server.alerts.rules import RULES
from server.alerts.webhooks import message_of
from server.analytics.live import Live, live
from server.feedback.types import Change, GivenReply, Kind, Opinion, Part, SafetyCategory
from server.storage import memory
from server.storage.alerts import PostgresAlerts
from server.storage.deliveries import PostgresDeliveries
from server.storage.feedback import PostgresFeedback, Submission
from server.storage.feedback_requests import RequestKey
from tests.logged import entry_at, log
from tests.valkeys import OwnValkey
from tests.webhook_receiver import SECRET, Receiver, receiving

FIFTY = 50
AT_ONCE = [replace(rule, patience=Patience(0.05, 0.2)) for rule in RULES]
"""The rules with their own levels, firing and clearing within what a test can wait for."""


@pytest.fixture
async def counting(pool: asyncpg.Pool) -> AsyncIterator[Live]:
    valkey = OwnValkey()
    await valkey.start()
    client = memory.connect(valkey.url)
    found = live(client, pool)
    yield found
    await found.follower.close()
    await client.aclose()
    await valkey.close()


@pytest.fixture
async def receiver(pool: asyncpg.Pool) -> AsyncIterator[Receiver]:
    await pool.execute("TRUNCATE alerts, alert_reports, alert_deliveries")
    async with receiving() as found:
        yield found
    await pool.execute("TRUNCATE alerts, alert_reports, alert_deliveries")


@pytest.fixture
async def replies(pool: asyncpg.Pool) -> list[GivenReply]:
    """Fifty, just given to fifty users of a tenant."""
    tenant, now = f"t-{uuid4()}", datetime.now(UTC)
    entries = [entry_at(now, number, tenant_id=tenant, user_id=f"u{number}") for number in range(FIFTY)]
    await log(pool, *entries)
    return [
        GivenReply(tenant, e.turn.response_id, e.turn.user_id, "", now, e.reply.policy_release, e.reply.reward_release)
        for e in entries
    ]


class Ratings:
    """What users say of the replies."""

    def __init__(self, pool: asyncpg.Pool, replies: list[GivenReply]) -> None:
        self._store, self._replies = PostgresFeedback(pool), replies

    async def give(self, *changes: Change, of: slice = slice(None)) -> None:
        now = datetime.now(UTC)
        for reply in self._replies[of]:
            await self._store.submit(Submission(reply, changes, RequestKey("", b""), now))

    async def rate(self, stars: int, of: slice = slice(None)) -> None:
        await self.give(Change(Kind.RATING, Opinion(rating_overall=stars), frozenset[Part]()), of=of)

    async def withdraw_all(self) -> None:
        now = datetime.now(UTC)
        for reply in self._replies:
            for given in await self._store.current(reply.tenant_id, reply.response_id, reply.user_id, list(Kind)):
                await self._store.withdraw(reply.tenant_id, reply.user_id, given.feedback_id, RequestKey("", b""), now)


class Leader:
    """What the leading process does again and again."""

    def __init__(self, pool: asyncpg.Pool, counting: Live, receiver: Receiver, tenant: str) -> None:
        self.tenant, self._counting = tenant, counting
        self._store = PostgresAlerts(pool, [receiver.url], message_of)
        self._evaluator = Evaluator(Evidence(counting.figures, AT_ONCE), self._store)
        self.deliverer = Deliverer(PostgresDeliveries(pool), receiver.url, SECRET)

    async def look(self, times: int, until: bool | None = None) -> list[bool]:
        """Looks so often, or until there is one alert that fires, or does not; which of the tenant's alerts fire."""
        for _ in range(times):
            await self._counting.follower.follow()
            await self._evaluator.look()
            await self.deliverer.deliver()
            found = [alert.fires for alert in await self._store.page(self.tenant, None, "", None, 100)]
            if until is not None and found == [until]:
                break
            await asyncio.sleep(0.05)
        return found


async def test_a_burst_of_bad_ratings_is_one_alert_and_one_message_and_good_ones_clear_it(
    pool: asyncpg.Pool, counting: Live, receiver: Receiver, replies: list[GivenReply]
) -> None:
    ratings, leader = Ratings(pool, replies), Leader(pool, counting, receiver, replies[0].tenant_id)
    for number in range(FIFTY):
        await ratings.rate(1, slice(number, number + 1))
        if number % 5 == 0:
            await leader.look(1)
    assert await leader.look(40, until=True) == [True]
    assert await leader.look(5) == [True]
    await ratings.rate(5, slice(0, 45))  # the users change their minds
    assert await leader.look(100, until=False) == [False]
    assert await leader.look(5) == [False]
    await leader.deliverer.close()
    mine = [each for each in receiver.messages if each["data"]["tenant_id"] == leader.tenant]
    assert [(each["type"], each["data"]["rule"], each["data"]["subject"]) for each in mine] == [
        ("alert.firing", "rating_low", "policy-000001"),
        ("alert.resolved", "rating_low", "policy-000001"),
    ]
    assert mine[0]["data"]["value"] == 1.0
    assert mine[1]["data"]["value"] == 4.6


async def test_safety_reports_that_are_withdrawn_end_their_alert_and_the_webhook_hears_of_it(
    pool: asyncpg.Pool, counting: Live, receiver: Receiver, replies: list[GivenReply]
) -> None:
    ratings, leader = Ratings(pool, replies), Leader(pool, counting, receiver, replies[0].tenant_id)
    report = Opinion(safety_category=SafetyCategory.TOXIC, text_feedback="Nhầm rồi.")
    await ratings.give(Change(Kind.SAFETY_REPORT, report, frozenset[Part]()), of=slice(0, 2))
    assert await leader.look(1) == [True]
    await ratings.withdraw_all()
    assert await leader.look(3) == [False]
    await leader.deliverer.close()
    mine = [each for each in receiver.messages if each["data"]["tenant_id"] == leader.tenant]
    assert [(each["type"], each["data"]["reason"]) for each in mine] == [
        ("alert.firing", "There are 2 safety reports on replies of policy-000001 (toxic 2)."),
        ("alert.resolved", "All safety reports on replies of policy-000001 were withdrawn."),
    ]


async def test_with_valkey_gone_a_safety_report_fires_and_nothing_else_moves(
    pool: asyncpg.Pool, receiver: Receiver, replies: list[GivenReply]
) -> None:
    valkey = OwnValkey()
    await valkey.start()
    client = memory.connect(valkey.url)
    counting, tenant = live(client, pool), replies[0].tenant_id
    store = PostgresAlerts(pool, [], message_of)
    now = datetime.now(UTC)
    evaluator = Evaluator(Evidence(counting.figures, AT_ONCE, clock=lambda: now), store)
    ratings = Ratings(pool, replies)
    await ratings.rate(1)
    await counting.follower.follow()
    await evaluator.look()
    await valkey.kill()
    now += timedelta(seconds=5)
    report = Opinion(safety_category=SafetyCategory.DANGEROUS, text_feedback="Nguy hiểm!")
    await ratings.give(Change(Kind.SAFETY_REPORT, report, frozenset[Part]()), of=slice(0, 3))
    await evaluator.look()
    found = await store.page(tenant, None, "", None, 100)
    assert [(alert.finding.rule, alert.finding.value) for alert in found] == [("safety_report", 3)]
    await counting.follower.close()
    await client.aclose()
    await valkey.close()
