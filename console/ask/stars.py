"""Stars to be given with a click or a key."""

from collections.abc import Awaitable, Callable
from functools import partial

from nicegui.element import Element

from console.parts import el, icon_button
from console.words import t


class Stars:
    """Five buttons in a group; `show` says how many shine."""

    def __init__(self, name: str, pick: Callable[[int], Awaitable[None]]) -> None:
        with el("div", "stars", role="group", aria_label=name):
            self._buttons = [_star(number, pick) for number in range(1, 6)]

    def show(self, count: int) -> None:
        """`count`: 1 to 5; 0 for none."""
        for number, star in enumerate(self._buttons, 1):
            star.props["aria-pressed"] = "true" if number == count else "false"
            star.classes(add="lit") if number <= count else star.classes(remove="lit")


def _star(number: int, pick: Callable[[int], Awaitable[None]]) -> Element:
    return icon_button(t("ask.n_stars", n=number), "star", partial(pick, number), "star", aria_pressed="false")
