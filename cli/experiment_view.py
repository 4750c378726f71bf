"""How `ratchet experiment` shows an experiment: what it tries, how it stands, the evidence with its intervals."""

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.output import visible
from cli.releases import percent
from cli.rollout_view import evidence_tables, now, report_line, span

if TYPE_CHECKING:
    from ratchet.v1 import experiment_pb2 as pb
    from ratchet.v1.rollout_pb2 import RolloutEvidence

_MISSED, _MET = 2, 3
"""Of pb.MeasureState, which is imported late."""
_REASON = 80
"""Letters of why it is held or has stopped, on its line."""
_STYLES = {"running": "bold cyan", "held": "bold yellow", "stopped": "dim"}


def state_of(experiment: "pb.Experiment") -> str:
    """A state's name for people."""
    from ratchet.v1 import experiment_pb2 as pb

    return pb.ExperimentState.Name(experiment.state).removeprefix("EXPERIMENT_STATE_").lower()


def kind_of(experiment: "pb.Experiment") -> str:
    """What it varies."""
    from ratchet.v1 import experiment_pb2 as pb

    return pb.ExperimentKind.Name(experiment.kind).removeprefix("EXPERIMENT_KIND_").lower()


def line(experiment: "pb.Experiment") -> Text:
    """An experiment's id, which nothing cuts, and how it stands."""
    state = state_of(experiment)
    told = Text.assemble(f"{experiment.experiment_id}  ", (f"{state:<8}", _STYLES[state]))
    told.append(f" {visible(experiment.name)}", "bold").append(f"  {kind_of(experiment)} {_variant(experiment)}")
    told.append(f", {'' if state != 'stopped' else 'was for '}{percent(experiment.share)} of users")
    by = f" by {visible(experiment.creator)}" if experiment.creator else ""
    told.append(f"  {experiment.start_time.ToDatetime():%Y-%m-%d %H:%M}{by}", "dim")
    why = " ".join(visible(experiment.reason).split())
    return told.append(f": {why[:_REASON]}{'…' * (len(why) > _REASON)}") if why else told


def whole(found: "pb.GetExperimentResponse") -> Group:
    """All of one."""
    return Group(*_parts(found))


def _parts(found: "pb.GetExperimentResponse") -> Iterable[RenderableType]:
    experiment = found.experiment
    state = state_of(experiment)
    yield Text.assemble((visible(experiment.name), "bold"), f": {_variant(experiment)}  ", (state, _STYLES[state]))
    yield Text(f"{experiment.experiment_id}  {kind_of(experiment)}, version {experiment.version}", style="dim")
    yield Text()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(found):
        table.add_row(name, Text(visible(value)))
    yield table
    evidence = _evidence(found)
    if evidence is not None:
        yield from evidence_tables(evidence)
    if found.safety_reports:
        yield from (Text(), Text("Safety reports", style="bold"), *map(report_line, found.safety_reports))
    yield from (Text(), Text("Audit, the newest first", style="bold"), *map(_event, found.events))


def _rows(found: "pb.GetExperimentResponse") -> Iterable[tuple[str, str]]:
    experiment = found.experiment
    running = state_of(experiment) == "running"
    stopped = state_of(experiment) == "stopped"
    share = percent(experiment.share)
    yield "users", share if running else f"nobody; was for {share}" if stopped else f"{share}; nobody for now"
    for setting in experiment.to_set:
        yield "to set", _for_a_shell(setting)
    if not stopped:
        yield "ends", f"{span(experiment.longest_seconds)} after it began at the latest"
    if running and found.HasField("look"):
        yield "now", now(found.look)
        if found.look.HasField("evidence"):
            yield "samples", f"{found.look.evidence.samples:,} rated users in the smaller arm"
        if found.look.evidence.HasField("days_left"):
            yield "days left", f"{found.look.evidence.days_left:.1f} at the present pace"
    elif experiment.reason:
        yield state_of(experiment), experiment.reason
    if stopped:
        yield "came to", outcome(found)


def outcome(found: "pb.GetExperimentResponse") -> str:
    """What one that stopped came to, in a sentence."""
    evidence = _evidence(found)
    criteria = [each for each in evidence.measures if not each.guardrail] if evidence is not None else []
    if not any(each.HasField("value") for each in criteria):
        return "nothing, for too little was seen for any figure."
    met = sum(each.state == _MET for each in criteria)
    missed = sum(each.state == _MISSED for each in criteria)
    if met == len(criteria):
        return f"all {met} success criteria were met."
    return f"{met} of {len(criteria)} success criteria were met, {missed} missed; the rest had no verdict."


def _for_a_shell(setting: str) -> str:
    """NAME=VALUE with the value as a shell takes it."""
    name, equals, value = setting.partition("=")
    return f"{name}{equals}{shlex.quote(value)}"


def _evidence(found: "pb.GetExperimentResponse") -> "RolloutEvidence | None":
    """What was seen last: at the last look, or when it stopped."""
    ended = next((each.evidence for each in found.events if each.HasField("evidence")), None)
    if state_of(found.experiment) == "stopped" and ended is not None:
        return ended
    return found.look.evidence if found.look.HasField("evidence") else ended


def _variant(experiment: "pb.Experiment") -> str:
    return visible(experiment.variant.name)


def _event(event: "pb.ExperimentEvent") -> Text:
    told = Text.assemble(
        (f"{event.time.ToDatetime():%m-%d %H:%M:%S}  ", "dim"),
        (f"{event.trigger:<8}", "bold" if event.is_person else ""),
    )
    return told.append(f"  {visible(event.actor)}: {visible(event.reason)}")
