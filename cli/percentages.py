"""Shares that options take in percent, and give on as parts of 1."""

from typing import Any

import click


def read(text: str, least: float, most: float) -> float:
    """A percentage from `least` to `most`, as a part of 1. Raises ValueError with a sentence.

    Less than 1 needs its sign, such as 0.5%: without it, it is more likely a part of 1 that was meant.
    """
    figure = text.strip().removesuffix("%").strip()
    try:
        percent = float(figure)
    except ValueError:
        raise ValueError(f"{text!r} is no percentage such as 10.") from None
    if 0 < percent < 1 and "%" not in text:
        raise ValueError(
            f"{figure} is less than 1 percent: write {100 * percent:g} for a part of {figure}, or {figure}%."
        )
    if not least <= percent <= most:
        raise ValueError(f"{figure} % is not from {least:g} to {most:g} %.")
    return round(percent / 100, 6)


class Percentage(click.ParamType[float]):
    """A share in percent, such as 10 or 0.5%, as a part of 1."""

    name = "percent"

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See ParamType."""
        try:
            return read(str(value), self._least, self._most)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Percentages(click.ParamType[tuple[float, ...]]):
    """Growing shares in percent, such as 10,50,100; as parts of 1."""

    name = "percent,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """See ParamType."""
        try:
            return tuple(read(part, 0.01, 100) for part in str(value).split(","))
        except ValueError as error:
            self.fail(f"{error} Give percentages such as 10,50,100.", param, ctx)
