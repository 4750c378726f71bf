"""Keeps a lease alive while something is done under it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from trainer.errors import LeaseLost, StoreAway
from trainer.leases import Lease
from trainer.reward.job import Point, Progress, Stage, Tell
from trainer.settings import BEAT

T = TypeVar("T")
MOST_POINTS = 10_000
"""That may wait to be written while Postgres is away."""


async def held(lease: Lease, seconds: float, body: Callable[[Tell], Awaitable[T]], tell: Tell) -> T:
    """What `body` gives; the progress that it tells of goes to `tell` and into the run's row.

    Raises what it does, and, having cancelled it, LeaseLost once the lease was not renewed for `seconds`, or Cancelled
    when somebody asked the run to stop.
    """
    pulse = _Pulse(lease, seconds, tell)
    working, beating = asyncio.ensure_future(body(pulse.tell)), asyncio.ensure_future(pulse.beat())
    try:
        await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
        return await (working if working.done() else beating)
    finally:
        for task in (working, beating):  # the lease lasts until the work has stopped
            task.cancel()
            await asyncio.wait({task})


class _Pulse:
    def __init__(self, lease: Lease, seconds: float, tell: Tell) -> None:
        self._lease, self._seconds, self._tell = lease, seconds, tell
        self._progress = Progress(Stage.SNAPSHOT, 0.0)
        self._new: deque[Point] = deque(maxlen=MOST_POINTS)

    def tell(self, progress: Progress) -> None:
        """Keeps it for the next beat."""
        self._progress = progress
        if progress.point is not None:
            self._new.append(progress.point)
        self._tell(progress)

    async def beat(self) -> NoReturn:
        """Renews the lease until it can't be renewed."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            new = list(self._new)
            self._new.clear()
            try:
                await self._lease.renew(self._progress, new)
                renewed = loop.time()
            except StoreAway as error:
                self._new.extendleft(reversed(new))
                if loop.time() - renewed > self._seconds:
                    raise LeaseLost(f"The lease could not be renewed in time: {error}") from error
            await asyncio.sleep(min(BEAT, self._seconds / 4))
