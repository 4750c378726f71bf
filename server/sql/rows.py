"""Rows as lines of evidence."""

import string
import unicodedata
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from server.errors import ConfigurationError

LONGEST_READ = 800
"""Characters that are read of one value: what is left without marks and spaces should do."""
LONGEST_VALUE = 200
LONGEST_LINE = 1_000
LONGEST_TEXT = 8_000
"""Characters of one value, one row and all rows: a table may hold a book in a column."""
_HIDDEN = frozenset({"Cf", "Cs", "Co"})
"""Format characters, halves of pairs, private ones; composed or decomposed, Vietnamese has none of them."""


class RowTemplate:
    """A row as a line, such as `order {order_id} | total {total:,}`: columns by name with Python's format, no more."""

    def __init__(self, template: str, columns: frozenset[str]) -> None:
        """Raises ConfigurationError for a template that can't be read, or names something else than `columns`."""
        try:
            parts = [(text, name, form or "") for text, name, form, _ in string.Formatter().parse(template)]
        except ValueError as error:
            raise ConfigurationError(f"The row {template!r} can't be read: {error}.") from error
        unknown = sorted({name for _, name, _ in parts if name is not None} - columns)
        if unknown:
            raise ConfigurationError(f"The row {template!r} names {unknown[0]!r}, which the statement does not give.")
        self._parts = parts

    def line(self, row: Mapping[str, Any]) -> str:
        """One line of at most LONGEST_LINE characters."""
        said = "".join(text + ("" if name is None else told(row[name], form)) for text, name, form in self._parts)
        return said[:LONGEST_LINE]


def plain_line(row: Mapping[str, Any]) -> str:
    """A row of a statement that has no template: each column's name and value."""
    return " | ".join(f"{name} {told(value)}" for name, value in row.items())[:LONGEST_LINE]


def bounded(lines: Iterable[str]) -> list[str]:
    """The first lines, LONGEST_TEXT characters together."""
    kept: list[str] = []
    left = LONGEST_TEXT
    for line in lines:
        left -= len(line)
        if left < 0:
            break
        kept.append(line)
    return kept


def told(value: object, form: str = "") -> str:
    """A value as evidence shows it: in one line whatever is in it, so that no row can pretend to be two."""
    if value is None:
        return "-"
    if isinstance(value, Decimal) and value.is_finite():  # Postgres's sums; 1.2E+7 is 12000000
        whole = value == value.to_integral_value() and value.adjusted() < LONGEST_VALUE
        value = int(value) if whole else value if form else f"{value:f}"
    try:
        text = format(value, form)
    except (TypeError, ValueError):  # a form for numbers, and no number
        text = str(value)
    return " ".join(_visible(text[:LONGEST_READ]).split())[:LONGEST_VALUE]


def _visible(text: str) -> str:
    """Without characters that only steer how a text is shown, such as its direction; control characters part words."""
    if text.isprintable():
        return text
    kinds = ((mark, unicodedata.category(mark)) for mark in text)
    return "".join(" " if kind == "Cc" else mark for mark, kind in kinds if kind not in _HIDDEN)
