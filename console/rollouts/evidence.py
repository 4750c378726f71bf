"""The evidence of a rollout: each criterion and guardrail with its interval as a picture."""

import html
from collections.abc import Sequence
from datetime import tzinfo

from nicegui import ui

from console import intervals, moments, parts, shell
from console.parts import el
from console.releases.telling import share
from console.rollouts import measures
from console.words import t
from ratchet.v1 import rollout_pb2 as pb


def draw(evidence: pb.RolloutEvidence | None, goals: pb.RolloutGoals, zone: tzinfo) -> None:
    """Success criteria, then guardrails. None, or none of them: that there is nothing to see yet."""
    if evidence is None or not evidence.measures:
        with parts.card(aria_label=t("rollouts.evidence")):
            shell.empty(t("rollouts.evidence_none"), t("rollouts.evidence_none_text"), icon="query_stats")
        return
    criteria, guardrails = split(evidence)
    with parts.card("evidence", aria_label=t("rollouts.evidence")):
        with el("div", "row spread evidence-head"):
            el("h3", "card-title", t("rollouts.evidence"))
            if evidence.HasField("time"):
                moment = moments.written(moments.of(evidence.time), zone)
                el("span", "muted small num", t("rollouts.evidence_at", moment=moment))
        el("p", "muted small evidence-how", t("rollouts.how_to_read"))
        for title, chosen in (("criteria", criteria), ("guardrails", guardrails)):
            if chosen:
                el("h4", "evidence-title", t(f"rollouts.{title}"))
                lines(chosen, goals)


def split(evidence: pb.RolloutEvidence) -> tuple[list[pb.RolloutMeasure], list[pb.RolloutMeasure]]:
    """Success criteria and guardrails."""
    criteria = [measure for measure in evidence.measures if not measure.guardrail]
    return criteria, [measure for measure in evidence.measures if measure.guardrail]


def lines(found: Sequence[pb.RolloutMeasure], goals: pb.RolloutGoals) -> None:
    """One line each; of several with one name, each with what it is of."""
    names = [measure.name for measure in found]
    with el("ul", "measures"):
        for measure in found:
            _line(measure, goals, alone=names.count(measure.name) == 1)


def _line(measure: pb.RolloutMeasure, goals: pb.RolloutGoals, *, alone: bool) -> None:
    words, tone, symbol = measures.state(measure)
    with el("li", f"measure measure-{tone}"):
        with el("div", "measure-what"):
            with el("div", "measure-head"):
                el("strong", "", measures.name(measure))
                parts.chip(words, tone, symbol=symbol)
            if measure.subject and not alone:
                el("span", "muted small", measures.what(measure))
        with el("div", "measure-picture"):
            _picture(measure, goals)
        with el("div", "measure-figure num"):
            el("span", "measure-value", measures.value(measure))
            el("span", "muted small", measures.interval(measure))
        if measure.sentence:
            el("p", "measure-sentence muted small", measure.sentence, lang="en")


def _picture(measure: pb.RolloutMeasure, goals: pb.RolloutGoals) -> None:
    reading, wanted = measures.reading(measure, goals), measures.asked(measure, goals)
    if reading is None or wanted is None:
        return
    goal = measures.signed(wanted.goal) if wanted.difference else share(wanted.goal)
    name = html.escape(measures.told(measure, wanted), quote=True)
    ui.html(intervals.picture(reading, name, goal, t("rollouts.same")), sanitize=False)
