"""A list of what a server has, newest first, that follows it while the page is open. The page draws its lines."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Generic, TypeVar

from nicegui import ui
from nicegui.element import Element

from console import client, moments, parts, shell
from console.parts import el

EVERY = 2.0
"""Seconds between two looks."""
PAGE = 20
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Lines(Generic[Item]):
    """What is listed. `fetch` takes a page's token ("" for the newest) and gives that page, and the token of the next.

    `key` tells items apart; `draw` draws one inside its line; `looks` is what that depends on besides the item, such as
    how long ago it was; `empty` says that there is none.
    """

    name: str
    older: str
    fetch: Callable[[str], Awaitable[tuple[Sequence[Item], str]]]
    key: Callable[[Item], str]
    draw: Callable[[Item, tzinfo], None]
    looks: Callable[[Item], str]
    empty: Callable[[], None]


class Listing(Generic[Item]):
    """Draws itself where it is made, once the page is there."""

    def __init__(self, lines: Lines[Item]) -> None:
        self._lines = lines
        self._zone: tzinfo = UTC
        self._rows: dict[str, _Row[Item]] = {}
        self._list: Element | None = None
        self._token = ""
        self._room = el("div", "stack")
        self._foot = el("div", "row log-foot")
        shell.when_ready(self.load)
        shell.on_return(self.load)
        ui.timer(EVERY, self._look, immediate=False)

    async def load(self) -> None:
        """Shows the newest, from the beginning."""
        with self._room:
            self._rows, self._list = {}, None
            try:
                with shell.loading(self._room):
                    self._zone = await moments.zone()
                    items, token = await self._lines.fetch("")
            except client.Trouble as trouble:
                shell.trouble(self._room, trouble, retry=self.load)
                return
            self._token = token
            self._show(items)
            self._offer_more()

    async def _look(self) -> None:
        """What has changed. Lines that have not are left alone: somebody may be on one."""
        shown = self._list
        if shown is None:
            return
        with self._room:
            try:
                items, _ = await self._lines.fetch("")
            except client.Trouble:
                return  # the page says that already, and loads this again when it is over
            if self._list is shown:  # else it was begun anew meanwhile, maybe with another choice
                self._show(items)

    def _show(self, items: Sequence[Item]) -> None:
        if self._list is None or (items and not self._rows):
            self._room.clear()
            with self._room:
                if not items:
                    self._lines.empty()
                self._list = el("ol", "run-list", aria_label=self._lines.name)
        for place, item in enumerate(items):
            self._place(item, place)

    def _place(self, item: Item, place: int) -> None:
        """Draws an item, a new one at its place."""
        assert self._list is not None
        key = self._lines.key(item)
        if key not in self._rows:
            with self._list:
                self._rows[key] = _Row(self._lines)
                self._rows[key].box.move(target_index=place)
        self._rows[key].show(item, self._zone)

    def _offer_more(self) -> None:
        self._foot.clear()
        if self._token:
            with self._foot:
                parts.button(self._lines.older, self._more, symbol="expand_more")

    async def _more(self) -> None:
        with self._room:
            try:
                items, token = await self._lines.fetch(self._token)
            except client.Trouble as trouble:
                shell.trouble(self._foot, trouble, retry=self._more)
                return
            for item in items:
                if self._lines.key(item) not in self._rows:
                    self._place(item, len(self._rows))
            self._token = token
            self._offer_more()


class _Row(Generic[Item]):
    """One line, drawn again when it or its words have changed."""

    def __init__(self, lines: Lines[Item]) -> None:
        self._lines = lines
        self._shown: tuple[Item, str] | None = None
        self.box = el("li")

    def show(self, item: Item, zone: tzinfo) -> None:
        """The item as it is now."""
        if self._shown == (item, looks := self._lines.looks(item)):
            return
        self._shown = item, looks
        self.box.clear()
        with self.box:
            self._lines.draw(item, zone)
