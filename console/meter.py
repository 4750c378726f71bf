"""Shares as bars: how far something is, or how much of something there is."""

from nicegui.element import Element

from console.numerals import number
from console.parts import el


class Meter:
    """A bar that fills from the left. `name` is what it tells, for screen readers."""

    def __init__(self, name: str, share: float = 0.0, classes: str = "", *, progress: bool = False) -> None:
        role = "progressbar" if progress else "meter"
        with el(
            "div", f"meter {classes}", role=role, aria_label=name, aria_valuemin="0", aria_valuemax="100"
        ) as self.box:
            self._fill = el("div", "meter-fill")
        self.show(share)

    def show(self, share: float) -> None:
        """`share`: 0 to 1; beyond it the bar is empty or full."""
        percent = 100 * min(max(share, 0.0), 1.0)
        self.box.props["aria-valuenow"] = f"{percent:.0f}"
        self.box.props["aria-valuetext"] = number(percent, unit=" %")
        self._fill.style(f"width: {percent:.1f}%")


def compared(name: str, value: str, share: float, classes: str = "") -> Element:
    """A line of a comparison: name, bar, value."""
    with el("div", f"compared {classes}") as made:
        el("span", "compared-name", name)
        Meter(name, share)
        el("span", "compared-value num", value)
    return made
