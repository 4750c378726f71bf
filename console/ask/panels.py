"""What opens under the rating bar: a comment, the dimensions, a safety report. Each draws itself where it is made, and
shows what the server knows when it is told to."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from console import parts
from console.ask.stars import Stars
from console.ask.votes import DIMENSIONS, Ballot, Dimension, Votes
from console.parts import button, el
from console.words import t
from ratchet.v1 import feedback_pb2 as pb

_LENGTH = 2000
"""Characters of a comment: 8 KiB hold them in any script."""
_CATEGORIES = [int(number) for number in pb.SafetyCategory.values() if number]


class Cast(Protocol):
    """Casts a vote and tells people how that went: `done` is the key of what is said then."""

    def __call__(self, vote: Callable[[], Awaitable[None]], done: str = ...) -> Awaitable[None]:
        """See above."""


class Panel(Protocol):
    """One that is open."""

    def show(self, votes: Votes) -> None:
        """What the server knows."""


class Comment:
    """A comment, to be written, changed and deleted."""

    def __init__(self, ballot: Ballot, cast: Cast) -> None:
        self._ballot, self._cast = ballot, cast
        self._known = ballot.votes.comment
        with parts.form(self._save):
            hint = t("ask.comment_hint")
            self._field = parts.Field(t("ask.comment"), self._known, rows=3, placeholder=hint, maxlength=_LENGTH)
            with el("div", "row"):
                button(t("ask.comment_save"), kind="primary").props["type"] = "submit"
                self._deleting = button(t("ask.comment_delete"), self._delete, kind="ghost")

    def show(self, votes: Votes) -> None:
        """See Panel. What is being written stays, unless it was saved and taken back since."""
        if self._known and not votes.comment:
            self._field.value = ""
        self._known = votes.comment
        self._deleting.set_visibility(bool(votes.comment))

    async def _save(self) -> None:
        text = self._field.value.strip()
        if text:
            await self._cast(partial(self._ballot.rate, pb.SubmitFeedbackRequest(text_feedback=text)))

    async def _delete(self) -> None:
        request = pb.SubmitFeedbackRequest(clear=[pb.FEEDBACK_PART_TEXT])
        await self._cast(partial(self._ballot.rate, request), "ask.taken_back")


class Detail:
    """The four dimensions."""

    def __init__(self, ballot: Ballot, cast: Cast) -> None:
        self._ballot, self._cast = ballot, cast
        self._stars: dict[Dimension, Stars] = {}
        with el("div", "dimensions"):
            for name in DIMENSIONS:
                with el("div", "dimension"):
                    el("span", "dimension-name", t(f"ask.{name}"), aria_hidden="true")
                    self._stars[name] = Stars(t(f"ask.{name}"), partial(self._rate, name))

    def show(self, votes: Votes) -> None:
        """See Panel."""
        for name, stars in self._stars.items():
            stars.show(votes.dimension(name))

    async def _rate(self, name: Dimension, count: int) -> None:
        dimensions = pb.RatingDimensions(**{name: count})
        await self._cast(partial(self._ballot.rate, pb.SubmitFeedbackRequest(rating_dimensions=dimensions)))


class Report:
    """A safety report, to be sent and taken back."""

    def __init__(self, ballot: Ballot, cast: Cast) -> None:
        self._ballot, self._cast = ballot, cast
        with parts.form(self._send) as self._form:
            options = {str(number): t(f"ask.category_{number}") for number in _CATEGORIES}
            self._category = parts.Select(t("ask.category"), options, str(_CATEGORIES[0]))
            self._words = parts.Field(t("ask.report_detail"), rows=2, maxlength=_LENGTH)
            button(t("ask.report_send"), kind="danger", symbol="flag").props["type"] = "submit"
        with el("div", "row") as self._reported:
            el("span", text=t("ask.reported"))
            button(t("ask.report_back"), self._take_back, kind="ghost")

    def show(self, votes: Votes) -> None:
        """See Panel."""
        self._form.set_visibility(votes.report is None)
        self._reported.set_visibility(votes.report is not None)

    async def _send(self) -> None:
        report = pb.SafetyReport(category=pb.SafetyCategory.ValueType(int(self._category.value)))
        report.detail = self._words.value.strip()
        await self._cast(partial(self._ballot.rate, pb.SubmitFeedbackRequest(safety_report=report)))

    async def _take_back(self) -> None:
        if self._ballot.votes.report is not None:
            await self._cast(partial(self._ballot.withdraw, self._ballot.votes.report), "ask.taken_back")
