"""How the answer was chosen: every candidate with its score, sampling and findings, and what else the reply tells."""

from collections.abc import Callable
from functools import partial

from nicegui.element import Element

from console.ask.rating import RatingBar
from console.ask.votes import Ballot
from console.markdown import markdown
from console.parts import button, chip, el, icon
from console.words import t
from ratchet.v1 import inference_pb2 as pb


def draw(reply: pb.GenerateResponse, ballot: Ballot, bar: RatingBar) -> Callable[[], None]:
    """All of it; gives what shows anew which candidate was said to be better."""
    _facts(reply)
    chosen = next((each.index for each in reply.candidates if each.selected), None)
    shown: dict[int, tuple[Element, Element]] = {}
    with el("ol", "candidates"):
        ranked = sorted(reply.candidates, key=lambda each: (not each.selected, not each.passed, -each.reward_score))
        for each in ranked:
            with el("li", f"candidate {'selected' if each.selected else ''}"):
                _candidate(each)
                if chosen is not None and _comparable(each):
                    shown[each.index] = _preference(each.index, chosen, ballot, bar)

    def refresh() -> None:
        for index, (offer, said) in shown.items():
            offer.set_visibility(ballot.votes.better != index)
            said.set_visibility(ballot.votes.better == index)

    refresh()
    return refresh


def _comparable(candidate: pb.Candidate) -> bool:
    return bool(candidate.text) and not candidate.selected and not candidate.HasField("duplicate_of")


def _candidate(candidate: pb.Candidate) -> None:
    with el("div", "row candidate-head"):
        el("strong", "candidate-name", t("ask.candidate", n=candidate.index + 1))
        _score(candidate)
        if candidate.selected:
            chip(t("ask.selected"), "accent", symbol="check")
        elif not candidate.passed and candidate.text:
            chip(t("ask.failed_checks"), "warn")
        el("span", "muted small", candidate.sampling.preset)
    if candidate.HasField("duplicate_of"):
        el("p", "muted", t("ask.duplicate", n=candidate.duplicate_of + 1))
    elif candidate.text:
        markdown(candidate.text, "candidate-text")
    else:
        el("p", "muted", t("ask.no_text", error=candidate.error))
    for finding in candidate.findings:
        if finding.detail and not finding.passed:
            with el("p", "finding"):
                icon("report_problem")
                el("span", text=finding.detail)


def _score(candidate: pb.Candidate) -> None:
    if not candidate.HasField("reward_score"):
        el("span", "muted small", t("ask.no_score"))
        return
    share = max(0.0, min(1.0, candidate.reward_score))
    with el("span", "score"):
        with el("span", "score-track", aria_hidden="true"):
            el("span", "score-fill").style(f"width:{share:.0%}")
        el("span", "num", f"{candidate.reward_score:.3f}")


def _preference(index: int, chosen: int, ballot: Ballot, bar: RatingBar) -> tuple[Element, Element]:
    async def prefer() -> None:
        await bar.cast(partial(ballot.prefer, index, chosen))

    async def take_back() -> None:
        if ballot.votes.preference is not None:
            await bar.cast(partial(ballot.withdraw, ballot.votes.preference), "ask.taken_back")

    offer = button(
        t("ask.better"), prefer, symbol="thumb_up", classes="better", aria_label=t("ask.better_name", n=index + 1)
    )
    with el("p", "better-said") as said:
        icon("check_circle")
        el("span", text=t("ask.is_better"))
        button(t("ask.better_back"), take_back, kind="ghost", aria_label=t("ask.better_back_name", n=index + 1))
    return offer, said


def _facts(reply: pb.GenerateResponse) -> None:
    facts = [(t("ask.writer"), reply.policy_release), (t("ask.judge"), reply.reward_release)]
    if not reply.refused:
        facts.append(
            (t("ask.method"), t(f"ask.method_{int(reply.selection_method)}") if reply.selection_method else "")
        )
        facts.append((t("ask.probability"), f"{reply.selection_probability:.0%}"))
    stages = [(each.stage, each.duration.ToTimedelta().total_seconds() * 1e3) for each in reply.latencies]
    facts.append((t("ask.stages"), " · ".join(f"{stage} {took:.0f} ms" for stage, took in stages if took >= 1)))
    with el("dl", "facts"):
        for name, value in facts:
            if value:
                with el("div", "fact"):
                    el("dt", text=name)
                    el("dd", text=value)
