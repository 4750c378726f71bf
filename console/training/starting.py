"""The dialog in which somebody asks for a run: as the trainer's settings say, or with some of them changed."""

import uuid
from typing import Any

from nicegui import ui

from console import client, parts
from console.parts import Field, el
from console.words import t
from ratchet.v1 import training_pb2 as pb


class Starting:
    """A native dialog: the browser keeps the focus inside, Escape closes it. One request id an opening, so that a
    second click makes no second run."""

    def __init__(self) -> None:
        self._request_id = ""
        with el("dialog", "dialog", aria_label=t("training.start_dialog")) as self._box, parts.form(self._send):
            el("h2", "card-title", t("training.start_dialog"))
            el("p", "muted", t("training.start_text"))
            with el("details", "start-more"):
                el("summary", "", t("training.expert"))
                with el("div", "stack"):
                    self._base = Field(t("training.base"), hint=t("training.base_hint"), name="base", maxlength=1024)
                    self._rate = Field(
                        t("training.learning_rate"), hint=t("training.rate_hint"), name="rate", placeholder="2e-5"
                    )
                    self._seeds = Field(
                        t("training.seeds"), hint=t("training.seeds_hint"), name="seeds", inputmode="numeric"
                    )
            self._trouble = el("p", "dialog-trouble", "", role="alert")
            with el("div", "row spread dialog-actions"):
                parts.button(t("training.close"), self._close, kind="ghost")
                self._button = parts.button(t("training.start"), kind="primary", symbol="play_arrow")
                self._button.props["type"] = "submit"

    def open(self) -> None:
        """Asks."""
        self._request_id = str(uuid.uuid4())
        parts.set_text(self._trouble, "")
        ui.run_javascript(f"getHtmlElement({self._box.id}).showModal()")

    async def _send(self) -> None:
        request = pb.StartTrainingRequest(request_id=self._request_id)
        try:
            request.config.update(self._config())
        except ValueError as error:
            parts.set_text(self._trouble, str(error))
            return
        api = client.api()
        parts.busy(self._button, True)
        try:
            answer = await api.call(api.training.StartTraining, request)
        except client.Trouble as trouble:
            if trouble.reason == "REQUEST_ID_REUSED":  # the settings were changed after a call that got through
                self._request_id = str(uuid.uuid4())
            parts.set_text(self._trouble, trouble.sentence)
            return
        finally:
            parts.busy(self._button, False)
        ui.navigate.to(f"/training?run={answer.training.training_id}")

    def _config(self) -> dict[str, Any]:
        """What differs from the trainer's settings. Raises ValueError with a sentence."""
        config: dict[str, Any] = {}
        if base := self._base.value.strip():
            config["base"] = base
        if rate := self._rate.value.strip():
            config["train"] = {"learning_rate": _number(rate, t("training.learning_rate"))}
        if seeds := self._seeds.value.strip():
            config["seeds"] = _number(seeds, t("training.seeds"))
        return config

    def _close(self) -> None:
        ui.run_javascript(f"getHtmlElement({self._box.id}).close()")


def _number(text: str, name: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(t("training.no_number", name=name)) from None
