"""Figures in words, the same in the gate's sentences and on the report's page."""

from trainer.reward.findings import Estimate


def counted(count: int, noun: str) -> str:
    """1 -> "1 pair", 1204 -> "1,204 pairs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def share(value: float | None) -> str:
    """0.7123 -> "71.2 %"."""
    return "unknown" if value is None else f"{100 * value:.1f} %"


def points(value: float) -> str:
    """Percentage points without a sign: 0.0312 -> "3.1 points"."""
    return f"{100 * abs(value):.1f} points"


def signed(value: float | None) -> str:
    """Percentage points with a sign: 0.0312 -> "+3.1"."""
    if value is None:
        return "unknown"
    rounded = round(100 * value, 1)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):.1f}"


def more_or_fewer(difference: float | None) -> str:
    """What a difference of shares means for how many there are: "3.1 points more"."""
    if difference is None:
        return "nobody can tell how many"
    rounded = round(100 * difference, 1)
    return "as many" if not rounded else f"{points(difference)} {'more' if rounded > 0 else 'fewer'}"


def interval(estimate: Estimate, confidence: float) -> str:
    """ "95 % interval +0.4 to +5.8"."""
    if estimate.low is None:
        return "no interval can be told"
    return f"{100 * confidence:g} % interval {signed(estimate.low)} to {signed(estimate.high)}"


def bounds(estimate: Estimate, confidence: float) -> str:
    """The same of a share: "95 % interval 48.9 % to 55.2 %"."""
    if estimate.low is None:
        return "no interval can be told"
    return f"{100 * confidence:g} % interval {share(estimate.low)} to {share(estimate.high)}"
