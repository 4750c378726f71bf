"""The dialog in which somebody takes an alert on: who, and a note."""

from collections.abc import Callable

from nicegui import ui

from console import alert_words, client, parts, session
from console.parts import Field, el
from console.words import t
from ratchet.v1 import alert_pb2 as pb


class Acknowledging:
    """A native dialog: the browser keeps the focus inside, Escape closes it. `done` is told the changed alert."""

    def __init__(self, done: Callable[[pb.Alert], None]) -> None:
        self._done, self._alert_id = done, ""
        with el("dialog", "dialog", aria_label=t("alerts.dialog")) as self._box, parts.form(self._send):
            el("h2", "card-title", t("alerts.dialog"))
            self._what = el("p", "dialog-what", "")
            el("p", "muted small", t("alerts.dialog_text"))
            self._actor = Field(t("alerts.actor"), session.user(), name="actor", maxlength=128)
            self._actor.box.set_visibility(not session.key())  # a key has a name
            self._note = Field(t("alerts.note"), rows=3, hint=t("alerts.note_hint"), name="note", maxlength=600)
            self._trouble = el("p", "dialog-trouble", "", role="alert")
            with el("div", "row spread dialog-actions"):
                parts.button(t("alerts.cancel"), self._close, kind="ghost")
                self._button = parts.button(t("alerts.acknowledge"), kind="primary", symbol="check")
                self._button.props["type"] = "submit"

    def open(self, alert: pb.Alert) -> None:
        """Asks about one alert."""
        self._alert_id = alert.alert_id
        self._note.value = ""
        parts.set_text(self._what, f"{alert_words.name(alert.rule)} · {alert_words.subject(alert)}")
        parts.set_text(self._trouble, "")
        ui.run_javascript(f"getHtmlElement({self._box.id}).showModal()")

    async def _send(self) -> None:
        actor = "" if session.key() else self._actor.value
        request = pb.AcknowledgeAlertRequest(alert_id=self._alert_id, actor=actor, note=self._note.value)
        api = client.api()
        parts.busy(self._button, True)
        try:
            answer = await api.call(api.alerts.AcknowledgeAlert, request)
        except client.Trouble as trouble:
            parts.set_text(self._trouble, trouble.sentence)
            return
        finally:
            parts.busy(self._button, False)
        self._close()
        self._done(answer.alert)

    def _close(self) -> None:
        ui.run_javascript(f"getHtmlElement({self._box.id}).close()")
