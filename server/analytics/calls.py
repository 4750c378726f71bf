"""Calls and errors by tenant, counted in each process and brought to Redis once a second: at best effort, since calls
that fail have no row in the log. A second whose counts did not arrive for sure is lost rather than counted twice."""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from server.analytics.contributions import Bucket, buckets
from server.errors import MetricsUnavailable, told

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two flushes."""
METHODS = ("/ratchet.v1.InferenceService/Generate", "/ratchet.v1.InferenceService/StreamGenerate")
"""The calls that are counted."""
OURS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION", "ABORTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Codes that say that we failed. Not among them: what is wrong with the request, callers who left (CANCELLED), and
overload (RESOURCE_EXHAUSTED), which is refused on purpose and answered at the second try."""
TENANTS = 10_000
"""Tenants that are counted in one second at most."""


class CallCounters(Protocol):
    """What counting needs of the counters."""

    async def count_calls(self, calls: Mapping[Bucket, tuple[int, int]]) -> None:
        """Adds calls and errors. Raises MetricsUnavailable."""


class Calls:
    """Counts in this process."""

    def __init__(self, counters: CallCounters) -> None:
        self._counters = counters
        self._calls: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()

    def ended(self, tenant: str, code: str) -> None:
        """Notes a call that ended with the gRPC code of this name, such as "OK"."""
        if tenant not in self._calls and len(self._calls) >= TENANTS:
            return
        self._calls[tenant] += 1
        self._errors[tenant] += code in OURS

    async def flush(self) -> None:
        """Brings to Redis what was noted since the last time."""
        if not self._calls:
            return
        calls, errors = self._calls, self._errors
        self._calls, self._errors = Counter(), Counter()
        now = int(time.time())
        counts = {bucket: (calls[tenant], errors[tenant]) for tenant in calls for bucket in buckets(tenant, now)}
        try:
            await self._counters.count_calls(counts)
        except MetricsUnavailable as error:
            log.debug("a second's calls are not counted: %s", told(error))
