"""The outbox of webhooks: messages that wait in Postgres until their receiver took them.

A message is claimed by moving its next attempt ahead, not by holding a transaction open while a receiver answers: a
process that dies in between leaves it to whoever claims next. A receiver may get a message twice, but never not at all.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg

from server.alerts.types import Delivery
from server.errors import StoreUnavailable, told
from server.storage.database import GONE, bounded

PATIENCE = 5.0
"""Seconds after which the connection is cut off on which Postgres has not answered."""
_ERROR = 500
"""Characters that are kept of what went wrong."""

BATCH = 1000
"""Messages that one statement deletes at most."""

_WAITS = "delivered_at IS NULL AND given_up_at IS NULL"
_CLAIM = """
UPDATE alert_deliveries SET attempts = attempts + 1, next_attempt = now() + $2
WHERE delivery_id = (
    SELECT d.delivery_id FROM alert_deliveries d
    WHERE d.url = $1 AND d.delivered_at IS NULL AND d.given_up_at IS NULL AND d.next_attempt <= now()
        AND NOT EXISTS (
            SELECT FROM alert_deliveries e WHERE e.alert_id = d.alert_id AND e.url = d.url
                AND e.delivery_id < d.delivery_id AND e.delivered_at IS NULL AND e.given_up_at IS NULL
        )
    ORDER BY d.delivery_id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING delivery_id, url, body, created_at, attempts
"""
"""What an alert says comes in order: a message waits for the one before it."""
_PRUNE = f"""
WITH gone AS (
    DELETE FROM alert_deliveries WHERE delivery_id IN (
        SELECT delivery_id FROM alert_deliveries
        WHERE coalesce(delivered_at, given_up_at) < now() - $1::interval
        ORDER BY coalesce(delivered_at, given_up_at) LIMIT {BATCH}
    ) RETURNING 1
) SELECT count(*) FROM gone
"""


class PostgresDeliveries:
    """Every method raises StoreUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def claim(self, url: str, lease: timedelta) -> Delivery | None:
        """The oldest message that is due to a receiver. Nobody else gets it until the lease is over."""
        rows = await self._ask(_CLAIM, url, lease)
        return Delivery(**dict(rows[0])) if rows else None

    async def delivered(self, delivery: Delivery) -> None:
        """The receiver took it."""
        await self._ask(
            f"UPDATE alert_deliveries SET delivered_at = now(), last_error = '' WHERE delivery_id = $1 AND {_WAITS}",
            delivery.delivery_id,
        )

    async def failed(self, delivery: Delivery, error: str, again: timedelta | None) -> None:
        """The receiver did not take it: it is tried again after that time, or given up."""
        await self._ask(
            "UPDATE alert_deliveries SET last_error = $2, next_attempt = now() + coalesce($3, interval '0'),"
            f" given_up_at = CASE WHEN $3::interval IS NULL THEN now() END WHERE delivery_id = $1 AND {_WAITS}",
            delivery.delivery_id,
            error[:_ERROR],
            again,
        )

    async def give_up_older(self, age: timedelta) -> None:
        """Gives up what waits for longer than any deliverer tries: its webhook is not configured any more, anywhere."""
        await self._ask(
            "UPDATE alert_deliveries SET given_up_at = now(), last_error = 'this webhook is not configured any more'"
            f" WHERE created_at < now() - $1::interval AND {_WAITS}",
            age,
        )

    async def prune(self, age: timedelta) -> int:
        """Deletes messages that were delivered, or given up, so long ago; gives how many."""

        async def batch() -> int:
            found: int = (await self._ask(_PRUNE, age))[0][0]
            return found

        return await in_batches(BATCH, batch)

    async def _ask(self, statement: str, *values: Any) -> list[Any]:
        try:
            return await bounded(self._pool, PATIENCE, lambda connection: connection.fetch(statement, *values))
        except (*GONE, asyncpg.PostgresError) as error:
            raise StoreUnavailable(f"The store of alerts did not answer: {told(error)}.") from error


async def in_batches(size: int, delete: Callable[[], Awaitable[int]]) -> int:
    """Deletes until a batch is not full, each in a transaction of its own; gives how many."""
    total = 0
    while True:
        deleted = await delete()
        total += deleted
        if deleted < size:
            return total
