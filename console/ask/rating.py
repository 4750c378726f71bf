"""The bar under an answer: thumbs, stars, and what opens for more. It is changed in place, so that the keyboard's focus
stays where it is; what opens is drawn when it opens first."""

from collections.abc import Awaitable, Callable
from functools import partial

from nicegui.element import Element

from console import client
from console.ask.panels import Cast, Comment, Detail, Panel, Report
from console.ask.stars import Stars
from console.ask.votes import DIMENSIONS, Ballot, Votes
from console.parts import button, el, icon, icon_button, set_text
from console.words import t
from ratchet.v1 import feedback_pb2 as pb


class RatingBar:
    """Draws the votes of `ballot` where it is made, and casts new ones. `changed` is called after each."""

    def __init__(self, ballot: Ballot, *, invite: bool, changed: Callable[[], None]) -> None:
        self._ballot, self._changed = ballot, changed
        self._open: list[Panel] = []
        with el("div", "rating", role="group", aria_label=t("ask.rate")):
            self._invitation = el("p", "invite", t("ask.invite")) if invite else None
            with el("div", "row rating-row"):
                self._up = self._thumb("up", "thumb_up", pb.REACTION_TYPE_THUMBS_UP)
                self._down = self._thumb("down", "thumb_down", pb.REACTION_TYPE_THUMBS_DOWN)
                self._stars = Stars(t("ask.stars"), self._rate)
                openers = el("div", "row rating-more")
            self._comment = self._opener(openers, t("ask.comment"), "chat", Comment)
            self._detail = self._opener(openers, t("ask.detail"), "tune", Detail)
            self._report = self._opener(openers, t("ask.report_short"), "flag", Report, t("ask.report"))
            with el("div", "row said", role="status"):
                self._said = el("span", "", "")
                self._again = button(t("ask.again"), partial(self.cast, self._ballot.again), kind="ghost")
                self._back = button(t("ask.take_back"), self._take_back, kind="ghost")
        self._again.set_visibility(False)
        self._show(ballot.votes)

    async def cast(self, vote: Callable[[], Awaitable[None]], done: str = "ask.saved") -> None:
        """Casts a vote and tells how that went."""
        self._say(t("ask.saving"))
        try:
            await vote()
        except client.Trouble as trouble:
            self._say(trouble.sentence, again=trouble.away or trouble.retry_after is not None)
        else:
            self._say(t(done))
        self._show(self._ballot.votes)
        self._changed()

    def _show(self, votes: Votes) -> None:
        self._up.props["aria-pressed"] = _word(votes.thumb == pb.REACTION_TYPE_THUMBS_UP)
        self._down.props["aria-pressed"] = _word(votes.thumb == pb.REACTION_TYPE_THUMBS_DOWN)
        self._stars.show(votes.stars)
        _mark(self._comment, bool(votes.comment))
        _mark(self._detail, any(votes.dimension(name) for name in DIMENSIONS))
        _mark(self._report, votes.report is not None)
        self._back.set_visibility(votes.rating is not None)
        if self._invitation is not None:
            self._invitation.set_visibility(votes.rating is None)
        for panel in self._open:
            panel.show(votes)

    def _say(self, sentence: str, *, again: bool = False) -> None:
        set_text(self._said, sentence)
        self._again.set_visibility(again)

    def _thumb(self, name: str, symbol: str, reaction: "pb.ReactionType.ValueType") -> Element:
        async def vote() -> None:
            await self.cast(partial(self._ballot.rate, pb.SubmitFeedbackRequest(reaction_type=reaction)))

        return icon_button(t(f"ask.{name}"), symbol, vote, "thumb", aria_pressed="false")

    async def _rate(self, count: int) -> None:
        await self.cast(partial(self._ballot.rate, pb.SubmitFeedbackRequest(rating_overall=count)))

    async def _take_back(self) -> None:
        if self._ballot.votes.rating is not None:
            await self.cast(partial(self._ballot.withdraw, self._ballot.votes.rating), "ask.taken_back")

    def _opener(
        self, openers: Element, label: str, symbol: str, draw: Callable[[Ballot, Cast], Panel], name: str = ""
    ) -> Element:
        """A button that opens and closes what `draw` draws."""
        room = el("div", "panel")
        room.set_visibility(False)

        def toggle() -> None:
            if not room.default_slot.children:
                with room:
                    self._open.append(draw(self._ballot, self.cast))
                self._open[-1].show(self._ballot.votes)
            room.set_visibility(not room.visible)
            made.props["aria-expanded"] = _word(room.visible)

        with openers, el("button", "btn btn-ghost opener", type="button", aria_label=name or label, title=name) as made:
            icon(symbol)
            el("span", "opener-label", label)
        made.props["aria-expanded"], made.props["aria-controls"] = "false", room.html_id
        made.on("click", toggle)
        return made


def _mark(opener: Element, there: bool) -> None:
    """Shows that there is something behind the button."""
    opener.classes(add="has") if there else opener.classes(remove="has")


def _word(value: bool) -> str:
    return "true" if value else "false"
