"""What the live page shows of the server's figures: numbers and charts. Pure but for the visitor's language."""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise

from console.charts import Figure, Series
from console.histogram import quantile
from console.moments import of
from console.numerals import number, share
from console.words import t
from ratchet.v1 import analytics_pb2 as pb

STAGES = ("lookup", "context", "tools", "prompt", "candidates", "scoring", "quality", "selection", "log", "memory")
"""In the order of the path."""
DIMENSIONS = ("accuracy", "helpfulness", "clarity", "safety")
_LEAST_SECONDS = 20.0
"""What the newest point counts as at least: two requests in its first second are no 120 a minute."""

Answer = pb.GetMetricsResponse


def nothing(answer: Answer) -> bool:
    """Whether nobody asked or rated anything in this time."""
    total = answer.total
    return not (total.calls or total.replies or total.rated_replies or total.safety_reports or total.preferences)


def requests(metrics: pb.Metrics) -> int:
    """All calls; of a single release, which calls know nothing of, its replies."""
    return max(metrics.calls, metrics.replies)


def rate(answer: Answer) -> float:
    """Requests per minute over the whole time."""
    seconds = (of(answer.end_time) - of(answer.start_time)).total_seconds()
    return 60.0 * requests(answer.total) / max(seconds, 60.0)


def median(metrics: pb.Metrics) -> float | None:
    """Milliseconds that half of the replies stay below."""
    return _latency(metrics, 0.5)


def slow(metrics: pb.Metrics) -> float | None:
    """Milliseconds that 95 % of the replies stay below."""
    return _latency(metrics, 0.95)


def mean(average: pb.Average) -> float | None:
    """None of nothing."""
    return average.mean if average.count else None


def thumbs_up(metrics: pb.Metrics) -> float | None:
    """Percent of the thumbs that say good or bad."""
    return share(metrics.thumbs_up, metrics.thumbs_up + metrics.thumbs_down)


def rates(answer: Answer) -> Figure:
    """Requests per minute."""
    values = [60.0 * requests(point.metrics) / seconds for point, seconds in _lengths(answer)]
    return Figure(_moments(answer), (Series(t("live.requests"), tuple(values)),), digits=1)


def latencies(answer: Answer) -> Figure:
    """Two quantiles in milliseconds."""
    lines = (_over_time(t("live.p50"), answer, median), _over_time(t("live.p95"), answer, slow))
    return Figure(_moments(answer), lines, unit="ms")


def stages(answer: Answer) -> Figure:
    """Mean milliseconds of each stage, in the order of the path; those that are new to us come last."""
    found = answer.total.stages
    names = [*(name for name in STAGES if name in found), *sorted(set(found) - set(STAGES))]
    labels = tuple(t(f"live.{name}") if name in STAGES else name for name in names)
    values = tuple(_ms(mean(found[name])) for name in names)
    return Figure(labels, (Series(t("live.duration"), values),), "bar", "ms", digits=1, lying=True)


def rewards(answer: Answer) -> Figure:
    """Percent of each reward release's answers by score: of releases with different traffic, still comparable."""
    releases = [(each.release, each.total) for each in answer.releases if each.release.startswith("reward-")]
    found = [(name, total.reward_distribution) for name, total in releases if any(total.reward_distribution.counts)]
    if not found and any(answer.total.reward_distribution.counts):
        found = [(t("live.all"), answer.total.reward_distribution)]
    bounds = found[0][1].bounds if found else ()
    series = [Series(name, tuple(share(count, sum(each.counts)) for count in each.counts)) for name, each in found]
    return Figure(_bins(bounds), tuple(series), "bar" if len(series) < 2 else "line", "%", digits=1)


def ratings(answer: Answer) -> Figure:
    """Mean stars."""
    series = _over_time(t("live.mean"), answer, lambda metrics: mean(metrics.rating))
    return Figure(_moments(answer), (series,), unit=" ★", digits=2, highest=5)


def stars(answer: Answer) -> Figure:
    """How many of each number of stars."""
    counts = tuple(answer.total.stars) or (0,) * 5
    return Figure(tuple(f"{n} ★" for n in range(1, 6)), (Series(t("live.count"), counts),), "bar")


def dimensions(answer: Answer) -> Figure:
    """Mean stars of the four dimensions."""
    values = tuple(
        mean(answer.total.dimensions[name]) if name in answer.total.dimensions else None for name in DIMENSIONS
    )
    labels = tuple(t(f"live.{name}") for name in DIMENSIONS)
    return Figure(labels, (Series(t("live.mean"), values),), "bar", " ★", digits=2, lying=True, highest=5)


def feedback(answer: Answer) -> Figure:
    """Percent of the replies that were rated."""
    series = _over_time(t("live.feedback"), answer, lambda metrics: share(metrics.rated_replies, metrics.replies))
    return Figure(_moments(answer), (series,), unit="%", digits=1)


def thumbs(answer: Answer) -> Figure:
    """How many of each kind."""
    kinds: Sequence[tuple[str, Callable[[pb.Metrics], float]]] = (
        ("up", lambda metrics: metrics.thumbs_up),
        ("down", lambda metrics: metrics.thumbs_down),
        ("neutral", lambda metrics: metrics.thumbs_neutral),
    )
    series = tuple(_over_time(t(f"live.{name}"), answer, read) for name, read in kinds)
    return Figure(_moments(answer), series, "bar", stacked=True)


def errors(answer: Answer) -> Figure:
    """Percent of the calls."""
    series = _over_time(t("live.errors"), answer, lambda metrics: share(metrics.errors, metrics.calls))
    return Figure(_moments(answer), (series,), unit="%", digits=2)


def _moments(answer: Answer) -> tuple[datetime, ...]:
    return tuple(of(point.start_time) for point in answer.points)


def _over_time(name: str, answer: Answer, read: Callable[[pb.Metrics], float | None]) -> Series:
    return Series(name, tuple(read(point.metrics) for point in answer.points))


def _lengths(answer: Answer) -> list[tuple[pb.MetricsPoint, float]]:
    """Each point with the seconds that it stands for: the newest is not over yet."""
    ends = (*_moments(answer), of(answer.end_time))[1:]
    lengths = [(end - of(point.start_time)).total_seconds() for point, end in zip(answer.points, ends, strict=True)]
    return [(point, max(seconds, _LEAST_SECONDS)) for point, seconds in zip(answer.points, lengths, strict=True)]


def _bins(bounds: Sequence[float]) -> tuple[str, ...]:
    """Scores are in 0 to 1, so the open bin ends there."""
    return (
        tuple(f"{number(lower, 2)}–{number(upper, 2)}" for lower, upper in pairwise((0.0, *bounds, 1.0)))
        if bounds
        else ()
    )


def _latency(metrics: pb.Metrics, part: float) -> float | None:
    found = metrics.latency_distribution
    return _ms(quantile(found.bounds, found.counts, part))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000.0 * seconds
