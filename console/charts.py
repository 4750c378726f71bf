"""Charts: what they show as values, drawn by ECharts and told as a table. The colours are the page's own variables, so
that a chart turns with the theme by itself. Nothing moves: a live chart that sways with each push is hard to read.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from console import session
from console.numerals import number

COLOURS = 6
"""How many `--chart-N` the style sheet has; a chart with more series begins anew."""
SYMBOLS_UP_TO = 70
"""Points of a line that are marked each: one without neighbours would not be seen otherwise."""
_INK = {"color": "var(--chart-ink)", "fontSize": 12}
_FONT = "Roboto, sans-serif"
"""Named: in the labels of time, ECharts writes a shorthand in which no `inherit` may stand."""
_GRID = {"color": "var(--chart-grid)"}
_TOOLTIP = {
    "trigger": "axis",
    "confine": True,
    "backgroundColor": "var(--chart-panel)",
    "borderColor": "var(--chart-grid)",
    "textStyle": _INK,
}
_MOMENTS = {
    "en": {"month": "{MMM} {yyyy}", "day": "{d} {MMM}", "hour": "{HH}:{mm}", "minute": "{HH}:{mm}"},
    "vi": {"month": "{MM}/{yyyy}", "day": "{d}/{M}", "hour": "{HH}:{mm}", "minute": "{HH}:{mm}"},
}


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one colour of bars; None where there is no value."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """What one chart shows. `labels`: what the values stand for, moments or names, as many as each series has values.

    `unit` follows each number, with `digits` after the point. `lying`: bars from left to right, for long names.
    `stacked`: bars on top of each other.
    `highest`: where the scale of the values ends, where that is known.
    """

    labels: tuple[datetime | str, ...]
    series: tuple[Series, ...]
    kind: Literal["line", "bar"] = "line"
    unit: str = ""
    digits: int = 0
    lying: bool = False
    stacked: bool = False
    highest: float | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw: no value, or no bar."""
        values = [value for series in self.series for value in series.values]
        return not any(values) if self.kind == "bar" else all(value is None for value in values)

    @property
    def of_time(self) -> bool:
        """Whether the labels are moments."""
        return bool(self.labels) and isinstance(self.labels[0], datetime)


def options(figure: Figure) -> dict[str, Any]:
    """What ECharts takes."""
    several = len(figure.series) > 1
    names, values = _names(figure), _values(figure)
    return {
        "animation": False,
        "textStyle": {"fontFamily": _FONT},
        "grid": {
            "left": 8,
            "right": 28 if figure.lying else 16,
            "top": 36 if several else 12,
            "bottom": 8,
            "containLabel": True,
        },
        "legend": {"show": several, "type": "scroll", "top": 0, "left": 0, "itemHeight": 8, "textStyle": _INK},
        "tooltip": _TOOLTIP | {":valueFormatter": _formatter(figure)},
        "xAxis": values if figure.lying else names,
        "yAxis": names | {"inverse": True} if figure.lying else values,
        "series": [_series(figure, index) for index in range(len(figure.series))],
    }


def table(figure: Figure, caption: str, first: str, moment: Callable[[datetime], str]) -> str:
    """The same as an HTML table; `first` heads the labels, `moment` writes those that are moments."""
    heads = [first, *(series.name for series in figure.series)]
    rows = []
    for index, label in enumerate(figure.labels):
        cells = [_told(series.values[index], figure) for series in figure.series]
        rows.append(_row(moment(label) if isinstance(label, datetime) else label, cells))
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def summary(figure: Figure) -> str:
    """The figure in a line: each value where there are few bars, else the newest of each series."""
    first = figure.series[0] if figure.series else Series("", ())
    named = [(series.name, _newest(series)) for series in figure.series]
    if figure.kind == "bar" and not figure.of_time and len(figure.series) == 1:
        named = list(zip(map(str, figure.labels), first.values, strict=True))
    return ", ".join(f"{name} {_told(value, figure)}" for name, value in named)


def _newest(series: Series) -> float | None:
    return next((value for value in reversed(series.values) if value is not None), None)


def _told(value: float | None, figure: Figure) -> str:
    return "–" if value is None else number(value, figure.digits, figure.unit)


def _row(label: str, cells: list[str]) -> str:
    written = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{html.escape(label)}</th>{written}</tr>'


def _values(figure: Figure) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "type": "value",
        "min": 0,
        "splitNumber": 3 if figure.lying else 4,
        "splitLine": {"lineStyle": _GRID},
    }
    axis["axisLabel"] = _INK | {":formatter": _formatter(figure, least=0), "hideOverlap": True}
    axis["minInterval"] = 10.0**-figure.digits
    return axis | ({"max": figure.highest} if figure.highest is not None else {})


def _names(figure: Figure) -> dict[str, Any]:
    label: dict[str, Any] = _INK | {"hideOverlap": True}
    line = {"axisLine": {"lineStyle": _GRID}, "axisTick": {"show": False}}
    if figure.of_time:
        label |= {"formatter": _MOMENTS[session.language()]}
        return {"type": "time", "axisLabel": label, "splitLine": {"show": False}} | line
    return {"type": "category", "data": list(figure.labels), "axisLabel": label} | line


def _series(figure: Figure, index: int) -> dict[str, Any]:
    series, colour = figure.series[index], f"var(--chart-{index % COLOURS + 1})"
    values: list[Any] = list(series.values)
    if figure.of_time:
        values = [[_milliseconds(label), value] for label, value in zip(figure.labels, values, strict=True)]
    drawn: dict[str, Any] = {"type": figure.kind, "name": series.name, "data": values, "itemStyle": {"color": colour}}
    drawn["emphasis"] = {"disabled": True}  # it would lighten the colour, which is a name here
    if figure.kind == "bar":
        return drawn | {"barMaxWidth": 32} | ({"stack": "all"} if figure.stacked else {})
    seen = sum(value is not None for value in series.values)
    line = {"showSymbol": seen <= SYMBOLS_UP_TO, "symbol": "circle", "symbolSize": 5}
    return drawn | line | {"lineStyle": {"color": colour, "width": 2}}


def _milliseconds(label: datetime | str) -> int:
    assert isinstance(label, datetime)
    return round(label.timestamp() * 1000)


def _formatter(figure: Figure, least: int | None = None) -> str:
    """JavaScript that writes a number as `numerals.number` does; with `least`, only as many digits as it has."""
    least = figure.digits if least is None else least
    unit = f" {figure.unit}" if figure.unit[:1].isalpha() else figure.unit
    digits = f"minimumFractionDigits: {least}, maximumFractionDigits: {figure.digits}"
    return f"value => value == null ? '–' : value.toLocaleString('{session.language()}', {{{digits}}}) + '{unit}'"
