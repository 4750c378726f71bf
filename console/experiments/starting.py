"""The dialog in which somebody starts an experiment: what some users get in place of what is in force, and how many."""

import re
import uuid
from collections.abc import Awaitable, Callable

from nicegui import ui

from console import client, parts
from console.dialog import Dialog
from console.numerals import number
from console.parts import Field, Select, el
from console.rollouts.starting import numbers
from console.words import t
from ratchet.v1 import experiment_pb2 as pb
from ratchet.v1 import inference_pb2

_KINDS = ("selection", "prompt", "interface")
_METHODS = {
    "best": inference_pb2.SELECTION_METHOD_BEST,
    "weighted": inference_pb2.SELECTION_METHOD_WEIGHTED,
    "ensemble": inference_pb2.SELECTION_METHOD_ENSEMBLE,
}
_RANGES = {
    "candidates": ("1", "16"),
    "minimum_reward": ("0", "1"),
    "temperature": ("0.001", "10"),
    "exploration": ("0", "100"),
    "ensemble_weight": ("0", "1"),
    "new_share": ("0.1", "90"),
    "longest_days": ("0.01", "90"),
}
"""The least and the most of each number, in the unit of its field."""
_SOON = 0.05
"""Seconds until the page is drawn anew: the dialog gives the keyboard back first."""


class Starting:
    """One request id an opening, so that a second click makes no second experiment. `done` shows what there is then."""

    def __init__(self, done: Callable[[], Awaitable[None]]) -> None:
        self._done, self._request_id = done, ""
        self._dialog = Dialog(self._send, t("experiments.new"), wide=True)
        self._dialog.offer(t("rollouts.close"), t("experiments.start"), symbol="science")
        self._fill()

    def open(self) -> None:
        """Asks."""
        self._request_id = str(uuid.uuid4())
        self._dialog.open()

    def _fill(self) -> None:
        """The form, empty."""
        self._kind = _KINDS[0]
        self._dialog.body.clear()
        with self._dialog.body:
            el("p", "muted", t("experiments.new_text"))
            self._name = Field(t("experiments.name"), hint=t("experiments.name_hint"), name="name", maxlength=64)
            kinds = {kind: t(f"experiments.{kind}") for kind in _KINDS}
            parts.choice(t("experiments.what"), kinds, self._kind, self._take)
            self._fields = {kind: el("div", "stack start-choice") for kind in _KINDS}
            with self._fields["selection"]:
                self._selection = _SelectionFields()
            with self._fields["prompt"]:
                hint = t("experiments.instructions_hint")
                self._instructions = Field(
                    t("experiments.instructions"), rows=4, hint=hint, name="instructions", maxlength=4000
                )
            with self._fields["interface"]:
                el("p", "story-note", t("experiments.interface_text"))
                self._variant = Field(t("experiments.variant"), name="variant", maxlength=64, placeholder="variant")
            self._share = _field("new_share", "10")
            with el("details", "start-more"):
                el("summary", "", t("experiments.more"))
                with el("div", "stack"):
                    self._days = _field("longest_days", "28")
            self._reason = Field(t("rollouts.reason"), rows=2, hint=t("rollouts.reason_hint"), maxlength=1000)
        self._take(self._kind)

    def _take(self, kind: str) -> None:
        self._kind = kind
        for each, fields in self._fields.items():
            fields.set_visibility(each == kind)

    async def _send(self) -> Callable[[], object]:
        request = pb.StartExperimentRequest(
            request_id=self._request_id,
            name=_named(_given(self._name, "name"), "name"),
            variant=self._tried(),
            reason=self._reason.value.strip(),
        )
        if (share := _one(self._share, "new_share")) is not None:
            request.share = share / 100
        if (days := _one(self._days, "longest_days")) is not None:
            request.longest_seconds = days * 86_400
        api = client.api()
        try:
            await api.call(api.experiments.StartExperiment, request)
        except client.Trouble as trouble:
            if trouble.reason == "REQUEST_ID_REUSED":  # something was changed after a call that got through
                self._request_id = str(uuid.uuid4())
            raise
        return self._start_over

    def _start_over(self) -> None:
        self._fill()
        ui.timer(_SOON, self._done, once=True)

    def _tried(self) -> pb.ExperimentVariant:
        """Raises ValueError with a sentence."""
        found = pb.ExperimentVariant()
        match self._kind:
            case "selection":
                self._selection.fill(found.selection)
            case "prompt":
                found.prompt.instructions = _given(self._instructions, "instructions")
            case _:
                found.interface.SetInParent()
                found.name = _named(self._variant.value.strip(), "variant")
        return found


class _SelectionFields:
    """How the answer is chosen. An empty field is as in force."""

    def __init__(self) -> None:
        methods = {name: t(f"experiments.{name}") for name in ("as_now", *_METHODS)}
        self._method = Select(t("experiments.method"), methods, "as_now", name="method")
        with el("div", "field-pairs"):
            self._candidates = _field("candidates", "5")
            self._minimum = _field("minimum_reward", "0.6")
            self._temperature = _field("temperature", "0.1")
            self._exploration = _field("exploration", "5")
            self._weight = _field("ensemble_weight", "0.7")

    def fill(self, found: pb.SelectionVariant) -> None:
        """Puts what was given into the variant. Raises ValueError with a sentence."""
        if self._method.value in _METHODS:
            found.method = _METHODS[self._method.value]
        if (candidates := _one(self._candidates, "candidates")) is not None:
            if not candidates.is_integer():
                raise ValueError(t("experiments.no_count", name=t("experiments.candidates")))
            found.candidates = int(candidates)
        if (minimum := _one(self._minimum, "minimum_reward")) is not None:
            found.minimum_reward = minimum
        if (temperature := _one(self._temperature, "temperature")) is not None:
            found.temperature = temperature
        if (exploration := _one(self._exploration, "exploration")) is not None:
            found.exploration = exploration / 100
        if (weight := _one(self._weight, "ensemble_weight")) is not None:
            found.ensemble_weight = weight
        if not found.ListFields():
            raise ValueError(t("experiments.nothing_tried"))


def _field(name: str, placeholder: str) -> Field:
    hint = t("experiments.range", **_range(name))
    return Field(t(f"experiments.{name}"), hint=hint, name=name, inputmode="decimal", placeholder=placeholder)


def _range(name: str) -> dict[str, str]:
    low, high = (number(float(each), len(each.partition(".")[2])) for each in _RANGES[name])
    return {"low": low, "high": high}


def _given(field: Field, name: str) -> str:
    """Raises ValueError with a sentence where there is nothing."""
    if not (text := field.value.strip()):
        raise ValueError(t("experiments.missing", name=t(f"experiments.{name}")))
    return text


def _named(text: str, name: str) -> str:
    """The text as an identifier. Raises ValueError with a sentence where it is none."""
    if not re.fullmatch(r"[A-Za-z0-9._-]*", text):
        raise ValueError(f"{t(f'experiments.{name}')}: {t('experiments.name_hint')}")
    return text


def _one(field: Field, name: str) -> float | None:
    """The number that a field has; None: it is empty. Raises ValueError with a sentence."""
    found = numbers(field.value, t(f"experiments.{name}"))
    if len(found) > 1:
        raise ValueError(t("rollouts.no_number", name=t(f"experiments.{name}")))
    low, high = map(float, _RANGES[name])
    if found and not low <= found[0] <= high:
        raise ValueError(t("experiments.out_of_range", name=t(f"experiments.{name}"), **_range(name)))
    return found[0] if found else None
