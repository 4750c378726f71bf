"""One reply to judge, and what judges it: stars by click or by key.

What the model and other people said of it, and why it is asked about, is told once it is judged: who knows it before
goes along with it (anchoring; Tversky and Kahneman 1974).
"""

from collections.abc import Awaitable, Callable
from functools import partial

from nicegui.element import Element

from console.markdown import markdown
from console.numerals import number
from console.parts import Field, button, el, icon, link
from console.words import t
from ratchet.v1 import training_pb2 as pb

STARS = (5, 4, 3, 2, 1)
_SHORT = 700
"""Characters of evidence that is shown at once."""
_REASONS: dict[int, str] = {
    pb.REVIEW_REASON_HIGHEST: "highest",
    pb.REVIEW_REASON_LOWEST: "lowest",
    pb.REVIEW_REASON_DISPUTED: "disputed",
}

Judge = Callable[[int, str], Awaitable[None]]


class Card:
    """Draws the item where it is made. `note`: what the visitor has to say."""

    def __init__(self, item: pb.ReviewItem, judge: Judge, skip: Callable[[], Awaitable[None]]) -> None:
        self._judge = judge
        with el("article", "review-card", aria_label=t("review.item")):
            with el("div", "card review-what"):
                _head(item)
                el("h2", "review-label", t("review.question"))
                el("p", "review-query", item.query)
                el("h2", "review-label", t("review.answer"))
                markdown(item.response, "review-answer")
                if item.context:
                    _evidence(item.context)
            with el("div", "card review-how"):
                el("h2", "review-label", t("review.judge"))
                with el("div", "review-stars", role="group", aria_label=t("review.judge")):
                    for stars in STARS:
                        _star(stars, self.pick)
                self._note = Field(t("review.note"), item.note, rows=2, name="note", maxlength=2000)
                button(t("review.skip"), skip, symbol="skip_next", kind="ghost", classes="review-skip")

    async def pick(self, stars: int) -> None:
        """Judges it."""
        await self._judge(stars, self._note.value.strip())


def said(item: pb.ReviewItem) -> str:
    """What others said of a judged reply, in stars, and why it was asked about."""
    people = f"{t('review.people')} {_stars(item.rating)}" if item.HasField("rating") else t("review.nobody")
    reason = t(f"review.{_REASONS[item.reason]}") if item.reason in _REASONS else ""
    return " · ".join(filter(None, (f"{t('review.model')} {_stars(item.score)}", people, reason)))


def _head(item: pb.ReviewItem) -> None:
    with el("div", "row review-head review-links"):
        if item.response_id:
            link(t("review.story"), f"/conversations/{item.response_id}", symbol="forum", classes="link small")
        link(t("review.run"), f"/training?run={item.training_id}", symbol="model_training", classes="link small")


def _evidence(text: str) -> None:
    with el("details", "story-more review-evidence", open=len(text) <= _SHORT or None):
        el("summary", "", t("review.evidence"))
        el("p", "passage", text, tabindex="0", role="region", aria_label=t("review.evidence"))


def _stars(share: float) -> str:
    return f"{number(1 + 4 * share, 1)} ★"


def _star(stars: int, pick: Callable[[int], Awaitable[None]]) -> Element:
    name = t("review.stars" if stars > 1 else "review.star", n=stars, word=t(f"review.stars_{stars}"))
    with el("button", "star-btn", type="button", aria_label=name, aria_keyshortcuts=str(stars)) as made:
        el("kbd", "", str(stars), aria_hidden="true")
        with el("span", "star-row", aria_hidden="true"):
            for _ in range(stars):
                icon("star")
        el("span", "star-word", t(f"review.stars_{stars}"))
    return made.on("click", partial(pick, stars))
