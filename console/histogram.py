"""Quantiles of a distribution that is known by its bins. Pure."""

from collections.abc import Sequence


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which `share` (0 to 1) of the counted ones lie, straight between the edges of its bin.

    `bounds`: upper edges, ascending, the first bin beginning at 0; `counts`: one more than the bounds. Of what lies in
    the last, open bin only its lower edge is known, so that is given: "at least so much". None when nothing is counted.
    """
    total = sum(counts)
    if not bounds or not total:
        return None
    wanted, seen = share * total, 0
    for lower, upper, count in zip((0.0, *bounds), bounds, counts, strict=False):
        if count and seen + count >= wanted:
            return lower + (upper - lower) * max(wanted - seen, 0.0) / count
        seen += count
    return bounds[-1]
