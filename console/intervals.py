"""Intervals as pictures: where a difference lies, beside no difference and beside what is asked for. Pure.

Each picture has a scale of its own: a change of satisfaction of 3 % and a latency of 40 % more would be lost on one. It
is SVG with places in percent, so that it is as wide as there is room and its words keep their size.
"""

from dataclasses import dataclass
from typing import Literal

HEIGHT = 58
_LINE = 29
_MARGIN = 0.14
"""Of the span, left free on either side."""

Looks = Literal["good", "bad", "plain"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found, as parts: 0.05 is 5 %. None: not known, or without an end.

    `goal`: what it is held against; `more`: whether what is asked for lies above it. `zero`: whether 0 means "no
    difference" and is marked; else it is where the scale begins. `looks`: how the interval is coloured.
    """

    value: float | None
    lower: float | None
    upper: float | None
    goal: float | None = None
    more: bool = True
    zero: bool = True
    looks: Looks = "plain"


@dataclass(frozen=True, slots=True)
class Scale:
    """From a part to its place, in percent of the width."""

    low: float
    high: float

    def place(self, part: float) -> float:
        """0 to 100; what lies outside is at the edge."""
        return round(100 * min(1.0, max(0.0, (part - self.low) / (self.high - self.low))), 2)


def scale(reading: Reading) -> Scale:
    """So that all that is marked can be seen."""
    marked = [part for part in (reading.value, reading.lower, reading.upper, reading.goal) if part is not None]
    low, high = min(0.0, *marked), max(0.0, *marked)
    span = (high - low) or 0.02
    return Scale(low - _MARGIN * span if reading.zero or low < 0 else low, high + _MARGIN * span)


def picture(reading: Reading, name: str, goal: str, zero: str) -> str:
    """An <svg>. `name` tells all of it in words; `goal` and `zero` are the words at those two marks. No text of others
    may be in them but what is escaped."""
    on = scale(reading)
    drawn = [_zone(reading, on), _axis()]
    if reading.zero:
        drawn.append(_mark(on.place(0.0), zero, "interval-zero", below=True))
    if reading.goal is not None:
        drawn.append(_mark(on.place(reading.goal), goal, "interval-goal", below=False))
    drawn.append(_bar(reading, on))
    return (
        f'<svg class="interval interval-{reading.looks}" width="100%" height="{HEIGHT}" role="img" '
        f'aria-label="{name}">{"".join(drawn)}</svg>'
    )


def _zone(reading: Reading, on: Scale) -> str:
    """What is asked for, shaded."""
    if reading.goal is None:
        return ""
    edge = on.place(reading.goal)
    left, width = (edge, 100 - edge) if reading.more else (0.0, edge)
    return f'<rect class="interval-zone" x="{left:g}%" width="{width:g}%" y="16" height="26" rx="4"/>'


def _axis() -> str:
    return f'<line class="interval-axis" x1="0%" x2="100%" y1="{_LINE}" y2="{_LINE}"/>'


def _mark(place: float, words: str, classes: str, *, below: bool) -> str:
    """A line across, and its words on one side, so that two of them never meet."""
    anchor = "start" if place < 12 else "end" if place > 88 else "middle"
    height = HEIGHT - 3 if below else 11
    return (
        f'<line class="{classes}" x1="{place:g}%" x2="{place:g}%" y1="16" y2="42"/>'
        f'<text class="interval-words" x="{place:g}%" y="{height}" text-anchor="{anchor}">{words}</text>'
    )


def _bar(reading: Reading, on: Scale) -> str:
    """The interval with its ends, and the dot. An end that is not known is open: it reaches the edge."""
    drawn = ""
    if reading.lower is not None or reading.upper is not None:
        first = 0.0 if reading.lower is None else on.place(reading.lower)
        last = 100.0 if reading.upper is None else on.place(reading.upper)
        drawn += f'<line class="interval-bar" x1="{first:g}%" x2="{last:g}%" y1="{_LINE}" y2="{_LINE}"/>'
        for end, place in ((reading.lower, first), (reading.upper, last)):
            if end is not None:
                drawn += (
                    f'<line class="interval-end" x1="{place:g}%" x2="{place:g}%" y1="{_LINE - 7}" y2="{_LINE + 7}"/>'
                )
    if reading.value is not None:
        drawn += f'<circle class="interval-dot" cx="{on.place(reading.value):g}%" cy="{_LINE}" r="6"/>'
    return drawn
