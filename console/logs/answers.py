"""The answer of a logged reply, what it rests on, and what the tools found."""

from google.protobuf.duration_pb2 import Duration

from console.links import web_address
from console.markdown import markdown
from console.numerals import number
from console.parts import card, chip, el, icon
from console.words import t
from ratchet.v1 import inference_pb2 as pb

_TONES = {"found": "good", "failed": "bad", "late": "warn", "refused_tool": "warn"}
_OUTCOMES = {
    pb.TOOL_OUTCOME_FOUND: "found",
    pb.TOOL_OUTCOME_NOTHING: "nothing_found",
    pb.TOOL_OUTCOME_REFUSED: "refused_tool",
    pb.TOOL_OUTCOME_FAILED: "failed",
    pb.TOOL_OUTCOME_LATE: "late",
}


def draw(reply: pb.GenerateResponse) -> None:
    """The answer or the refusal."""
    with card("story-card"):
        with el("div", "row spread"):
            el("h2", "card-title", t("conversations.refusal" if reply.refused else "conversations.answer"))
            with el("div", "row"):
                for name in ("regenerated", "explored"):
                    if getattr(reply, name):
                        chip(t(f"conversations.{name}"))
                el("span", "num muted", score(reply))
        markdown(reply.response or "—", "answer-text")
        _sentences("why_refused", list(reply.refusal_reasons))
        _sentences("limits", [each.detail for each in reply.degradations])
        for each in reply.citations:
            _citation(each)


def tools(reply: pb.GenerateResponse) -> None:
    """Each tool that ran, with what it found."""
    with card("story-card"):
        el("h2", "card-title", t("conversations.tools"))
        for run in reply.tool_runs:
            _run(run)


def score(of: pb.GenerateResponse | pb.Candidate) -> str:
    """The reward score, in words where there is none."""
    return number(of.reward_score, 3) if of.HasField("reward_score") else t("conversations.no_score")


def milliseconds(duration: Duration) -> str:
    """A length of time."""
    return number(duration.ToTimedelta().total_seconds() * 1e3, 0, "ms")


def _sentences(title: str, found: list[str]) -> None:
    if found:
        with el("div", "story-note"):
            el("strong", text=t(f"conversations.{title}"))
            with el("ul"):
                for each in found:
                    el("li", text=each)


def _run(run: pb.ToolRun) -> None:
    outcome = _OUTCOMES.get(run.outcome, "")
    with el("details", "story-more", open=None):
        with el("summary"):
            el("strong", text=run.tool)
            if outcome:
                chip(t(f"conversations.{outcome}"), _TONES.get(outcome, "plain"))  # type: ignore[arg-type]
            el("span", "muted small", t("conversations.relevance", share=f"{run.relevance:.0%}"))
            el("span", "muted small num", milliseconds(run.latency))
        if run.detail:
            el("p", "muted", run.detail)
        for evidence in run.evidence:
            _passage(evidence, number(evidence.score, 2))


def _citation(citation: pb.Citation) -> None:
    with el("details", "story-more"):
        with el("summary"):
            el("span", "num", f"[{citation.number}]")
            el("span", text=citation.evidence.title or citation.evidence.source)
            el("span", "muted small", t("conversations.supports", share=f"{citation.support:.0%}"))
        _passage(citation.evidence, "")


def _passage(evidence: pb.Evidence, beside: str) -> None:
    with el("div", "story-passage"):
        with el("div", "row small muted"):
            el("span", text=evidence.title or evidence.source)
            if beside:
                el("span", "num", beside)
            if address := web_address(evidence.uri):
                made = el("a", "link", href=address, target="_blank", rel="noopener noreferrer nofollow")
                with made:
                    el("span", text=address)
                    icon("open_in_new")
        el("blockquote", "story-text", evidence.text)
