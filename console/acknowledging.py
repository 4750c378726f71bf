"""The dialog in which somebody takes an alert on: who, and a note."""

from collections.abc import Callable
from functools import partial

from console import alert_words, client, parts, session
from console.dialog import Dialog
from console.parts import Field, el
from console.words import t
from ratchet.v1 import alert_pb2 as pb


class Acknowledging:
    """One serves all alerts of a page. `done` is told the changed alert."""

    def __init__(self, done: Callable[[pb.Alert], None]) -> None:
        self._done, self._alert_id = done, ""
        self._dialog = Dialog(self._send, t("alerts.dialog"))
        with self._dialog.body:
            self._what = el("p", "dialog-what", "")
            el("p", "muted small", t("alerts.dialog_text"))
            self._actor = Field(t("alerts.actor"), session.user(), name="actor", maxlength=128)
            self._actor.box.set_visibility(not session.key())  # a key has a name
            self._note = Field(t("alerts.note"), rows=3, hint=t("alerts.note_hint"), name="note", maxlength=600)
        self._dialog.offer(t("alerts.cancel"), t("alerts.acknowledge"), symbol="check")

    def open(self, alert: pb.Alert) -> None:
        """Asks about one alert."""
        self._alert_id = alert.alert_id
        self._note.value = ""
        parts.set_text(self._what, f"{alert_words.name(alert.rule)} · {alert_words.subject(alert)}")
        self._dialog.open()

    async def _send(self) -> Callable[[], None]:
        actor = "" if session.key() else self._actor.value
        request = pb.AcknowledgeAlertRequest(alert_id=self._alert_id, actor=actor, note=self._note.value)
        api = client.api()
        answer = await api.call(api.alerts.AcknowledgeAlert, request)
        return partial(self._done, answer.alert)
