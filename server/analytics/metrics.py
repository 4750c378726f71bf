"""What is counted of a stretch of time.

Sums are integers (stars, microseconds, millionths of a reward), so that figures add
up exactly, in whatever order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

LATENCY_BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0)
"""Seconds: a reply falls into the first bin whose bound it does not exceed; those past the last have a
bin of their own."""
REWARD_BOUNDS = tuple(edge / 20 for edge in range(1, 20))
"""Rewards are in 0..1: 20 bins of 0.05, likewise; the last has no bound and ends at 1."""
MILLION = 1_000_000


class Granularity(StrEnum):
    """The length of one bucket of counters."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def seconds(self) -> int:
        """Its length. Buckets begin at multiples of it since 1970, so days are those of UTC."""
        return _SECONDS[self]

    @property
    def kept(self) -> int:
        """Seconds that a bucket is kept from its beginning: 2 days, 60 days, 2 years."""
        return _KEPT[self]


_SECONDS = {Granularity.MINUTE: 60, Granularity.HOUR: 3600, Granularity.DAY: 86_400}
_KEPT = {Granularity.MINUTE: 2 * 86_400, Granularity.HOUR: 60 * 86_400, Granularity.DAY: 730 * 86_400}


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of integers, and how many went into it."""

    total: int = 0
    count: int = 0

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        """0 when nothing went into it."""
        return self.total / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Histogram:
    """A sum in millionths, how many went into it, and how many fell into each bin: `bins` is one longer than the
    bounds, or empty for nothing at all."""

    millionths: int = 0
    count: int = 0
    bins: tuple[int, ...] = ()

    def __add__(self, other: "Histogram") -> "Histogram":
        return Histogram(self.millionths + other.millionths, self.count + other.count, added(self.bins, other.bins))

    @property
    def sum(self) -> float:
        """Of the values."""
        return self.millionths / MILLION

    @property
    def mean(self) -> float:
        """0 when nothing went into it."""
        return self.sum / self.count if self.count else 0.0


Part = TypeVar("Part", Sum, Histogram)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures of one stretch of time, of one release or of all; named as in analytics.proto.

    `rated_replies` counts current ratings that are not withdrawn. `dimensions` sums stars by dimension; `rewards` has a
    histogram for each reward release (scores of different releases can't be compared); `stages` sums microseconds.
    `calls` and `errors` are approximate and belong to no release: they are 0 in figures of a single one.
    """

    replies: int = 0
    refused: int = 0
    degraded: int = 0
    rated_replies: int = 0
    rating_sum: int = 0
    rating_count: int = 0
    stars: tuple[int, ...] = (0, 0, 0, 0, 0)
    thumbs_up: int = 0
    thumbs_down: int = 0
    thumbs_neutral: int = 0
    comments: int = 0
    safety_reports: int = 0
    preferences: int = 0
    dimensions: Mapping[str, Sum] = field(default_factory=dict)
    rewards: Mapping[str, Histogram] = field(default_factory=dict)
    latency: Histogram = Histogram()
    stages: Mapping[str, Sum] = field(default_factory=dict)
    calls: int = 0
    errors: int = 0

    def __add__(self, other: "Metrics") -> "Metrics":
        return Metrics(
            replies=self.replies + other.replies,
            refused=self.refused + other.refused,
            degraded=self.degraded + other.degraded,
            rated_replies=self.rated_replies + other.rated_replies,
            rating_sum=self.rating_sum + other.rating_sum,
            rating_count=self.rating_count + other.rating_count,
            stars=added(self.stars, other.stars),
            thumbs_up=self.thumbs_up + other.thumbs_up,
            thumbs_down=self.thumbs_down + other.thumbs_down,
            thumbs_neutral=self.thumbs_neutral + other.thumbs_neutral,
            comments=self.comments + other.comments,
            safety_reports=self.safety_reports + other.safety_reports,
            preferences=self.preferences + other.preferences,
            dimensions=_merged(self.dimensions, other.dimensions, Sum()),
            rewards=_merged(self.rewards, other.rewards, Histogram()),
            latency=self.latency + other.latency,
            stages=_merged(self.stages, other.stages, Sum()),
            calls=self.calls + other.calls,
            errors=self.errors + other.errors,
        )

    @property
    def rating_mean(self) -> float:
        """Mean stars; 0 when there are none."""
        return self.rating_sum / self.rating_count if self.rating_count else 0.0

    @property
    def reward(self) -> Histogram:
        """Rewards of all reward releases together: for showing, not for comparing."""
        return sum(self.rewards.values(), Histogram())

    @property
    def reward_sum(self) -> float:
        """Of all reward releases."""
        return self.reward.sum

    @property
    def reward_count(self) -> int:
        """Of all reward releases."""
        return self.reward.count

    @property
    def reward_bins(self) -> tuple[int, ...]:
        """Of all reward releases, by REWARD_BOUNDS; empty for nothing at all."""
        return self.reward.bins

    @property
    def latency_sum(self) -> float:
        """Seconds from request to reply."""
        return self.latency.sum

    @property
    def latency_count(self) -> int:
        """Replies that have a latency."""
        return self.latency.count

    @property
    def latency_bins(self) -> tuple[int, ...]:
        """By LATENCY_BOUNDS; empty for nothing at all."""
        return self.latency.bins


def added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Bins added up; an empty one adds nothing."""
    if not one or not other:
        return one or other
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _merged(one: Mapping[str, Part], other: Mapping[str, Part], nothing: Part) -> dict[str, Part]:
    return {name: one.get(name, nothing) + other.get(name, nothing) for name in one.keys() | other.keys()}
