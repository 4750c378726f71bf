"""The audit of a rollout: who did what, when and why, and what was known then. It only grows."""

from collections.abc import Iterable
from datetime import tzinfo

from nicegui.element import Element

from console import client, moments, parts, shell
from console.parts import el
from console.rollouts import measures, telling
from console.words import t
from ratchet.v1 import rollout_pb2 as pb

PAGE = 200
_SYMBOLS = {
    "draft": "edit_note",
    "start": "play_arrow",
    "advance": "trending_up",
    "promote": "fast_forward",
    "pause": "pause",
    "suspend": "front_hand",
    "resume": "play_arrow",
    "recover": "healing",
    "fail": "error_outline",
    "roll_back": "undo",
    "drain": "hourglass_bottom",
    "set_clock": "schedule",
}


class Audit:
    """Draws itself where it is made. Entries stay the elements that they are: somebody may have opened one."""

    def __init__(self, rollout_id: str) -> None:
        self._id = rollout_id
        self.events: dict[int, pb.RolloutEvent] = {}
        self._drawn: dict[int, Element] = {}
        with parts.card("audit", aria_label=t("rollouts.audit")):
            with el("div", "row spread"):
                el("h3", "card-title", t("rollouts.audit"))
                el("span", "muted small", t("rollouts.audit_note"))
            self._list = el("ol", "audit-list")
            self._foot = el("div", "row log-foot")

    def show(self, events: Iterable[pb.RolloutEvent], plan: pb.RolloutPlan, zone: tzinfo) -> None:
        """Adds those that are not there yet, newest first."""
        self.events |= {event.version: event for event in events}
        for place, version in enumerate(sorted(self.events, reverse=True)):
            if version not in self._drawn:
                with self._list:
                    self._drawn[version] = _entry(self.events[version], plan, zone)
                    self._drawn[version].move(target_index=place)
        self._offer_more(plan, zone)

    def _offer_more(self, plan: pb.RolloutPlan, zone: tzinfo) -> None:
        """The first entry made version 1."""
        missing = bool(self.events) and min(self.events) > 1
        if missing and not self._foot.default_slot.children:
            with self._foot:
                parts.button(t("rollouts.older"), lambda: self._more(plan, zone), symbol="expand_more")
        elif not missing:
            self._foot.clear()

    async def _more(self, plan: pb.RolloutPlan, zone: tzinfo) -> None:
        """All that is older: whoever asks for it wants to see how it began."""
        api = client.api()
        token = ""
        with self._list:
            try:
                while True:
                    request = pb.ListRolloutEventsRequest(rollout_id=self._id, page_size=PAGE, page_token=token)
                    answer = await api.call(api.rollouts.ListRolloutEvents, request)
                    self.show(answer.events, plan, zone)
                    token = answer.next_page_token
                    if not token:
                        return
            except client.Trouble as trouble:
                shell.trouble(self._foot, trouble, retry=lambda: self._more(plan, zone))


def _entry(event: pb.RolloutEvent, plan: pb.RolloutPlan, zone: tzinfo) -> Element:
    with el("li", f"audit-entry {'audit-person' if event.is_person else ''}") as made:
        with el("span", "audit-symbol", aria_hidden="true"):
            parts.icon(_SYMBOLS.get(event.trigger, "chevron_right"))
        with el("div", "audit-what"):
            with el("div", "audit-head"):
                el("strong", "", telling.trigger(event))
                el("span", "muted small num", _moves(event, plan))
                el("span", "audit-time muted small num", moments.written(moments.of(event.time), zone))
            with el("p", "audit-reason"):
                el("span", "", event.reason, lang=None if event.is_person else "en")
            with el("p", "muted small audit-actor"):
                parts.icon("person" if event.is_person else "smart_toy")
                el("span", "", telling.actor(event))
            if event.HasField("evidence") and event.evidence.measures:
                _known(event.evidence)
    return made


def _moves(event: pb.RolloutEvent, plan: pb.RolloutPlan) -> str:
    after = telling.place(event.to_state, event.to_stage, plan)
    if event.from_state == pb.ROLLOUT_STATE_UNSPECIFIED:
        return after
    before = telling.place(event.from_state, event.from_stage, plan)
    return after if before == after else t("rollouts.from_to", before=before, after=after)


def _known(evidence: pb.RolloutEvidence) -> None:
    """What the decision was made on, in sentences."""
    with el("details", "story-more audit-known"):
        el("summary", "", t("rollouts.what_was_known"))
        with el("ul", "clauses"):
            for measure in evidence.measures:
                words, tone, symbol = measures.state(measure)
                with el("li", f"clause measure-{tone}"):
                    parts.icon(symbol)
                    el("span", "sr-only", words)
                    el("span", "small", measure.sentence or measures.name(measure), lang="en")
