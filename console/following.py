"""Follows a stream of the server for as long as a page is open, and begins again whenever it breaks."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from grpc import StatusCode
from nicegui import background_tasks, ui

from console.client import Trouble

log = logging.getLogger(__name__)
Message = TypeVar("Message")

FIRST_WAIT, LONGEST_WAIT = 0.5, 4.0
"""Seconds before a broken stream is begun again: the first, and the longest."""
_FOR_GOOD = frozenset(
    {StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.UNIMPLEMENTED, StatusCode.INVALID_ARGUMENT}
)
"""What trying again would not change."""


class Following(Generic[Message]):
    """One stream of one page. Make it while the page is built; `start` begins it, or begins it anew.

    `begin` opens the stream, `show` is told each message, `fault` each failure, before the next try.
    """

    def __init__(
        self,
        begin: Callable[[], AsyncIterator[Message]],
        show: Callable[[Message], None],
        fault: Callable[[Trouble], None],
    ) -> None:
        self._begin, self._show, self._fault = begin, show, fault
        self._client = ui.context.client
        self._client.on_delete(self.stop)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follows from now on; what was followed before is left."""
        self.stop()
        if not self._client.is_deleted:
            self._task = background_tasks.create(self._run(), name="following", context=self._client)

    def stop(self) -> None:
        """Leaves the stream."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        wait = FIRST_WAIT
        while True:
            try:
                async for message in self._begin():
                    wait = FIRST_WAIT
                    self._show(message)
            except Trouble as trouble:
                self._fault(trouble)
                if trouble.code in _FOR_GOOD:
                    return
            except Exception:  # a defect of ours in showing one message must not leave the page behind for good
                log.exception("what the server sent could not be shown")
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
