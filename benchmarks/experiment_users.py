"""Simulated users of experiments: who comes when, how they rate, and what is known of it after each look."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from server.rollout.statistics.outcomes import Moments

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Steps = Bytes | Floats
Flags = NDArray[np.bool_]
Shares = tuple[tuple[int, float], ...]
LOOKS = 28
AT_ONCE, IN_CACHE = 200, 20
"""Runs that are in memory together, and those of them that are added up together."""
SHARES = {"10 %": ((0, 0.10),), "50 %": ((0, 0.50),), "ramp": ((0, 0.10), (9, 0.50), (18, 0.95))}
"""From which look on which share is the challenger's; the ramp keeps a holdback of 5 %."""
STARS = (0.10, 0.05, 0.07, 0.18, 0.60)
"""J-shaped: of 1 to 5 stars; 4.13 on average."""
LATENCY = "latency"
RATINGS_OF = {"thumbs 0.80": (0.20, 0.80), "thumbs 0.95": (0.05, 0.95), "stars": STARS}
"""How often each value comes; values go from 0 to 1 in equal steps."""
FREQUENCIES: dict[str, tuple[float, ...]] = RATINGS_OF | {LATENCY: ()}
SIGMA = 0.5
"""Latencies are log-normal: of the logarithm."""
RATINGS = 4
"""A returning user's at most: the first on arrival, others any time until the end."""
ALIKE = 0.5
"""Part of the variance behind the ratings that is the user's own."""
MOVES = 0.35
"""How far the baseline moves to both sides, in standard deviations behind the ratings: 0.8 goes from 0.69 to 0.88."""
DELAY, EDITED, CHANGE = 3.0, 0.15, 4.0
"""Feedback comes so many looks late on average; so many are given anew, so many looks later on average."""
NEVER = 255


class Trouble(StrEnum):
    """What real users do to experiments. Users come back, and their ratings are alike, in all but the first."""

    NONE = "one rating a user"
    ALIKE = "alike ratings"
    BASELINE = "moving baseline"
    LATE = "late, edited"


@dataclass(frozen=True)
class Cell:
    """One kind of experiment; `effect` is the challenger's, relative."""

    outcome: str
    shares: str
    trouble: Trouble
    effect: float
    users: int


@dataclass(frozen=True)
class Drawn:
    """What users of some experiments do, as the challenger and as the champion. [ratings, runs, users] each."""

    bucket: Floats
    """[runs, users]"""
    asked: Bytes
    """The look before which the reply is given."""
    shown: Bytes
    changed: Bytes
    values: tuple[Steps, Steps]
    """Of the champion and of the challenger; then as they are after the change."""
    later: tuple[Steps, Steps]
    unit: float
    """What one of a value is worth: ratings are kept as whole steps."""

    @property
    def differs(self) -> bool:
        """Whether it matters who answers."""
        return self.values[0] is not self.values[1]

    def arrived(self, look: int) -> "Drawn":
        """Those who came up to the look's end; users are in order of arrival."""
        count = int(np.searchsorted(self.asked[0, 0], look, side="right"))
        asked, shown, changed = (each[..., :count] for each in (self.asked, self.shown, self.changed))
        champion, later = (each[0][..., :count] for each in (self.values, self.later))
        values, changes = (champion, champion), (later, later)
        if self.differs:
            values, changes = (champion, self.values[1][..., :count]), (later, self.later[1][..., :count])
        return Drawn(self.bucket[..., :count], asked, shown, changed, values, changes, self.unit)


def draw(cell: Cell, runs: int, rng: np.random.Generator) -> Drawn:
    """The users of so many experiments."""
    ratings = 1 if cell.trouble is Trouble.NONE else RATINGS
    shape = (ratings, runs, cell.users)
    arrival = np.linspace(0, LOOKS, cell.users, endpoint=False, dtype=np.float32)
    asked = np.minimum(arrival + (LOOKS - arrival) * rng.random(shape, np.float32), LOOKS - 1).astype(np.uint8)
    asked[0] = arrival.astype(np.uint8)
    shown, changed = asked, np.full((1, 1, 1), NEVER, np.uint8)
    own = rng.standard_normal(shape[1:], np.float32) * np.float32(np.sqrt(ALIKE if ratings > 1 else 0.0))
    values = later = _values(cell, own, asked, rng)
    if cell.trouble is Trouble.LATE:
        shown = _after(asked, DELAY, rng)
        changed = np.where(rng.random(shape, np.float32) < EDITED, _after(shown, CHANGE, rng), NEVER).astype(np.uint8)
        later = _values(cell, own, asked, rng)
    unit = 1 / max(1, len(FREQUENCIES[cell.outcome]) - 1)
    return Drawn(rng.random(shape[1:], np.float32), asked, shown, changed, values, later, unit)


def _after(look: Bytes, mean: float, rng: np.random.Generator) -> Bytes:
    return np.minimum(look + rng.standard_exponential(look.shape, np.float32) * mean, NEVER).astype(np.uint8)


def _values(cell: Cell, own: Floats, asked: Bytes, rng: np.random.Generator) -> tuple[Steps, Steps]:
    noise = rng.standard_normal(asked.shape, np.float32)
    if asked.shape[0] > 1:
        noise *= np.float32(np.sqrt(1 - ALIKE))
    behind = noise + own
    frequencies = FREQUENCIES[cell.outcome]
    moves = np.linspace(-MOVES, MOVES, LOOKS) if cell.trouble is Trouble.BASELINE else np.zeros(LOOKS)
    better = [_shift(frequencies, move, cell.effect) for move in moves]
    champion = _rated(frequencies, behind + np.asarray(moves, np.float32)[asked])
    if not cell.effect:
        return champion, champion
    return champion, _rated(frequencies, behind + np.asarray(better, np.float32)[asked])


def _rated(frequencies: tuple[float, ...], behind: Floats) -> Steps:
    """The values that come of what is normally distributed behind them."""
    if not frequencies:
        return np.asarray(np.exp(behind * np.float32(SIGMA)))
    passed = np.zeros(behind.shape, np.uint8)
    for step in _steps(frequencies):
        passed += behind > np.float32(step)
    return passed


def _steps(frequencies: tuple[float, ...]) -> list[float]:
    return [NormalDist().inv_cdf(float(below)) for below in np.cumsum(frequencies)[:-1]]


def mean_of(frequencies: tuple[float, ...], shift: float) -> float:
    """The mean value after everybody moved by `shift`."""
    steps = _steps(frequencies)
    return sum(NormalDist().cdf(shift - step) for step in steps) / len(steps)


def _shift(frequencies: tuple[float, ...], move: float, effect: float) -> float:
    """The shift that multiplies the mean by 1 + effect; by halving, of ratings."""
    if not frequencies:
        return move + math.log1p(effect) / SIGMA
    aim, low, high = mean_of(frequencies, move) * (1 + effect), move - 3.0, move + 3.0
    for _ in range(40 if effect else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_of(frequencies, middle) < aim else (low, middle)
    return (low + high) / 2


def moments_at(drawn: Drawn, shares: Shares, look: int) -> Moments:
    """What is known at the end of a look, [runs, cells, cells]."""
    begun = [(place, share) for place, (first, share) in enumerate(shares) if first <= look]
    drawn = drawn.arrived(look)
    here, there = [], []
    for place, share in begun:
        ends = shares[place + 1][0] if place + 1 < len(shares) else NEVER
        inside = drawn.shown <= look
        if len(shares) > 1:
            inside &= (drawn.asked >= shares[place][0]) & (drawn.asked < ends)
        count = _count(inside)
        known, by = count > 0, np.float32(drawn.unit) / np.maximum(count, 1)
        treated = drawn.bucket < np.float32(share)
        totals = [_total(drawn, arm, inside, look) for arm in range(2 if drawn.differs else 1)]
        for total, chosen in zip((totals[0], totals[-1]), (~treated, treated), strict=True):
            there.append((known & chosen).astype(np.float32))
            here.append(total * by * there[-1])
    both = np.stack([*there, *here], axis=1)
    found = (both @ np.swapaxes(both, 1, 2)).astype(np.float64)
    cells = len(there)
    return Moments(found[:, :cells, :cells], found[:, cells:, :cells], found[:, cells:, cells:])


def _count(inside: Flags) -> Bytes:
    count: Bytes = inside[0].astype(np.uint8)
    for each in inside[1:]:
        count += each
    return count


def _total(drawn: Drawn, arm: int, inside: Flags, look: int) -> Steps:
    values = drawn.values[arm]
    if drawn.changed.size > 1:
        values = np.where(drawn.changed <= look, drawn.later[arm], values)
    total: Steps = np.zeros(inside.shape[1:], values.dtype)
    for value, counts in zip(values, inside.view(np.uint8), strict=True):
        total += value * counts
    return total


def looks(cell: Cell, runs: int, seed: int) -> Iterator[tuple[slice, int, Moments]]:
    """Which runs, the look, and what is known of them then."""
    for first in range(0, runs, AT_ONCE):
        last = min(first + AT_ONCE, runs)
        drawn = [
            draw(cell, min(IN_CACHE, last - place), np.random.default_rng((seed, place)))
            for place in range(first, last, IN_CACHE)
        ]
        for look in range(LOOKS):
            each = [moments_at(part, SHARES[cell.shares], look) for part in drawn]
            merged = (np.concatenate([getattr(one, field.name) for one in each]) for field in fields(Moments))
            yield slice(first, last), look, Moments(*merged)
