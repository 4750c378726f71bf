"""Alerts as they are shown: a card for one that fires, a line for one that did."""

from datetime import UTC, datetime, tzinfo

from nicegui.element import Element

from console import alert_words, client, parts, shell
from console.acknowledging import Acknowledging
from console.parts import el
from console.words import t
from ratchet.v1 import alert_pb2 as pb

PAGE = 20
"""Lines of the history that are fetched at a time."""


class Card:
    """One alert that fires."""

    def __init__(self, dialog: Acknowledging) -> None:
        self._dialog = dialog
        self._alert: pb.Alert | None = None
        self._facts: Element | None = None
        self.box = el("article", "card alert-card", tabindex="-1")

    def show(self, alert: pb.Alert, zone: tzinfo) -> None:
        """Draws it, when it has changed."""
        if alert == self._alert:
            return
        self._alert = alert
        self.box.clear()
        self.box.classes(**_looks(alert))
        with self.box:
            _headline(alert, alert_words.severity(alert.severity), _tone(alert), _symbol(alert))
            _sentences(alert)
            self._facts = el("p", "muted small num", alert_words.facts(alert, zone, datetime.now(UTC)))
            _voice(alert, zone)
            self._actions(alert)

    def tick(self, zone: tzinfo) -> None:
        """Time goes by."""
        if self._alert is not None and self._facts is not None:
            parts.set_text(self._facts, alert_words.facts(self._alert, zone, datetime.now(UTC)))

    def _actions(self, alert: pb.Alert) -> None:
        with el("div", "row alert-actions"):
            if not alert.HasField("acknowledge_time"):
                label = f"{t('alerts.acknowledge')}: {alert_words.name(alert.rule)}"
                parts.button(
                    t("alerts.acknowledge"),
                    lambda: self._dialog.open(alert),
                    symbol="check",
                    kind="primary",
                    aria_label=label,
                )
            if alert.link:
                parts.link(t("alerts.evidence"), alert.link, symbol="search", classes="btn")


class History:
    """Alerts that fired and cleared, newest first, a page at a time."""

    def __init__(self) -> None:
        self.zone: tzinfo = UTC
        el("h2", "section-title", t("alerts.history"))
        self._room = el("div")

    async def load(self) -> None:
        """The newest page."""
        await self._fetch("")

    async def _fetch(self, token: str) -> None:
        api = client.api()
        request = pb.ListAlertsRequest(page_size=PAGE, page_token=token, state=pb.ALERT_STATE_RESOLVED)
        try:
            answer = await api.call(api.alerts.ListAlerts, request)
        except client.Trouble as trouble:
            if not trouble.away:  # the page says that already, and loads this again when it is over
                shell.trouble(self._room, trouble, retry=self.load)
            return
        if not token:
            self._begin(answer)
        with self._list:
            for alert in answer.alerts:
                self._line(alert)
        self._more(answer.next_page_token)

    def _begin(self, answer: pb.ListAlertsResponse) -> None:
        self._room.clear()
        with self._room:
            if not answer.alerts:
                el("p", "card muted", t("alerts.history_empty"))
            self._list = el("ul", "card history" if answer.alerts else "history-none")
            self._foot = el("div", "row")

    def _line(self, alert: pb.Alert) -> None:
        with el("li", "history-line"):
            _headline(alert, t("alerts.resolved"), "plain", "check")
            _sentences(alert)
            el("p", "muted small num", alert_words.lasting(alert, self.zone, datetime.now(UTC)))
            _voice(alert, self.zone)

    def _more(self, token: str) -> None:
        self._foot.clear()
        if token:
            with self._foot:
                parts.button(t("alerts.more"), lambda: self._fetch(token), symbol="expand_more")


def _headline(alert: pb.Alert, state: str, tone: parts.Tone, symbol: str) -> None:
    with el("div", "row alert-head"):
        parts.chip(state, tone, symbol=symbol)
        el("h3", "alert-name", alert_words.name(alert.rule))
        el("span", "muted mono", alert_words.subject(alert))


def _sentences(alert: pb.Alert) -> None:
    """The server's own sentence is English; elsewhere it comes second."""
    translated = alert_words.translated(alert)
    if translated:
        el("p", "alert-reason", translated)
    el("p", "muted small" if translated else "alert-reason", alert.reason, lang="en")


def _voice(alert: pb.Alert, zone: tzinfo) -> None:
    said = alert_words.acknowledged(alert, zone)
    if said:
        with el("div", "alert-voice"):
            parts.icon("how_to_reg")
            with el("div"):
                el("p", text=said)
                if alert.note:
                    el("p", "alert-note", alert.note)


def _tone(alert: pb.Alert) -> parts.Tone:
    return "bad" if alert.severity == pb.ALERT_SEVERITY_CRITICAL else "warn"


def _symbol(alert: pb.Alert) -> str:
    return "error" if alert.severity == pb.ALERT_SEVERITY_CRITICAL else "warning_amber"


def _looks(alert: pb.Alert) -> dict[str, str]:
    own = "alert-critical" if alert.severity == pb.ALERT_SEVERITY_CRITICAL else "alert-warning"
    return {"add": own, "remove": "alert-critical alert-warning"}
