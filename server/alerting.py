"""Alerts as one server process has them: what its calls need, and what the one that leads does."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import asyncpg

from server.alerts.delivery import Deliverer, Retries
from server.alerts.evaluator import Evaluator
from server.alerts.evidence import Evidence, Windows
from server.alerts.settings import AlertSettings
from server.alerts.webhooks import message_of
from server.redaction import origin
from server.storage.alerts import PostgresAlerts
from server.storage.deliveries import PostgresDeliveries

DELIVER_EVERY = 1.0
"""Seconds between two looks for messages that are due."""
HOUR = 3600.0
MESSAGES_KEPT = timedelta(days=30)
"""After they were delivered or given up."""
ALERTS_KEPT = timedelta(days=365)
"""After they were resolved."""

Task = tuple[Callable[[], Awaitable[object]], float, str]
"""What is to be done, again after so many seconds, and what it is called."""


@dataclass(frozen=True, slots=True)
class Alerting:
    """Alerts, open."""

    store: PostgresAlerts
    evidence: Evidence
    tasks: tuple[Task, ...]
    """What the leader does, each for ever."""


def connect(settings: AlertSettings, pool: asyncpg.Pool, figures: Windows, stack: AsyncExitStack) -> Alerting:
    """Alerts of this process; no connection is made before something is to be delivered."""
    evidence = Evidence(figures)
    store = PostgresAlerts(pool, settings.alert_webhooks, message_of)
    deliveries = PostgresDeliveries(pool)
    evaluator = Evaluator(evidence, store)
    tasks: list[Task] = [
        (evaluator.look, settings.alert_interval, "looking for what needs an alert"),
        (partial(deliveries.give_up_older, timedelta(seconds=2 * Retries().last)), HOUR, "giving up old messages"),
        (partial(deliveries.prune, MESSAGES_KEPT), HOUR, "deleting old messages"),
        (partial(store.prune, ALERTS_KEPT), HOUR, "deleting old alerts"),
    ]
    for url in settings.alert_webhooks:
        deliverer = Deliverer(deliveries, url, settings.alert_secret or "")
        stack.push_async_callback(deliverer.close)
        tasks.append((deliverer.deliver, DELIVER_EVERY, f"telling {origin(url)} of alerts"))
    return Alerting(store, evidence, tuple(tasks))
