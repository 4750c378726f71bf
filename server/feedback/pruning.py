"""Ids of requests are kept only as long as a repetition could do harm: later it would be too late anyway."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Protocol

log = logging.getLogger(__name__)

EVERY = 3600.0
"""Seconds between two looks."""
MARGIN = timedelta(days=1)
"""Beyond the time for which feedback is taken: clocks may differ, calls may take long."""
BATCH = 1000
"""Of one transaction."""


class Forgetful(Protocol):
    """What this needs of the store."""

    async def forget_requests(self, before: datetime, limit: int) -> int:
        """Forgets requests that were done before that moment, `limit` at most; how many it were."""


async def prune(store: Forgetful, horizon: timedelta, batch: int = BATCH) -> None:
    """Forgets all requests that are older than `horizon` and MARGIN, batch by batch. Raises what the store
    does."""
    before = datetime.now(UTC) - horizon - MARGIN
    forgotten = 0
    while (done := await store.forget_requests(before, batch)) > 0:
        forgotten += done
        if done < batch:
            break
    if forgotten:
        log.info("forgot %d requests to rate that are too old to be repeated", forgotten)
