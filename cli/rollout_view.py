"""How `ratchet rollout` shows a rollout: its path, what it waits for, the evidence with its intervals, the audit."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from cli.output import visible
from cli.releases import kind_name, percent

if TYPE_CHECKING:
    from ratchet.v1 import rollout_pb2 as pb

STYLES = {
    "canary": "bold cyan",
    "shadow": "cyan",
    "verified": "bold green",
    "paused": "bold yellow",
    "rolling back": "bold red",
    "rolled back": "red",
    "failed": "bold red",
}
_MISSED, _MET = 2, 3
"""Of pb.MeasureState, which is imported late."""
_MARKS = {0: ("·", "dim"), 1: ("–", "dim"), _MISSED: ("✗", "bold red"), _MET: ("✓", "green")}
_CAUSES = {1: "by a person", 2: "not ready", 3: "users are not split as planned", 4: "a safety report"}
_ENDED = ("verified", "rolled back", "failed")
_BEFORE = ("draft", "published", "loaded")
_COUNTS = frozenset({"safety", "shares"})
"""Measures that are no parts of the champion's, so that no scale has them."""
_CHANGED = "It changed since the last look; the next one tells."
BAR, SCALE = 24, 23
"""Columns of a bar, and of an interval's picture: an odd number, so that zero has one."""
_FOLDS = ((True, 100), (True, 6), (True, 2), (True, 0))
"""Whether guardrails are a line, and how many entries of the audit there are: what is tried where a screen is short."""
_CRITERIA, _WIDEST = "Success criteria", 42
_LEAST, _MOST = 0.05, 0.5
"""How far a scale reaches at least and at most, to either side of zero."""


def state_of(value: int) -> str:
    """A state's name for people."""
    from ratchet.v1 import rollout_pb2 as pb

    known = pb.RolloutState.DESCRIPTOR.values_by_number.get(value)
    return known.name.removeprefix("ROLLOUT_STATE_").lower().replace("_", " ") if known else "unknown"


def where(rollout: "pb.Rollout") -> str:
    """Where it stands: "canary 50 %", "paused in shadow"."""
    return _place(rollout, rollout.state, rollout.stage)


def already(rollout: "pb.Rollout") -> str:
    """What a command found done: "it was paused already"."""
    state = state_of(rollout.state)
    if state in ("paused", "rolling back", "rolled back"):
        return f"it was {state} already"
    return "it had failed already" if state == "failed" else "it was under way already, and not paused"


def line(rollout: "pb.Rollout") -> Text:
    """A rollout's id, which nothing cuts, and how it stands."""
    state = state_of(rollout.state)
    told = Text.assemble(f"{rollout.rollout_id}  ", (where(rollout), STYLES.get(state, "")))
    told.append(f"  {visible(rollout.challenger)}", "bold").append(f" over {visible(rollout.champion)}")
    if rollout.share:
        told.append(f", {percent(rollout.share)} of users")
    if held := _held_back(rollout):
        told.append(f", {percent(held)} held back")
    if rollout.undoes:
        told.append(", undoes " + rollout.undoes)
    by = f" by {visible(rollout.creator)}" if rollout.creator else ""
    return told.append(f"  {rollout.create_time.ToDatetime():%Y-%m-%d %H:%M}{by}, version {rollout.version}", "dim")


def event_line(event: "pb.RolloutEvent", plan: "pb.RolloutPlan") -> Text:
    """An entry of the audit."""
    after = _stop(plan, event.to_state, event.to_stage)
    told = Text.assemble(
        (f"{event.time.ToDatetime():%m-%d %H:%M:%S}  ", "dim"),
        (f"{event.trigger.replace('_', ' '):<9} ", "bold" if event.is_person else ""),
        (f"{after:<12}", STYLES.get(state_of(event.to_state), "")),
    )
    return told.append(f"  {visible(event.actor)}: {visible(event.reason)}")


class View:
    """One rollout as it was told last; its time goes on between messages. What `fits` is folded until one screen holds
    it: guardrails into a line, then the audit into its newest entries."""

    def __init__(self, *, fits: bool = False) -> None:
        self.rollout: pb.Rollout | None = None
        self.look: pb.RolloutLook | None = None
        self.events: list[pb.RolloutEvent] = []
        self.reports: Sequence[pb.RolloutSafetyReport] = ()
        self.note = ""
        self._fits, self._told = fits, 0.0

    def take(self, rollout: "pb.Rollout", look: "pb.RolloutLook | None", events: "Iterable[pb.RolloutEvent]") -> None:
        """What a message tells; `events` oldest first, those that are new."""
        self.rollout, self._told, self.note = rollout, time.monotonic(), ""
        self.look = look
        self.events.extend(events)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See rich."""
        if self.rollout is None:
            yield Text("…")
            return
        for folded, entries in ((False, len(self.events)), *_FOLDS):
            whole = Group(*self._parts(self.rollout, entries, folded=folded))
            if not self._fits or len(console.render_lines(whole, options.update(height=None))) < console.height:
                break
        yield whole

    def _parts(self, rollout: "pb.Rollout", entries: int, *, folded: bool) -> Iterable[RenderableType]:
        if self.note:
            yield Text(self.note, style="bold yellow")
        yield from (_heading(rollout), Text(), _path(rollout), Text(), self._facts(rollout))
        if self.look is not None and self.look.HasField("evidence"):
            yield from evidence_tables(self.look.evidence, folded=folded)
        if self.reports:
            yield from (Text(), Text("Safety reports", style="bold"), *map(report_line, self.reports))
        if newest := list(reversed(self.events))[:entries]:
            yield from (Text(), Text("Audit, the newest first", style="bold"))
            yield from (event_line(each, rollout.plan) for each in newest)

    def _facts(self, rollout: "pb.Rollout") -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in self._rows(rollout):
            table.add_row(name, value)
        return table

    def _rows(self, rollout: "pb.Rollout") -> Iterable[tuple[str, Text]]:
        state = state_of(rollout.state)
        if state not in _ENDED:
            held = _held_back(rollout)
            told = percent(rollout.share) + (f", {percent(held)} held back" if held else "")
            yield "users", _bar(rollout.share).append(f"  {told}", "")
        for pause in rollout.pauses:
            cause = _CAUSES.get(pause.cause, "?")
            yield "paused", Text(f"{cause}, since {pause.since_time.ToDatetime():%H:%M:%S}: {visible(pause.reason)}")
        if waiting := _waiting(rollout):
            yield from self._waits(rollout, waiting)
        if self.look is None or state in _ENDED:
            return
        evidence = self.look.evidence
        if self.look.version == rollout.version:
            yield "replicas", _replicas(evidence)
        reports = evidence.reports_pending, evidence.reports_confirmed, evidence.reports_dismissed
        if any(reports):
            told = "{} waiting, {} confirmed, {} dismissed".format(*reports)
            yield "reports", Text(told, "bold red" if reports[0] or reports[1] else "")
        yield "now", Text(visible(now(self.look)) if self.look.version == rollout.version else _CHANGED)
        if evidence.HasField("days_left"):
            yield "days left", Text(f"{evidence.days_left:.1f} at the present pace")

    def _waits(self, rollout: "pb.Rollout", waiting: "pb.RolloutWaiting") -> Iterable[tuple[str, Text]]:
        running = 0.0 if rollout.pauses else time.monotonic() - self._told
        elapsed, least = rollout.elapsed_seconds + running, waiting.minimum_seconds
        told = f"{span(elapsed)} of at least {span(least)}, at most {span(waiting.longest_seconds)}"
        yield "time", _bar(elapsed / least if least else 1).append(f"  {told}", "")
        samples = self.look.evidence.samples if self.look is not None and self.look.version == rollout.version else 0
        part = samples / waiting.minimum_samples if waiting.minimum_samples else 1
        yield "samples", _bar(part).append(f"  {samples:,} of at least {waiting.minimum_samples:,}", "")


def now(look: "pb.RolloutLook") -> str:
    """What it waits for: the reason of a look, and of several criteria only their names, whose table says the rest."""
    evidence = look.evidence
    criteria = [each for each in evidence.measures if not each.guardrail]
    open_ = [each.subject or each.name for each in criteria if each.sentence and each.sentence in look.reason]
    if len(open_) < 2:
        return look.reason
    return f"{len(open_)} of {len(criteria)} success criteria are not met yet: {', '.join(open_)}."


def report_line(report: "pb.RolloutSafetyReport") -> Text:
    """A safety report, and what people made of it; its id is what `ratchet rollout report` takes."""
    told, style = "waits", "bold red"
    if report.HasField("confirmed"):
        told, style = ("confirmed", "red") if report.confirmed else ("dismissed", "dim")
    shown = Text.assemble((f"{told:<10}", style), report.feedback_id, f"  {visible(report.category)}")
    if report.comment:
        shown.append(f": {visible(report.comment)}".replace("\n", " "))
    by = f", decided by {visible(report.decided_by)}" if report.decided_by else ""
    tenant = f", tenant {visible(report.tenant_id)}" if report.tenant_id else ""
    return shown.append(f"  reply {report.response_id}{tenant}{by}", "dim")


def span(seconds: float) -> str:
    """A time for people: 90 s, 45 min, 2.5 h, 3 days."""
    for least, size, unit in ((2 * 86_400, 86_400, "days"), (2 * 3600, 3600, "h"), (5 * 60, 60, "min")):
        if seconds >= least:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def interval(measure: "pb.RolloutMeasure", reach: float) -> Text:
    """A picture of a confidence sequence on a scale from -reach to reach: ├──●──┤, with zero as ┊, and arrows where it
    goes on."""
    low = measure.lower if measure.HasField("lower") else -float("inf")
    high = measure.upper if measure.HasField("upper") else float("inf")
    cells = [" "] * SCALE
    first, last = _column(low, reach), _column(high, reach)
    cells[first : last + 1] = "─" * (last + 1 - first)
    cells[SCALE // 2] = "┼" if first <= SCALE // 2 <= last else "┊"
    cells[first] = "◀" if low < -reach else "├"
    cells[last] = "▶" if high > reach else "┤"
    cells[_column(measure.value, reach)] = "●"
    return Text("".join(cells), style=_MARKS[measure.state][1] if measure.state in _MARKS else "", no_wrap=True)


def _held_back(rollout: "pb.Rollout") -> float:
    """The share of users who keep the champion where all others have the challenger: of the last stage."""
    last = state_of(rollout.resumes_to or rollout.state) == "canary" and rollout.stage == len(rollout.plan.stages) - 1
    return rollout.plan.holdback if last and rollout.share else 0.0


def _heading(rollout: "pb.Rollout") -> Text:
    told = Text.assemble((visible(rollout.challenger), "bold"), " is to take over from ", visible(rollout.champion))
    state = state_of(rollout.state)
    if state in _ENDED:
        told = Text.assemble((visible(rollout.challenger), "bold"), " over ", visible(rollout.champion), ": ")
        told.append(state, STYLES[state])
    return told.append(f"\n{rollout.rollout_id}  {kind_name(rollout.kind)}, version {rollout.version}", "dim")


def _path(rollout: "pb.Rollout") -> Text:
    """All stops from draft to verified; the present one stands out, those behind are dim."""
    stops = [*_BEFORE, *([] if rollout.plan.no_shadow else ["shadow"])]
    stops += [*(percent(stage.share) for stage in rollout.plan.stages), "verified"]
    state = state_of(rollout.state)
    here = _stop(rollout.plan, rollout.resumes_to if rollout.pauses else rollout.state, rollout.stage)
    at, told = (stops.index(here) if here in stops else -1), Text()
    for number, stop in enumerate(stops):
        style = "dim" if number > at else ""
        told.append(" ─ " if number else "", "dim")
        told.append(f" {stop} ", f"reverse {STYLES.get(state, 'bold')}") if number == at else told.append(stop, style)
    if at < 0 or rollout.pauses:
        told.append(f"   {state}", STYLES.get(state, ""))
    return told


def _place(rollout: "pb.Rollout", state: int, stage: int) -> str:
    name = state_of(state)
    if name == "paused" and rollout.resumes_to:
        return f"paused in {_place(rollout, rollout.resumes_to, stage)}"
    return f"canary {_stop(rollout.plan, state, stage)}" if name == "canary" else name


def _stop(plan: "pb.RolloutPlan", state: int, stage: int) -> str:
    """The stop of the path that a state is: the share of a stage, or its name."""
    name = state_of(state)
    return percent(plan.stages[stage].share) if name == "canary" and stage < len(plan.stages) else name


def _waiting(rollout: "pb.Rollout") -> "pb.RolloutWaiting | None":
    """How long the present stage lasts; None where nothing is waited for."""
    state = state_of(rollout.resumes_to if rollout.pauses else rollout.state)
    if state == "shadow":
        return rollout.plan.shadow.waiting
    stages = rollout.plan.stages
    return stages[rollout.stage].waiting if state == "canary" and rollout.stage < len(stages) else None


def _replicas(evidence: "pb.RolloutEvidence") -> Text:
    well = evidence.ready_replicas >= evidence.replicas > 0
    told = Text(f"ready on {evidence.ready_replicas} of {evidence.replicas}", "green" if well else "yellow")
    return told.append(f": {visible(evidence.refusal)}", "bold red") if evidence.refusal else told


def evidence_tables(evidence: "pb.RolloutEvidence", *, folded: bool = False) -> Iterable[RenderableType]:
    """Success criteria, then guardrails, each with its picture; `folded`: how many guardrails stand how, and those that
    are missed."""
    guardrails = [each for each in evidence.measures if each.guardrail]
    width = max(len(_CRITERIA), *(len(each.subject) for each in evidence.measures), 0)
    if criteria := [each for each in evidence.measures if not each.guardrail]:
        yield from (Text(), _measures(_CRITERIA, criteria, width))
    if guardrails and not folded:
        yield from (Text(), _measures("Guardrails", guardrails, width))
    elif guardrails:
        missed = [each for each in guardrails if each.state == _MISSED]
        met = sum(each.state == _MET for each in guardrails)
        told = f"  {len(missed)} missed, {met} met, {len(guardrails) - len(missed) - met} without a verdict yet"
        yield from (Text(), Text.assemble(("Guardrails", "bold"), (told, "bold red" if missed else "")))
        yield from (Text(f"  {visible(each.sentence)}", style="red") for each in missed)
    if evidence.mismatch:
        yield Text(visible(evidence.mismatch), style="bold red")


def _measures(title: str, measures: "Sequence[pb.RolloutMeasure]", width: int) -> Table:
    """`width`: of the longest subject, so that tables of both kinds are aligned."""
    reach = _reach(measures)
    drawn = any(_on_scale(each) for each in measures)
    half = SCALE // 2
    scale = f"{f'-{percent(reach)}':<{half}}0{f'+{percent(reach)}':>{half}}" if drawn else ""
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column(Text(title, style="bold"), width=min(width, _WIDEST), overflow="fold")
    table.add_column(Text("found", style="dim"), justify="right", no_wrap=True)
    table.add_column(Text(scale, style="dim"), no_wrap=True)
    for each in measures:
        mark, style = _MARKS.get(each.state, _MARKS[0])
        picture = interval(each, reach) if _on_scale(each) else Text()
        table.add_row(Text(mark, style), Text(visible(each.subject or each.name)), Text(_value(each), style), picture)
    return table


def _value(measure: "pb.RolloutMeasure") -> str:
    if not measure.HasField("value"):
        return "–"
    if measure.name == "safety":
        return f"{measure.value:.0f}"
    signed = measure.value > 0 and measure.name not in ("shares", "failures")
    return f"{'+' if signed else ''}{percent(round(measure.value, 4))}"


def _on_scale(measure: "pb.RolloutMeasure") -> bool:
    return measure.name not in _COUNTS and measure.HasField("value")


def _reach(measures: "Sequence[pb.RolloutMeasure]") -> float:
    """Of one scale for all, so that they can be compared."""
    ends = [abs(end) for each in measures if _on_scale(each) for end in (each.lower, each.upper, each.value)]
    return min(max([_LEAST, *ends]), _MOST)


def _column(value: float, reach: float) -> int:
    return round((min(max(value, -reach), reach) / reach + 1) / 2 * (SCALE - 1))


def _bar(part: float) -> Text:
    filled = round(min(max(part, 0.0), 1.0) * BAR)
    return Text.assemble(("━" * filled, "cyan"), ("─" * (BAR - filled), "dim"))
