"""Live figures that a test sets itself."""

from datetime import datetime, timedelta

from server.analytics.figures import Granularity, Window
from server.analytics.metrics import Metrics
from server.errors import MetricsUnavailable


class SetWindows:
    """What the counters would say of a tenant: `recent` for windows that reach `now`, `before` for earlier ones."""

    def __init__(self) -> None:
        self.now = datetime.max
        self.recent: dict[str, dict[str, Metrics]] = {}
        self.before: dict[str, dict[str, Metrics]] = {}
        self.away = False
        self.lag = 0.0
        self.asked: list[tuple[str, datetime, float, Granularity]] = []

    async def window(
        self, tenant: str, until: datetime, seconds: float, granularity: Granularity = Granularity.MINUTE
    ) -> Window:
        """See `server.alerts.evidence.Windows`."""
        self.asked.append((tenant, until, seconds, granularity))
        if self.away:
            raise MetricsUnavailable("Redis is away.")
        releases = (self.recent if until >= self.now else self.before).get(tenant, {})
        step = timedelta(seconds=granularity.seconds)
        end = (
            datetime.fromtimestamp(until.timestamp() // granularity.seconds * granularity.seconds, until.tzinfo) + step
        )
        total = releases.get("all") or sum(releases.values(), Metrics())
        named = {name: metrics for name, metrics in releases.items() if name != "all"}
        return Window(end - timedelta(seconds=seconds), end, granularity, total, (), named, self.lag)


def ratings(*stars: int) -> Metrics:
    """Replies that got so many of 1, 2, 3, 4 and 5 stars."""
    count, total = sum(stars), sum(star * number for star, number in enumerate(stars, 1))
    return Metrics(replies=count, rated_replies=count, rating_count=count, rating_sum=total, stars=stars)
