"""The way of a rollout to service, as steps: what is behind it, where it stands, what is ahead."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from console import moments, parts
from console.numerals import number
from console.parts import el
from console.releases.telling import share
from console.rollouts import telling
from console.words import t
from ratchet.v1 import rollout_pb2 as pb

Standing = Literal["done", "promoted", "now", "paused", "back", "ahead"]
_SYMBOLS: dict[Standing, str] = {
    "done": "check",
    "promoted": "fast_forward",
    "now": "radio_button_checked",
    "paused": "pause",
    "back": "undo",
}
_LOADING = (pb.ROLLOUT_STATE_PUBLISHED, pb.ROLLOUT_STATE_LOADED)


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `note`: what it needs at least; of one that a person did not wait for, who, and what there was."""

    label: str
    note: str
    standing: Standing


def steps(rollout: pb.Rollout, events: Sequence[pb.RolloutEvent]) -> list[Step]:
    """All of the plan's steps. `events`: its audit in any order, which says how far one came that went back, and which
    steps a person did not wait for."""
    index, standing = _where(rollout, events)
    skipped = {place: event for event in events if (place := _left_early(event, rollout.plan)) is not None}
    found = []
    for place, (label, waiting) in enumerate(_named(rollout.plan)):
        if place < index and place in skipped and waiting is not None:
            found.append(Step(label, _promoted(skipped[place], waiting), "promoted"))
        else:
            here: Standing = "done" if place < index else standing if place == index else "ahead"
            last = place == _last(rollout.plan)
            found.append(Step(label, _least(waiting) if waiting else t("rollouts.criteria_met") if last else "", here))
    return found


def _left_early(event: pb.RolloutEvent, plan: pb.RolloutPlan) -> int | None:
    """Which step a person left by promoting."""
    return _index(event.from_state, event.from_stage, plan) if event.trigger == "promote" else None


def _promoted(event: pb.RolloutEvent, waiting: pb.RolloutWaiting) -> str:
    if not event.HasField("evidence"):
        return t("rollouts.promoted_by", who=telling.actor(event))
    had, asked = number(event.evidence.samples), number(waiting.minimum_samples)
    return t("rollouts.promoted_with", who=telling.actor(event), n=had, m=asked)


def _named(plan: pb.RolloutPlan) -> Iterator[tuple[str, pb.RolloutWaiting | None]]:
    """Each with what it waits for."""
    yield t("rollouts.step_loaded"), None
    if not plan.no_shadow:
        yield t("rollouts.step_shadow"), plan.shadow.waiting
    for stage in plan.stages:
        yield share(stage.share), stage.waiting
    yield t("rollouts.step_verified"), None


def _least(waiting: pb.RolloutWaiting) -> str:
    time = moments.length(waiting.minimum_seconds)
    return t("rollouts.least", n=number(waiting.minimum_samples), time=time)


def _where(rollout: pb.Rollout, events: Sequence[pb.RolloutEvent]) -> tuple[int, Standing]:
    """Which step it is at, -1 before the first, and how it stands there."""
    plan = rollout.plan
    if rollout.state == pb.ROLLOUT_STATE_VERIFIED:
        return _last(plan), "done"
    if rollout.state in telling.GONE:
        left = [_index(event.from_state, event.from_stage, plan) for event in events]
        reached = [_index(event.to_state, event.to_stage, plan) for event in events]
        return max(*left, *reached, -1, -1), "back"
    standing: Standing = "paused" if rollout.state == pb.ROLLOUT_STATE_PAUSED else "now"
    return _index(telling.stands(rollout), rollout.stage, plan), standing


def _last(plan: pb.RolloutPlan) -> int:
    return len(plan.stages) + (1 if plan.no_shadow else 2)


def _index(state: int, stage: int, plan: pb.RolloutPlan) -> int:
    if state in _LOADING:
        return 0
    if state == pb.ROLLOUT_STATE_SHADOW:
        return 1
    if state == pb.ROLLOUT_STATE_CANARY:
        return stage + (1 if plan.no_shadow else 2)
    return -1


def draw(rollout: pb.Rollout, events: Sequence[pb.RolloutEvent]) -> None:
    """The steps in a row; on a phone one below the other."""
    with el("ol", "path", aria_label=t("rollouts.path")):
        for number_, step in enumerate(steps(rollout, events), start=1):
            current = "step" if step.standing in ("now", "paused") else None
            with el("li", f"step step-{step.standing}", aria_current=current):
                with el("span", "step-dot", aria_hidden="true"):
                    if symbol := _SYMBOLS.get(step.standing):
                        parts.icon(symbol)
                    else:
                        el("span", "", str(number_))
                el("span", "step-label num", step.label)
                el("span", "sr-only", t(f"rollouts.step_{step.standing}"))
                el("span", "step-note num", step.note)


def traffic(rollout: pb.Rollout) -> None:
    """Who answers how many users, as one bar."""
    taken = rollout.share
    held = rollout.plan.holdback if taken else 0.0
    theirs, ours = f"{rollout.champion} {share(1 - taken)}", f"{rollout.challenger} {share(taken)}"
    with el("div", "traffic"):
        with el("div", "traffic-bar", role="img", aria_label=f"{t('rollouts.traffic')}: {ours}, {theirs}"):
            el("div", "traffic-ours").style(f"width: {100 * taken:.2f}%")
            el("div", "traffic-theirs")
            if 0 < held <= 1 - taken + 1e-9:
                el("div", "traffic-held").style(f"width: {100 * held:.2f}%")
        with el("div", "traffic-words num"):
            el("span", "traffic-name", ours)
            held_back = f" ({t('rollouts.held_back', share=share(held))})" if held else ""
            el("span", "traffic-name traffic-other", f"{theirs}{held_back}")
