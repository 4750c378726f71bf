"""What becomes of an experiment at a look, or when a person stops it. Pure.

What takes the variant from users is looked at first, and waits for no minimum of time or samples. Nothing becomes the
default by itself.
"""

from dataclasses import replace
from datetime import datetime

from server.experiments.types import Event, Experiment, State, Step, Trigger
from server.rollout.guards import span
from server.rollout.types import CONTROLLER, Actor, CriterionName, Evidence, Outcome

NO_REASON = "No reason was given."


def decide(experiment: Experiment, evidence: Evidence, now: datetime) -> Step | str:
    """The step that the evidence asks for, or a sentence of why nothing changes."""
    if experiment.state is State.STOPPED:
        return "It has stopped."
    if why := _ends(experiment, evidence, now):
        return _step(experiment, Trigger.STOP, State.STOPPED, CONTROLLER, why, evidence, now)
    waits = _waits(evidence)
    if waits and experiment.state is State.RUNNING:
        why = f"{waits}: everybody has what is in force."
        return _step(experiment, Trigger.HOLD, State.HELD, CONTROLLER, why, evidence, now)
    if not waits and experiment.state is State.HELD and evidence.version == experiment.version:
        why = "What users did can be read, no safety report waits, and none was confirmed."
        return _step(experiment, Trigger.RELEASE, State.RUNNING, CONTROLLER, why, evidence, now)
    return experiment.reason or verdict(experiment, evidence)


def stop(experiment: Experiment, actor: Actor, reason: str, evidence: Evidence | None, now: datetime) -> Step:
    """Ends one that has not stopped, since a person wants it."""
    return _step(experiment, Trigger.STOP, State.STOPPED, actor, reason or NO_REASON, evidence, now)


def verdict(experiment: Experiment, evidence: Evidence) -> str:
    """How the success criteria stand, in a sentence or more: which are not met yet, or what to set."""
    unmet = [line.sentence for line in evidence.criteria if line.outcome is not Outcome.MET]
    seen = {line.name for line in evidence.criteria}
    if seen < set(CriterionName):
        return "Too little is known yet for any verdict."
    if unmet:
        return " ".join(unmet)
    settings = ", ".join(to_set(experiment))
    return f"All success criteria are met: {f'set {settings}' if settings else 'show it to everybody'}, and stop."


def to_set(experiment: Experiment) -> tuple[str, ...]:
    """The settings that make the variant the default, as NAME=VALUE of the environment."""
    return tuple(f"RATCHET_{name.upper()}={_one_line(value)}" for name, value in sorted(experiment.overrides.items()))


def _ends(experiment: Experiment, evidence: Evidence, now: datetime) -> str:
    """Why it must end, "" when nothing says so."""
    if evidence.safety.confirmed:
        return f"{_reports(evidence.safety.confirmed)} on the variant's replies confirmed."
    if evidence.findings:
        return " ".join(finding.sentence for finding in evidence.findings)
    if evidence.mismatch:
        return evidence.mismatch
    longest = experiment.plan.longest_seconds
    if experiment.elapsed(now) >= longest:
        return f"It had its longest time, {span(longest)}. {verdict(experiment, evidence)}"
    return ""


def _waits(evidence: Evidence) -> str:
    """Why nobody may have it for now, "" when nothing says so."""
    if pending := evidence.safety.pending:
        return f"{_reports(pending)} on the variant's replies waiting for a person"
    return evidence.unread.removesuffix(".")


def _step(
    experiment: Experiment,
    trigger: Trigger,
    state: State,
    actor: Actor,
    why: str,
    evidence: Evidence | None,
    now: datetime,
) -> Step:
    after = replace(
        experiment,
        state=state,
        version=experiment.version + 1,
        reason="" if state is State.RUNNING else why,
        stopped_at=now if state is State.STOPPED else None,
    )
    event = Event(
        experiment_id=experiment.experiment_id,
        version=after.version,
        at=now,
        actor=actor,
        trigger=trigger,
        reason=why,
        evidence=evidence,
    )
    return Step(after, event)


def _reports(number: int) -> str:
    return f"{number} safety report{'' if number == 1 else 's'}"


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
