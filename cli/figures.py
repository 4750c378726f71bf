"""How `ratchet analytics` shows figures: a summary, the stars, small bars over time, and a line for each release."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.output import visible

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 60
"""Bars of one line at most: neighbouring points are put together."""
_STAR_BAR = 24


def printed(found: Any, release: str = "") -> RenderableType:
    """A GetMetricsResponse, for people."""
    total = found.total
    parts: list[RenderableType] = [_heading(found, release), _summary(total)]
    if total.rating.count:
        parts.append(_stars(total))
    if total.replies:
        parts.append(_series(found.points))
    if total.stages:
        parts.append(_stages(total))
    if found.releases:
        parts.append(_releases(found.releases))
    return Group(*(each for part in parts for each in (part, Text())))


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """A bar for each value, or for several neighbours where there are more than `width`: their sum. The highest is
    full, what is more than nothing is seen."""
    size = -(-len(values) // width) or 1
    sums = [sum(values[begin : begin + size]) for begin in range(0, len(values), size)]
    highest = max(sums, default=0)
    return "".join(_BARS[max(1, round(each / highest * 8))] if each > 0 else _BARS[0] for each in sums)


def quantile(distribution: Any, share: float) -> str:
    """The bound below which so many lie: "≤ 0.5", or "> 60" beyond the last; "–" of nothing."""
    if not distribution.counts:
        return "–"
    wanted, below = share * sum(distribution.counts), 0
    for bound, count in zip([*distribution.bounds, None], distribution.counts, strict=True):
        below += count
        if below and below >= wanted:
            return f"≤ {bound:g}" if bound is not None else f"> {distribution.bounds[-1]:g}"
    return "–"


def _heading(found: Any, release: str) -> Text:
    start, end = (each.ToDatetime().strftime("%Y-%m-%d %H:%M") for each in (found.start_time, found.end_time))
    whose = f", {visible(release)} only" if release else ""
    lag = found.lag.ToNanoseconds() / 1e9
    return Text.assemble(("Figures", "bold"), f" from {start} to {end} UTC{whose}", (f"  ({lag:.1f} s behind)", "dim"))


def _summary(total: Any) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    rated = total.rated_replies / total.replies if total.replies else 0.0
    failed = total.errors / total.calls if total.calls else 0.0
    rows = (
        ("replies", f"{total.replies:,}", f"{total.refused:,} refused, {total.degraded:,} degraded"),
        ("calls", f"{total.calls:,}", f"{total.errors:,} errors ({failed:.1%})" if total.calls else ""),
        ("latency", _mean(total.latency, " s"), f"p95 {quantile(total.latency_distribution, 0.95)} s"),
        ("reward", _mean(total.reward), f"median {quantile(total.reward_distribution, 0.5)}"),
        ("rating", _mean(total.rating), f"{total.rated_replies:,} rated ({rated:.1%} of the replies)"),
        (
            "reactions",
            f"{total.thumbs_up + total.thumbs_down + total.thumbs_neutral:,}",
            f"{total.thumbs_up:,} up, {total.thumbs_down:,} down, {total.thumbs_neutral:,} neutral",
        ),
        (
            "more",
            f"{total.comments + total.safety_reports + total.preferences:,}",
            f"{total.comments:,} comments, {total.safety_reports:,} safety reports, {total.preferences:,} preferences",
        ),
    )
    for name, value, detail in rows:
        table.add_row(Text(name, style="dim"), Text(value, style="bold", justify="right"), Text(detail))
    for name, average in sorted(total.dimensions.items()):
        table.add_row(Text(visible(name), style="dim"), Text(_mean(average), justify="right"), f"{average.count:,}")
    return table


def _stars(total: Any) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    highest = max(total.stars)
    for number in range(5, 0, -1):
        count = total.stars[number - 1]
        bar = "█" * max(round(count / highest * _STAR_BAR), int(count > 0))
        table.add_row(Text(f"{number} ★", style="yellow"), Text(f"{count:,}", justify="right"), Text(bar, "yellow"))
    return table


def _series(points: Iterable[Any]) -> Table:
    metrics = [point.metrics for point in points]
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, values in (
        ("replies", [each.replies for each in metrics]),
        ("ratings", [each.rated_replies for each in metrics]),
        ("errors", [each.errors for each in metrics]),
    ):
        if any(values):
            table.add_row(Text(name, style="dim"), Text(sparkline(values), style="cyan", no_wrap=True))
    return table


def _stages(total: Any) -> Table:
    table = Table(box=None, pad_edge=False, title=Text("Mean seconds by stage", style="dim"), title_justify="left")
    names = sorted(total.stages, key=lambda name: -total.stages[name].mean)
    for name in names:
        table.add_column(Text(visible(name), style="dim"), justify="right")
    table.add_row(*(f"{total.stages[name].mean:.3f}" for name in names))
    return table


def _releases(releases: Iterable[Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("release", "replies", "rating", "rated", "up", "down", "reward", "latency s"):
        table.add_column(Text(name, style="dim"), justify="left" if name == "release" else "right")
    for each in releases:
        total = each.total
        counts = (total.rated_replies, total.thumbs_up, total.thumbs_down)
        table.add_row(
            Text(visible(each.release), style="bold"),
            f"{total.replies:,}",
            _mean(total.rating),
            *(f"{count:,}" for count in counts),
            _mean(total.reward),
            _mean(total.latency),
        )
    return table


def _mean(average: Any, unit: str = "") -> str:
    return f"{average.mean:.2f}{unit}" if average.count else "–"
