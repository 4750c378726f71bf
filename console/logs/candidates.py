"""Every candidate of a logged reply: how it was sampled, scored and checked, and how likely it was to be chosen."""

from collections.abc import Iterator

from console.logs.answers import milliseconds, score
from console.markdown import markdown
from console.numerals import number
from console.parts import card, chip, el, icon
from console.words import t
from ratchet.v1 import inference_pb2 as pb

_ASPECTS = ("accuracy", "helpfulness", "clarity", "safety")


def draw(reply: pb.GenerateResponse) -> None:
    """All of them, in the order drawn."""
    with card("story-card"):
        el("h2", "card-title", t("conversations.candidates"))
        with el("ol", "story-candidates"):
            for each in reply.candidates:
                with el("li", f"story-candidate {'selected' if each.selected else ''}"):
                    _candidate(each)


def _candidate(candidate: pb.Candidate) -> None:
    with el("div", "row"):
        el("h3", "story-name", t("conversations.candidate", n=candidate.index + 1))
        _bar(candidate)
        if candidate.selected:
            chip(t("conversations.chosen"), "accent", symbol="check")
        elif candidate.text and not candidate.passed:
            chip(t("conversations.failed_checks"), "warn")
    if candidate.text:
        markdown(candidate.text, "candidate-text")
    if candidate.error:
        el("p", "muted", candidate.error)
    if candidate.HasField("duplicate_of"):
        el("p", "muted small", t("conversations.duplicate", n=candidate.duplicate_of + 1))
    el("p", "muted small", " · ".join(_told(candidate)))
    if candidate.HasField("aspects"):
        with el("dl", "story-aspects"):
            for name in _ASPECTS:
                el("dt", text=t(f"conversations.{name}"))
                el("dd", "num", number(getattr(candidate.aspects, name), 2))
    if candidate.findings:
        with el("ul", "story-findings"):
            for finding in candidate.findings:
                _finding(finding)


def _told(candidate: pb.Candidate) -> Iterator[str]:
    yield t("conversations.probability", share=f"{candidate.selection_probability:.0%}")
    yield candidate.sampling.preset
    yield milliseconds(candidate.latency)
    if candidate.output_tokens:
        yield t("conversations.tokens", n=candidate.output_tokens)
    if candidate.wave:
        yield t("conversations.wave", n=candidate.wave + 1)
    if candidate.score_source in (pb.SCORE_SOURCE_CACHE, pb.SCORE_SOURCE_SIMILAR_QUERY):
        yield t("conversations.from_cache")


def _bar(candidate: pb.Candidate) -> None:
    with el("span", "score"):
        if candidate.HasField("reward_score"):
            with el("span", "score-track", aria_hidden="true"):
                el("span", "score-fill").style(f"width:{max(0.0, min(1.0, candidate.reward_score)):.0%}")
        el("span", "num small", score(candidate))


def _finding(finding: pb.Finding) -> None:
    name = pb.QualityCheck.Name(finding.check).removeprefix("QUALITY_CHECK_").lower()
    wide = "story-finding-wide" if finding.detail else ""
    with el("li", f"{wide} {'' if finding.passed else 'story-failed'}"):
        icon("check" if finding.passed else "close")
        el("span", "sr-only", t("conversations.passed" if finding.passed else "conversations.not_passed"))
        el("span", text=t(f"conversations.check_{name}"))
        el("span", "num muted", number(finding.value, 2))
        if finding.detail:
            el("span", "muted", finding.detail)
