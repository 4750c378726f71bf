"""The alerts page: what fires now, what fired before, and how the rules stand."""

from datetime import UTC, tzinfo

from nicegui import ui
from nicegui.element import Element

from console import firing, moments, parts, shell
from console.acknowledging import Acknowledging
from console.alert_cards import Card, History
from console.alert_rules import Rules
from console.parts import el
from console.words import t
from ratchet.v1 import alert_pb2 as pb

AGES_EVERY = 20.0
"""Seconds between two looks at how long ago things were."""


@shell.page("/alerts", nav="alerts", icon="notifications_none", order=40)
def alerts() -> None:
    """The page."""
    with shell.frame(t("alerts.title")) as frame:
        Alerts(frame)


@shell.badge("/alerts")
def badge(room: Element) -> None:
    """How many fire, beside the page's name in the navigation; nothing while none does."""

    def show() -> None:
        count = len(watched.alerts)
        room.clear()
        if count:
            with room, el("span", "nav-badge", str(count)):
                el("span", "sr-only", t("alerts.count", n=""))

    watched = firing.here()
    watched.on_change(show)


class Alerts:
    """One visitor's page."""

    def __init__(self, frame: shell.Frame) -> None:
        self._zone: tzinfo = UTC
        self._cards: dict[str, Card] = {}
        self._dialog = Acknowledging(self._acknowledged)
        with frame.actions:
            self._status = el("span", "chip", t("shell.loading"), role="status")
        with el("div", "stack alerts-page"):
            el("h2", "section-title", t("alerts.firing"))
            self._room = el("div", "stack")
            self._history = History()
            self._rules = Rules()
        self._firing = firing.here()
        shell.when_ready(self._begin)
        shell.on_return(self._history.load)
        ui.timer(AGES_EVERY, self._tick)

    async def _begin(self) -> None:
        with shell.loading(self._room):
            self._zone = await moments.zone()
        self._history.zone = self._zone
        self._firing.on_change(self._show)
        await self._history.load()

    def _show(self) -> None:
        self._tell()
        if not self._firing.known:
            if self._firing.trouble is not None:
                shell.trouble(self._room, self._firing.trouble, retry=self._firing.again)
            return
        found = sorted(self._firing.alerts.values(), key=_urgency)
        gone = set(self._cards) - {alert.alert_id for alert in found}
        if gone:
            shell.when_ready(self._history.load)
        if not found or not self._cards:
            self._cards = {}
            self._room.clear()
        with self._room:
            if not found:
                shell.empty(t("alerts.quiet"), t("alerts.quiet_text"), icon="check_circle")
            for alert_id in gone & set(self._cards):
                self._cards.pop(alert_id).box.delete()
            for place, alert in enumerate(found):
                self._place(alert, place)

    def _place(self, alert: pb.Alert, place: int) -> None:
        """Puts an alert where it belongs. A card that has not changed is left alone: somebody may be on its button."""
        card = self._cards.get(alert.alert_id)
        if card is None:
            card = self._cards[alert.alert_id] = Card(self._dialog)
            card.box.move(target_index=place)
        card.show(alert, self._zone)

    def _tell(self) -> None:
        known, trouble = self._firing.known, self._firing.trouble
        text = t("alerts.reconnecting") if trouble else t("alerts.count", n=len(self._firing.alerts))
        if known or trouble:
            parts.set_text(self._status, text)

    def _tick(self) -> None:
        for card in self._cards.values():
            card.tick(self._zone)

    def _acknowledged(self, alert: pb.Alert) -> None:
        self._firing.take(alert)
        card = self._cards.get(alert.alert_id)
        if card is not None:
            ui.run_javascript(f"getHtmlElement({card.box.id}).focus()")


def _urgency(alert: pb.Alert) -> tuple[bool, int, int]:
    """Nobody's first, the worst first, the newest first."""
    return alert.HasField("acknowledge_time"), -alert.severity, -alert.fire_time.ToNanoseconds()
