"""One run: how far it is, its curves as they grow, what came out and why, what went into it."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, tzinfo
from functools import partial

from console import client, moments, parts, shell
from console.chart_card import ChartCard
from console.confirming import confirming
from console.following import Following
from console.meter import Meter
from console.parts import el
from console.training import facts, findings, outcome, telling
from console.training.curves import CHARTS, Points
from console.words import t
from ratchet.v1 import training_pb2 as pb

REPORT = "/training/report"
"""Where the page serves a run's report."""


class Run:
    """One visitor's page of a run. Draws itself where it is made."""

    def __init__(self, training_id: str) -> None:
        self._id = training_id
        self._zone: tzinfo = UTC
        self._points = Points()
        self._run: pb.Training | None = None
        self._findings = findings.Findings()
        self._read = False
        self._dialog = confirming("training", "cancel", self._cancel, keep=t("training.go_on"), symbol="block")
        with el("div", "stack run-page"):
            parts.link(t("training.back"), "/training", symbol="arrow_back", classes="link log-back")
            self._lost = el("p", "muted small", "", role="status")
            self._room = el("div", "stack")
            self._head, self._outcome = el("div"), el("div", "stack")
            self._curves, self._facts = el("div", "stack"), el("div", "stack")
        self._following = Following(self._watch, self._take, self._fault)
        shell.when_ready(self._begin)

    async def _begin(self) -> None:
        with shell.loading(self._room):
            self._zone = await moments.zone()
        self._following.start()

    def _watch(self) -> AsyncIterator[pb.WatchTrainingResponse]:
        api = client.api()
        return api.watch(api.training.WatchTraining, pb.WatchTrainingRequest(training_id=self._id))

    async def _cancel(self) -> Callable[[], None]:
        api = client.api()
        answer = await api.call(api.training.CancelTraining, pb.CancelTrainingRequest(training_id=self._id))
        return partial(self._show, answer.training)

    def _take(self, message: pb.WatchTrainingResponse) -> None:
        parts.set_text(self._lost, "")
        if message.points or message.restarted:
            self._points.take(message.points, restarted=message.restarted)
            self._draw()
        if message.HasField("training"):
            self._show(message.training)

    def _fault(self, trouble: client.Trouble) -> None:
        if self._run is not None and trouble.away:
            parts.set_text(self._lost, t("training.reconnecting"))
            return
        if not trouble.away:  # trying again would find the same
            self._following.stop()
        shell.trouble(self._room, trouble, retry=self._again)

    def _again(self) -> None:
        self._room.clear()
        self._following.start()

    def _show(self, run: pb.Training) -> None:
        """The run as it is now. Once it has ended nothing changes any more."""
        before, self._run = self._run, run
        self._room.clear()
        self._show_head(run, before)
        if run.state in telling.ENDED:
            self._following.stop()
            shell.when_ready(self._conclude)
        elif before is None or before.snapshot != run.snapshot:
            self._show_facts(run)

    def _show_head(self, run: pb.Training, before: pb.Training | None) -> None:
        """The bar moves in place: somebody may be on the button beside it."""
        same = before is not None and _heading(before) == _heading(run)
        if same and run.state == pb.TRAINING_STATE_RUNNING:
            self._tell_progress(run)
            return
        self._head.clear()
        with self._head, parts.card("run-card"):
            words, tone, symbol = telling.state(run)
            with el("div", "row spread"):
                with el("div", "row"):
                    parts.chip(words, tone, symbol=symbol)
                    el("h2", "run-title", run.release or run.base_model or t("training.run"))
                    if run.not_reproducible:
                        parts.chip(t("training.not_reproducible"), "warn", symbol="history_toggle_off")
                if run.state not in telling.ENDED and not run.cancelling:
                    parts.button(t("training.cancel"), self._dialog.open, symbol="block", kind="danger")
            self._stage = el("p", "muted num", "")
            self._meter = Meter(t("training.progress"), classes="meter-tall", progress=True)
            self._meter.box.set_visibility(run.state == pb.TRAINING_STATE_RUNNING)
            _end(run)
        self._tell_progress(run)

    def _tell_progress(self, run: pb.Training) -> None:
        self._meter.show(run.progress)
        if run.state == pb.TRAINING_STATE_RUNNING:
            told = f"{telling.stage(run)} · {telling.percent(run.progress, 0)} · {telling.took(run)}"
        elif run.state == pb.TRAINING_STATE_QUEUED:
            told = t("training.queued_text")
        else:
            told = " · ".join(filter(None, (telling.against(run), telling.who(run), telling.took(run))))
        parts.set_text(self._stage, told)

    async def _conclude(self) -> None:
        """What only an ended run has."""
        run = self._run
        assert run is not None
        if run.verdict and not self._read:
            self._findings, self._read = await self._report(), True
        self._outcome.clear()
        with self._outcome:
            if run.verdict:
                outcome.reasons(run, self._findings)
                outcome.tiles(run.metrics)
                if outcome.MAIN in run.metrics:
                    outcome.comparison(run)
                if self._findings != findings.Findings():
                    self._offer_report()
        self._show_facts(run)

    async def _report(self) -> findings.Findings:
        api = client.api()
        try:
            request = pb.GetTrainingReportRequest(training_id=self._id)
            answer = await api.call(api.training.GetTrainingReport, request)
        except client.Trouble:  # the reasons are known without it
            return findings.Findings()
        return findings.read(answer.json)

    def _offer_report(self) -> None:
        """The trainer's own page, in a frame that runs nothing and knows nothing of this one."""
        address = f"{REPORT}?run={self._id}"

        def turn() -> None:
            opened = bool(room.default_slot.children)
            room.clear()
            button.props["aria-expanded"] = str(not opened).lower()
            if not opened:
                with room:
                    el("iframe", "report-frame", src=address, sandbox="", title=t("training.report"))

        with parts.card(aria_label=t("training.report")):
            el("h3", "card-title", t("training.report"))
            el("p", "muted small", t("training.report_text"))
            with el("div", "row report-actions"):
                button = parts.button(t("training.report_here"), turn, symbol="article", aria_expanded="false")
                el("a", "btn", t("training.report_alone"), href=address, target="_blank", rel="noopener")
                el("a", "btn btn-ghost", t("training.report_json"), href=f"{address}&form=json", target="_blank")
                parts.link(
                    t("training.review"), f"/review?run={self._id}", symbol="rate_review", classes="btn btn-ghost"
                )
            room = el("div", "report-room")

    def _draw(self) -> None:
        """The curves; before there are points there is nothing to wait in front of."""
        if not self._curves.default_slot.children:
            with self._curves:
                el("h2", "section-title", t("training.curves"))
                with el("div", "grid wide"):
                    self._cards = [ChartCard(t(f"training.{name}"), t("training.step")) for name, _ in CHARTS]
        for card, (_, read) in zip(self._cards, CHARTS, strict=True):
            card.show(read(self._points), self._zone)
        self._curves.set_visibility(bool(self._points.steps()))

    def _show_facts(self, run: pb.Training) -> None:
        self._facts.clear()
        with self._facts:
            facts.data(run, self._findings, self._zone)
            facts.settings(run)


def _heading(run: pb.Training) -> tuple[object, ...]:
    """What the head is made of, but for how far the run is."""
    return run.state, run.cancelling, run.verdict, run.release, run.not_reproducible, run.error


def _end(run: pb.Training) -> None:
    if run.error:
        el("p", "run-error", run.error, lang="en", role="alert")
    if run.duplicate_of:
        with el("p", "row"):
            el("span", "", t("training.duplicate_text"))
            parts.link(t("training.duplicate_link"), f"/training?run={run.duplicate_of}")
    if run.cancelling:
        el("p", "muted small", t("training.cancelling_text"))
