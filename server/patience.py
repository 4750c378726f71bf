"""Time limits that hold although what is waited for does not heed its cancellation.

`asyncio.timeout` waits until the cancelled work has ended, and asyncpg does not let go of a connection before Postgres
has said so: with a Postgres that is paused, a limit of 100 ms would last until it goes on.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from server.errors import told

log = logging.getLogger(__name__)

GRACE_SECONDS = 0.02
"""What cancelled work gets to end before it is left alone."""

T = TypeVar("T")
_left_alone: set[asyncio.Task[Any]] = set()
"""Cancelled tasks that run on; referenced until they end. Each holds what bounds it, such as a connection of a pool."""


class Late(TimeoutError):
    """The time was over: not a TimeoutError of the work's own."""


async def within(seconds: float, work: Coroutine[Any, Any, T], grace: float = GRACE_SECONDS) -> T:
    """What `work` gives; raises Late after `seconds`, and what `work` raises.

    Late work is cancelled, and awaited for `grace` seconds only. So is the work of a caller who is cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
        if task.done():
            return task.result()
    finally:
        if not task.done():
            await _give_up(task, grace)
    raise Late


def doubled(first: float, failures: int, longest: float) -> float:
    """Seconds to wait after so many failures in a row: `first`, twice as long for each, `longest` at most."""
    return min(first * 2.0 ** min(failures, 30), longest)  # days of failures must not end in an OverflowError


async def _give_up(task: "asyncio.Task[Any]", grace: float) -> None:
    task.cancel()
    _left_alone.add(task)
    task.add_done_callback(_forget)
    await asyncio.wait([task], timeout=grace)


def _forget(task: "asyncio.Task[Any]") -> None:
    _left_alone.discard(task)
    if not task.cancelled() and (error := task.exception()):
        log.debug("what came too late failed: %s", told(error))
