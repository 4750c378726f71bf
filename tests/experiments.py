"""Experiments, and evidence of them, for tests: they run, and all is well, unless a test says otherwise."""

from dataclasses import replace
from typing import Any

from server.experiments.types import Event, Experiment, Plan, Step, Trigger
from server.rollout.registry import Assignment
from server.rollout.types import Evidence, Variation
from server.storage.training import new_id
from tests.rollouts import BEGAN, LAN, MET


def experiment(kind: Variation = Variation.SELECTION, **changes: Any) -> Experiment:
    """One that began at BEGAN, with half of the users."""
    overrides = {
        Variation.SELECTION: {"selection": "weighted", "selection_temperature": 0.5},
        Variation.PROMPT: {"instructions": "Answer in one sentence."},
        Variation.INTERFACE: {},
    }
    name = str(new_id())
    basis = Experiment(
        experiment_id=name,
        name=f"try-{kind}",
        kind=kind,
        variant=f"other-{kind}",
        overrides=overrides[kind],
        plan=Plan(share=0.5, salt=name),
        started_at=BEGAN,
        started_by="lan",
    )
    return replace(basis, **changes)


def begun(made: Experiment) -> Step:
    """Its first step."""
    event = Event(
        experiment_id=made.experiment_id,
        version=made.version,
        at=made.started_at,
        actor=LAN,
        trigger=Trigger.START,
        reason="To see.",
    )
    return Step(made, event)


def known(of: Experiment, **changes: Any) -> Evidence:
    """Evidence in which all criteria are met."""
    return replace(Evidence(rollout_id=of.experiment_id, version=of.version, criteria=MET), **changes)


def part_of(of: Experiment, challenger: bool, **changes: Any) -> Assignment:
    """What a reply's row says of it."""
    share = of.plan.share
    basis = Assignment(
        experiment=of.experiment_id,
        kind=of.kind,
        stage=0,
        challenger=challenger,
        release=of.variant if challenger else "control",
        share=share,
        propensity=share if challenger else 1 - share,
        sticky=True,
        held_back=False,
        timed=True,
    )
    return replace(basis, **changes)
