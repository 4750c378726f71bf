"""One comparison as a card: what is tried against what, and how it stands. Only what has changed is drawn again."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import tzinfo

from console import client, parts
from console.experiments import telling
from console.numerals import number
from console.parts import el
from console.releases.telling import kind, share
from console.rollouts import evidence, measures
from console.rollouts import telling as rollouts
from console.rollouts.deciding import Deciding
from console.rollouts.safety import Reports
from console.words import t
from ratchet.v1 import experiment_pb2
from ratchet.v1 import rollout_pb2 as pb

Again = Callable[[], Awaitable[None]]


class RolloutCard:
    """A rollout under way. Draws itself where it is made."""

    def __init__(self, found: pb.GetRolloutResponse) -> None:
        rollout = found.rollout
        self._version = 0
        with parts.card("evidence", aria_label=f"{rollout.challenger}, {rollout.champion}"):
            self._head, self._figures = el("div"), _Figures()

    def show(self, found: pb.GetRolloutResponse) -> None:
        """As it is now."""
        rollout, known = found.rollout, found.look.evidence
        if self._version != rollout.version:
            self._version = rollout.version
            self._head.clear()
            with self._head:
                _rollout_head(rollout)
        waiting = rollouts.waiting(rollout)
        samples = t("rollouts.of", n=number(known.samples), m=number(waiting.minimum_samples)) if waiting else "–"
        in_shadow = rollouts.stands(rollout) == pb.ROLLOUT_STATE_SHADOW
        note = t("rollouts.samples_shadow" if in_shadow else "rollouts.samples_note")
        self._figures.show(known, rollout.plan.goals, (rollout.share, rollout.challenger), (samples, note))


class ExperimentCard:
    """An experiment under way, which people may stop. `again`: asks the server how all stands now."""

    def __init__(self, found: experiment_pb2.GetExperimentResponse, dialog: Deciding, again: Again) -> None:
        self._dialog, self._again, self._version = dialog, again, 0
        experiment = found.experiment
        with parts.card("evidence", aria_label=experiment.name):
            self._head = el("div", "stack")
            self._reports = Reports(dialog, self._decide(experiment.experiment_id))
            self._figures = _Figures()

    def show(self, found: experiment_pb2.GetExperimentResponse, zone: tzinfo) -> None:
        """As it is now."""
        experiment, known = found.experiment, found.look.evidence
        if self._version != experiment.version:
            self._version = experiment.version
            self._head.clear()
            with self._head:
                self._draw_head(experiment)
        self._reports.show(found.safety_reports, zone, open_=True)
        running = experiment.state == experiment_pb2.EXPERIMENT_STATE_RUNNING
        taken = experiment.share if running else 0.0
        samples = number(known.samples), t("experiments.samples_note")
        self._figures.show(known, experiment.goals, (taken, experiment.variant.name), samples)

    def _draw_head(self, experiment: experiment_pb2.Experiment) -> None:
        words, tone, symbol = telling.state(experiment)
        with el("div", "row spread"):
            with el("div", "row"):
                parts.chip(words, tone, symbol=symbol)
                el("h2", "run-title", experiment.name)
                parts.chip(telling.kind(experiment), symbol="tune")
            parts.button(t("experiments.stop"), lambda: self._stop(experiment), symbol="stop", kind="danger")
        for fact in telling.variant(experiment):
            el("p", "muted", fact)
        if experiment.reason:
            el("p", "story-note", experiment.reason, lang="en")

    def _stop(self, experiment: experiment_pb2.Experiment) -> None:
        async def act(reason: str) -> Callable[[], None]:
            api = client.api()
            request = experiment_pb2.StopExperimentRequest(experiment_id=experiment.experiment_id, reason=reason)
            await api.call(api.experiments.StopExperiment, request)
            await self._again()
            return lambda: None

        self._dialog.open("stop", experiment.name, act, kind="danger", symbol="stop")

    def _decide(self, experiment_id: str) -> Callable[[pb.RolloutSafetyReport, bool, str], Awaitable[None]]:
        async def decide(report: pb.RolloutSafetyReport, confirmed: bool, note: str) -> None:
            api = client.api()
            request = experiment_pb2.DecideExperimentReportRequest(
                experiment_id=experiment_id,
                feedback_id=report.feedback_id,
                tenant_id=report.tenant_id,
                confirmed=confirmed,
                note=note,
            )
            await api.call(api.experiments.DecideExperimentReport, request)
            await self._again()

        return decide


class _Figures:
    """Tiles, criteria and guardrails."""

    def __init__(self) -> None:
        self._shown: object = None
        self._room = el("div", "evidence")

    def show(
        self, known: pb.RolloutEvidence, goals: pb.RolloutGoals, users: tuple[float, str], samples: tuple[str, str]
    ) -> None:
        """`users`: how many have what is tried, and its name; `samples`: the figure, and of what it is."""
        kept = pb.RolloutEvidence.FromString(known.SerializeToString())
        kept.ClearField("time")
        if self._shown == (kept, users, samples):
            return
        self._shown = (kept, users, samples)
        self._room.clear()
        with self._room:
            _tiles(known, users, samples)
            if not known.measures:
                el("p", "muted", t("experiments.no_figures"))
                return
            criteria, guardrails = evidence.split(known)
            if criteria:
                el("h3", "evidence-title", t("rollouts.criteria"))
                evidence.lines(criteria, goals)
            _guardrails(guardrails)


def _rollout_head(rollout: pb.Rollout) -> None:
    words, tone, symbol = rollouts.state(rollout)
    with el("div", "row spread"):
        with el("div", "row"):
            parts.chip(words, tone, symbol=symbol)
            el("h2", "run-title", rollout.challenger)
            el("span", "muted", t("experiments.against", champion=rollout.champion))
            kind_words, kind_symbol = kind(rollout.kind)
            parts.chip(kind_words, symbol=kind_symbol)
        address = f"/rollouts?rollout={rollout.rollout_id}"
        parts.link(t("experiments.to_rollout"), address, symbol="alt_route", classes="btn")


def _tiles(known: pb.RolloutEvidence, users: tuple[float, str], samples: tuple[str, str]) -> None:
    criteria = measures.merged(evidence.split(known)[0])
    met, all_ = sum(each.state == pb.MEASURE_STATE_MET for each in criteria), len(criteria)
    days = rollouts.days(known)
    with el("div", "grid run-tiles"):
        parts.stat(t("experiments.share"), share(users[0]), t("experiments.share_note", challenger=users[1]))
        parts.stat(t("experiments.samples"), *samples)
        note = t("rollouts.days_left_note" if days else "rollouts.days_unknown")
        parts.stat(t("rollouts.days_left"), days or "–", note)
        told = t("rollouts.of", n=number(met), m=number(all_)) if all_ else "–"
        parts.stat(t("experiments.criteria"), told, t("experiments.criteria_note"))


def _guardrails(found: Sequence[pb.RolloutMeasure]) -> None:
    if found:
        words, tone, symbol = measures.guardrails(found)
        with el("div", "row"):
            parts.chip(words, tone, symbol=symbol)
