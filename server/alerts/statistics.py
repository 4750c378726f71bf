"""Tests that tell a change from chance. Pure; counts come as Python integers, probabilities go from 0 to 1.

Alerts look again and again, so their rules ask for far smaller probabilities than the usual 5 %. Nothing here corrects
for the votes of one user being alike.
"""

import math
from collections.abc import Callable, Sequence

NEGLIGIBLE = 1e-17
"""Part of a sum below which a term, and all the smaller ones after it, are left out."""


def hypergeometric_upper(hits: int, drawn: int, marked: int, total: int) -> float:
    """P(X >= hits) when `drawn` of `total` things are taken and `marked` of them are marked: Fisher's exact test,
    one-sided (Fisher 1935)."""
    low, high = max(0, drawn + marked - total), min(drawn, marked)

    def log_mass(k: int) -> float:
        return _log_choose(marked, k) + _log_choose(total - marked, drawn - k) - _log_choose(total, drawn)

    def ratio(k: int) -> float:  # mass(k + 1) / mass(k)
        return (marked - k) * (drawn - k) / ((k + 1) * (total - marked - drawn + k + 1))

    return _upper_tail(hits, low, high, drawn * marked / total if total else 0.0, log_mass, ratio)


def binomial_upper(hits: int, trials: int, chance: float) -> float:
    """P(X >= hits) in so many independent trials; `chance` lies between 0 and 1, both excluded."""
    log_yes, log_no, odds = math.log(chance), math.log1p(-chance), chance / (1 - chance)

    def log_mass(k: int) -> float:
        return _log_choose(trials, k) + k * log_yes + (trials - k) * log_no

    def ratio(k: int) -> float:
        return (trials - k) / (k + 1) * odds

    return _upper_tail(hits, 0, trials, trials * chance, log_mass, ratio)


def poisson_rate_lower(events: int, exposure: float, events_before: int, exposure_before: float) -> float:
    """The probability of so few events, or fewer, had the rate stayed as it was before.

    Given the sum of two Poisson counts, one of them is binomial with its part of the exposure (Przyborowski and
    Wilenski 1940). Exposures are above 0.
    """
    chance = exposure_before / (exposure + exposure_before)
    return binomial_upper(events_before, events + events_before, chance)  # few now is many before


def kolmogorov_smirnov(counts: Sequence[int], counts_before: Sequence[int]) -> tuple[float, float]:
    """The largest distance of two distributions, and the probability of as large a one by chance.

    Both are counts in the same bins, neither is empty. Binning can only make the distance smaller, so the probability
    is never too small. It is the asymptotic one (Kolmogorov 1933, Smirnov 1939): good from some dozens up.
    """
    size, size_before = sum(counts), sum(counts_before)
    distance, below, below_before = 0.0, 0, 0
    for count, before in zip(counts, counts_before, strict=True):
        below, below_before = below + count, below_before + before
        distance = max(distance, abs(below / size - below_before / size_before))
    return distance, kolmogorov_upper(distance * math.sqrt(size / (size + size_before) * size_before))


def kolmogorov_upper(value: float) -> float:
    """P(K >= value) for Kolmogorov's distribution."""
    if value < 0.3:  # 1 to nine digits; the series below converges slowly there
        return 1.0
    total = sum((1 if k % 2 else -1) * math.exp(-2 * k * k * value * value) for k in range(1, 20))
    return min(1.0, max(0.0, 2 * total))


def quantile(share: float, bounds: Sequence[float], counts: Sequence[int]) -> float:
    """The value below which `share` of a histogram lies, straight within its bin, as Prometheus' histogram_quantile.

    `bounds` are the bins' upper ones, the first begins at 0, the last has none: what lies there counts as the last
    bound. The histogram is not empty.
    """
    wanted, below, lower = share * sum(counts), 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and below + count >= wanted:
            return lower + (bound - lower) * (wanted - below) / count
        below, lower = below + count, bound
    return bounds[-1]


def _log_choose(of: int, taken: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(taken + 1) - math.lgamma(of - taken + 1)


def _upper_tail(
    hits: int, low: int, high: int, mean: float, log_mass: Callable[[int], float], ratio: Callable[[int], float]
) -> float:
    """P(X >= hits) for X in low..high with one peak near `mean`. Goes away from the peak, so few terms count."""
    if hits <= low:
        return 1.0
    if hits > high:
        return 0.0
    if hits > mean:
        return min(1.0, math.exp(log_mass(hits)) * _series(hits, high, 1, ratio))
    lower = math.exp(log_mass(hits - 1)) * _series(hits - 1, low, -1, ratio)
    return max(0.0, 1.0 - lower)


def _series(start: int, end: int, step: int, ratio: Callable[[int], float]) -> float:
    """1 + the masses from `start` on to `end`, each as a part of the first one."""
    total = term = 1.0
    for k in range(start, end, step):
        term = term * ratio(k) if step > 0 else term / ratio(k - 1)
        total += term
        if term < NEGLIGIBLE * total:
            break
    return total
