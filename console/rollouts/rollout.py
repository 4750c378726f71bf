"""One rollout: where it stands and why, what speaks for and against it, what can be done, and what happened so far."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, tzinfo

from nicegui import ui

from console import client, moments, parts, shell
from console.following import Following
from console.parts import el
from console.releases.telling import kind
from console.rollouts import evidence, path, plans, telling
from console.rollouts.audit import Audit
from console.rollouts.deciding import Command, Deciding, commands
from console.rollouts.progress import Progress
from console.rollouts.safety import Reports
from console.words import t
from ratchet.v1 import rollout_pb2 as pb


class RolloutPage:
    """One visitor's page of a rollout. Draws itself where it is made."""

    def __init__(self, rollout_id: str) -> None:
        self._id = rollout_id
        self._zone: tzinfo = UTC
        self._rollout: pb.Rollout | None = None
        self._look: pb.RolloutLook | None = None
        self._evidence: pb.RolloutEvidence | None = None
        self._reports: tuple[int, ...] | None = None
        self._noted: tuple[int, int, str, str] | None = None
        self._dialog = Deciding()
        with el("div", "stack run-page rollout-page"):
            parts.link(t("rollouts.back"), "/rollouts", symbol="arrow_back", classes="link log-back")
            self._lost = el("p", "muted small", "", role="status")
            self._room = el("div", "stack")
            self._body = el("div", "stack")
        with self._body:
            self._head = el("section", "card run-card rollout-head", tabindex="-1", aria_label=t("rollouts.path"))
            self._safety = Reports(self._dialog, self._decide)
            self._progress = Progress()
            self._figures = el("div", "stack")
            self._audit = Audit(rollout_id)
            self._plan = el("div")
        self._body.set_visibility(False)
        shell.placeholder(self._room)  # until the first message
        self._following = Following(self._watch, self._take, self._fault)
        shell.when_ready(self._begin)

    async def _begin(self) -> None:
        self._zone = await moments.zone()
        self._following.start()

    def _watch(self) -> AsyncIterator[pb.WatchRolloutResponse]:
        api = client.api()
        return api.watch(api.rollouts.WatchRollout, pb.WatchRolloutRequest(rollout_id=self._id))

    def _take(self, message: pb.WatchRolloutResponse) -> None:
        parts.set_text(self._lost, "")
        if message.HasField("rollout"):
            self._show(message)

    def _fault(self, trouble: client.Trouble) -> None:
        if self._rollout is not None and trouble.away:
            parts.set_text(self._lost, t("rollouts.reconnecting"))
            return
        if not trouble.away:  # trying again would find the same
            self._following.stop()
        if self._rollout is None and trouble.nothing_there:
            back = t("rollouts.back"), "/rollouts"
            shell.missing(self._room, t("rollouts.missing"), t("rollouts.missing_text"), back)
            return
        shell.trouble(self._room, trouble, retry=self._again)

    def _again(self) -> None:
        shell.placeholder(self._room)
        self._following.start()

    def _show(self, message: pb.WatchRolloutResponse) -> None:
        """The rollout as it is now. What has not changed is left alone: somebody may be on one of its buttons."""
        before, self._rollout = self._rollout, message.rollout
        fresh = message.HasField("look") and message.look.version == message.rollout.version
        self._look = message.look if fresh else None  # of before the last change it would tell of another stage
        self._room.clear()
        self._body.set_visibility(True)
        if message.events or before is None:
            self._audit.show(message.events, message.rollout.plan, self._zone)
        if before is None or before.version != message.rollout.version:
            self._show_head(message.rollout)
        self._tell_why(message.rollout)
        self._show_figures(message.rollout)
        if before is None:
            with self._plan:
                plans.draw(message.rollout, self._zone)
        if message.rollout.state in telling.ENDED:
            self._following.stop()

    def _show_head(self, rollout: pb.Rollout) -> None:
        self._head.clear()
        words, tone, symbol = telling.state(rollout)
        with self._head:
            with el("div", "row spread"):
                with el("div", "row"):
                    parts.chip(words, tone, symbol=symbol)
                    el("h2", "run-title", rollout.challenger)
                    el("span", "muted", t("rollouts.instead_of", champion=rollout.champion))
                    kind_words, kind_symbol = kind(rollout.kind)
                    parts.chip(kind_words, symbol=kind_symbol)
                with el("div", "row rollout-buttons"):
                    for command in commands(rollout):
                        self._offer(command)
            if rollout.undoes:
                with el("p", "row"):
                    el("span", "", t("rollouts.undoes"))
                    parts.link(t("rollouts.to_undone"), f"/rollouts?rollout={rollout.undoes}")
            path.draw(rollout, list(self._audit.events.values()))
            el("p", "", telling.what_happens(rollout))
            for pause in rollout.pauses:
                _pause(pause, self._zone)
            if rollout.state not in (*telling.GONE, pb.ROLLOUT_STATE_DRAFT):
                path.traffic(rollout)
            self._notes = el("div", "stack rollout-notes")
            self._noted = None
            with el("p", "muted small rollout-why"):
                self._why_label = el("span", "", "")
                self._why = el("span", "", "", lang="en")

    def _tell_why(self, rollout: pb.Rollout) -> None:
        """Why it waits, or how it ended; words alone, in place."""
        label, why, language = "", "", "en"
        over = rollout.state in (*telling.ENDED, *telling.GONE)
        if over and (ending := telling.ending(self._audit.events.values())) is not None:
            label, why = telling.ended_by(ending), ending.reason
            label += ":" if why else "."
            language = "" if ending.is_person else "en"
        elif self._look is not None and self._look.reason:
            label, why = t("rollouts.waits_because"), self._look.reason
        parts.set_text(self._why_label, f"{label} " if label else "")
        parts.set_text(self._why, why)
        self._why.props["lang"] = language
        self._note(self._look.evidence if self._look is not None else pb.RolloutEvidence())

    def _note(self, known: pb.RolloutEvidence) -> None:
        """What stands in the way: a replica that has it not, users who are not split as planned."""
        noted = (known.ready_replicas, known.replicas, known.refusal, known.mismatch)
        if noted == self._noted:
            return
        self._noted = noted
        self._notes.clear()
        with self._notes:
            if known.ready_replicas < known.replicas:
                words = t("releases.ready_on", n=known.ready_replicas, m=known.replicas)
                parts.chip(words, "warn", symbol="memory")
            for sentence in (known.refusal, known.mismatch):
                if sentence:
                    el("p", "run-error", sentence, lang="en")

    def _offer(self, command: Command) -> None:
        parts.button(
            t(f"rollouts.{command.name}"), lambda: self._ask(command), symbol=command.symbol, kind=command.kind
        )

    def _ask(self, command: Command) -> None:
        """Asks on the rollout as it is seen now: if it moves on meanwhile, what would give it traffic is refused."""
        seen = self._rollout
        assert seen is not None

        async def act(reason: str) -> Callable[[], None]:
            after = await command.call(seen, reason)
            return lambda: self._done(seen, after)

        what = f"{seen.challenger} · {telling.state(seen)[0]}"
        self._dialog.open(command.name, what, act, kind=command.kind, symbol=command.symbol)

    def _done(self, before: pb.Rollout, after: pb.Rollout) -> None:
        """Goes to the rollout that undoes this one, or shows this one as it is now."""
        if after.rollout_id != before.rollout_id:
            ui.navigate.to(f"/rollouts?rollout={after.rollout_id}")
            return
        self._following.start()
        ui.run_javascript(f"getHtmlElement({self._head.id}).focus({{preventScroll: true}})")

    def _show_figures(self, rollout: pb.Rollout) -> None:
        """Of the last look; before there is one of this stage, and after the end, of the last decision that had any."""
        looked = self._look.evidence if self._look is not None else None
        self._progress.show(rollout, looked)
        found = looked or self._last_evidence()
        if found != self._evidence or not self._figures.default_slot.children:
            self._evidence = found
            self._figures.clear()
            with self._figures:
                evidence.draw(found, rollout.plan.goals, self._zone)
        self._look_for_reports(found)

    def _last_evidence(self) -> pb.RolloutEvidence | None:
        for version in sorted(self._audit.events, reverse=True):
            event = self._audit.events[version]
            if event.HasField("evidence") and event.evidence.measures:
                return event.evidence
        return None

    def _look_for_reports(self, found: pb.RolloutEvidence | None) -> None:
        """Reports do not come with the stream: they are asked for when their counts, or the rollout, have changed."""
        assert self._rollout is not None
        counts = (found.reports_pending, found.reports_confirmed, found.reports_dismissed) if found else ()
        known = (self._rollout.version, *counts)
        if known != self._reports:
            self._reports = known
            with self._body:
                shell.when_ready(self._load_reports)

    async def _load_reports(self) -> None:
        api = client.api()
        try:
            answer = await api.call(api.rollouts.GetRollout, pb.GetRolloutRequest(rollout_id=self._id))
        except client.Trouble:
            self._reports = None  # the next look tries again
            return
        still = answer.rollout.state not in telling.ENDED
        self._safety.show(answer.safety_reports, self._zone, open_=still)

    async def _decide(self, report: pb.RolloutSafetyReport, confirmed: bool, note: str) -> None:
        api = client.api()
        request = pb.DecideSafetyReportRequest(
            rollout_id=self._id,
            feedback_id=report.feedback_id,
            tenant_id=report.tenant_id,
            confirmed=confirmed,
            note=note,
        )
        await api.call(api.rollouts.DecideSafetyReport, request)
        await self._load_reports()


def _pause(pause: pb.RolloutPause, zone: tzinfo) -> None:
    with el("div", "story-note pause-note"):
        parts.icon("pause_circle")
        with el("div", ""):
            el("strong", "", telling.cause(pause))
            el("span", "small", f" · {t('rollouts.since', moment=moments.written(moments.of(pause.since_time), zone))}")
            if pause.reason:
                person = pause.cause == pb.ROLLOUT_PAUSE_CAUSE_PERSON
                el("p", "pause-reason", pause.reason, lang=None if person else "en")
