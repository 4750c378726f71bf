"""A card with a chart, what it says in words for screen readers, and the same figures as a table on demand."""

from datetime import tzinfo

from nicegui import ui
from nicegui.element import Element

from console import charts, moments
from console.charts import Figure
from console.parts import el, icon
from console.words import t


class ChartCard:
    """Built once, shown often. `first` heads the first column of the table."""

    def __init__(self, title: str, first: str, *, tall: bool = False) -> None:
        self._title, self._first = title, first
        self._figure: Figure | None = None
        self._zone: tzinfo | None = None
        with el("section", "card chart-card", aria_label=title):
            with el("div", "row spread chart-head"):
                el("h3", "card-title", title)
                self._button = self._opener()
            self._nothing = el("p", "chart-nothing muted", t("live.no_data"))
            self._chart = ui.echart({}, renderer="svg").classes(f"chart {'chart-tall' if tall else ''}")
            self._chart.props["role"] = "img"
            self._room = el("div", "chart-table", tabindex="0", role="region", aria_label=title)
        self._button.props["aria-controls"] = self._room.html_id
        self._room.set_visibility(False)
        self._chart.set_visibility(False)

    def show(self, figure: Figure, zone: tzinfo) -> None:
        """Draws what has changed."""
        if figure == self._figure and zone == self._zone:
            return
        self._figure, self._zone = figure, zone
        self._nothing.set_visibility(figure.empty)
        self._chart.set_visibility(not figure.empty)
        self._button.set_visibility(not figure.empty)
        self._chart.props["aria-label"] = f"{self._title}: {charts.summary(figure)}"
        self._chart.options.clear()
        self._chart.options.update(charts.options(figure))
        self._chart.update()
        self._write()

    def _opener(self) -> Element:
        with el(
            "button",
            "btn btn-ghost btn-small",
            type="button",
            aria_expanded="false",
            aria_label=t("live.show_table_of", title=self._title),
        ) as made:
            icon("table_chart")
            el("span", text=t("live.show_table"))
        return made.on("click", self._turn)

    def _turn(self) -> None:
        opened = not self._room.visible
        self._room.set_visibility(opened)
        self._button.props["aria-expanded"] = str(opened).lower()
        self._write()

    def _write(self) -> None:
        """The table, while it is open: nobody pays for those that are shut."""
        figure, zone = self._figure, self._zone
        if not self._room.visible or figure is None or zone is None:
            return
        self._room.clear()
        table = charts.table(figure, self._title, self._first, lambda moment: moments.written(moment, zone))
        with self._room:
            ui.html(table, sanitize=False)
