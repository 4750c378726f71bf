"""What compares what: rollouts and experiments under way, criterion by criterion, and what was decided before."""

from collections.abc import Sequence
from datetime import UTC, tzinfo

from nicegui import ui

from console import client, moments, parts, shell
from console.experiments import telling
from console.experiments.cards import ExperimentCard, RolloutCard
from console.parts import el
from console.rollouts import evidence, measures
from console.rollouts import telling as rollouts
from console.rollouts.deciding import Deciding
from console.words import t
from ratchet.v1 import experiment_pb2
from ratchet.v1 import rollout_pb2 as pb

EVERY = 3.0
"""Seconds between two looks."""
BEFORE = 8
"""Rollouts that ended, and experiments that stopped, of which it is told what was decided."""
_PAGE = 50
_STOPPED = experiment_pb2.EXPERIMENT_STATE_STOPPED

Rollouts = list[pb.GetRolloutResponse]
Experiments = list[experiment_pb2.GetExperimentResponse]


class Board:
    """Draws itself where it is made, and follows the server while the page is open."""

    def __init__(self) -> None:
        self._zone: tzinfo = UTC
        self._ended: dict[str, pb.GetRolloutResponse] = {}
        self._rollouts: dict[str, RolloutCard] = {}
        self._experiments: dict[str, ExperimentCard] = {}
        self._drawn: list[str] | None = None
        self._dialog = Deciding()
        self._room = el("div", "stack training-page")
        shell.when_ready(self.load)
        shell.on_return(self.load)
        ui.timer(EVERY, self._look, immediate=False)

    async def load(self) -> None:
        """From the beginning."""
        with self._room:
            self._drawn = None
            try:
                with shell.loading(self._room, lines=4):
                    self._zone = await moments.zone()
                    found = await self._rolling(), await self._trying()
            except client.Trouble as trouble:
                shell.trouble(self._room, trouble, retry=self.load)
                return
            self._show(*found)

    async def _look(self) -> None:
        if self._drawn is None:
            return
        try:
            found = await self._rolling(), await self._trying()
        except client.Trouble:
            return  # the page says that already, and loads this again when it is over
        if self._drawn is not None:
            self._show(*found)

    async def _rolling(self) -> Rollouts:
        """Those under way, and the newest that ended, of which each is asked for once: it does not change any more."""
        api = client.api()
        answer = await api.call(api.rollouts.ListRollouts, pb.ListRolloutsRequest(page_size=_PAGE))
        known = [each for each in answer.rollouts if each.state != pb.ROLLOUT_STATE_DRAFT]
        ended = [each.rollout_id for each in known if each.state in rollouts.ENDED][:BEFORE]
        found = []
        for each in known:
            if each.state not in rollouts.ENDED or (each.rollout_id in ended and each.rollout_id not in self._ended):
                request = pb.GetRolloutRequest(rollout_id=each.rollout_id)
                found.append(await api.call(api.rollouts.GetRollout, request))
            elif each.rollout_id in ended:
                found.append(self._ended[each.rollout_id])
        self._ended |= {each.rollout.rollout_id: each for each in found if each.rollout.state in rollouts.ENDED}
        return found

    @staticmethod
    async def _trying() -> Experiments:
        """Those under way, and the newest that stopped. A server that has none of them yet is none the worse."""
        api = client.api()
        request = experiment_pb2.ListExperimentsRequest(page_size=_PAGE)
        try:
            answer = await api.call(api.experiments.ListExperiments, request)
        except client.Trouble as trouble:
            if trouble.unknown_method:
                return []
            raise
        found, stopped = [], 0
        for each in answer.experiments:
            stopped += each.state == _STOPPED
            if each.state != _STOPPED:
                one = experiment_pb2.GetExperimentRequest(experiment_id=each.experiment_id)
                found.append(await api.call(api.experiments.GetExperiment, one))
            elif stopped <= BEFORE:
                found.append(experiment_pb2.GetExperimentResponse(experiment=each))
        return found

    def _show(self, rolling: Rollouts, trying: Experiments) -> None:
        """Draws all anew when something began or ended; else each card what has changed."""
        now = [each for each in rolling if each.rollout.state not in rollouts.ENDED]
        tried = [each for each in trying if each.experiment.state != _STOPPED]
        under_way = [each.rollout.rollout_id for each in now] + [each.experiment.experiment_id for each in tried]
        over = [each.rollout.rollout_id for each in rolling if each not in now]
        over += [each.experiment.experiment_id for each in trying if each not in tried]
        if self._drawn != [*under_way, "", *over]:
            self._drawn = [*under_way, "", *over]
            self._draw(rolling, trying)
        for rollout in now:
            self._rollouts[rollout.rollout.rollout_id].show(rollout)
        for experiment in tried:
            self._experiments[experiment.experiment.experiment_id].show(experiment, self._zone)

    def _draw(self, rolling: Rollouts, trying: Experiments) -> None:
        self._room.clear()
        now = [each for each in rolling if each.rollout.state not in rollouts.ENDED]
        tried = [each for each in trying if each.experiment.state != _STOPPED]
        with self._room:
            if now or tried:
                el("p", "muted small evidence-how", t("rollouts.how_to_read"))
            else:
                with shell.empty(t("experiments.empty"), t("experiments.empty_text"), icon="science"):
                    parts.link(t("experiments.to_rollouts"), "/rollouts", classes="btn btn-primary")
            self._rollouts = {each.rollout.rollout_id: RolloutCard(each) for each in now}
            self._experiments = {
                each.experiment.experiment_id: ExperimentCard(each, self._dialog, self._look) for each in tried
            }
            self._draw_over(
                [each for each in rolling if each not in now], [each for each in trying if each not in tried]
            )

    def _draw_over(self, ended: Sequence[pb.GetRolloutResponse], stopped: Experiments) -> None:
        if ended or stopped:
            el("h2", "section-title", t("experiments.before"))
            with el("ol", "run-list", aria_label=t("experiments.before")):
                for rollout in ended:
                    _before(rollout, self._zone)
                for experiment in stopped:
                    _stopped(experiment.experiment, self._zone)


def _stopped(experiment: experiment_pb2.Experiment, zone: tzinfo) -> None:
    """What makes its variant the default is told: nothing does so by itself."""
    words, tone, symbol = telling.state(experiment)
    with el("li", "run-row"):
        with el("span", "run-head"):
            parts.chip(words, tone, symbol=symbol)
            el("strong", "run-name", experiment.name)
            el("span", "muted small hide-small", telling.kind(experiment))
            el("span", "run-time num", moments.written(moments.of(experiment.stop_time), zone))
        if experiment.reason:
            el("span", "run-why", experiment.reason, lang="en")
        if experiment.to_set:
            el("span", "muted small", t("experiments.to_set"))
        for setting in experiment.to_set:
            el("code", "mono small", setting)


def _before(found: pb.GetRolloutResponse, zone: tzinfo) -> None:
    rollout = found.rollout
    words, tone, symbol = rollouts.state(rollout)
    ending = rollouts.ending(found.events)
    with el("li"), el("a", "run-row", href=f"/rollouts?rollout={rollout.rollout_id}"):
        with el("span", "run-head"):
            parts.chip(words, tone, symbol=symbol)
            el("strong", "run-name", rollout.challenger)
            el("span", "muted small hide-small", t("experiments.against", champion=rollout.champion))
            el("span", "run-time num", moments.written(moments.of(rollout.since_time), zone))
        if ending is not None:
            with el("span", "run-why"):
                el("span", "", f"{rollouts.ended_by(ending)}{': ' if ending.reason else ''}")
                el("span", "", ending.reason, lang=None if ending.is_person else "en")
        known = next((event.evidence for event in found.events if event.evidence.measures), None)
        if known is not None:
            with el("span", "run-facts"):
                for measure in measures.merged(evidence.split(known)[0]):
                    state, measure_tone, measure_symbol = measures.state(measure)
                    parts.chip(f"{measures.name(measure)}: {state}", measure_tone, symbol=measure_symbol)
