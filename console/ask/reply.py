"""Draws a reply: the answer or the refusal, what it rests on, what was different, and on demand how it was chosen."""

from collections.abc import Callable

from google.protobuf.duration_pb2 import Duration
from nicegui.element import Element

from console.ask.candidates import draw as draw_candidates
from console.ask.rating import RatingBar
from console.ask.votes import Ballot
from console.links import web_address
from console.markdown import markdown
from console.parts import chip, el, icon
from console.words import t
from ratchet.v1 import inference_pb2 as pb


def draw(reply: pb.GenerateResponse, ballot: Ballot) -> None:
    """Everything, where it is called."""
    if reply.refused:
        _refusal(reply)
    else:
        markdown(reply.response, "answer-text")
    _citations(reply)
    _limits(reply)
    with el("div", "under"):
        followers: list[Callable[[], None]] = []

        def changed() -> None:
            for each in followers:
                each()

        bar = RatingBar(ballot, invite=reply.feedback_prompt, changed=changed)
        _chosen(reply, ballot, bar, followers)


def _refusal(reply: pb.GenerateResponse) -> None:
    with el("div", "refusal"):
        with el("div", "row refusal-head"):
            icon("shield")
            el("strong", text=t("ask.refused"))
        markdown(reply.response, "answer-text")
        if reply.refusal_reasons:
            with el("details", "why"):
                el("summary", text=t("ask.why"))
                with el("ul"):
                    for reason in reply.refusal_reasons:
                        el("li", text=reason)


def _citations(reply: pb.GenerateResponse) -> None:
    if not reply.citations:
        return
    with el("div", "sources", role="group", aria_label=t("ask.sources")):
        el("div", "sources-name", t("ask.sources"), aria_hidden="true")
        for each in reply.citations:
            _citation(each)


def _citation(citation: pb.Citation) -> None:
    evidence = citation.evidence
    with el("details", "source"):
        title = evidence.title or evidence.source
        with el("summary", aria_label=t("ask.source", n=citation.number, title=title)):
            el("span", "source-number", str(citation.number))
            el("span", "source-title", title)
            el("span", "source-tool", evidence.tool)
        with el("div", "source-body"):
            el("blockquote", "passage", evidence.text)
            with el("div", "row small muted"):
                el("span", text=t("ask.supports", share=f"{citation.support:.0%}"))
                if address := web_address(evidence.uri):
                    link = el("a", "link", t("ask.open_source"), href=address, target="_blank")
                    link.props["rel"] = "noopener noreferrer nofollow"


def _limits(reply: pb.GenerateResponse) -> None:
    if not reply.degradations:
        return
    with el("div", "limits", role="note", aria_label=t("ask.limits")):
        icon("info")
        with el("div"):
            for each in reply.degradations:
                el("p", text=each.detail)


def _chosen(reply: pb.GenerateResponse, ballot: Ballot, bar: RatingBar, followers: list[Callable[[], None]]) -> None:
    """The line of figures, which opens the candidates. They are drawn when it is opened first."""
    with el("details", "chosen") as details:
        with el("summary", aria_label=t("ask.chosen")):
            el("span", "chosen-name", t("ask.chosen"))
            for each in facts(reply):
                chip(each)
        room = el("div", "chosen-room")

    def open_() -> None:
        if not room.default_slot.children:
            with room:
                followers.append(draw_candidates(reply, ballot, bar))

    details.on("toggle", open_, js_handler="(event) => { if (event.target.open) emit() }")


def facts(reply: pb.GenerateResponse) -> list[str]:
    """The reply in figures."""
    score = t("ask.score", score=f"{reply.reward_score:.2f}") if reply.HasField("reward_score") else t("ask.no_score")
    return [
        score,
        t("ask.none_of" if reply.refused else "ask.best_of", n=len(reply.candidates)),
        t("ask.took", seconds=f"{seconds(reply.total_latency):.1f}"),
    ]


def seconds(duration: Duration) -> float:
    """As a number."""
    return duration.ToTimedelta().total_seconds()


def question(text: str) -> Element:
    """What was asked."""
    with el("div", "asked") as made:
        el("span", "sr-only", t("ask.you"))
        el("div", "asked-text", text)
    return made
