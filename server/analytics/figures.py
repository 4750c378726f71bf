"""Figures of stretches of time, read from the live counters: what AnalyticsService shows and alerts are judged by.

Knows neither Redis nor messages.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from server.analytics import decoding
from server.analytics.metrics import (
    LATENCY_BOUNDS,
    MILLION,
    REWARD_BOUNDS,
    Granularity,
    Histogram,
    Metrics,
    Sum,
)

__all__ = [
    "LATENCY_BOUNDS",
    "MILLION",
    "REWARD_BOUNDS",
    "Counters",
    "Figures",
    "Granularity",
    "Histogram",
    "Metrics",
    "Reading",
    "Sum",
    "Window",
]

P = ParamSpec("P")
T = TypeVar("T")

FRESH = 0.25
"""Seconds for which those who ask for the same newest figures share one read."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of some buckets, in their order: fields as in `contributions`, and calls and errors.

    `lag`: seconds that they are behind the log.
    """

    cells: Sequence[decoding.Fields]
    calls: Sequence[tuple[int, int]]
    lag: float


class Counters(Protocol):
    """What figures need of the counters."""

    async def read(self, tenant: str, granularity: Granularity, starts: Sequence[int]) -> Reading:
        """The buckets that begin at `starts`, in seconds since 1970. Raises MetricsUnavailable."""


@dataclass(frozen=True, slots=True)
class Window:
    """Figures from `start` to `end`: all, one point after the other (points without figures too), and by release.

    `releases` holds policy and reward releases by name: each reply counts in both of its own. `lag`: seconds that the
    counters are behind the log.
    """

    start: datetime
    end: datetime
    granularity: Granularity
    total: Metrics
    points: tuple[tuple[datetime, Metrics], ...]
    releases: Mapping[str, Metrics]
    lag: float


@dataclass(slots=True)
class _Shared:
    """A read, and how many wait for it."""

    task: asyncio.Task[Window]
    waiting: int = 0


class Figures:
    """Reads windows of counters. Adding them up takes long: it is done in `threads`, which keeps it away from what
    answers wait for; without them, in those of asyncio."""

    def __init__(self, counters: Counters, threads: Executor | None = None) -> None:
        self._counters, self._threads = counters, threads
        self._newest: dict[tuple[str, int, int, Granularity, str], _Shared] = {}

    async def window(
        self,
        tenant: str,
        until: datetime,
        seconds: float,
        granularity: Granularity = Granularity.MINUTE,
        release: str = "",
    ) -> Window:
        """The buckets of the tenant that lie in the `seconds` before `until`, the one that `until` falls in as well.

        What is asked for reaches at most as far back as buckets are kept; earlier points would have no figures.
        `release` keeps only what belongs to that policy or reward release. Raises MetricsUnavailable.
        """
        starts = starts_of(until, seconds, granularity)
        reading = await self._counters.read(tenant, granularity, starts)
        return await self.aside(_window, reading, starts, granularity, release)

    async def newest(
        self, tenant: str, seconds: float, granularity: Granularity = Granularity.MINUTE, release: str = ""
    ) -> Window:
        """The window until now. Whoever asks for the same within FRESH seconds gets the same one.

        Reading ends when the last one who waits for it has left.
        """
        now = datetime.now(UTC)
        key = (tenant, int(now.timestamp() / FRESH), int(seconds), granularity, release)
        if key not in self._newest:
            for stale in [each for each in self._newest if each[1] < key[1]]:
                del self._newest[stale]
            task = asyncio.create_task(self.window(tenant, now, seconds, granularity, release))
            task.add_done_callback(_heed)
            self._newest[key] = _Shared(task)
        shared = self._newest[key]
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.task.done():
                shared.task.cancel()
                self._newest.pop(key, None)

    async def aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` gives, done where windows are added up."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))


def _heed(reading: "asyncio.Task[Window]") -> None:
    """All who waited for it may have left."""
    if not reading.cancelled():
        reading.exception()


def starts_of(until: datetime, seconds: float, granularity: Granularity) -> list[int]:
    """When the buckets begin, in seconds since 1970, that make up the `seconds` before `until`: at least one."""
    step, end = granularity.seconds, int(until.timestamp())
    last = end - end % step
    count = min(-(-int(seconds) // step), granularity.kept // step)
    return [last - step * back for back in range(max(count, 1) - 1, -1, -1)]


def _window(reading: Reading, starts: Sequence[int], granularity: Granularity, release: str) -> Window:
    cells = [decoding.only(release, each) for each in reading.cells] if release else reading.cells
    calls = [(0, 0)] * len(starts) if release else reading.calls
    points = tuple(
        (datetime.fromtimestamp(start, UTC), decoding.metrics_of(cell, *counts))
        for start, cell, counts in zip(starts, cells, calls, strict=True)
    )
    whole = decoding.merged(cells)
    return Window(
        start=points[0][0],
        end=points[-1][0] + timedelta(seconds=granularity.seconds),
        granularity=granularity,
        total=decoding.metrics_of(whole, sum(count for count, _ in calls), sum(count for _, count in calls)),
        points=points,
        releases=decoding.by_release(whole),
        lag=reading.lag,
    )
