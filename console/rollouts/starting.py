"""The dialog in which somebody starts a rollout: of which release, and how."""

import math
import uuid
from collections.abc import Callable, Sequence
from functools import partial

from nicegui import ui

from console import client, parts, session
from console.dialog import Dialog
from console.parts import Field, Select, el
from console.releases.telling import kind
from console.words import t
from ratchet.v1 import release_pb2
from ratchet.v1 import rollout_pb2 as pb

_MOST = 200
_STRATEGIES = {"gradual": pb.ROLLOUT_STRATEGY_GRADUAL, "at_once": pb.ROLLOUT_STRATEGY_AT_ONCE}


class Starting:
    """One request id an opening, so that a second click makes no second rollout. `release`: the only one to choose;
    else those that may be rolled out are asked for."""

    def __init__(self, release: str = "") -> None:
        self._release, self._request_id = release, ""
        self._strategy = "gradual"
        self._which: Select | None = None
        self._dialog = Dialog(self._send, t("rollouts.dialog_new"), wide=True)
        with self._dialog.body:
            el("p", "muted", t("rollouts.new_text"))
            self._choice = el("div", "start-choice")
            options = {name: t(f"rollouts.{name}") for name in _STRATEGIES}
            parts.choice(t("rollouts.strategy"), options, self._strategy, self._take_strategy)
            self._shadow = _Tick(t("rollouts.with_shadow"), checked=True)
            self._draft = _Tick(t("rollouts.as_draft"))
            self._plan = _PlanFields()
            self._reason = Field(
                t("rollouts.reason"), rows=2, hint=t("rollouts.reason_hint"), name="reason", maxlength=1000
            )
        self._dialog.offer(t("rollouts.close"), t("rollouts.start"), symbol="play_arrow")

    async def open(self) -> None:
        """Asks."""
        self._request_id = str(uuid.uuid4())
        self._dialog.open()
        self._dialog.allow(self._which is not None)
        try:
            found = [] if self._release else await _waiting()
        except client.Trouble as trouble:
            self._dialog.say(trouble.sentence)
            return
        self._offer(found)

    def _offer(self, found: Sequence[release_pb2.Release]) -> None:
        options = {each.release: f"{each.release} ({kind(each.kind)[0]})" for each in found}
        if self._release:
            options = {self._release: self._release}
        self._dialog.say("")
        self._choice.clear()
        self._which = None
        with self._choice:
            if options:
                self._which = Select(t("rollouts.which"), options, next(iter(options)), name="release")
            else:
                el("p", "story-note", t("rollouts.none_to_choose"))
        self._dialog.allow(bool(options))

    def _take_strategy(self, name: str) -> None:
        self._strategy = name

    async def _send(self) -> Callable[[], None]:
        if self._which is None:
            raise ValueError(t("rollouts.none_to_choose"))
        plan = pb.RolloutPlan(strategy=_STRATEGIES[self._strategy], no_shadow=not self._shadow.value)
        self._plan.fill(plan, at_once=self._strategy == "at_once")
        api = client.api()
        request = pb.StartRolloutRequest(
            request_id=self._request_id,
            release=self._which.value,
            plan=plan,
            draft=self._draft.value,
            reason=self._reason.value.strip(),
        )
        try:
            answer = await api.call(api.rollouts.StartRollout, request)
        except client.Trouble as trouble:
            if trouble.reason == "REQUEST_ID_REUSED":  # the plan was changed after a call that got through
                self._request_id = str(uuid.uuid4())
            raise
        return partial(ui.navigate.to, f"/rollouts?rollout={answer.rollout.rollout_id}")


async def _waiting() -> list[release_pb2.Release]:
    """Published, and neither in service, nor rolling out, nor retired; the newest first."""
    api = client.api()
    answer = await api.call(api.releases.ListReleases, release_pb2.ListReleasesRequest(page_size=_MOST))
    return [each for each in answer.releases if not (each.champion or each.rollout_id or each.HasField("retire_time"))]


class _Tick:
    """A box to tick, with words."""

    def __init__(self, words: str, *, checked: bool = False) -> None:
        self.value = checked
        with el("label", "tick"):
            box = el("input", type="checkbox", checked=checked or None)
            el("span", "", words)
        box.on("change", self._note, js_handler="(event) => emit(event.target.checked)")

    def _note(self, event: object) -> None:
        self.value = bool(getattr(event, "args", False))


class _PlanFields:
    """What experts may change of the plan. An empty field is the default."""

    def __init__(self) -> None:
        with el("details", "start-more"):
            el("summary", "", t("rollouts.plan_more"))
            with el("div", "stack"):
                self._stages = self._field("stages", "10, 50, 100")
                self._samples = self._field("minimum_samples", "200")
                self._hours = self._field("minimum_hours", "1")
                self._holdback = self._field("holdback", "5")
                self._gain = self._field("gain", "5")

    def _field(self, name: str, placeholder: str) -> Field:
        return Field(
            t(f"rollouts.{name}"),
            hint=t(f"rollouts.{name}_hint"),
            name=name,
            inputmode="text" if name == "stages" else "decimal",
            placeholder=placeholder,
        )

    def fill(self, plan: pb.RolloutPlan, *, at_once: bool) -> None:
        """Puts what was given into the plan. Raises ValueError with a sentence."""
        stages = [] if at_once else numbers(self._stages.value, t("rollouts.stages"))
        samples = numbers(self._samples.value, t("rollouts.minimum_samples"))
        hours = numbers(self._hours.value, t("rollouts.minimum_hours"))
        if samples or hours:
            stages = stages or ([100.0] if at_once else [10.0, 50.0, 100.0])
        for share in stages:
            stage = plan.stages.add(share=share / 100)
            if samples:
                stage.waiting.minimum_samples = int(samples[0])
            if hours:
                stage.waiting.minimum_seconds = 3600 * hours[0]
        if holdback := numbers(self._holdback.value, t("rollouts.holdback")):
            plan.holdback = holdback[0] / 100
        if gain := numbers(self._gain.value, t("rollouts.gain")):
            plan.goals.gain = gain[0] / 100


def numbers(text: str, name: str) -> list[float]:
    """Numbers from 0 up, apart by spaces, semicolons or commas. In Vietnamese a comma within one is a point.

    Raises ValueError with a sentence.
    """
    inner = "." if session.language() == "vi" else " "
    plain = text.replace(";", " ").replace(", ", " ").replace("%", " ").replace(",", inner)
    try:
        found = [float(word) for word in plain.split()]
    except ValueError:
        found = [-1.0]
    if not all(0 <= each < math.inf for each in found):
        raise ValueError(t("rollouts.no_number", name=name))
    return found
