"""A rollout's plan, as it was drafted."""

from collections.abc import Iterator
from datetime import tzinfo

from console import moments, parts
from console.numerals import number
from console.parts import el
from console.releases.telling import share
from console.rollouts import telling
from console.words import t
from ratchet.v1 import rollout_pb2 as pb


def draw(rollout: pb.Rollout, zone: tzinfo) -> None:
    """All of it."""
    with parts.card(aria_label=t("rollouts.plan")):
        el("h3", "card-title", t("rollouts.plan"))
        with el("dl", "story-facts"):
            for name, values in _facts(rollout, zone):
                el("dt", "", t(f"rollouts.plan_{name}"))
                with el("dd", "num"):
                    for value in values:
                        el("div", "", value)


def _facts(rollout: pb.Rollout, zone: tzinfo) -> Iterator[tuple[str, tuple[str, ...]]]:
    plan, goals = rollout.plan, rollout.plan.goals
    yield "strategy", (telling.strategy(plan),)
    yield "shadow", (t("rollouts.plan_no_shadow") if plan.no_shadow else _held(plan.shadow.share, plan.shadow.waiting),)
    yield "stages", tuple(_held(stage.share, stage.waiting) for stage in plan.stages)
    yield "holdback", (share(plan.holdback),)
    yield (
        "goals",
        (
            t("rollouts.plan_gain", gain=share(goals.gain)),
            t("rollouts.plan_margin", margin=share(goals.margin)),
            t("rollouts.plan_slower", slower=share(goals.slower)),
            t("rollouts.plan_failures", failures=share(goals.failures)),
        ),
    )
    yield "load", (moments.length(plan.load_seconds),)
    yield "unready", (moments.length(plan.unready_seconds),)
    yield "salt", (plan.salt,)
    created = moments.written(moments.of(rollout.create_time), zone)
    yield "created", (f"{created}, {t('rollouts.by', who=rollout.creator)}" if rollout.creator else created,)
    yield "id", (rollout.rollout_id,)


def _held(part: float, waiting: pb.RolloutWaiting) -> str:
    return t(
        "rollouts.plan_stage",
        share=share(part),
        least=moments.length(waiting.minimum_seconds),
        longest=moments.length(waiting.longest_seconds),
        n=number(waiting.minimum_samples),
    )
