"""Figures and alerts with something to see in every chart. All of it made up, and the same each time."""

import math
from collections.abc import Iterator

from google.protobuf.duration_pb2 import Duration

from ratchet.v1 import alert_pb2, analytics_pb2
from tests.browser.planted import FIRING, RESOLVED, stamp

LATENCY = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0)
REWARD = tuple(edge / 20 for edge in range(1, 20))
STAGES = {"context": 0.004, "tools": 0.021, "prompt": 0.001, "candidates": 0.212, "scoring": 0.034, "log": 0.003}
DIMENSIONS = {"accuracy": 4.1, "helpfulness": 4.4, "clarity": 3.9, "safety": 4.8}
MINUTE, HOUR = 60.0, 3600.0


def metrics(scale: float = 1.0, *, calls: bool = True) -> analytics_pb2.Metrics:
    """About 120 replies at scale 1, of which a third is rated."""
    replies = round(120 * scale)
    stars = [round(part * replies) for part in (0.02, 0.02, 0.05, 0.12, 0.14)]
    found = analytics_pb2.Metrics(replies=replies, degraded=replies // 40, rated_replies=sum(stars), stars=stars)
    found.rating.CopyFrom(_average(sum((n + 1) * count for n, count in enumerate(stars)), sum(stars)))
    found.thumbs_up, found.thumbs_down, found.thumbs_neutral = replies // 4, replies // 16, replies // 30
    found.comments, found.safety_reports, found.preferences = replies // 12, replies // 120, replies // 20
    found.calls, found.errors = (replies + replies // 30, replies // 100) if calls else (0, 0)
    found.latency_distribution.CopyFrom(_bell(LATENCY, 4.2, 1.4, replies))
    found.reward_distribution.CopyFrom(_bell(REWARD, 14, 2.5, replies))
    found.reward.CopyFrom(_average(0.71 * replies, replies))
    for name, seconds in STAGES.items():
        found.stages[name].CopyFrom(_average(seconds * replies, replies))
    for name, mean in DIMENSIONS.items():
        found.dimensions[name].CopyFrom(_average(mean * 20, 20))
    return found


def figures(now: float, seconds: float, step: float) -> analytics_pb2.GetMetricsResponse:
    """An answer for the window that ends at `now`, with traffic that comes and goes."""
    found = analytics_pb2.GetMetricsResponse(total=metrics(seconds / HOUR * 6), lag=Duration(nanos=200_000_000))
    found.start_time.CopyFrom(stamp(now - seconds))
    found.end_time.CopyFrom(stamp(now))
    for n in range(round(seconds / step)):
        wave = step / HOUR * 6 * (1 + 0.6 * math.sin(n / 3))
        found.points.add(start_time=stamp(now - seconds + n * step), metrics=metrics(wave))
    for release, part in (("policy-000001", 4.5), ("policy-000002", 1.5)):
        found.releases.add(release=release, total=metrics(seconds / HOUR * part, calls=False))
    for release, centre in (("reward-000001", 14), ("reward-000002", 12)):
        each = found.releases.add(release=release, total=metrics(seconds / HOUR * 3, calls=False))
        each.total.reward_distribution.CopyFrom(_bell(REWARD, centre, 2.5, each.total.replies))
    return found


def windows(now: float) -> dict[float, analytics_pb2.GetMetricsResponse]:
    """An answer for each window of the page."""
    steps = {HOUR / 4: MINUTE, HOUR: MINUTE, 24 * HOUR: HOUR, 14 * 24 * HOUR: 24 * HOUR}
    return {seconds: figures(now, seconds, step) for seconds, step in steps.items()}


def alerts(now: float) -> Iterator[alert_pb2.Alert]:
    """Two that fire, one of them taken on, and one that is over."""
    yield alert(
        "safety_report",
        "policy-000002",
        now - 4 * MINUTE,
        (1, 1, 1),
        "A reply of policy-000002 was reported as unsafe (dangerous).",
        severity=alert_pb2.ALERT_SEVERITY_CRITICAL,
        link="/conversations?flag=safety_reported",
    )
    rated = alert(
        "rating_low",
        "policy-000002",
        now - 50 * MINUTE,
        (3.12, 3.5, 84),
        "The average rating of policy-000002 is 3.12 stars over the last hour (84 ratings); it should be 3.5 or more.",
        link="/conversations?rating=1-2&release=policy-000002",
    )
    rated.acknowledge_time.CopyFrom(stamp(now - 20 * MINUTE))
    rated.acknowledged_by, rated.note = "Lan", "The new policy answers returns wrongly; a fix is being trained."
    yield rated
    over = alert(
        "latency_high",
        "policy-000001",
        now - 30 * HOUR,
        (2.61, 2.0, 340),
        "95 % of the replies of policy-000001 take up to 2.61 s over 10 minutes (340 replies); 2 s should do.",
        link="/live",
    )
    over.state = RESOLVED
    over.resolve_time.CopyFrom(stamp(now - 29 * HOUR))
    yield over


def alert(
    rule: str,
    subject: str,
    since: float,
    seen: tuple[float, float, int],
    reason: str,
    *,
    severity: "alert_pb2.AlertSeverity.ValueType" = alert_pb2.ALERT_SEVERITY_WARNING,
    link: str = "",
) -> alert_pb2.Alert:
    """One that fires; `seen`: value, level, samples."""
    value, threshold, samples = seen
    found = alert_pb2.Alert(rule=rule, subject=subject, state=FIRING, severity=severity, reason=reason, link=link)
    found.value, found.threshold, found.sample_count = value, threshold, samples
    found.fire_time.CopyFrom(stamp(since))
    return found


def rules() -> list[alert_pb2.AlertRule]:
    """Two of the rules: one with a value, one that has seen too little."""
    warning, critical = alert_pb2.ALERT_SEVERITY_WARNING, alert_pb2.ALERT_SEVERITY_CRITICAL
    errors = alert_pb2.AlertRule(
        rule="error_rate", severity=critical, threshold=0.01, clear_threshold=0.005, minimum_samples=200
    )
    errors.fire_seconds, errors.clear_seconds, errors.window_seconds, errors.sample_count = 60, 300, 600, 12
    rating = alert_pb2.AlertRule(
        rule="rating_low", severity=warning, threshold=3.5, clear_threshold=3.7, minimum_samples=20
    )
    rating.fire_seconds, rating.clear_seconds, rating.window_seconds = 60, 300, 3600
    rating.value, rating.sample_count = 3.12, 84
    return [errors, rating]


def _average(total: float, count: int) -> analytics_pb2.Average:
    return analytics_pb2.Average(sum=total, count=count, mean=total / count if count else 0.0)


def _bell(bounds: tuple[float, ...], centre: float, width: float, total: int) -> analytics_pb2.Distribution:
    """`total` counts around the bin `centre`."""
    weights = [math.exp(-(((n - centre) / width) ** 2)) for n in range(len(bounds) + 1)]
    return analytics_pb2.Distribution(bounds=bounds, counts=[round(total * each / sum(weights)) for each in weights])
