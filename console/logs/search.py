"""The search field and the filters. What is asked for becomes the address, which can be kept, sent and gone back to."""

from collections.abc import Sequence

from nicegui import ui

from console import parts
from console.logs.filters import FLAGS, PATH, REACTIONS, SPANS, Filters
from console.parts import Field, Select, el, icon
from console.words import has, t

_SCORES = ("0-0.4", "0.4-0.7", "0.7-1")
_RATINGS = ("1-2", "3", "4-5")


class SearchForm:
    """Draws itself where it is made."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        with parts.form(self._go, "log-search"):
            with el("div", "log-search-line", role="search"):
                self._text = Field(
                    t("conversations.search"),
                    filters.text,
                    hidden_label=True,
                    type="search",
                    placeholder=t("conversations.search_hint"),
                    maxlength=256,
                )
                _submit("btn btn-primary")
            with el("details", "log-filters"):
                with el("summary"):
                    icon("tune")
                    el("span", text=t("conversations.filters"))
                with el("div", "log-filter-grid"):
                    self._selects = self._draw_selects()
                    self._fields = self._draw_fields()
                _submit("btn")
        _given(filters)

    def _draw_selects(self) -> dict[str, Select]:
        offered: dict[str, Sequence[str]] = {
            "rating": _RATINGS,
            "score": _SCORES,
            "time": tuple(SPANS),
            "flag": FLAGS,
            "reaction": REACTIONS,
        }
        return {name: self._select(name, values) for name, values in offered.items()}

    def _select(self, name: str, values: Sequence[str]) -> Select:
        """A choice among the usual values, and that of the address where it is another."""
        value = getattr(self._filters, name)
        options = {"": t("conversations.any")} | {each: _label(name, each) for each in values}
        return Select(t(f"conversations.{name}"), options | {value: _label(name, value)} if value else options, value)

    def _draw_fields(self) -> dict[str, Field]:
        found = {
            name: Field(t(f"conversations.{name}"), getattr(self._filters, name), maxlength=128)
            for name in ("release", "user", "session")
        }
        for name in ("from_day", "until_day"):
            found[name] = Field(t(f"conversations.{name}"), getattr(self._filters, name), type="date")
        return found

    def _go(self) -> None:
        chosen = {name: each.value for name, each in (self._selects | self._fields).items()}
        wanted = Filters.of({"text": self._text.value, **chosen})
        ui.navigate.to(wanted.address)


def _submit(classes: str) -> None:
    """Sends the form, and makes Enter do so in any of its fields."""
    with el("button", classes, type="submit"):
        icon("search")
        el("span", text=t("conversations.search"))


def _given(filters: Filters) -> None:
    """What restricts, each with a way to drop it."""
    if not filters.given:
        return
    with el("ul", "log-given", aria_label=t("conversations.filters")):
        for name, value in filters.given.items():
            words = f"{t(f'conversations.{name}')}: {_label(name, value)}"
            label = t("conversations.drop", filter=words)
            with el("li"), el("a", "chip chip-accent", href=filters.without(name).address, aria_label=label):
                el("span", text=words)
                icon("close")
        with el("li"):
            parts.link(t("conversations.clear"), PATH, classes="link small")


def _label(name: str, value: str) -> str:
    for key in (f"conversations.{name}_{value}", f"conversations.{value}"):
        if has(key):
            return t(key)
    return ", ".join(_label(name, each) for each in value.split(",")) if "," in value else value
