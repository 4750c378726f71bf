"""The dialog in which somebody stops a run."""

from collections.abc import Callable

from nicegui import ui

from console import client, parts
from console.parts import el
from console.words import t
from ratchet.v1 import training_pb2 as pb


class Cancelling:
    """A native dialog. `done` is told the run as it is then."""

    def __init__(self, training_id: str, done: Callable[[pb.Training], None]) -> None:
        self._training_id, self._done = training_id, done
        with el("dialog", "dialog", aria_label=t("training.cancel_dialog")) as self._box, parts.form(self._send):
            el("h2", "card-title", t("training.cancel_dialog"))
            el("p", "muted", t("training.cancel_text"))
            self._trouble = el("p", "dialog-trouble", "", role="alert")
            with el("div", "row spread dialog-actions"):
                parts.button(t("training.go_on"), self._close, kind="ghost")
                self._button = parts.button(t("training.cancel"), kind="danger", symbol="block")
                self._button.props["type"] = "submit"

    def open(self) -> None:
        """Asks."""
        parts.set_text(self._trouble, "")
        ui.run_javascript(f"getHtmlElement({self._box.id}).showModal()")

    async def _send(self) -> None:
        api = client.api()
        parts.busy(self._button, True)
        try:
            request = pb.CancelTrainingRequest(training_id=self._training_id)
            answer = await api.call(api.training.CancelTraining, request)
        except client.Trouble as trouble:
            parts.set_text(self._trouble, trouble.sentence)
            return
        finally:
            parts.busy(self._button, False)
        self._close()
        self._done(answer.training)

    def _close(self) -> None:
        ui.run_javascript(f"getHtmlElement({self._box.id}).close()")
