"""The wish to stop, given twice at most: the first notice ends things in order, the second at once."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class StopNotice:
    """`given` is set by the first notice, `urgent` by the second. Signals and the launcher give them."""

    def __init__(self) -> None:
        self.given = asyncio.Event()
        self.urgent = asyncio.Event()

    def give(self) -> None:
        """One notice more."""
        (self.urgent if self.given.is_set() else self.given).set()

    async def interrupts(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` gives; None when the notice came first: `work` was cancelled then, and has ended."""
        task = asyncio.ensure_future(work)
        if await before(self.given, task):
            return await task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None


async def before(event: asyncio.Event, work: Awaitable[Any], seconds: float | None = None) -> bool:
    """Whether `work` ends before `event` is set, within `seconds`. It goes on in any case; its errors stay with it."""
    waiting = asyncio.ensure_future(event.wait())
    ending = asyncio.ensure_future(work)
    try:
        await asyncio.wait([waiting, ending], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return ending.done()
