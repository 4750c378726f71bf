"""The live page: figures of the last minutes to days, pushed by the server as they change."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, tzinfo
from urllib.parse import urlencode

from nicegui import ui
from nicegui.element import Element

from console import client, figures, moments, parts, shell
from console.chart_card import ChartCard
from console.following import Following
from console.numerals import number
from console.overview import Overview
from console.parts import el
from console.words import t
from ratchet.v1 import analytics_pb2 as pb

HOUR = 3600
WINDOWS = {
    "15m": (HOUR // 4, pb.GRANULARITY_MINUTE),
    "1h": (HOUR, pb.GRANULARITY_MINUTE),
    "24h": (24 * HOUR, pb.GRANULARITY_HOUR),
    "14d": (14 * 24 * HOUR, pb.GRANULARITY_DAY),
}
"""Seconds that are shown, and the length of one point, by the name in the address."""
USUAL = "1h"
INTERVAL = timedelta(seconds=2)
LATE = 10.0
"""Seconds behind the log that are worth a word."""

CHARTS = (
    ("rate", "time", figures.rates),
    ("latency", "time", figures.latencies),
    ("stages", "stage", figures.stages),
    ("reward", "score", figures.rewards),
    ("ratings", "time", figures.ratings),
    ("stars", "star", figures.stars),
    ("feedback", "time", figures.feedback),
    ("thumbs", "time", figures.thumbs),
    ("dimensions", "dimension", figures.dimensions),
    ("errors", "time", figures.errors),
)
"""Title, what the table's first column holds, and what is read from the answer."""


@shell.page("/live", nav="live", icon="show_chart", order=20)
def live(window: str = USUAL, release: str = "") -> None:
    """`window` is one of WINDOWS; `release` shows one policy release only."""
    with shell.frame(t("live.title")) as frame:
        Live(frame, window if window in WINDOWS else USUAL, release)


class Live:
    """One visitor's page."""

    def __init__(self, frame: shell.Frame, window: str, release: str) -> None:
        self._window, self._release = window, release
        self._zone: tzinfo = UTC
        self._shown: tuple[Overview, list[ChartCard]] | None = None
        self._following = Following(self._watch, self._show, self._fault)
        with frame.actions:
            self._status = el("span", "chip live-status", t("live.connecting"))
            self._spoken = el("span", "sr-only", "", role="status")  # the time is no news for who listens
        self._releases: set[str] = {release} - {""}
        with el("div", "row live-bar"):
            parts.choice(t("live.window"), {each: t(f"live.{each}") for each in WINDOWS}, window, self._choose_window)
            self._select = self._releases_select()
        self._room = el("div", "stack")
        shell.when_ready(self._begin)

    async def _begin(self) -> None:
        with shell.loading(self._room):
            self._zone = await moments.zone()
        self._following.start()

    def _watch(self) -> AsyncIterator[pb.WatchMetricsResponse]:
        seconds, granularity = WINDOWS[self._window]
        request = pb.WatchMetricsRequest(granularity=granularity, release=self._release)
        request.window.FromTimedelta(timedelta(seconds=seconds))
        request.interval.FromTimedelta(INTERVAL)
        api = client.api()
        return api.watch(api.analytics.WatchMetrics, request)

    def _show(self, message: pb.WatchMetricsResponse) -> None:
        answer = message.metrics
        self._tell(self._state(answer), "live-on")
        self._offer({each.release for each in answer.releases if each.release.startswith("policy-")})
        if figures.nothing(answer):
            self._show_nothing()
            return
        overview, charts = self._shown or self._build()
        overview.show(answer)
        for card, (_, _, read) in zip(charts, CHARTS, strict=True):
            card.show(read(answer), self._zone)

    def _state(self, answer: pb.GetMetricsResponse) -> str:
        behind = answer.lag.ToTimedelta().total_seconds()
        if behind >= LATE:
            return t("live.behind", seconds=number(behind))
        return t("live.updated", time=datetime.now(self._zone).strftime("%H:%M:%S"))

    def _build(self) -> tuple[Overview, list[ChartCard]]:
        self._room.clear()
        with self._room:
            overview = Overview()
            el("h2", "sr-only", t("live.trends"))
            with el("div", "grid wide"):
                charts = [ChartCard(t(f"live.{name}"), t(f"live.{first}")) for name, first, _ in CHARTS]
            overview.by_release()
        self._shown = overview, charts
        return self._shown

    def _show_nothing(self) -> None:
        self._shown = None
        self._room.clear()
        with self._room, shell.empty(t("live.empty"), t("live.empty_text"), icon="show_chart"):
            parts.link(t("live.empty_ask"), "/", classes="btn btn-primary")

    def _fault(self, trouble: client.Trouble) -> None:
        """What was shown stays, marked as old; where nothing was, the trouble is told."""
        self._tell(t("live.reconnecting"), "live-off")
        if self._shown is None:
            shell.trouble(self._room, trouble, retry=self._following.start)

    def _tell(self, text: str, state: str) -> None:
        self._status.classes(add=state, remove="live-on live-off")
        parts.set_text(self._status, text)
        parts.set_text(self._spoken, text if state == "live-off" else "")
        self._room.classes(**({"add": "stale"} if state == "live-off" else {"remove": "stale"}))

    def _choose_window(self, name: str) -> None:
        self._window = name
        self._turn()

    def _choose_release(self, name: str) -> None:
        self._release = name
        self._turn()

    def _turn(self) -> None:
        """Other figures from here on, under an address that can be kept."""
        asked = {"window": self._window} | ({"release": self._release} if self._release else {})
        ui.navigate.history.replace(f"/live?{urlencode(asked)}")
        self._following.start()

    def _releases_select(self) -> Element:
        with el("label", "live-release"):
            el("span", "choice-legend", t("live.release"))
            made = el("select", "select")
            self._options(made)
        made.on("change", lambda event: self._choose_release(str(event.args)), js_handler="(e) => emit(e.target.value)")
        return made

    def _offer(self, releases: set[str]) -> None:
        if releases <= self._releases:
            return
        self._releases |= releases
        self._select.clear()
        self._options(self._select)

    def _options(self, select: Element) -> None:
        with select:
            for value in ("", *sorted(self._releases)):
                chosen = value == self._release or None
                el("option", text=value or t("live.all"), value=value, selected=chosen)
