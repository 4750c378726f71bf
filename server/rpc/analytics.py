"""ratchet.v1.AnalyticsService."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import analytics_pb2 as pb
from ratchet.v1 import analytics_pb2_grpc
from server.analytics.figures import (
    LATENCY_BOUNDS,
    MILLION,
    REWARD_BOUNDS,
    Figures,
    Granularity,
    Histogram,
    Metrics,
    Sum,
    Window,
)
from server.analytics.follower import Follower
from server.errors import DeadlineExceeded, Draining, InvalidRequest, Violation
from server.identity import caller
from server.patience import within
from server.rpc.messages import Defaults
from server.rpc.validation import require_valid

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""

T = TypeVar("T")

WINDOW = 3600.0
INTERVAL = 2.0
LOOK_AROUND = 0.25
"""Seconds after which a stream that waits looks whether the server is stopping."""
_GRANULARITIES: Mapping[int, Granularity] = {
    pb.GRANULARITY_MINUTE: Granularity.MINUTE,
    pb.GRANULARITY_HOUR: Granularity.HOUR,
    pb.GRANULARITY_DAY: Granularity.DAY,
}
_NUMBERS = {granularity: number for number, granularity in _GRANULARITIES.items()}
_CHOICES = ((6 * 3600, Granularity.MINUTE), (14 * 86_400, Granularity.HOUR))
"""Up to so many seconds; beyond, days."""
POINTS = 1500
"""Of one answer at most: a point takes a third of a millisecond of Python."""


class AnalyticsService(analytics_pb2_grpc.AnalyticsServiceServicer):
    """See protos/ratchet/v1/analytics.proto. `draining` says whether the server is stopping."""

    def __init__(
        self, figures: Figures, follower: Follower, defaults: Defaults, draining: Callable[[], bool] = lambda: False
    ) -> None:
        self._figures, self._follower, self._defaults = figures, follower, defaults
        self._draining = draining

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: Context) -> pb.GetMetricsResponse:
        """One window."""
        require_valid(request)
        seconds, granularity = _stretch(request)
        tenant, release = caller().tenant_id, request.release
        if request.HasField("until_time"):
            until = _moment(request.until_time)
            work = self._figures.window(tenant, until, seconds, granularity, release)
        else:
            work = self._figures.newest(tenant, seconds, granularity, release)
        return await self._in_time(context, self._message(work))

    async def WatchMetrics(
        self, request: pb.WatchMetricsRequest, context: Context
    ) -> AsyncIterator[pb.WatchMetricsResponse]:
        """The newest window, again and again. Raises Draining when the server stops."""
        require_valid(request)
        seconds, granularity = _stretch(request)
        interval = request.interval.ToNanoseconds() / 1e9 if request.HasField("interval") else INTERVAL
        tenant, loop = caller().tenant_id, asyncio.get_running_loop()
        while True:
            began = loop.time()
            work = self._figures.newest(tenant, seconds, granularity, request.release)
            yield pb.WatchMetricsResponse(
                metrics=await self._within(self._defaults.deadline_seconds, self._message(work))
            )
            while (left := began + interval - loop.time()) > 0:
                await asyncio.sleep(min(left, LOOK_AROUND))
                self._require_serving()
            self._require_serving()

    async def RebuildMetrics(self, request: pb.RebuildMetricsRequest, context: Context) -> pb.RebuildMetricsResponse:
        """Makes the counters again; goes on when the caller's time is over."""
        require_valid(request)
        done = await self._in_time(context, self._follower.rebuild())
        return pb.RebuildMetricsResponse(
            replies=done.replies, revisions=done.revisions, duration=_duration(done.seconds)
        )

    async def _message(self, work: Coroutine[Any, Any, Window]) -> pb.GetMetricsResponse:
        return await self._figures.aside(message_of, await work)

    def _require_serving(self) -> None:
        if self._draining():
            raise Draining("This server is stopping; another one will answer.")

    async def _in_time(self, context: Context, work: Coroutine[Any, Any, T]) -> T:
        """Ends what takes longer than the call's deadline, or than calls may take."""
        remaining, defaults = context.time_remaining(), self._defaults
        seconds = defaults.deadline_seconds if remaining is None else remaining
        return await self._within(min(seconds, defaults.max_seconds), work)

    async def _within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await within(seconds, work)
        except TimeoutError as error:
            raise DeadlineExceeded("The live counters did not answer in time.") from error


def message_of(window: Window) -> pb.GetMetricsResponse:
    """The message of a window."""
    return pb.GetMetricsResponse(
        start_time=_timestamp(window.start),
        end_time=_timestamp(window.end),
        granularity=_NUMBERS[window.granularity],  # type: ignore[arg-type]  # the numbers are the enum's
        total=metrics_message(window.total),
        points=[
            pb.MetricsPoint(start_time=_timestamp(start), metrics=metrics_message(metrics))
            for start, metrics in window.points
        ],
        releases=[
            pb.ReleaseMetrics(release=release, total=metrics_message(metrics))
            for release, metrics in window.releases.items()
        ],
        lag=_duration(window.lag),
    )


def metrics_message(metrics: Metrics) -> pb.Metrics:
    """The message of figures; distributions without anything in them stay empty."""
    return pb.Metrics(
        replies=metrics.replies,
        refused=metrics.refused,
        degraded=metrics.degraded,
        rated_replies=metrics.rated_replies,
        rating=pb.Average(sum=metrics.rating_sum, count=metrics.rating_count, mean=metrics.rating_mean),
        stars=metrics.stars,
        thumbs_up=metrics.thumbs_up,
        thumbs_down=metrics.thumbs_down,
        thumbs_neutral=metrics.thumbs_neutral,
        comments=metrics.comments,
        safety_reports=metrics.safety_reports,
        preferences=metrics.preferences,
        dimensions={name: _average(each, 1) for name, each in metrics.dimensions.items()},
        reward=_average_of(metrics.reward),
        reward_distribution=_distribution(metrics.reward, REWARD_BOUNDS),
        latency=_average_of(metrics.latency),
        latency_distribution=_distribution(metrics.latency, LATENCY_BOUNDS),
        stages={name: _average(each, MILLION) for name, each in metrics.stages.items()},
        calls=metrics.calls,
        errors=metrics.errors,
    )


def _stretch(request: pb.GetMetricsRequest | pb.WatchMetricsRequest) -> tuple[float, Granularity]:
    """Seconds, and the length of a point. Raises InvalidRequest for points that are not kept so long, or too many."""
    seconds = request.window.ToNanoseconds() / 1e9 if request.HasField("window") else WINDOW
    granularity = _GRANULARITIES.get(request.granularity)
    if granularity is None:
        fitting = (each for longest, each in _CHOICES if seconds <= longest)
        return seconds, next(fitting, Granularity.DAY)
    if seconds > granularity.kept:
        kept = f"figures by the {granularity} are kept for {granularity.kept // 86_400} days"
        raise InvalidRequest([Violation("window", f"is too long: {kept}; ask for a longer granularity")])
    if (points := -(-int(seconds) // granularity.seconds)) > POINTS:
        longer = next(each for each in _NUMBERS if int(seconds) <= each.seconds * POINTS)
        told = f"gives {points:,} points, and an answer has {POINTS:,} at most: ask for the {longer}, or less time"
        raise InvalidRequest([Violation("granularity", told)])
    return seconds, granularity


def _moment(given: Timestamp) -> datetime:
    try:
        found = given.ToDatetime(UTC)
        if found.year < 1970 or found.year > 9000:
            raise ValueError(given)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest([Violation("until_time", "is no moment since 1970")]) from error
    return found


def _average(of: Sum, unit: int) -> pb.Average:
    return pb.Average(sum=of.total / unit, count=of.count, mean=of.mean / unit)


def _average_of(histogram: Histogram) -> pb.Average:
    return pb.Average(sum=histogram.sum, count=histogram.count, mean=histogram.mean)


def _distribution(histogram: Histogram, bounds: tuple[float, ...]) -> pb.Distribution:
    return pb.Distribution(bounds=bounds, counts=histogram.bins) if histogram.bins else pb.Distribution()


def _timestamp(moment: datetime) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(moment)
    return found


def _duration(seconds: float) -> Duration:
    found = Duration()
    found.FromNanoseconds(round(seconds * 1e9))
    return found
