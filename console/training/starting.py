"""The dialog in which somebody asks for a run: as the trainer's settings say, or with some of them changed."""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from nicegui import ui

from console import client
from console.dialog import Dialog
from console.parts import Field, el
from console.words import t
from ratchet.v1 import training_pb2 as pb


class Starting:
    """One request id an opening, so that a second click makes no second run."""

    def __init__(self) -> None:
        self._request_id = ""
        self._dialog = Dialog(self._send, t("training.start_dialog"))
        with self._dialog.body:
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
        self._dialog.offer(t("training.close"), t("training.start"), symbol="play_arrow")

    def open(self) -> None:
        """Asks."""
        self._request_id = str(uuid.uuid4())
        self._dialog.open()

    async def _send(self) -> Callable[[], None]:
        request = pb.StartTrainingRequest(request_id=self._request_id)
        request.config.update(self._config())
        api = client.api()
        try:
            answer = await api.call(api.training.StartTraining, request)
        except client.Trouble as trouble:
            if trouble.reason == "REQUEST_ID_REUSED":  # the settings were changed after a call that got through
                self._request_id = str(uuid.uuid4())
            raise
        return partial(ui.navigate.to, f"/training?run={answer.training.training_id}")

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


def _number(text: str, name: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(t("training.no_number", name=name)) from None
