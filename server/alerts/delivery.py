"""Brings the outbox's messages to their webhooks.

An operator names the webhooks, so they may be anywhere, this machine and private networks too: that is where alert
receivers are. What answers is not trusted: its redirects are not followed and its body is not read.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Protocol

import aiohttp

from server.alerts.types import Delivery
from server.alerts.webhooks import headers
from server.errors import told
from server.redaction import origin

log = logging.getLogger(__name__)

MARGIN = 10.0
"""Seconds that a claim lasts beyond one attempt: telling the store what came of it takes a while."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Waits `first` seconds after the first failure, then twice as long each time, at most `longest`; a message is
    given up when it is older than `last`. `timeout`: seconds of one attempt."""

    first: float = 2.0
    longest: float = 3600.0
    last: float = 86_400.0
    timeout: float = 10.0

    def wait(self, attempts: int, age: float, luck: float) -> float | None:
        """Seconds until the next attempt, after so many; None: no more. `luck` in 0..1 spreads those who wait."""
        longest = min(self.longest, self.first * 2.0 ** min(attempts - 1, 60))
        wait = longest * (0.5 + luck / 2)
        return wait if age + wait <= self.last else None

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts: longer than an attempt may take."""
        return timedelta(seconds=self.timeout + MARGIN)


class Outbox(Protocol):
    """What a deliverer needs of the store: see `server.storage.deliveries`."""

    async def claim(self, url: str, lease: timedelta) -> Delivery | None:
        """A message that is due to a receiver."""

    async def delivered(self, delivery: Delivery) -> None:
        """The receiver took it."""

    async def failed(self, delivery: Delivery, error: str, again: timedelta | None) -> None:
        """It is tried again after that time, or given up."""


class Deliverer:
    """Delivers to one webhook, so that one that hangs holds up no other. Close it."""

    def __init__(
        self,
        outbox: Outbox,
        url: str,
        secret: str,
        retries: Retries = Retries(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._outbox, self._url, self._secret, self._retries, self._clock = outbox, url, secret, retries, clock
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self) -> int:
        """Sends all that is due, one after the other; gives how many were taken. Raises StoreUnavailable."""
        taken = 0
        while delivery := await self._outbox.claim(self._url, self._retries.lease):
            taken += await self._attempt(delivery)
        return taken

    async def close(self) -> None:
        """Closes its connections."""
        if self._session:
            await self._session.close()

    async def _attempt(self, delivery: Delivery) -> bool:
        problem, hopeless = await self._send(delivery)
        if not problem:
            await self._outbox.delivered(delivery)
            return True
        age = (self._clock() - delivery.created_at).total_seconds()
        wait = None if hopeless else self._retries.wait(delivery.attempts, age, random.random())  # noqa: S311
        again = timedelta(seconds=wait) if wait is not None else None
        await self._outbox.failed(delivery, problem, again)
        what = f"tried again in {wait:.0f} s" if wait is not None else "given up"
        log.warning("the webhook at %s did not take an alert (%s): %s", origin(self._url), problem, what)
        return False

    async def _send(self, delivery: Delivery) -> tuple[str, bool]:
        """What went wrong, "" for nothing; and whether trying again is hopeless."""
        sent = headers(str(delivery.delivery_id), delivery.body, self._secret, self._clock())
        try:
            async with (
                asyncio.timeout(self._retries.timeout),
                self._open().post(
                    delivery.url, data=delivery.body.encode(), headers=sent, allow_redirects=False
                ) as answer,
            ):
                status = answer.status
                answer.close()  # unread, however long it is
        except TimeoutError:
            return f"no answer within {self._retries.timeout:g} s", False
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return type(error).__name__ if self._url in str(error) else told(error), False
        if status // 100 == 2:
            return "", False
        return f"HTTP {status}", status == HTTPStatus.GONE

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self._session
