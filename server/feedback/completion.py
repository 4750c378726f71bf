"""Feedback that was accepted by a receipt lacks what only the reply's log row tells: filled in once that has come."""

import logging
from typing import Protocol

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks."""
BATCH = 200
"""Of one transaction."""


class Completable(Protocol):
    """What this needs of the store."""

    async def complete(self, limit: int) -> int:
        """Fills in what feedback lacks, `limit` at most; how many it were."""


async def complete(store: Completable) -> None:
    """Completes all that can be, batch by batch. Raises what the store does."""
    done = 0
    while (batch := await store.complete(BATCH)) > 0:
        done += batch
        if batch < BATCH:
            break
    if done:
        log.info("completed %d feedback whose log rows have come", done)
