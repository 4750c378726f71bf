"""Metrics from the fields of counters, which `contributions` made."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from server.analytics import contributions as codes
from server.analytics.metrics import LATENCY_BOUNDS, REWARD_BOUNDS, Histogram, Metrics, Sum

Fields = Mapping[str, int]


def merged(cells: Iterable[Fields]) -> dict[str, int]:
    """Fields of several buckets, added up."""
    found: defaultdict[str, int] = defaultdict(int)
    for cell in cells:
        for name, amount in cell.items():
            found[name] += amount
    return dict(found)


def only(release: str, cells: Fields) -> dict[str, int]:
    """The fields that belong to a policy or reward release."""
    return {name: amount for name, amount in cells.items() if release in name.split(codes.SEPARATOR, 2)[:2]}


def by_release(cells: Fields) -> dict[str, Metrics]:
    """What each policy and each reward release has part in, by name."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name, amount in cells.items():
        for release in set(name.split(codes.SEPARATOR, 2)[:2]) - {""}:
            found[release][name] = amount
    return {release: metrics_of(fields) for release, fields in sorted(found.items())}


def metrics_of(cells: Fields, calls: int = 0, errors: int = 0) -> Metrics:
    """All of the fields together. Codes that are not known (of a newer version) are passed over."""
    plain: defaultdict[str, int] = defaultdict(int)
    rewards: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name, amount in cells.items():
        _, reward, code = name.split(codes.SEPARATOR, 2)
        if code.startswith(codes.REWARD):
            scores = rewards[reward]
            scores[code] = scores.get(code, 0) + amount
        else:
            plain[code] += amount
    stars = tuple(plain[f"{codes.STAR}{number}"] for number in range(1, 6))
    return Metrics(
        replies=plain[codes.REPLIES],
        refused=plain[codes.REFUSED],
        degraded=plain[codes.DEGRADED],
        rated_replies=plain[codes.RATED],
        rating_sum=sum(number * count for number, count in enumerate(stars, 1)),
        rating_count=sum(stars),
        stars=stars,
        thumbs_up=plain[codes.REACTION + "thumbs_up"],
        thumbs_down=plain[codes.REACTION + "thumbs_down"],
        thumbs_neutral=plain[codes.REACTION + "neutral"],
        comments=plain[codes.COMMENTS],
        safety_reports=plain[codes.SAFETY_REPORTS],
        preferences=plain[codes.PREFERENCES],
        dimensions=_sums(codes.DIMENSION, plain),
        rewards={
            release: _histogram(codes.REWARD, scores, len(REWARD_BOUNDS)) for release, scores in sorted(rewards.items())
        },
        latency=_histogram(codes.LATENCY, plain, len(LATENCY_BOUNDS)),
        stages=_sums(codes.STAGE, plain),
        calls=calls,
        errors=errors,
    )


def _histogram(code: str, fields: Fields, bounds: int) -> Histogram:
    bins = tuple(fields.get(f"{code}{index}", 0) for index in range(bounds + 1))
    return Histogram(fields.get(f"{code}{codes.SUM}", 0), sum(bins), bins) if any(bins) else Histogram()


def _sums(code: str, fields: Fields) -> dict[str, Sum]:
    """By name; those that nothing went into are left out."""
    end = f".{codes.COUNT}"
    counts = {
        name[len(code) : -len(end)]: amount
        for name, amount in fields.items()
        if amount and name.startswith(code) and name.endswith(end)
    }
    return {name: Sum(fields.get(f"{code}{name}.{codes.SUM}", 0), counts[name]) for name in sorted(counts)}
